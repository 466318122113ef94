"""Quantized weights: integer codes with one float16 step per row, and the rest in float16.

    W ~ q * step        q int8 [rows, cols], |q| <= 127;  step float16 [rows, 1], as it is stored

The step is rounded to float16 before it is used, so that encoder and decoder divide and multiply by the
same number.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float16, Int8
from numpy.typing import NDArray
from torch import Tensor

from pgolf.formats.arrays import read_arrays, write_arrays
from pgolf.formats.checkpoint import read_meta, write_meta

CODES = "codes.npz"


@dataclass(frozen=True)
class QuantizedMatrix:
    """One matrix as codes and steps."""

    q: Int8[Tensor, "rows cols"]
    step: Float16[Tensor, "rows 1"]

    def dequantize(self) -> Float[Tensor, "rows cols"]:
        """Float32 weights: the only way codes become weights, at every place that needs them."""
        return self.q.float() * self.step.float()


@dataclass(frozen=True)
class QuantizedModel:
    """Everything an artifact says about a network: its shape, its codes, its float16 rest."""

    model: dict[str, Any]  # the plain config that builds the network
    vocab_size: int
    matrices: Mapping[str, QuantizedMatrix]  # by parameter name
    roles: Mapping[str, str]  # of the matrices: what packing groups by
    rest: Mapping[str, Float16[Tensor, "..."]]

    def weights(self) -> dict[str, Float[Tensor, "..."]]:
        """The float32 weights that these codes stand for, by parameter name."""
        matrices = {name: m.dequantize() for name, m in self.matrices.items()}
        return matrices | {name: t.float() for name, t in self.rest.items()}

    def write(self, directory: Path) -> None:
        arrays: dict[str, NDArray] = {}
        for name, m in self.matrices.items():
            at = f"{self.roles[name]}/{name}"
            arrays[f"q/{at}"], arrays[f"step/{at}"] = m.q.numpy(), m.step.numpy()
        arrays |= {f"rest/{name}": t.numpy() for name, t in self.rest.items()}
        write_arrays(directory / CODES, arrays)
        write_meta(directory, self.model, self.vocab_size)

    @staticmethod
    def read(directory: Path) -> "QuantizedModel":
        """Raises StoreError if a file is missing or damaged."""
        arrays = read_arrays(directory / CODES)
        model, vocab_size = read_meta(directory)
        matrices, roles = {}, {}
        for key in arrays:
            kind, role, name = [*key.split("/"), ""][:3]
            if kind == "q":
                step = arrays[f"step/{role}/{name}"]
                matrices[name] = QuantizedMatrix(_tensor(arrays[key]), _tensor(step))
                roles[name] = role
        rest = {k.removeprefix("rest/"): _tensor(a) for k, a in arrays.items() if k.startswith("rest/")}
        return QuantizedModel(model, vocab_size, matrices, roles, rest)


def _tensor(array: NDArray) -> Tensor:
    return torch.from_numpy(np.asarray(array, order="C"))
