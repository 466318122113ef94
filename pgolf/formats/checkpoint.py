"""A trained model as data: the network's config, its vocabulary size, its float32 weights."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pgolf.errors import StoreError
from pgolf.formats.arrays import read_arrays, write_arrays

WEIGHTS, META = "weights.npz", "model.json"


@dataclass(frozen=True)
class Checkpoint:
    """`model` is the plain config that builds the network around these weights."""

    model: dict[str, Any]
    vocab_size: int
    weights: Mapping[str, Tensor]

    def write(self, directory: Path) -> None:
        write_arrays(directory / WEIGHTS, {n: w.detach().cpu().numpy() for n, w in self.weights.items()})
        write_meta(directory, self.model, self.vocab_size)

    @staticmethod
    def read(directory: Path) -> "Checkpoint":
        """Raises StoreError if a file is missing or damaged."""
        model, vocab_size = read_meta(directory)
        weights = {name: torch.from_numpy(a) for name, a in read_arrays(directory / WEIGHTS).items()}
        return Checkpoint(model, vocab_size, weights)


def write_meta(directory: Path, model: dict[str, Any], vocab_size: int) -> None:
    """What a network is, beside its weights."""
    text = json.dumps({"model": model, "vocab_size": vocab_size}, sort_keys=True, indent=1)
    (directory / META).write_text(text)


def read_meta(directory: Path) -> tuple[dict[str, Any], int]:
    """Raises StoreError if the file is missing or damaged."""
    try:
        meta = json.loads((directory / META).read_text())
        return meta["model"], meta["vocab_size"]
    except (OSError, ValueError, KeyError) as error:
        raise StoreError("weights lie beside a readable model.json", f"{directory}: {error}",
                         "delete this store entry; it will be made again") from None  # fmt: skip
