"""The list of cheats, and the bench they are built on: a small stream, a small lawful predictor, small shards."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgolf.certify.dossier import Dossier
from pgolf.certify.perturb import Probe
from pgolf.evaluate.blocks import Blocks
from pgolf.evaluate.mode import Mode
from pgolf.evaluate.neural import Plain
from pgolf.evaluate.predictor import Predictor
from tests.nets import BOS, VOCAB, stream

TOKENS = 100
IDS = stream(5, TOKENS, 6)[0].numpy().astype(np.uint16)
COUNTS = np.where(IDS == BOS, 0, 2).astype(np.uint16)
TABLE = torch.randn(VOCAB, VOCAB, generator=torch.Generator().manual_seed(3))
MODE = Blocks(context=20)
PROBE = Probe(tokens=TOKENS, places=40, draws=2, sums=TOKENS, tried=4 * VOCAB)


def bigram(tokens: Tensor, starts: Tensor) -> Tensor:
    """Logits of the next token by the last one: a lawful network of one table."""
    return TABLE[tokens]


def lawful() -> Predictor:
    return Plain(bigram)


@dataclass(frozen=True)
class Cheat:
    """One of the zoo."""

    name: str
    rules: tuple[str, ...]  # that convict it, and no others
    like: str  # where it was seen
    made: Callable[[Path], Dossier]  # in an empty directory

    @property
    def about(self) -> str:
        assert self.made.__doc__ is not None
        return self.made.__doc__.strip().splitlines()[0].rstrip(".")


ZOO: dict[str, Cheat] = {}


def cheat(*rules: str, like: str) -> Callable[[Callable[[Path], Dossier]], Callable[[Path], Dossier]]:
    """One of the zoo, under its function's name."""

    def named(made: Callable[[Path], Dossier]) -> Callable[[Path], Dossier]:
        name = made.__name__
        assert name not in ZOO
        ZOO[name] = Cheat(name.replace("_", " "), rules, like, made)
        return made

    return named


def on_bench(
    factory: Callable[[], Predictor], mode: Mode = MODE, probe: Probe = PROBE, **more: Any
) -> Dossier:
    """A predictor on the bench's stream."""
    return Dossier(
        stream=(IDS, COUNTS), evaluate=mode, predictor=factory, vocab_size=VOCAB, probe=probe, **more
    )


def alone(evaluator: Callable[..., Any], **more: Any) -> Dossier:
    """An evaluator with a loop of its own on the bench's stream."""
    return Dossier(stream=(IDS, COUNTS), evaluator=evaluator, vocab_size=VOCAB, probe=PROBE, **more)


def claimed(folder: Path, examined: Probe | None = None, **keys: Any) -> Dossier:
    """What somebody wrote down."""
    (folder / "claim.json").write_text(json.dumps(keys))
    return Dossier.read(folder / "claim.json", examined)
