"""Ranks of which one fails on purpose, each in a process of its own (tests/test_runtime.py)."""

import json
import os
import signal
import time
from pathlib import Path

from pgolf import runtime as runtime_module
from pgolf.optim.optimizer import Optim
from pgolf.runtime import Runtime
from pgolf.train import loop
from pgolf.train.budget import Steps
from pgolf.train.loop import Train
from tests.nets import VOCAB, small

FAILS_AT = 3  # gradients of this many steps were computed


class PlannedFailure(Exception):
    """Raised by the rank that the test has chosen."""


def failing_gradients(how: str) -> type[loop.Gradients]:
    """Gradients that break down in the middle of a run: by an exception, or by the system's hand."""

    class Failing(loop.Gradients):
        calls = 0

        def add(self, batch, context):
            self.calls += 1
            if self.calls > FAILS_AT:
                if "FAILED_AT" in os.environ:
                    Path(os.environ["FAILED_AT"]).write_text(str(time.time()))
                if how == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise PlannedFailure("as planned")
            return super().add(batch, context)

    return Failing


def rank(number: int, world: int, address: str, tokens: Path, out: Path, who: int, how: str) -> None:
    """Train; write how it ended to OUT/<number>.json."""
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo", "FAILED_AT": str(out / "failed_at")}
    if number == who:
        loop.Gradients = failing_gradients(how)
    waited, wait = [], runtime_module._await_readers
    runtime_module._await_readers = lambda *given: waited.append(True) or wait(*given)
    home = out / f"rank{number}"
    home.mkdir()
    try:
        with Runtime(rank=number, world_size=world).joined(address) as runtime:
            loop.train(
                tokens, out=home, runtime=runtime, seed=5, model=small(layers=1), optim=Optim(),
                train=Train(budget=Steps(steps=2000), batch_tokens=96, context=16), vocab_size=VOCAB,
                probe=lambda _: 2.0,
            )  # fmt: skip
        ended = {"kind": "done", "text": ""}
    except BaseException as error:
        ended = {"kind": type(error).__name__, "text": str(error)}
    (out / f"{number}.json").write_text(json.dumps(ended | {"at": time.time(), "waited": bool(waited)}))
