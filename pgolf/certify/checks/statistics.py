"""L18 and L21: three seeds of one config, and none of them chosen."""

import math
from itertools import combinations

from pgolf.certify.dossier import Dossier
from pgolf.certify.verdict import Rule, Verdict

SEEDS = 3
ROUNDED = 1e-5  # bits per byte, and never less than half a unit of the last digit that is given


def seeds_share_one_config(d: Dossier) -> Verdict:
    """L18: at least three seeds, each another one, of one config and one code."""
    rule = Rule("L18", "seeds_share_one_config", "run three seeds of one config with one code")
    seeds = [s.seed for s in d.seeds]
    if not seeds:
        return rule.lacks("no table of seeds")
    if len(set(seeds)) < len(seeds):
        return rule.judged(False, f"seeds {sorted(seeds)} are not all different", seeds=len(set(seeds)))
    for what in ("config_digest", "code_digest"):
        digests = {s.seed: getattr(s, what) for s in d.seeds if getattr(s, what) is not None}
        if len(set(digests.values())) > 1:
            usual = max(digests.values(), key=list(digests.values()).count)
            odd = next(seed for seed, digest in digests.items() if digest != usual)
            name = what.replace("_digest", "")
            said = f"seed {odd} is of another {name}: {digests[odd][:12]}, the others of {usual[:12]}"
            return rule.judged(False, said, seeds=len(seeds))
    if len(seeds) < SEEDS:
        said = f"{len(seeds)} of {SEEDS} seeds"
        return (
            rule.judged(False, said, seeds=len(seeds)) if d.official else rule.lacks(said, seeds=len(seeds))
        )
    if any(s.config_digest is None for s in d.seeds):
        return rule.lacks(f"{len(seeds)} seeds, but not of which config (config_digest)", seeds=len(seeds))
    return rule.judged(True, f"{len(seeds)} seeds of one config", seeds=len(seeds))


def all_runs_are_disclosed(d: Dossier) -> Verdict:
    """L21: the reported score is the mean of all runs, not of the best of them."""
    rule = Rule("L21", "all_runs_are_disclosed", "report the mean of every run that was made")
    shown = [s.bpb for s in d.seeds if s.bpb is not None]
    reported = d.reported.bpb
    if reported is not None and len(shown) > 1:
        mean = math.fsum(shown) / len(shown)
        if abs(mean - reported) > _rounding(reported):
            best = " (the best of them)" if abs(min(shown) - reported) <= _rounding(reported) else ""
            said = f"{reported:.6f} is reported{best}, the {len(shown)} seeds shown have a mean of {mean:.6f}"
            return rule.judged(False, said, reported=reported, mean=mean)
    if d.runs is None:
        return rule.lacks("runs are not disclosed (all_runs)")
    if silent := [s.seed for s in d.runs if s.bpb is None]:
        return rule.lacks(f"run {silent[0]} is disclosed without its val_bpb")
    every = [s.bpb for s in d.runs if s.bpb is not None]
    hidden = {s.seed for s in d.seeds} - {s.seed for s in d.runs}
    if hidden:
        return rule.judged(
            False, f"seed {min(hidden)} is reported and not among the {len(d.runs)} runs disclosed"
        )
    if not every:
        return rule.lacks("the disclosed runs have no val_bpb")
    mean = math.fsum(every) / len(every)
    told = reported if reported is not None else (math.fsum(shown) / len(shown) if shown else None)
    if told is None:
        return rule.lacks("no score is reported")
    if abs(told - mean) <= _rounding(told):
        return rule.judged(
            True, f"{told:.6f} is the mean of all {len(every)} runs", all_runs=len(every), mean=mean
        )
    said = f"{told:.6f} is {_chosen(sorted(every), told)}, all of which have a mean of {mean:.6f}"
    return rule.judged(False, said, all_runs=len(every), mean=mean)


def _rounding(told: float) -> float:
    """Half a unit of its last digit."""
    _, _, digits = f"{told!r}".partition(".")
    return max(ROUNDED, 0.5 * 10.0 ** -len(digits) * (1 + 1e-9)) if "e" not in digits else ROUNDED


def _chosen(scores: list[float], told: float) -> str:
    """Of which of the runs the reported mean is; `scores` ascend."""
    runs = f"{len(scores)} runs"
    for many in range(len(scores) - 1, 0, -1):
        if abs(math.fsum(scores[:many]) / many - told) <= ROUNDED:
            return f"the mean of the best {many} of {runs}"
    for many in range(len(scores) - 1, 0, -1) if len(scores) <= 10 else ():
        if any(abs(math.fsum(some) / many - told) <= ROUNDED for some in combinations(scores, many)):
            return f"the mean of {many} of {runs}"
    return f"no mean of the {runs}"
