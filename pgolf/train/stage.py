"""The train stage, with the scorer's probe handed in: stage packages do not import one another."""

from collections.abc import Callable
from pathlib import Path

from pgolf.model.gpt import Gpt
from pgolf.stage import Metrics, Stage
from pgolf.train.budget import Hardware
from pgolf.train.loop import train

ProbeOn = Callable[[Gpt, Path], float]  # the model, the token directory -> bits per byte


def train_stage(vocab_size: int, probe: ProbeOn) -> Stage:
    """The stage for a vocabulary; `probe` measures a fixed sample of the select split.

    `hardware`, where it is given, is identity alone: a budget in seconds is spent on something.
    """

    def run(tokens: Path, hardware: Hardware | None = None, **given: object) -> Metrics:
        return train(tokens, vocab_size=vocab_size, probe=lambda m: probe(m, tokens), **given)  # type: ignore[arg-type]

    return Stage("train", 2, run, collective=True)
