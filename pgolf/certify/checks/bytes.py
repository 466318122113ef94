"""L8 and L9: the denominator is the text's own bytes, and all of the split is scored.

Every cheap record that was wrong had another denominator or another split, and both can be read off the reported
numbers alone: implied bytes = targets * loss / (ln 2 * bpb) are known for every published split.
"""

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from pgolf.certify.dossier import Dossier, Reported
from pgolf.certify.verdict import Rule, Verdict
from pgolf.data.published import SPLITS, TOLERANCE, VALIDATION_DOCUMENTS, WINDOW, Split
from pgolf.data.tokenizer import Tokenizer
from pgolf.evaluate.drive import starts_of
from pgolf.formats.shards import BOS, Tokens

SUMS = 1e-4  # relative: reported numbers are rounded


def bytes_are_the_text(d: Dossier) -> Verdict:
    """L8: sidecar and text agree, the reported sums agree with both, and published splits with what is known."""
    rule = Rule("L8", "bytes_are_the_text",
                "count the UTF-8 bytes of the text that the scored tokens stand for, each once")  # fmt: skip
    r = d.reported
    sizes = {"val_bytes": r.bytes, "val_tokens": r.tokens, "implied_bytes": implied_bytes(r)}
    measured = {k: v for k, v in sizes.items() if v is not None}
    said = [part for part in (_text(d), _sums(d), _implied(d), _pinned(d)) if part is not None]
    if not said:
        return rule.lacks("no byte counts: `tokens` with sidecars and tokenizer, or val_tokens, val_loss and val_bpb",
                          **measured)  # fmt: skip
    broken = [text for holds, text in said if not holds]
    return rule.judged(not broken, "; ".join(broken or [text for _, text in said]), **measured)


def implied_bytes(r: Reported) -> float | None:
    """What the reported loss and bits per byte were divided by."""
    if r.bpb is None or r.loss is None or r.tokens is None or r.bpb <= 0:
        return None
    return r.tokens * r.loss / (math.log(2) * r.bpb)


def _text(d: Dossier) -> tuple[bool, str] | None:
    """The counts under the stream against the text that its tokens decode to."""
    if d.scored is None or d.tokens is None or d.processor is None:
        return None
    tokens, counts = d.scored
    total = int(counts[1:].sum(dtype=np.int64))
    if d.tokenizer is not None:
        if int(tokens.max(initial=0)) >= d.tokenizer.vocab_size:
            return False, f"token {int(tokens.max())} is none of the tokenizer's {d.tokenizer.vocab_size}"
        found = d.findings.get("counts_are_the_tokens_bytes")
        if found is not None and found.verdict == "broken":
            return False, found.evidence
        broken = unlike_the_text(tokens, counts, d.tokenizer)
        return (False, broken) if broken else (True, f"{total:,} bytes counted are the text's")
    # no piece is U+2581: its bytes decode to that sign, and it is a space
    text = sum(
        len(d.processor.decode(document.tolist()).replace("▁", " ").encode())
        for _, _, document in _documents(tokens)
    )
    near = abs(total - text) <= TOLERANCE * text
    return near, f"{total:,} bytes are counted for {text:,} of text ({total / max(text, 1) - 1:+.2%})"


def unlike_the_text(tokens: Tokens, counts: Tokens, tokenizer: Tokenizer) -> str | None:
    """How counts differ from the UTF-8 length of the text that the tokens decode to, document by document.

    A normalizing case coding may come with a sidecar of raw bytes (the published one), which tokens do not tell;
    there the documents together may be off by `published.TOLERANCE`.
    """
    exact = tokenizer.lossless or tokenizer.case is None
    all_text = all_counted = 0
    for begin, end, document in _documents(tokens):
        text = len(tokenizer.decode(document.tolist()))
        counted = int(counts[begin:end].sum(dtype=np.int64))
        if exact and text != counted:
            return f"the document at token {begin} has {text} bytes, {counted} are counted"
        all_text, all_counted = all_text + text, all_counted + counted
    if abs(all_counted - all_text) > TOLERANCE * all_text:
        return f"the documents have {all_text} bytes, {all_counted} are counted"
    return None


def _documents(tokens: Tokens) -> Iterator[tuple[int, int, Tokens]]:
    """Of each document where it lies, and its tokens without BOS; a stream may begin within one."""
    starts = starts_of(tokens).tolist()
    for begin, end in pairwise([*starts, len(tokens)]):
        yield begin, end, tokens[begin + (tokens[begin] == BOS) : end]


def _sums(d: Dossier) -> tuple[bool, str] | None:
    """The reported numbers against ledger and sidecar."""
    r = d.reported
    if d.nll is not None and d.scored is not None and r.bpb is not None and len(d.nll) == len(d.scored[1]):
        total = int(d.scored[1][1:].sum(dtype=np.int64))
        again = math.fsum(d.nll) / math.log(2) / total if total else math.inf
        if not math.isclose(again, r.bpb, rel_tol=SUMS):
            return (
                False,
                f"{r.bpb:.6f} bits per byte are reported, the ledger's bits over {total:,} bytes are {again:.6f}",
            )
    if r.bytes is not None and d.scored is not None:
        total = int(d.scored[1][1:].sum(dtype=np.int64))
        if abs(r.bytes - total) > TOLERANCE * total:
            return False, f"{r.bytes:,} bytes are reported, the scored tokens stand for {total:,}"
    if (
        r.bytes is not None
        and (implied := implied_bytes(r)) is not None
        and abs(implied - r.bytes) > SUMS * r.bytes
    ):
        return False, f"{r.bytes:,} bytes are reported, loss and bits per byte were divided by {implied:,.0f}"
    return None


def _implied(d: Dossier) -> tuple[bool, str] | None:
    """Where no other is known, the counts of the stream are what the reported numbers imply."""
    implied, r = implied_bytes(d.reported), d.reported
    if implied is None or d.scored is None or r.tokens != len(d.scored[0]) - 1:
        return None
    total = int(d.scored[1][1:].sum(dtype=np.int64))
    if abs(implied - total) > SUMS * total:
        return (
            False,
            f"loss and bits per byte imply {implied:,.0f} bytes, the scored tokens stand for {total:,}",
        )
    return True, f"implied bytes {implied:,.0f}"


def _pinned(d: Dossier) -> tuple[bool, str] | None:
    """A published split, known by its targets, has known bytes."""
    r = d.reported
    if r.tokens is None and d.official and r.loss is not None and r.bpb:
        return _as_looked_up(r.loss / (math.log(2) * r.bpb))
    split = published_split(r.tokens)
    counted = implied_bytes(r) if implied_bytes(r) is not None else r.bytes
    if split is None or counted is None:
        return None
    off = counted / split.text_bytes - 1
    said = f"{split.name}: {counted:,.0f} bytes against {split.text_bytes:,} published ({off:+.2%})"
    if split.look_up_bytes and abs(counted / split.look_up_bytes - 1) <= TOLERANCE:
        said += ": case operators are counted as text"
    return abs(off) <= TOLERANCE, said


def _as_looked_up(bytes_per_token: float) -> tuple[bool, str] | None:
    """Without a number of targets: whether bytes per token are those of no published text, but of a look-up."""
    for split in SPLITS:
        texts, looked_up = (
            split.text_bytes / split.scored_tokens,
            (split.look_up_bytes or 0) / split.scored_tokens,
        )
        if looked_up and abs(bytes_per_token - looked_up) <= TOLERANCE * looked_up < abs(
            bytes_per_token - texts
        ):
            return (
                False,
                f"{bytes_per_token:.4f} bytes a token: in {split.name} case operators are counted as text",
            )
    return None


def published_split(targets: int | None) -> Split | None:
    """The published split with so many targets."""
    return next((s for s in SPLITS if targets is not None and 0 <= targets - s.scored_tokens < WINDOW), None)


def covers_the_split(d: Dossier) -> Verdict:
    """L9: every target of the split, and the official split whole."""
    rule = Rule("L9", "covers_the_split", "score every target of the split that is named")
    r = d.reported
    measured = {
        k: float(v)
        for k, v in {"val_tokens": r.tokens, "val_documents": r.documents}.items()
        if v is not None
    }
    if d.split == "train" and r.bpb is not None:
        return rule.judged(False, "the score that is reported is of the training split", **measured)
    split = published_split(r.tokens)
    if d.scored is not None and r.tokens is not None:
        tokens = len(d.scored[0]) - 1
        if not 0 <= tokens - r.tokens < WINDOW or (tokens < 100 * WINDOW and r.tokens != tokens):
            return rule.judged(
                False, f"{r.tokens:,} targets are reported of a split of {tokens:,}", **measured
            )
    if r.documents is not None and (d.official or split is not None) and r.documents != VALIDATION_DOCUMENTS:
        said = f"{r.documents:,} validation documents, the official split has {VALIDATION_DOCUMENTS:,}"
        return rule.judged(False, said, **measured)
    if split is not None and split.documents != VALIDATION_DOCUMENTS:
        said = f"{r.tokens:,} targets are those of {split.documents:,} documents, not of {VALIDATION_DOCUMENTS:,}"
        return rule.judged(False, said, **measured)
    if d.official and r.tokens is not None and split is None:
        known = ", ".join(f"{s.scored_tokens:,}" for s in SPLITS if s.documents == VALIDATION_DOCUMENTS)
        return rule.judged(False, f"{r.tokens:,} targets, official splits have {known}", **measured)
    if (found := d.findings.get("all_validation_documents")) is not None and found.verdict == "broken":
        return rule.judged(False, found.evidence, **measured)
    if r.tokens is None:
        return rule.lacks("no val_tokens")
    if split is None and d.scored is None:
        return rule.lacks(
            f"{r.tokens:,} targets are of no published split, and no tokens were given", **measured
        )
    return rule.judged(True, f"all {r.tokens:,} targets" + (f" of {split.name}" if split else ""), **measured)
