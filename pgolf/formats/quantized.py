"""Quantized weights: integer codes with one float16 step per row, and the rest in float16.

    W ~ q * step        q int8 [rows, cols], |q| <= 127;  step float16 [rows, 1], as it is stored

The step is rounded to float16 before it is used, so that encoder and decoder divide and multiply by the
same number.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float16, Int8
from numpy.typing import NDArray
from torch import Tensor

from pgolf.errors import StoreError
from pgolf.formats.arrays import read_arrays, write_arrays
from pgolf.model.gpt import Gpt, GptConfig

CODES, META = "codes.npz", "model.json"


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

    config: GptConfig
    vocab_size: int
    matrices: Mapping[str, QuantizedMatrix]  # by parameter name
    rest: Mapping[str, Float16[Tensor, "..."]]

    def network(self) -> Gpt:
        """The float32 network that these codes stand for."""
        model = self.config.build(self.vocab_size)
        weights = {name: m.dequantize() for name, m in self.matrices.items()}
        model.load_state_dict(weights | {name: t.float() for name, t in self.rest.items()})
        return model

    def write(self, directory: Path) -> None:
        arrays: dict[str, NDArray] = {}
        for name, m in self.matrices.items():
            arrays[f"q/{name}"], arrays[f"step/{name}"] = m.q.numpy(), m.step.numpy()
        arrays |= {f"rest/{name}": t.numpy() for name, t in self.rest.items()}
        write_arrays(directory / CODES, arrays)
        meta = {"model": self.config.plain(), "vocab_size": self.vocab_size}
        (directory / META).write_text(json.dumps(meta, sort_keys=True, indent=1))

    @staticmethod
    def read(directory: Path) -> "QuantizedModel":
        """Raises StoreError if a file is missing or damaged."""
        arrays = read_arrays(directory / CODES)
        try:
            meta = json.loads((directory / META).read_text())
        except (OSError, ValueError) as error:
            raise StoreError("quantized weights have a readable model.json", f"{directory}: {error}",
                             "quantize again") from None  # fmt: skip
        names = [key.removeprefix("q/") for key in arrays if key.startswith("q/")]
        matrices = {n: QuantizedMatrix(_tensor(arrays[f"q/{n}"]), _tensor(arrays[f"step/{n}"])) for n in names}
        rest = {k.removeprefix("rest/"): _tensor(a) for k, a in arrays.items() if k.startswith("rest/")}
        return QuantizedModel(GptConfig.model_validate(meta["model"]), meta["vocab_size"], matrices, rest)


def _tensor(array: NDArray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
