"""One rank of a gang, for the tests: `torchrun ... -m tests.train.gang TOKENS OUT MODE`.

Writes what became of rank r to OUT/r.json. MODE `train` trains, with everything that ranks share on: Muon in
shards, averages, clipping, a recurrence and late rounding that switch on in the run, a growing context, packed
rows, further heads. `gate` has rank 0's listener stop the trial at the first probe; `hush` at its first report,
which the other ranks cannot foresee; `crash` has rank 1 fail; `clock` gives rank 1 a clock that runs away.
"""

import json
import sys
from pathlib import Path
from typing import ClassVar

from pgolf.data.packed import Packed
from pgolf.errors import Infeasible, InfeasibleTrial
from pgolf.model.recurrence import Recurrence
from pgolf.optim.ema import Ema
from pgolf.optim.optimizer import Optim
from pgolf.rules import Gang
from pgolf.runtime import Clock, Runtime
from pgolf.train import loop
from pgolf.train.budget import Seconds, Steps
from pgolf.train.loop import Train
from tests.nets import VOCAB, small
from tests.train.failing import failing_gradients

MODEL = small(recurrence=Recurrence(first=1, last=1, passes=2, from_fraction=0.5))
OPTIM = Optim(ema=Ema(window_fraction=0.2), grad_clip=1.0)
TRAIN = Train.model_validate({
    "budget": Steps(steps=20), "batch_tokens": 256, "context": 32, "rows_at_once": 2,
    "loader": Packed(tokens_per_row=64), "objective": {"mtp": {"weight": 0.3}},
    "late_qat": {"kind": "noisy", "from_fraction": 0.8},
    "progressive_context": {"stages": [{"context": 16, "until_fraction": 0.3}, {"context": 32, "until_fraction": 1}],
                            "rewarmup_steps": 3},
})  # fmt: skip


class Noted(loop.Switches):
    """Remembers at what progress each step of the run began."""

    begun: ClassVar[list[float]] = []

    def set(self, progress: float, step: int) -> None:
        self.begun.append(progress)
        super().set(progress, step)


class Runaway(Clock):
    """A minute passes with every look."""

    def read(self) -> float:
        self.seconds += 60.0
        return super().read()


def train(tokens: Path, home: Path, runtime: Runtime, section: Train = TRAIN) -> dict[str, object]:
    """One run of it; what it came to."""
    home.mkdir(parents=True)
    made = loop.train(tokens, out=home, runtime=runtime, seed=5, model=MODEL, optim=OPTIM, train=section,
                      vocab_size=VOCAB, probe=lambda _: 2.0)  # fmt: skip
    return {"loss": made["final_train_loss"], "steps": made["steps"]}


def main(tokens: Path, out: Path, mode: str) -> None:
    losses: list[float] = []

    def report(step: int, metrics: dict[str, float]) -> None:
        losses.append(metrics["train_loss"])
        if mode == "hush" or (mode == "gate" and "val_bpb" in metrics):
            raise InfeasibleTrial(Infeasible(reason="gate", measured=metrics["train_loss"], limit=1.0))

    if mode == "train":
        loop.REPORT_SECONDS = -1.0  # every step
    runtime = Runtime.local(Gang(ranks=2), report)
    if mode == "crash" and runtime.rank == 1:
        loop.Gradients = failing_gradients("raise")
    section, loop.Switches = TRAIN, Noted
    if mode == "clock":
        section = TRAIN.but(budget=Seconds(seconds=2.5))
        loop.Clock = Runaway if runtime.rank == 1 else Clock
    with runtime.joined():
        try:
            ended = train(tokens, out / f"rank{runtime.rank}", runtime, section)
        except InfeasibleTrial as stopped:
            ended = {"stopped": stopped.outcome.reason}
    (out / f"{runtime.rank}.json").write_text(json.dumps(ended | {"losses": losses, "begun": Noted.begun}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
