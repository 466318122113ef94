"""Every law of a set of shards, each with its evidence, its verdict and what to do about it.

Each of these was broken by somebody whose score then was wrong: a sidecar read as tokens, ten thousand
validation documents instead of fifty (the rest was trained on), case operators counted as text (a
denominator of 164,594,398 bytes instead of 151,074,499), no BOS, shards cut short by a full disk.

A rule *holds*, is *broken*, or makes *no claim* because there is nothing to hold it against: a denominator
is known for the published validation splits only, which are recognized by vocabulary and token count. Files
that are broken themselves are left out of the rules that would read them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import sentencepiece as spm

from pgolf.data.checked import Subject, document_hashes, look_up_bytes, parts
from pgolf.data.directory import MANIFEST, Watch, checksum, unwatched
from pgolf.data.published import OFFICIAL_NAME, SPLITS, TOLERANCE, VALIDATION_DOCUMENTS, Split
from pgolf.data.shard_files import Shards, sidecar_beside
from pgolf.data.tokenizer import Tokenizer
from pgolf.errors import DataError
from pgolf.formats.shards import BOS, HEADER_BYTES

Verdict = Literal["holds", "broken", "no claim"]
AGAIN = "fetch or build the shards again"


@dataclass(frozen=True)
class Finding:
    """What a rule came to."""

    rule: str
    verdict: Verdict
    evidence: str
    remedy: str = ""


def check(shards: Shards, watch: Watch = unwatched, published: tuple[Split, ...] = SPLITS) -> list[Finding]:
    """Every rule's finding, in order.

    Raises:
        DataError: if the tokenizer is none, or the manifest is damaged.
    """
    subject = Subject(shards, Tokenizer.load(shards.tokenizer), published)
    findings = []
    for i, rule in enumerate(RULES):
        findings.append(rule(subject))
        watch("rules", i + 1, len(RULES))
    return findings


def verdict(findings: list[Finding]) -> Verdict:
    """All rules together."""
    return "broken" if any(f.verdict == "broken" for f in findings) else "holds"


def _sidecars_apart(s: Subject) -> Finding:
    rule = "byte sidecars are not among the token shards"
    shards = s.shards
    orphans = sorted({f.name for f in shards.sidecars} - {sidecar_beside(f).name for f in shards.token_files})
    if orphans:
        return Finding(rule, "broken", f"{_first(orphans)}: no shard beside it", AGAIN)
    held_out = f"{len(shards.validation)} validation" + (
        f", {len(shards.select)} select" if shards.select else ""
    )
    return Finding(rule, "holds", f"{len(shards.train)} train, {held_out}, {len(shards.sidecars)} sidecars")


def _whole_files(s: Subject) -> Finding:
    rule = f"a file is a header of {HEADER_BYTES} bytes (20240520, 1, count, zeros) and count times two bytes"
    values = sum(map(len, s.values.values()))
    if s.broken:
        return Finding(rule, "broken", _first(list(s.broken.values())), AGAIN)
    return Finding(rule, "holds", f"{len(s.values)} files, {values:,} values")


def _as_the_manifest_says(s: Subject) -> Finding:
    rule = "files are those that were fetched or built"
    if s.manifest is None:
        return Finding(rule, "no claim", f"no {MANIFEST}")
    assert s.shards.directory is not None, "a manifest lies in a directory"
    named: dict[str, dict[str, Any]] = s.manifest["files"]
    if wrong := [n for n, about in named.items() if not _is(s.shards.directory / n, about)]:
        return Finding(rule, "broken", f"{_first(wrong)}: missing, or other bytes", AGAIN)
    here = {f.name for f in (*s.shards.token_files, *s.shards.sidecars)}
    if strangers := sorted(here - set(named)):
        return Finding(rule, "broken", f"{_first(strangers)}: not in the manifest", "move it elsewhere")
    return Finding(rule, "holds", f"{len(named)} files, SHA-256 compared")


def _tokens_below_the_vocabulary(s: Subject) -> Finding:
    rule = f"tokens are below the vocabulary's size {s.tokenizer.vocab_size}"
    if bad := [f"{f.name}: {top}" for f, top in s.tops.items() if f not in s.countable]:
        return Finding(rule, "broken", _first(bad), "give the tokenizer that the shards were written with")
    return Finding(rule, "holds", f"the largest is {max(s.tops.values(), default=0)}")


def _a_document_begins_with_bos(s: Subject) -> Finding:
    """Shards after a split's first may begin inside a document (the published ones do); the split may not."""
    rule = "a split begins with BOS, and each of its shards holds the BOS of a document"
    remedy = "prepend BOS (id 1) to every document: SentencePiece does not"
    for name in s.documents:
        for file, tokens in s.split(name).items():
            if not s.starts[file].size:
                return Finding(rule, "broken", f"{file.name}: none in {len(tokens):,} tokens", remedy)
            if file == getattr(s.shards, name)[0] and tokens[0] != BOS:
                return Finding(rule, "broken", f"{file.name} begins with {tokens[:3].tolist()}", remedy)
    return Finding(
        rule, "holds", ", ".join(f"{n:,} {name}" for name, n in s.documents.items() if n) + " documents"
    )


def _as_many_bos_as_documents(s: Subject) -> Finding:
    rule = "there are as many BOS as documents were written"
    splits: dict[str, dict[str, int]] = (s.manifest or {}).get("splits", {})
    if not splits:
        return Finding(rule, "no claim", "no manifest says how many")
    told = {name: about["documents"] for name, about in splits.items()}
    wrong = [f"{name}: {s.documents[name]:,} BOS for {n:,} documents" for name, n in told.items()
             if s.documents[name] != n]  # fmt: skip
    if wrong:
        return Finding(rule, "broken", _first(wrong), AGAIN)
    return Finding(rule, "holds", ", ".join(f"{n:,} {name}" for name, n in told.items()))


def _no_other_control_tokens(s: Subject) -> Finding:
    """No pad, no end mark, no unknown: the format has none, and byte fallback leaves nothing unknown."""
    rule = "BOS is the only control token in a stream"
    sp = spm.SentencePieceProcessor(model_proto=s.tokenizer.model)
    others = [v for v in range(sp.vocab_size()) if (sp.is_control(v) or sp.is_unknown(v)) and v != BOS]
    table = np.zeros(2**16, dtype=bool)
    table[others] = True
    for file, tokens in s.tokens.items():
        if count := int(table[tokens].sum()):
            return Finding(rule, "broken", f"{file.name}: {count:,} of the ids {others}",
                           "write BOS before a document and nothing after it")  # fmt: skip
    return Finding(rule, "holds", f"none of the ids {others}")


def _the_tokenizer_fits(s: Subject) -> Finding:
    """From the first document of each shard on; `Tokenizer.fits` decodes and encodes a few of them again."""
    rule = "the tokenizer splits a shard's first documents as they are split"
    for file, tokens in s.tokens.items():
        try:
            if s.starts[file].size:
                s.tokenizer.fits(tokens[s.starts[file][0] :], file.name)
        except DataError as error:
            return Finding(rule, "broken", str(error.given), str(error.remedy))
    kind = ("lossless" if s.tokenizer.lossless else "normalizing") + (
        ", case-coded" if s.tokenizer.case else ""
    )
    return Finding(rule, "holds", f"{s.shards.tokenizer.name}: {s.tokenizer.vocab_size} tokens, {kind}")


def _a_count_for_every_token(s: Subject) -> Finding:
    rule = "a byte sidecar has one count for each token of its shard"
    held_out = {**s.split("select"), **s.split("validation")}
    if not s.shards.sidecars:
        if not s.operators.size:
            return Finding(rule, "no claim", "no sidecars: bytes are counted by the tokenizer")
        streams = (part for tokens in held_out.values() for part in parts(tokens))
        look_up = sum(look_up_bytes(s.tokenizer, part) for part in streams)
        return Finding(rule, "broken",
                       f"no sidecar; the look-up rule would count {look_up:,} bytes, its case operators among them",
                       "fetch or build the sidecars that belong to these shards")  # fmt: skip
    if wrong := [f"{sidecar_beside(f).name}: {len(c):,} counts for {len(t):,} tokens" for f, (t, c) in s.pairs.items()
                 if len(t) != len(c)]:  # fmt: skip
        return Finding(rule, "broken", _first(wrong), AGAIN)
    if missing := [f.name for f in held_out if f not in s.pairs]:
        return Finding(rule, "broken", f"{_first(missing)}: no sound sidecar", AGAIN)
    return Finding(rule, "holds", f"{len(s.pairs)} sidecars")


def _counts_are_the_tokens_bytes(s: Subject) -> Finding:
    """BOS and case operators stand for nothing; where a token's bytes are known, that is what is written."""
    rule = "a sidecar counts bytes of the original text: none for BOS and case operators"
    pairs = {f: (t, c) for f, (t, c) in s.pairs.items() if len(t) == len(c) and f in s.countable}
    if not pairs:
        return Finding(rule, "no claim", "no sidecar that could be held against its tokens")
    nothing = np.zeros(2**16, dtype=bool)
    nothing[[BOS, *s.operators.tolist()]] = True
    for file, (tokens, counts) in pairs.items():
        if extra := int(counts[nothing[tokens]].sum(dtype=np.int64)):
            return Finding(rule, "broken", f"{sidecar_beside(file).name}: {extra:,} bytes on BOS and operators",
                           "count the text as it was before its case was coded")  # fmt: skip
        if s.tokenizer.case is not None and not s.tokenizer.lossless:
            continue  # the published sidecar counts raw bytes, which the tokens do not tell
        at = int(s.starts[file][0]) if s.starts[file].size else len(tokens)  # before it, a document's end
        for part in parts(tokens[at:]):
            expected = s.tokenizer.byte_counts(part)
            if (off := np.flatnonzero(counts[at : at + len(part)] != expected)).size:
                i = int(off[0])
                said = f"{counts[at + i]} for token {part[i]} at {at + i:,}, which stands for {expected[i]}"
                return Finding(rule, "broken", f"{sidecar_beside(file).name}: {said}", AGAIN)
            at += len(part)
    return Finding(rule, "holds", f"{sum(int(c.sum(dtype=np.int64)) for _, c in pairs.values()):,} bytes")


def _the_pinned_denominator(s: Subject) -> Finding:
    """The bytes under the T scored targets: the stream's first token is none."""
    rule = "the bytes of a published validation split are the published ones, to 0.01 %"
    files = s.split("validation")
    if not files or any(f not in s.countable and f not in s.pairs for f in files):
        return Finding(rule, "no claim", "validation tokens cannot be counted")
    split, tokens = s.recognized, sum(map(len, files.values()))
    left = tokens if split is None else split.scored_tokens + 1
    total = 0
    for counts in s.validation_counts():
        total += int(counts[:left].sum(dtype=np.int64))
        left -= min(left, len(counts))
    if split is None:
        return Finding(rule, "no claim", f"{total:,} bytes under {tokens:,} tokens: no published split")
    what = (
        f"{split.name}: {total:,} bytes under {split.scored_tokens:,} targets, {split.text_bytes:,} published"
    )
    if _near(total, split.text_bytes):
        return Finding(rule, "holds", what)
    if split.look_up_bytes is not None and _near(total, split.look_up_bytes):
        what += ": case operators are counted as text (the look-up rule)"
    return Finding(rule, "broken", what, "count with the published sidecar, or build the sidecar again")


def _all_validation_documents(s: Subject) -> Finding:
    rule = f"the official validation split has {VALIDATION_DOCUMENTS:,} documents"
    count = s.documents["validation"]
    if s.recognized is None and not all(OFFICIAL_NAME.fullmatch(f.name) for f in s.shards.validation):
        return Finding(rule, "no claim", f"{count:,} documents, not named or sized as the official split")
    if count != VALIDATION_DOCUMENTS:
        remedy = (
            "build again with all of them; training shards that were made along with these hold the others"
        )
        return Finding(rule, "broken", f"{count:,} documents", remedy)
    return Finding(rule, "holds", f"{count:,} documents")


def _splits_are_disjoint(s: Subject) -> Finding:
    """By the hash of every document's tokens: equal texts have equal tokens."""
    rule = "no document of a split is a document of another"
    owner: dict[bytes, str] = {}
    shared: dict[tuple[str, str], list[int]] = {}
    counts = dict.fromkeys(("validation", "select", "train"), 0)
    for name in counts:
        for i, key in enumerate(document_hashes(s, name)):
            counts[name] += 1
            if (other := owner.get(key, name)) != name:
                shared.setdefault((name, other), []).append(i)
            elif name != "train":
                owner[key] = name
    if shared:
        said = [f"{len(where):,} of {counts[a]:,} in {a} are in {b}, the first is number {where[0]:,}"
                for (a, b), where in shared.items()]  # fmt: skip
        return Finding(rule, "broken", _first(said), "split the documents before all else, and build again")
    if not counts["train"] or not counts["validation"]:
        return Finding(rule, "no claim", "a split has no sound shard")
    return Finding(rule, "holds", f"{counts['train']:,} hashes against {len(owner):,}")


RULES: tuple[Callable[[Subject], Finding], ...] = (
    _sidecars_apart,
    _whole_files,
    _as_the_manifest_says,
    _tokens_below_the_vocabulary,
    _a_document_begins_with_bos,
    _as_many_bos_as_documents,
    _no_other_control_tokens,
    _the_tokenizer_fits,
    _a_count_for_every_token,
    _counts_are_the_tokens_bytes,
    _the_pinned_denominator,
    _all_validation_documents,
    _splits_are_disjoint,
)


def _is(file: Path, about: dict[str, Any]) -> bool:
    return file.is_file() and file.stat().st_size == about["bytes"] and checksum(file) == about["sha256"]


def _near(measured: int, pinned: int) -> bool:
    return abs(measured / pinned - 1) <= TOLERANCE


def _first(problems: list[str]) -> str:
    return problems[0] + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else "")
