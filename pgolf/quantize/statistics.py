"""What quantizers are guided by: second moments of inputs, the Fisher information of outputs, token counts.

    loss(W + E) - loss(W)  ~  1/2 tr(G E A E^T)      per token (K-FAC, https://arxiv.org/abs/1503.05671)

    A = E[x x^T]                          of a matrix's inputs, summed over its executions: `hessians`
    G = E[dL/dy dL/dy^T], y = W x         with labels sampled from the model: `rows` is its diagonal, `full` whole

G is scaled so that the formula holds for a matrix that is executed several times: its executions share one E, so
their gradients add up before they are squared. What that comes to is read off the gradient of the weights
themselves, whose mean square over sequences is the trace of the true Fisher whatever the factors leave out.

The tied table has two sides, both linear in the row of a token v:

    1/2 [ P_v e^T A e + f_v e^T B e ],   P_v = E[p_v (1 - p_v) cap'^2], A of the head's inputs;
                                         f_v the token's frequency,     B = E[dL/dx dL/dx^T] at the look-up

which is one Hessian A + rho B, rho = sum f / sum P, with a weight a row, since a trained model predicts tokens
about as often as they come. `lookups` holds rho B. Tables that hashes index, and
gates, have only the mean squares of their gradients.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from pgolf.formats.arrays import read_arrays, write_arrays

HESSIANS, FISHER, FULL_FISHER = "hessians", "fisher", "full_fisher"
FILE = "statistics.npz"
RARE = 0.01  # of the mean: what a row that calibration never met counts as


@dataclass(frozen=True)
class Statistics:
    """By parameter name. Empty where a quantizer needs none."""

    hessians: Mapping[str, Float[Tensor, "_ _"]] = field(default_factory=dict)  # [cols, cols]
    lookups: Mapping[str, Float[Tensor, "_ _"]] = field(default_factory=dict)  # [cols, cols]
    rows: Mapping[str, Float[Tensor, " _"]] = field(default_factory=dict)  # [rows]
    full: Mapping[str, Float[Tensor, "_ _"]] = field(default_factory=dict)  # [rows, rows]

    def inputs(self, name: str) -> Float[Tensor, "cols cols"] | None:
        """A of a matrix, both sides of the tied table in one; None for tables and gates, whose columns count alike."""
        if name not in self.hessians:
            return None
        h = self.hessians[name].double()
        return h + self.lookups[name].double() if name in self.lookups else h

    def write(self, directory: Path) -> None:
        arrays = {
            f"{part.name}/{name}": t.cpu().numpy()
            for part in fields(self)
            for name, t in sorted(getattr(self, part.name).items())
        }
        write_arrays(directory / FILE, arrays)

    @staticmethod
    def read(directory: Path) -> "Statistics":
        """Raises StoreError if the file is missing or damaged."""
        parts: dict[str, dict[str, Tensor]] = {part.name: {} for part in fields(Statistics)}
        for key, array in read_arrays(directory / FILE).items():
            part, _, name = key.partition("/")
            parts[part][name] = torch.from_numpy(array)
        return Statistics(**parts)


def predicted_loss(name: str, error: Float[Tensor, "rows cols"], s: Statistics) -> float | None:
    """1/2 tr(G E A E^T) of a matrix's error E; None where the Fisher was not measured."""
    if name not in s.rows:
        return None
    e, g, h = error.double(), s.rows[name].double(), s.inputs(name)
    weighed = e if h is None else e @ h
    weighed = s.full[name].double() @ weighed if name in s.full else g.unsqueeze(1) * weighed
    return 0.5 * float((weighed * e).sum())
