"""The interval ledger: in which order targets were scored, and from where each could see.

One row a window, in scoring order: [context_begin, score_begin, score_end]. Target t (t >= 1) is
predicted from positions context_begin .. t - 1. The checker proves score-once: the intervals tile all
targets without gap or overlap, and no window scores what it cannot have a past for.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgolf.formats.arrays import read_arrays, write_arrays

LEDGER = "ledger.npz"


def write_ledger(directory: Path, windows: NDArray[np.int64], nll: NDArray[np.float64]) -> None:
    """`windows` [n, 3] as above; `nll` [targets + 1] in nats, entry 0 (the first BOS) unscored and zero."""
    write_arrays(directory / LEDGER, {"windows": windows, "nll": nll})


def read_ledger(directory: Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    arrays = read_arrays(directory / LEDGER)
    return arrays["windows"], arrays["nll"]


def check_ledger(windows: NDArray[np.int64], tokens: int) -> str | None:
    """What breaks score-once, or None: every target 1 .. tokens - 1 exactly once, from its past."""
    times = np.zeros(tokens, dtype=np.int64)
    for context, begin, end in windows:
        if not 0 <= context < begin <= end <= tokens:
            return f"window [{context}, {begin}, {end}) of {tokens} tokens has no past or leaves the stream"
        times[begin:end] += 1
    if tokens and times[0]:
        return "the first token was scored; nothing precedes it"
    wrong = np.flatnonzero(times[1:] != 1) + 1
    return f"target {wrong[0]} was scored {times[wrong[0]]} times" if len(wrong) else None
