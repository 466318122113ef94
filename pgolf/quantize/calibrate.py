"""Hessians of every matrix from training data, on the train clock.

    H = sum over calibration tokens of x x^T / tokens,   x the matrix's input

collected from the float model with documents masked as in training. The tied table is treated as the
output matrix: its inputs are the final norm's outputs. Touching training data ends here, and so does
`train_seconds`.
"""

from pathlib import Path

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from pgolf.data.loader import Windows
from pgolf.formats.arrays import read_arrays, write_arrays
from pgolf.formats.checkpoint import Checkpoint
from pgolf.model.gpt import assemble
from pgolf.runtime import Clock, Runtime
from pgolf.section import Section
from pgolf.stage import Metrics, Stage

HESSIANS = "hessians.npz"
ROWS = 16


class Calibrate(Section):
    tokens: int = Field(65_536, ge=1)  # of training data
    context: int = Field(1024, ge=2)


def _calibrate(
    checkpoint: Path, tokens: Path, *, out: Path, runtime: Runtime, seed: int, calibrate: Calibrate
) -> Metrics:
    trained = Checkpoint.read(checkpoint)
    network = assemble(trained.model, trained.vocab_size, trained.weights, runtime.device)
    rows = max(calibrate.tokens // calibrate.context, 1)
    clock = Clock()
    sums: dict[str, Tensor] = {}

    def see(name: str, x: Float[Tensor, "*batch inputs"]) -> None:
        flat = x.detach().flatten(0, -2).float()
        gram = flat.T @ flat
        sums[name] = sums[name] + gram if name in sums else gram

    with clock:
        # another seed than the training order's: other windows
        batch = next(iter(Windows(tokens, calibrate.context, rows, seed + 1_000_003)))
        with torch.inference_mode(), network.observed(see):
            for at in range(0, rows, ROWS):
                part = batch.tokens[at : at + ROWS], batch.starts[at : at + ROWS]
                network(*(t.to(runtime.device) for t in part))
    seen = rows * calibrate.context
    write_arrays(out / HESSIANS, {n: (h / seen).cpu().numpy() for n, h in sorted(sums.items())})
    return {"train_seconds": clock.seconds, "tokens": seen}


def read_hessians(directory: Path) -> dict[str, Float[Tensor, "inputs inputs"]]:
    return {name: torch.from_numpy(h) for name, h in read_arrays(directory / HESSIANS).items()}


CALIBRATE = Stage("calibrate", 1, _calibrate)
