"""X1 to X4: what the catalogue of cheats knows and no rule of the list covers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgolf.certify.dossier import Dossier, has_space
from pgolf.certify.verdict import Rule, Verdict
from pgolf.formats.shards import Tokens

CERTAIN = 1e-3  # nats: what is known, not predicted
LONGEST_RUN = 64  # targets in a row that were known and not seen before
LEAST_OF_A_RUN = 1.0  # nats: what so many fresh targets in a row cost together, if they were predicted
REPEATED = 8  # tokens: what follows a passage as long that occurred before may well be known
NAMES_OF_A_RUN = (
    "seed",
    "run_id",
    "run_name",
    "name",
    "data_dir",
    "data_path",
    "logfile",
    "log_file",
    "output_dir",
)


def no_paid_prefix(d: Dossier) -> Verdict:
    """X1: no long run of targets is known for certain that the stream had not shown before."""
    rule = Rule("X1", "no_paid_prefix", "make the artifact from training data alone: it holds no answers")
    found = _scores(d)
    if found is None:
        return rule.lacks("no scores of single targets: `ledger`, or something to run")
    nll, tokens = found
    certain = nll < CERTAIN
    certain[0] = False
    share = float(certain[1:].mean())
    fresh = certain & ~_seen_before(tokens) if tokens is not None else certain
    run, at = _longest(fresh)
    cheap = _cheapest(nll, fresh if tokens is None else ~_seen_before(tokens))
    said = f"{share:.2%} of targets cost less than {CERTAIN:g} nats, {run} of them in a row that nothing before shows"
    if run >= LONGEST_RUN:
        said = f"targets {at} to {at + run - 1} cost less than {CERTAIN:g} nats each, and nothing before shows them"
    elif cheap is not None and cheap[0] < LEAST_OF_A_RUN:
        said = f"{LONGEST_RUN} targets from {cheap[1]} on cost {cheap[0]:.3g} nats, and nothing before shows them"
    holds = run < LONGEST_RUN and (cheap is None or cheap[0] >= LEAST_OF_A_RUN)
    return rule.judged(holds, said, certain_share=share, longest_run=run)


def _scores(d: Dossier) -> tuple[NDArray[np.float64], Tokens | None] | None:
    if d.nll is not None:
        tokens = d.scored[0] if d.scored is not None and len(d.scored[0]) == len(d.nll) else None
        return d.nll, tokens
    if d.trial is not None and d.trial.first is not None:
        return d.trial.first.nll, d.trial.tokens
    return None


def _seen_before(tokens: Tokens) -> NDArray[np.bool_]:
    """Whether the tokens up to each position, REPEATED and itself, occurred in the stream before."""
    n = len(tokens)
    seen = np.zeros(n, dtype=bool)
    if n <= REPEATED:
        return seen
    hashed = np.zeros(n - REPEATED, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for k in range(REPEATED + 1):
            hashed = (
                hashed * np.uint64(0x9E3779B97F4A7C15)
                + tokens[k : n - REPEATED + k].astype(np.uint64)
                + np.uint64(1)
            )
    _, first, inverse = np.unique(hashed, return_index=True, return_inverse=True)
    seen[REPEATED:] = first[inverse] < np.arange(len(hashed))
    return seen


def _cheapest(nll: NDArray[np.float64], fresh: NDArray[np.bool_]) -> tuple[float, int] | None:
    """The least that LONGEST_RUN fresh targets in a row cost together, and the first of them."""
    places = np.flatnonzero(fresh)
    places = places[places > 0]
    if len(places) < LONGEST_RUN:
        return None
    sums = np.concatenate([[0.0], np.nan_to_num(nll[places], posinf=1e6).cumsum()])
    runs = sums[LONGEST_RUN:] - sums[:-LONGEST_RUN]
    unbroken = places[LONGEST_RUN - 1 :] - places[: len(runs)] == LONGEST_RUN - 1
    if not unbroken.any():
        return None
    at = int(np.where(unbroken, runs, np.inf).argmin())
    return float(runs[at]), int(places[at])


def _longest(marked: NDArray[np.bool_]) -> tuple[int, int]:
    """Length and beginning of the longest run."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], marked.astype(np.int8), [0]])))
    begins, ends = edges[::2], edges[1::2]
    if not len(begins):
        return 0, 0
    top = int((ends - begins).argmax())
    return int(ends[top] - begins[top]), int(begins[top])


def space_is_a_piece(d: Dossier) -> Verdict:
    """X2: the tokenizer has U+2581 as a piece; else a space is three byte tokens, and counts three times."""
    rule = Rule("X2", "space_is_a_piece", "train the tokenizer with U+2581 among its pieces")
    if d.processor is None:
        return rule.lacks("no tokenizer")
    holds = has_space(d.processor)
    said = f"U+2581 is {'one' if holds else 'none'} of {d.processor.vocab_size():,} pieces"
    return rule.judged(holds, said)


def changes_change_something(d: Dossier) -> Verdict:
    """X3: a config that claims to improve on another differs from it in more than its seed and name."""
    rule = Rule(
        "X3", "changes_change_something", "compare the same config over more seeds, or change something"
    )
    if d.config is None or d.baseline is None:
        return rule.lacks("no config with a baseline_config to compare")
    mine, theirs = _flat(d.config), _flat(d.baseline)
    differing = sorted(k for k in mine.keys() | theirs.keys() if mine.get(k) != theirs.get(k))
    said = f"{len(differing)} settings differ from the baseline's: {', '.join(differing[:3])}"
    if not differing:
        said = f"all {len(mine)} settings are the baseline's, but for seed and name"
    return rule.judged(bool(differing), said, differing=len(differing))


def _flat(config: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    """Settings by path, without those that only name a run."""
    out: dict[str, Any] = {}
    for key, value in config.items():
        if key.lower() in NAMES_OF_A_RUN:
            continue
        if isinstance(value, Mapping):
            out |= _flat(value, f"{at}{key}.")
        else:
            out[f"{at}{key}"] = value
    return out


def switches_do_something(d: Dossier) -> Verdict:
    """X4: turning a technique off changes the result, in the last bit at least."""
    rule = Rule("X4", "switches_do_something", "find out why it never ran, or leave it out of the account")
    if not d.switches:
        return rule.lacks("no switches with results on and off")
    dead = [s.name for s in d.switches if s.on == s.off]
    said = f"{len(d.switches)} switches, each with an effect"
    if dead:
        said = f"{', '.join(dead)}: on and off come to exactly the same"
    return rule.judged(not dead, said, dead=len(dead), switches=len(d.switches))
