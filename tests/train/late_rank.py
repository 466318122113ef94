"""One rank of two, of which rank 1 warms up for longer: `torchrun ... -m tests.train.late_rank TOKENS OUT`.

Writes the training clock of rank r to OUT/r.json.
"""

import json
import sys
import time
from pathlib import Path

from pgolf.optim.optimizer import Optim
from pgolf.rules import Gang
from pgolf.runtime import Runtime
from pgolf.train import loop
from pgolf.train.budget import Steps
from pgolf.train.loop import Train
from pgolf.train.warmup import Warmup, warm_up
from tests.nets import VOCAB, small

LATE_SECONDS = 5.0
TRAIN = Train(budget=Steps(steps=3), batch_tokens=64, context=16, warmup=Warmup(steps=1))


def main(tokens: Path, out: Path) -> None:
    runtime = Runtime.local(Gang(ranks=2))

    def slow(*given: object, **named: object) -> None:
        warm_up(*given, **named)
        time.sleep(LATE_SECONDS)

    if runtime.rank == 1:
        loop.warm_up = slow
    home = out / f"rank{runtime.rank}"
    home.mkdir(parents=True)
    with runtime.joined():
        made = loop.train(tokens, out=home, runtime=runtime, seed=5, model=small(), optim=Optim(), train=TRAIN,
                          vocab_size=VOCAB, probe=lambda _: 2.0)  # fmt: skip
    (out / f"{runtime.rank}.json").write_text(json.dumps({"train_seconds": made["train_seconds"]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
