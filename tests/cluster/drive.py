"""A driver in a process of its own, to be killed: `python -m tests.cluster.drive STORE [--resume]`."""

import sys

from cluster.driver import search
from pgolf.stage import Store
from tests.cluster.fakes import Notes, fake_round, run_trial, validate


def main() -> None:
    notes = Notes()
    outcome = search(
        fake_round(trials=14, gate=None), store=Store(sys.argv[1]), resume="--resume" in sys.argv,
        trial_runner=run_trial, validator=validate, open_recorder=notes.open, say=lambda event: None,
    )  # fmt: skip
    print("stopped by", outcome.stopped_by, "after", len(outcome.results), "and then", notes.calls[-1][0])


if __name__ == "__main__":
    main()
