"""The case transform is exact for any bytes, and so are the counts of whatever the tokens cut it into.

The twin below is the transform spelt out character by character, from its published definition; the
sample was made with the published model, from three FineWeb documents (see its first lines).
"""

import hashlib
import json
import re
import unicodedata
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.data.case_coding import RESERVED, CaseCoding
from pgolf.data.case_marks import MARKS
from pgolf.data.case_ops import CaseOps
from pgolf.data.sp_bpe import SpBpe
from pgolf.data.sp_official import SpOfficial
from pgolf.data.tokenizer import Tokenizer
from pgolf.errors import DataError
from pgolf.formats.shards import BOS
from tests.data.hostile import CASED, DOCUMENTS, LESSONS, TEXTS, TOKENIZERS, needs_shared

PUBLISHED = "fineweb_8192_bpe_lossless_caps_caseops_v1_reserved.official.model"
SAMPLE = json.loads((Path(__file__).parent / "case_ops_sample.json").read_text())
CODINGS = [CaseCoding(marks, before) for marks in MARKS.values() for before in (False, True)]
T, A, C, E = RESERVED.marks


def ascii_letter(c: str) -> bool:
    return "a" <= c <= "z" or "A" <= c <= "Z"


def slow_encode(text: str, marks: str = RESERVED.marks, before_space: bool = False) -> list[tuple[str, int]]:
    """(character, bytes of the original it stands for), one character after the other."""
    title, capitals, following, escape = marks
    out: list[tuple[str, int]] = []

    def put_before_the_word(mark: str) -> None:
        held = [out.pop()] if before_space and out and out[-1] == (" ", 1) else []
        out.extend([(mark, 0), *held])

    i = 0
    while i < len(text):
        j = i
        while j < len(text) and ascii_letter(text[j]):
            j += 1
        if j == i:
            if text[i] in marks:
                out.append((escape, 0))
            out.append((text[i], len(text[i].encode("utf-8", "surrogateescape"))))
            i += 1
            continue
        run, low = text[i:j], [(c, 1) for c in text[i:j].lower()]
        if len(run) >= 2 and all(c.isupper() for c in run):
            put_before_the_word(capitals)
            out.extend(low)
        elif run[0].isupper() and all(c.islower() for c in run[1:]):
            put_before_the_word(title)
            out.extend(low)
        else:
            for k, (c, letter) in enumerate(zip(run, low, strict=True)):
                if c.isupper() and k == 0:
                    put_before_the_word(title)
                elif c.isupper():
                    out.append((following, 0))
                out.append(letter)
        i = j
    return out


def slow_decode(coded: str) -> str:
    """The published state machine over reserved marks."""
    out, title, capitals, following, escaped = [], False, False, False, False
    for c in coded:
        if escaped:
            out.append(c)
            escaped = False
        elif c == E:
            escaped, capitals = True, False
        elif c == T:
            title, capitals = True, False
        elif c == A:
            capitals = True
        elif c == C:
            following = True
        else:
            capitals = capitals and ascii_letter(c)
            up = ascii_letter(c) and (title or capitals or following)
            out.append(c.upper() if up else c)
            title = following = False
    return "".join(out)


# ---------------------------------------------------------------------------------- the transform


@pytest.mark.parametrize(("text", "coded"), [
    ("hello world", "hello world"), ("Hello world", f"{T}hello world"), ("NASA", f"{A}nasa"), ("A", f"{T}a"),
    ("iPhone", f"i{C}phone"), ("McDonald", f"{T}mc{C}donald"), ("HTTPServer", f"{T}h{C}t{C}t{C}p{C}server"),
    ("U.S.", f"{T}u.{T}s."), ("I'm", f"{T}i'm"), ("DON'T", f"{A}don'{T}t"), ("O'Neill", f"{T}o'{T}neill"),
    ("USA2024b", f"{A}usa2024b"), ("NaN", f"{T}na{C}n"), ("ÉCOLE", f"É{A}cole"), ("x\ue001y", f"x{E}\ue001y"),
    ("", ""), (E + E, E * 4), ("ǅ Я ß", "ǅ Я ß"), ("a\u0301B", f"a\u0301{T}b"),
])  # fmt: skip
def test_worked_examples_as_published(text, coded):
    assert RESERVED.encode(text.encode()) == coded.encode()
    assert RESERVED.decode(coded.encode()) == text.encode()


@pytest.mark.parametrize(("text", "coded"), [
    ("a Cat", f"a{T} cat"), ("The  NASA\nMan", f"{T}the {A} nasa\n{T}man"), (" iPhone McD", f" i{C}phone{T} mc{C}d"),
    ("A B", f"{T}a{T} b"), (f"{T} The", f"{E}{T}{T} the"),
])  # fmt: skip
def test_worked_examples_with_the_mark_before_the_space(text, coded):
    assert CODINGS[1].encode(text.encode()) == coded.encode()
    assert CODINGS[1].decode(coded.encode()) == text.encode()


@pytest.mark.parametrize("coding", CODINGS, ids=str)
@settings(max_examples=300)
@given(document=DOCUMENTS)
def test_the_transform_is_its_slow_twin_and_can_be_undone(coding, document):
    twin = slow_encode(document.decode("utf-8", "surrogateescape"), coding.marks, coding.before_space)
    coded = coding.encode(document)
    assert coded == "".join(c for c, _ in twin).encode("utf-8", "surrogateescape")
    assert coding.decode(coded) == document
    weights = coding.weights(coded)
    assert weights.sum() == len(document)
    sizes = [len(c.encode("utf-8", "surrogateescape")) for c, _ in twin]
    assert (
        np.add.reduceat([*weights, 0], np.cumsum([0, *sizes])[:-1]).tolist() == [n for _, n in twin]
        or not twin
    )


@settings(max_examples=300)
@given(text=TEXTS)
def test_the_published_state_machine_reads_what_we_write(text):
    assert slow_decode(RESERVED.encode(text.encode()).decode()) == text


@pytest.mark.parametrize("coding", CODINGS, ids=str)
@given(document=DOCUMENTS, junk=DOCUMENTS)
def test_two_documents_never_share_a_coding(coding, document, junk):
    assert (coding.encode(document) == coding.encode(junk)) == (document == junk)


@pytest.mark.parametrize("coding", CODINGS, ids=str)
def test_long_runs_of_one_thing_are_no_trap(coding):
    """No text is tried twice; with a pattern that backtracks this test does not end."""
    marks = [m.encode() for m in coding.marks]
    for unit in (b"a", b"A", b" ", b"aB", b" A", b"\xee", b"\xff", *marks):
        text = unit * (100_000 // len(unit))
        coded = coding.encode(text)
        assert coding.decode(coded) == text
        assert coding.weights(coded).sum() == len(text)


@pytest.mark.parametrize("marks", ["\ue001\ue001\ue003\ue004", "abcd", "\ue001\ue002\ue003"])
def test_marks_that_could_not_be_told_apart_are_refused(marks):
    with pytest.raises(ValueError, match="four characters"):
        CaseCoding(marks)


# ------------------------------------------------------------------------------------ the tokenizer


@pytest.fixture(scope="module")
def lossless() -> Tokenizer:
    return CaseOps(base=SpBpe(vocab_size=380)).train(LESSONS)


@pytest.fixture(scope="module")
def normalizing() -> Tokenizer:
    return CaseOps(base=SpOfficial(vocab_size=380)).train(LESSONS)


def test_marks_are_symbols_of_their_own_below_the_byte_tokens(lossless, normalizing):
    for made in (lossless, normalizing):
        assert [made._sp.id_to_piece(v) for v in range(4, 8)] == [T, A, C, E]
        assert [made._sp.is_byte(v) for v in (7, 8, 263, 264)] == [False, True, True, False]
        assert not any(set(made._sp.id_to_piece(v)) & {T, A, C, E} for v in range(8, made.vocab_size))


def test_a_file_without_a_note_is_known_by_its_reserved_pieces(normalizing):
    bare = normalizing.model[: normalizing.model.rindex(b"\xc2\x88\x9b\x4d")]
    assert Tokenizer(bare).case == RESERVED
    assert Tokenizer(SpBpe(vocab_size=380).train(LESSONS).model).case is None


@settings(max_examples=150)
@given(document=DOCUMENTS)
def test_each_token_counts_what_the_twin_says_of_its_characters(lossless, document):
    """Token by token, with the transform's slow twin: marks nothing, letters one, escaped marks three."""
    stream = lossless.stream([b"before", document, b"after"])
    begin = int(np.flatnonzero(stream == BOS)[1])
    ids = lossless.encode(document)
    counts = lossless.byte_counts(stream)[begin + 1 : begin + 1 + len(ids)]
    twin = slow_encode(document.decode("utf-8", "surrogateescape"))
    per_byte: list[int] = []
    for c, n in twin:
        size = len(c.encode("utf-8", "surrogateescape"))
        assert n in (0, size)
        per_byte += [int(n > 0)] * size
    ends = np.cumsum([0, *(len(lossless._pieces[i]) for i in ids)])
    assert len(per_byte) == ends[-1]
    assert counts.tolist() == [sum(per_byte[b:e]) for b, e in pairwise(ends)]


def test_documents_do_not_raise_each_others_letters(lossless):
    """Capitals last to the end of a run, not into the next document; an escape has nothing to escape there."""
    stream = lossless.stream([b"END", b"the", "x\ue001".encode(), "\ue002".encode(), b""])
    assert lossless.decode(stream.tolist()) == b"ENDthex" + "\ue001\ue002".encode()
    cut = [5, BOS, *lossless.encode(b"the"), 7, BOS, 4, *lossless.encode(b"a")]
    assert lossless.decode(cut) == b"theA"
    assert lossless.byte_counts(np.array(cut, dtype=np.uint16)).sum() == 4


@settings(max_examples=150)
@given(text=TEXTS)
def test_the_published_sidecar_counts_all_of_a_document_but_outer_white_space(normalizing, text):
    ids, counts = normalizing.encode_counted(text.encode())
    assert ids == normalizing.encode(text.encode())
    assert len(counts) == len(ids)
    kept = normalizing._sp.decode(ids).strip()
    total, whole = int(counts.sum()), len(text.encode())
    assert total <= whole
    if text == text.strip() and kept and text.isprintable() and text[0].isascii() and text[-1].isascii():
        assert total == whole


def test_a_run_of_white_space_longer_than_a_count_can_say_is_refused(normalizing):
    assert normalizing.encode_counted(b"a" + b" " * 65_534 + b"b")[1].sum() == 65_536
    with pytest.raises(DataError, match="at most 65535"):
        normalizing.encode_counted(b"a" + b" " * 65_536 + b"b")


# ------------------------------------------------------------------------------ the published model


@pytest.fixture(scope="module")
def published() -> Tokenizer:
    return Tokenizer.load(TOKENIZERS / PUBLISHED)


@pytest.mark.parametrize("document", SAMPLE["documents"], ids=lambda d: d["text"][:12])
def test_the_committed_pieces_are_the_transform_normalized(document):
    """Without the model: its pieces, joined, are NFKC of the twin's output, and its counts the raw bytes."""
    coded = "".join(c for c, _ in slow_encode(document["text"]))
    folded = re.sub(r"\s+", " ", unicodedata.normalize("NFKC", coded)).strip().encode()
    pieces = [
        bytes([int(p[1:-1], 16)]) if re.fullmatch("<0x..>", p) else p.replace("▁", " ").encode()
        for p in document["pieces"]
    ]
    assert b"".join(pieces) == folded
    assert sum(document["raw_bytes"]) == len(document["text"].encode())
    assert all(
        n == 0 for n, p in zip(document["raw_bytes"], document["pieces"], strict=True) if p in (T, A, C, E)
    )
    assert len(document["ids"]) == len(pieces)


@needs_shared
@pytest.mark.parametrize("document", SAMPLE["documents"], ids=lambda d: d["text"][:12])
def test_the_published_model_gives_the_committed_ids(published, document):
    assert hashlib.sha256(published.model).hexdigest() == SAMPLE["tokenizer_sha256"]
    ids, counts = published.encode_counted(document["text"].encode())
    assert (ids, counts.tolist()) == (document["ids"], document["raw_bytes"])
    assert [published._sp.id_to_piece(i) for i in ids] == document["pieces"]
    stream = published.stream([document["text"].encode()])
    assert published.byte_counts(stream).sum() == len(published.decode(ids))
    published.fits(np.array([*stream, BOS], dtype=np.uint16), "sample")


@needs_shared
@pytest.mark.parametrize(("text", "pieces", "raw"), [
    ("the  costs", ["the", "▁costs"], [3, 7]),  # collapsed spaces count
    ("a\nb", ["a", "▁b"], [1, 2]),  # a line end is a space of one byte
    (" a ", ["a"], [1]),  # outer white space does not
    ("½", ["1", "<0xE2>", "<0x81>", "<0x84>", "2"], [0, 0, 0, 0, 2]),  # all on one of the pieces
    ("a ﬁne", ["a", "▁fine"], [1, 6]),
    ("the NASA", ["the", "▁", A, "nas", "a"], [3, 1, 0, 3, 1]),  # marks never merge
    ("x\ue001y", ["x", E, T, "y"], [1, 0, 3, 1]),
    ("", [], []),
])  # fmt: skip
def test_worked_counts_of_the_published_model(published, text, pieces, raw):
    ids, counts = published.encode_counted(text.encode())
    assert [published._sp.id_to_piece(i) for i in ids] == pieces
    assert counts.tolist() == raw


@needs_shared
def test_every_hostile_text_goes_through_the_published_model(published):
    for text in CASED:
        ids, counts = published.encode_counted(text.encode())
        kept = text.replace("\0", " ").strip()
        assert counts.sum() == len(kept.encode()) or "▁" in kept
        assert published.byte_counts(np.array([BOS, *ids], dtype=np.uint16)).sum() == len(
            published.decode(ids)
        )


@given(seed=st.integers(0, 99))
def test_the_symbols_cost_a_plain_model_three_bytes_each(lossless, seed):
    """What went wrong in PR 2071: case-coded ids counted by the look-up table of plain models."""
    rng = np.random.Generator(np.random.PCG64(seed))
    document = LESSONS[int(rng.integers(len(LESSONS)))]
    ids = lossless.encode(document)
    by_table = sum(len(lossless._pieces[i]) for i in ids)
    marks = sum(i in (4, 5, 6, 7) for i in ids)
    assert marks > 0
    assert by_table == len(document) + 3 * marks
    assert lossless.byte_counts(np.array(ids, dtype=np.uint16)).sum() == len(document)
