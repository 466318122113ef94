"""L14, L19 and L20: what was shipped is within the cap, is all there is, and gives the same score again."""

import math
import sys
import sysconfig
from pathlib import Path

import numpy as np

from pgolf.certify.dossier import Dossier, tokenizer_of
from pgolf.certify.perturb import Answer, apart
from pgolf.certify.verdict import Rule, Verdict
from pgolf.formats.ledger import gone_by, windows_of
from pgolf.formats.shards import SHARD_FILE

ROOT = Path(__file__).resolve().parents[3]
CODE = (".py", ".pyc", ".so", ".dll", ".dylib", ".cpp", ".cu", ".c")
SAME = 1e-9  # nats between two reloads
MEAN_SAME = 0.01  # nats a token between the reported scores and those made here: other hardware, other dtypes


def fits_the_cap(d: Dossier) -> Verdict:
    """L14: code and model, as they lie on disk, are at most the cap. MB are 10^6 bytes."""
    rule = Rule(
        "L14", "fits_the_cap", "count files on disk, code and model together, and stay below the rules' cap"
    )
    r, cap = d.reported, d.rules.artifact_bytes
    model = d.artifact.stat().st_size if d.artifact is not None else r.model_bytes
    code = sum(f.stat().st_size for f in d.counted) if d.counted is not None else r.code_bytes
    both = model + code if model is not None and code is not None else None
    known = [n for n in (both, model, r.artifact_bytes) if n is not None]
    sizes = {"bytes_model": model, "bytes_code": code, "bytes_total": max(known, default=None)}
    measured = {k: float(v) for k, v in sizes.items() if v is not None}
    if d.cap is not None and d.cap > cap:
        mib = " (MiB taken for MB)" if d.cap % 2**20 == 0 else ""
        return rule.judged(
            False, f"a cap of {d.cap:,} bytes was kept{mib}, the rules' is {cap:,}", **measured
        )
    if not known:
        return rule.lacks("no artifact and no bytes_total")
    if max(known) > cap:
        said = f"{max(known):,} bytes, {max(known) - cap:,} over the cap of {cap:,}"
        return rule.judged(False, said, **measured)
    if d.artifact is not None and r.model_bytes is not None and r.model_bytes != model:
        return rule.judged(
            False, f"{r.model_bytes:,} bytes of model are reported, {model:,} lie on disk", **measured
        )
    if both is not None and r.artifact_bytes is not None and r.artifact_bytes < both:
        return rule.judged(
            False, f"{r.artifact_bytes:,} bytes are reported, {both:,} lie on disk", **measured
        )
    return rule.judged(True, f"{max(known):,} bytes of {cap:,}", **measured)


def code_is_counted(d: Dossier) -> Verdict:
    """L19: every file of code that runs is among those that are counted."""
    rule = Rule("L19", "code_is_counted", "count every file that is executed, helpers and binaries too")
    counted = {f.resolve() for f in d.counted or ()}
    ran = {f.resolve() for f in d.executed or ()}
    if d.trial is not None:
        ran |= {
            _source(Path(f))
            for _, f in d.trial.watch.opened
            if _is_own_code(Path(f)) or _is_beside(d, Path(f))
        }
        if started := d.trial.watch.started:
            return rule.judged(False, f"the program {started[0]} was started", code_files=len(counted))
    if d.counted is None and not (ran and d.home is not None):
        return rule.lacks("no list of the code files that are counted")
    if more := sorted(ran - counted):
        size = sum(f.stat().st_size for f in more if f.is_file())
        said = f"{more[0].name} ran and is not counted ({len(more)} files of {size:,} bytes)"
        return rule.judged(False, said, code_files=len(counted), uncounted_bytes=size)
    if not ran:
        return rule.lacks("no list of the code files that ran, and nothing to run and watch")
    return rule.judged(True, f"{len(ran)} code files ran, all of them counted", code_files=len(counted))


def reload_is_deterministic(d: Dossier) -> Verdict:
    """L20: made anew from the artifact it scores the same, and as was reported where both know the same."""
    rule = Rule(
        "L20", "reload_is_deterministic", "score what was reloaded from the artifact's bytes, without chance"
    )
    trial = d.trial
    if trial is None:
        if d.reloaded is None:
            return rule.lacks(
                "nothing to reload: `predictor` or `evaluator`, or `reload` by the author's word"
            )
        return rule.judged(
            d.reloaded, "scored by a fresh process" if d.reloaded else "scored without reloading"
        )
    if trial.failure is not None:
        return rule.judged(False, f"a reload did not come through an evaluation: {trial.failure}")
    again = d.rescored
    if d.failures:
        return rule.judged(False, f"a reload did not come through all evaluations: {d.failures[0]}")
    off = max(float(apart(first.nll, again.nll).max()) for first, again in trial.pairs)
    if off > SAME:
        said = f"two reloads of one artifact differ by {off:.3g} nats on the same {len(trial.tokens) - 1} targets"
        return rule.judged(False, said, maxdiff=off)
    if again is not None and (differs := _otherwise(d, again)) is not None:
        return rule.judged(False, differs, maxdiff=off)
    if again is None and (mean := _from_reported(d)) is not None and mean > MEAN_SAME:
        said = f"reported scores are {mean:.3g} nats a token away from those of this artifact"
        return rule.judged(False, said, maxdiff=off, from_reported=mean)
    if d.reloaded is False:
        return rule.judged(False, "the reported score was made without reloading the artifact", maxdiff=off)
    whole = "" if again is None else ", and all of the split comes to what is claimed"
    if again is None and d.nll is None and d.reported.bpb is not None:
        whole = f"; the {d.reported.bpb:.4f} bits per byte that are reported were not made again: no ledger"
    return rule.judged(
        True, f"two reloads differ by {off:.2g} nats on {len(trial.tokens) - 1} targets{whole}", maxdiff=off
    )


def _otherwise(d: Dossier, again: Answer) -> str | None:
    """How the whole split, scored here, differs from what is claimed of it."""
    assert d.scored is not None, "it was scored"
    size = int(d.scored[1][1:].sum(dtype=np.int64))
    bits = math.fsum(again.nll) / math.log(2)
    if d.reported.bpb is not None and size:
        nats = abs(bits - d.reported.bpb * size) * math.log(2) / (len(again.nll) - 1)
        if not nats <= MEAN_SAME:
            return (
                f"{d.reported.bpb:.6f} bits per byte are reported, this artifact comes to {bits / size:.6f}"
            )
    if d.nll is None:
        return None
    if len(d.nll) != len(again.nll) or not (mean := float(np.abs(d.nll - again.nll).mean())) <= MEAN_SAME:
        return "the scores that were kept are not those of this artifact" + (
            f": {mean:.3g} nats a token away" if len(d.nll) == len(again.nll) else ""
        )
    if d.events is not None and again.events is not None:
        kept, made = (np.unique(windows_of(events), axis=0) for events in (d.events, again.events))
        if kept.shape != made.shape or (kept != made).any():
            return "the windows of the ledger that was kept are not those of `evaluate`"
    return None


def _from_reported(d: Dossier) -> float | None:
    """Mean distance of scores where both saw the same and had been told the same: the beginning of the stream."""
    trial = d.trial
    if (
        trial is None
        or trial.first is None
        or trial.first.events is None
        or d.nll is None
        or d.events is None
    ):
        return None
    audited = d.audited
    if audited is None or not audited.holds or d.scored is None:
        return None
    many = min(len(d.nll), len(trial.tokens))
    alike = np.logical_and.accumulate(trial.tokens[:many] == d.scored[0][:many])
    here, there = gone_by(trial.first.events, many), gone_by(d.events, many)
    # else rates may go by other lengths, once something is learned
    whole = len(trial.tokens) == len(d.scored[0])
    alike &= [a is not None and a == b and (whole or not a[1]) for a, b in zip(here, there, strict=True)]
    if not alike.any():
        return None
    return float(np.abs(trial.first.nll[:many] - d.nll[:many])[alike].mean())


def _is_own_code(file: Path) -> bool:
    """Code that is neither Python's, nor an installed package's, nor pgolf's."""
    if file.suffix not in CODE:
        return False
    installed = {
        Path(sys.prefix),
        Path(sys.base_prefix),
        *map(Path, sysconfig.get_paths().values()),
        ROOT / "pgolf",
    }
    return not any(_source(file).is_relative_to(place.resolve()) for place in installed)


def _is_beside(d: Dossier, file: Path) -> bool:
    """A file of the claim's folder that is neither the artifact, nor a shard or the tokenizer of its tokens."""
    if d.home is None or not file.is_relative_to(d.home) or "__pycache__" in file.parts:
        return False
    known = [d.artifact] if d.tokens is None else [d.artifact, tokenizer_of(d.tokens)]
    is_shard = d.tokens is not None and file.parent == d.tokens.resolve() and SHARD_FILE.search(file.name)
    return not is_shard and file not in {f.resolve() for f in known if f is not None}


def _source(file: Path) -> Path:
    """The source of a cached module, and any other file itself."""
    if file.suffix == ".pyc" and file.parent.name == "__pycache__":
        return file.parent.parent / f"{file.name.split('.')[0]}.py"
    return file
