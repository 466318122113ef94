"""L10 to L13: training text is not validation text, and nobody read either when he should not."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgolf.certify.dossier import MAKING, Dossier
from pgolf.certify.verdict import Rule, Verdict
from pgolf.data.checked import Subject, document_hash, documents_of
from pgolf.data.published import OFFICIAL_NAME
from pgolf.data.tokenizer import Tokenizer
from pgolf.formats.shards import BOS, HELD_OUT_FILE, TRAIN_FILE, Tokens

NATURAL = 0.005  # share of validation documents that crawled text repeats anyhow
WHOLE = 16  # tokens that a document has at least, to be a document: fewer are said everywhere
SHINGLE = 64  # tokens that two texts share by copying alone
OFFICIAL_SHARD = 100_000_000  # tokens of a full training shard of the published exports


def splits_are_disjoint(d: Dossier) -> Verdict:
    """L10: no validation document, and no 64 tokens of its beginning, middle or end, lie in the training shards."""
    rule = Rule(
        "L10", "splits_are_disjoint", "split the documents before all else, and build the shards again"
    )
    if d.shards is None or d.tokenizer is None:
        return rule.lacks("no directory with training and validation shards")
    subject = Subject(d.shards, Tokenizer(d.tokenizer.model), ())
    held_out = [document_hash(t) for t in documents_of(subject, "validation") if len(t) >= 2 * WHOLE]
    train = {document_hash(t) for t in documents_of(subject, "train") if len(t) >= 2 * WHOLE}
    whole = sum(h in train for h in held_out)
    shingles = _shingles(
        np.concatenate([np.asarray(t) for t in subject.split("validation").values()] or [_NONE])
    )
    copied = _found(shingles, subject.split("train").values())
    share = max(whole / max(len(held_out), 1), copied / max(len(shingles), 1))
    said = (
        f"{whole:,} of {len(held_out):,} validation documents of {WHOLE} tokens or more, and {copied:,} of "
        f"{len(shingles):,} passages of {SHINGLE} tokens, are in the training shards"
    )
    return rule.judged(share <= NATURAL, said, overlap_docs=whole, overlap_passages=copied, docs_val=len(held_out),
                       docs_train=len(train))  # fmt: skip


_NONE = np.zeros(0, dtype=np.uint16)


def _shingles(tokens: Tokens) -> NDArray[np.uint64]:
    """Hashes of the first, middle and last SHINGLE tokens of every document that has as many."""
    starts = np.flatnonzero(tokens == BOS)
    ends = np.append(starts[1:], len(tokens))
    lengths = ends - starts - 1
    starts, ends = starts[lengths >= SHINGLE], ends[lengths >= SHINGLE]
    first = starts + 1
    places = np.unique(np.concatenate([first, (first + ends - SHINGLE) // 2, ends - SHINGLE]))
    return np.unique(_rolling(tokens)[places]) if len(places) else np.zeros(0, dtype=np.uint64)


def _found(shingles: NDArray[np.uint64], shards: Iterable[Tokens]) -> int:
    """How many of the passages lie anywhere in these shards."""
    met = np.zeros(len(shingles), dtype=bool)
    for part in _overlapping(shards):
        if len(part) >= SHINGLE and len(shingles):
            here = _rolling(part)
            at = np.searchsorted(shingles, here).clip(max=len(shingles) - 1)
            met[at[shingles[at] == here]] = True
    return int(met.sum())


def _overlapping(shards: Iterable[Tokens], size: int = 1 << 22) -> Iterator[Tokens]:
    """Shards in parts that share all but one token of a passage, so that none is missed between two."""
    tail = _NONE
    for shard in shards:
        for at in range(0, len(shard), size):
            part = np.concatenate([tail, np.asarray(shard[at : at + size])])
            yield part
            tail = part[-(SHINGLE - 1) :]


def _rolling(tokens: Tokens) -> NDArray[np.uint64]:
    """A hash, modulo 2^64, of the SHINGLE tokens from every position on that has as many."""
    base, inverse = 0x9E3779B97F4A7C15, pow(0x9E3779B97F4A7C15, -1, 2**64)
    n = len(tokens)
    if n < SHINGLE:
        return np.zeros(0, dtype=np.uint64)
    mixed = (tokens.astype(np.uint64) + np.uint64(1)) * np.uint64(0xD6E8FEB86659FD93)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed * _powers(base, n), dtype=np.uint64)])
    return (sums[SHINGLE:] - sums[:-SHINGLE]) * _powers(inverse, n - SHINGLE + 1)


def _powers(base: int, count: int) -> NDArray[np.uint64]:
    return np.cumprod(np.concatenate([[np.uint64(1)], np.full(count - 1, np.uint64(base))]), dtype=np.uint64)


def shards_are_the_export(d: Dossier) -> Verdict:
    """L11: the shards are those that were fetched or built; the official export has shards of 10^8 tokens."""
    rule = Rule("L11", "shards_are_the_export", "train on the published export, or say which build it was")
    r = d.reported
    shards, size = r.train_shards, r.shard_tokens
    official = d.official
    if size is None and d.shards is not None and d.tokenizer is not None:
        sizes = [len(t) for t in Subject(d.shards, d.tokenizer, ()).split("train").values()]
        shards, size = len(sizes), max(sizes, default=0)
        official = official or all(OFFICIAL_NAME.fullmatch(f.name) for f in d.shards.validation)
    measured = {
        k: float(v) for k, v in {"train_shards": shards, "shard_tokens": size}.items() if v is not None
    }
    made = d.findings.get("as_the_manifest_says")
    if made is not None and made.verdict == "broken":
        return rule.judged(False, made.evidence, **measured)
    if official and size is not None and size != OFFICIAL_SHARD:
        said = f"training shards of {size:,} tokens, the official export's have {OFFICIAL_SHARD:,}"
        return rule.judged(False, said, **measured)
    if official and size is None and shards is not None and shards > 200:
        said = (
            f"{shards:,} training shards: the official export has at most 200, a build with overlap had 1,499"
        )
        return rule.judged(False, said, **measured)
    if made is not None and made.verdict == "holds":
        return rule.judged(True, f"as the manifest says: {made.evidence}", **measured)
    if official and size is not None:
        return rule.judged(True, f"{shards or 'its'} shards of {size:,} tokens", **measured)
    return rule.lacks("no manifest, and no official export is claimed", **measured)


def no_training_data_at_evaluation(d: Dossier) -> Verdict:
    """L12: from the artifact on, no training shard is opened."""
    rule = Rule(
        "L12",
        "no_training_data_at_evaluation",
        "put what evaluation needs of training data into the artifact",
    )
    opened = [
        (stage, at, f) for stage, at, f in _openings(d) if stage not in MAKING or at is not None
    ]  # fmt: skip
    if reads := [
        f for stage, at, f in opened
        if _is_training(d, f) and (stage in ("load", "warmup", "evaluate") or _from(at, d.clocks.evaluation_at))
    ]:  # fmt: skip
        said = f"{Path(reads[0]).name} was opened for evaluation" + _more(reads)
        return rule.judged(False, said, train_reads_eval=len(reads))
    if not opened and d.ran is None:
        return rule.lacks("no list of files opened by the evaluation, and nothing to run and watch")
    return rule.judged(
        True, f"{len(opened):,} files opened, none of them a training shard", train_reads_eval=0
    )


def no_validation_data_before(d: Dossier) -> Verdict:
    """L13: no validation shard is opened before the artifact is final, or by what makes the predictor."""
    rule = Rule(
        "L13", "no_validation_data_before", "touch validation data for the first time when it is scored"
    )
    final = d.clocks.artifact_at
    early = [
        f for stage, at, f in _openings(d)
        if HELD_OUT_FILE.search(Path(f).name)
        and (stage in (*MAKING, "load", "warmup") or _before(at, final))
    ]  # fmt: skip
    if d.trial is not None:  # it is handed the tokens: who opens their file looks for what comes
        early += [f for _, f in d.trial.watch.opened if HELD_OUT_FILE.search(Path(f).name)]
    if early:
        said = f"{Path(early[0]).name} was opened before " + (
            f"the artifact was final ({final:g} s)" if final is not None else "the evaluation began"
        )
        return rule.judged(False, said + _more(early), early=len(early))
    if not d.opened and d.ran is None:
        return rule.lacks("no list of files opened, and nothing to run and watch")
    if not d.opened:
        return rule.lacks("making the predictor from the artifact opens no validation shard; how the artifact was "
                          "made nobody told", early=0)  # fmt: skip
    return rule.judged(
        True, f"{len(d.opened):,} openings, none of a validation shard before its time", early=0
    )


def _openings(d: Dossier) -> Iterator[tuple[str | None, float | None, str]]:
    """(stage, time, file) of what was reported, and of what was watched here."""
    for opening in d.opened or ():
        yield opening.stage, opening.at, opening.file
    if d.trial is not None:
        for stage, file in d.trial.watch.opened:
            yield stage, None, file


def _is_training(d: Dossier, file: str) -> bool:
    if d.artifact is not None and Path(file) == d.artifact.resolve():
        return False
    if TRAIN_FILE.search(Path(file).name):
        return True
    return d.shards is not None and Path(file) in {f.resolve() for f in d.shards.train}


def _from(at: float | None, since: float | None) -> bool:
    return at is not None and since is not None and at >= since


def _before(at: float | None, until: float | None) -> bool:
    return at is not None and until is not None and at < until


def _more(files: list[str]) -> str:
    others = len(set(files)) - 1
    return f", and {others} more" if others else ""
