"""L15 to L17: in time, offline, and warmed up on nothing that counts."""

from pathlib import Path

from pgolf.certify.dossier import Dossier
from pgolf.certify.verdict import Rule, Verdict
from pgolf.formats.shards import HELD_OUT_FILE, TRAIN_FILE


def within_the_clocks(d: Dossier) -> Verdict:
    """L15: training data is let go of within the training budget, and evaluation keeps to its own."""
    rule = Rule("L15", "within_the_clocks",
                "stop reading training data, calibration included, and evaluating within their budgets")  # fmt: skip
    c, r = d.clocks, d.rules
    reads = [
        o.at
        for o in d.opened or ()
        if o.at is not None and o.stage != "evaluate" and TRAIN_FILE.search(Path(o.file).name)
    ]
    trained = None if c.train_seconds is None else c.train_seconds + (c.calibrate_seconds or 0.0)
    training = max((v for v in (trained, c.train_data_until, *reads) if v is not None), default=None)
    evaluation = c.eval_seconds
    measured = {
        k: v for k, v in {
            "train_seconds": training, "eval_seconds": evaluation, "eval_seconds_strict": c.eval_seconds_strict
        }.items() if v is not None
    }  # fmt: skip
    if training is None and evaluation is None and c.eval_seconds_strict is None:
        return rule.lacks("no clocks: train_seconds, eval_seconds")
    late = [
        f"{what} for {seconds:.1f} s of {limit:g} s"
        for what, seconds, limit in (
            ("training data was read", training, r.train_seconds), ("evaluation went on", evaluation, r.eval_seconds),
        ) if seconds is not None and seconds > limit
    ]  # fmt: skip
    if late:
        return rule.judged(False, "; ".join(late), **measured)
    said = ", ".join(f"{name} {seconds:.1f}" for name, seconds in measured.items())
    if missing := [n for n, v in (("train_seconds", training), ("eval_seconds", evaluation)) if v is None]:
        return rule.lacks(f"{said}; {' and '.join(missing)} not told", **measured)
    strict = c.eval_seconds_strict
    note = " (over the budget by the strict clock)" if strict is not None and strict > r.eval_seconds else ""
    return rule.judged(True, f"{said}; budgets {r.train_seconds:g} and {r.eval_seconds:g}{note}", **measured)


def no_network(d: Dossier) -> Verdict:
    """L16: nothing tries to connect."""
    rule = Rule("L16", "no_network", "ship in the artifact what evaluation needs")
    tried = list(d.connections or ())
    if d.trial is not None:
        tried += d.trial.watch.connections
    if tried:
        return rule.judged(False, f"a connection to {tried[0]} was tried", connections=len(tried))
    if d.connections is None and d.ran is None:
        return rule.lacks("nobody looked for connections: nothing to run and watch, no `connections`")
    where = "in an evaluation here" if d.ran is not None else "as reported"
    return rule.judged(True, f"no connection was tried {where}", connections=0)


def warmed_up_without_text(d: Dossier) -> Verdict:
    """L17: warm-up inputs are made up."""
    rule = Rule("L17", "warmed_up_without_text", "warm up on random tokens")
    warm = [o.file for o in d.opened or () if o.stage == "warmup" and HELD_OUT_FILE.search(Path(o.file).name)]
    if d.trial is not None:
        warm += [
            f for stage, f in d.trial.watch.opened if stage == "load" and HELD_OUT_FILE.search(Path(f).name)
        ]
    if warm:
        return rule.judged(False, f"{Path(warm[0]).name} was opened before the evaluation began")
    if d.warmup in ("train", "validation"):
        return rule.judged(False, f"warmed up on {d.warmup} tokens")
    if d.warmup is None and d.ran is None:
        return rule.lacks("no warmup_source, and nothing to run and watch")
    return rule.judged(True, f"warm-up on {'no' if d.warmup in (None, 'none') else d.warmup} tokens")
