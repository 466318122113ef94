"""Cross-layer carry: in further passes of a recurrent band, each layer also takes in the first pass's outputs.

    x <- beta_i f_i(x) + sum_j alpha_ij stop(y_j)        in every pass but the first

with i and j layers of the band and y_j the output of layer j in the first pass, which is whole by then; no
gradient flows through it. beta = 1, alpha = 0 is plain recurrence. Learned, or, as the runs that reported a gain
had it, constants that an earlier run had learned: beta [1.56, 1.85, 2.13] and alpha [[.23, .04, .03],
[.13, -.34, .01], [.06, .19, -.02]] for layers 3 to 5 (PR 1779: 1.06421 against 1.06549, with another change;
PR 1801: 1.06287 against 1.06335). Shared by all passes.
"""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import model_validator
from torch import Tensor, nn

from pgolf.model.roles import Role
from pgolf.section import RuleBroken, Section

Visits = dict[int, Tensor]  # what a forward keeps of a band's outputs, by layer


class CrossCarry(Section):
    kind: Literal["cross_carry"] = "cross_carry"
    beta: tuple[float, ...] | None = None  # by layer of the band; None: ones
    alpha: tuple[tuple[float, ...], ...] | None = None  # [to][from]; None: zeros
    learned: bool = True  # else constants: no parameters

    @model_validator(mode="after")
    def _shapes(self) -> "CrossCarry":
        if not self.learned and self.beta is None and self.alpha is None:
            raise RuleBroken(
                "a carry of constants needs its constants",
                "learned=false",
                "give beta or alpha, or learn them",
            )
        sizes = {len(t) for t in (self.beta, self.alpha, *(self.alpha or ())) if t is not None}
        if len(sizes) > 1:
            raise RuleBroken(
                "carry.beta has an entry, and carry.alpha a row and a column, for every layer of the band",
                f"lengths {sorted(sizes)}",
                "as many everywhere as the band has layers",
            )
        return self

    @property
    def layers(self) -> int | None:
        """Of the band that it is written for; None: any."""
        given = self.beta if self.beta is not None else self.alpha
        return None if given is None else len(given)

    def build(self, first: int, last: int) -> "CrossCarryModule":
        size = last - first + 1
        beta = (1.0,) * size if self.beta is None else self.beta
        alpha = ((0.0,) * size,) * size if self.alpha is None else self.alpha
        return CrossCarryModule(first, beta, alpha, self.learned)


class CrossCarryModule(nn.Module):
    ROLES = {"beta": Role.CONTROL, "alpha": Role.CONTROL}
    beta: Tensor
    alpha: Tensor

    def __init__(
        self, first: int, beta: tuple[float, ...], alpha: tuple[tuple[float, ...], ...], learned: bool
    ) -> None:
        super().__init__()
        self.first, self.tables = first, {"beta": beta, "alpha": alpha}
        for name, values in self.tables.items():
            if learned:
                self.register_parameter(name, nn.Parameter(torch.empty_like(torch.tensor(values))))
            else:
                self.register_buffer(name, torch.tensor(values), persistent=False)

    def reset(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            for name, values in self.tables.items():
                getattr(self, name).copy_(torch.tensor(values))

    def forward(
        self, x: Float[Tensor, "batch time d"], layer: int, visits: Visits
    ) -> Float[Tensor, "batch time d"]:
        """What the stream is after layer's output x; keeps what later passes need."""
        row = layer - self.first
        if not 0 <= row < len(self.beta):
            return x
        if layer not in visits:
            visits[layer] = x.detach()
            return x
        x = self.beta[row].to(x.dtype) * x
        for column, weight in enumerate(self.alpha[row].to(x.dtype)):
            x = x + weight * visits[self.first + column]
        return x
