"""One rank of a gang, for the tests: `torchrun ... -m tests.train.gang TOKENS OUT MODE`.

Writes what became of rank r to OUT/r.json. MODE `train` trains; `gate` has rank 0's listener stop the
trial at the first probe; `hush` at its first report, which the other ranks cannot foresee.
"""

import json
import sys
from pathlib import Path

from pgolf.errors import Infeasible, InfeasibleTrial
from pgolf.optim.optimizer import Optim
from pgolf.rules import Gang
from pgolf.runtime import Runtime
from pgolf.train.budget import Steps
from pgolf.train.loop import Train, train
from tests.nets import VOCAB, small

TRAIN = Train(budget=Steps(steps=8), batch_tokens=128, context=16, rows_at_once=3)


def main(tokens: Path, out: Path, mode: str) -> None:
    def report(step: int, metrics: dict[str, float]) -> None:
        if mode == "hush" or (mode == "gate" and "val_bpb" in metrics):
            raise InfeasibleTrial(Infeasible(reason="gate", measured=metrics["train_loss"], limit=1.0))

    runtime = Runtime.local(Gang(ranks=2), report)
    home = out / f"rank{runtime.rank}"
    home.mkdir(parents=True)
    with runtime.joined():
        try:
            made = train(tokens, out=home, runtime=runtime, seed=5, model=small(), optim=Optim(grad_clip=1.0),
                         train=TRAIN, vocab_size=VOCAB, probe=lambda _: 2.0)  # fmt: skip
            ended = {"loss": made["final_train_loss"], "steps": made["steps"]}
        except InfeasibleTrial as stopped:
            ended = {"stopped": stopped.outcome.reason}
    (out / f"{runtime.rank}.json").write_text(json.dumps(ended))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
