"""The laws of every kind of tokenizer: what a score is divided by is the text's own length, whatever it is."""

import io
import re

import numpy as np
import pytest
import sentencepiece as spm
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from pgolf.data.case_marks import CaseMarks
from pgolf.data.case_ops import CaseOps
from pgolf.data.corpus import read_documents
from pgolf.data.cross_ws import CrossWs
from pgolf.data.sp_official import SpOfficial
from pgolf.data.tokenizer import SPACE, AnyTokenizer, SpBpe, Tokenizer
from pgolf.errors import DataError
from pgolf.formats.shards import BOS, SPLITS, read_split
from tests.data.hostile import DOCUMENTS, HOSTILE, LESSONS, TEXTS

SMALL = SpBpe(vocab_size=360)
OFFICIAL = SpOfficial(vocab_size=360)
SECTIONS = {
    "sp_bpe": SMALL,
    "cross_ws": CrossWs(base=SMALL),
    "case_ops": CaseOps(base=SMALL),
    "case_ops over cross_ws": CaseOps(base=CrossWs(base=SMALL)),
    "case_marks": CaseMarks(base=SMALL),
    "case_marks in words": CaseMarks(base=SMALL, merges_with="words", before_space=False),
    "case_marks before spaces over cross_ws": CaseMarks(base=CrossWs(base=SMALL), merges_with="words"),
    "sp_official": OFFICIAL,
    "cross_ws over sp_official": CrossWs(base=OFFICIAL),
    "case_ops over sp_official": CaseOps(base=OFFICIAL),
    "case_marks over sp_official": CaseMarks(base=OFFICIAL),
}
LOSSLESS = [name for name in SECTIONS if "official" not in name]
OF_KIND: TypeAdapter = TypeAdapter(AnyTokenizer)
TRAINED: dict[str, Tokenizer] = {}


def trained(name: str) -> Tokenizer:
    """Trained once, and read again from the bytes that would be stored."""
    if name not in TRAINED:
        TRAINED[name] = Tokenizer(SECTIONS[name].train(LESSONS).model)
    return TRAINED[name]


def holds(tokenizer: Tokenizer, document: bytes) -> None:
    """The law for one document, and for the stream BOS + document."""
    ids = tokenizer.encode(document)
    assert tokenizer.decode(ids) == document
    stream = np.array([BOS, *ids], dtype=np.uint16)
    counts = tokenizer.byte_counts(stream)
    assert counts[0] == 0
    assert counts.sum() == len(document)
    if tokenizer.case is None:
        assert [len(tokenizer.token_bytes[i]) for i in stream] == counts.tolist()


# ------------------------------------------------------------------------------------ lossless kinds


@pytest.mark.parametrize("name", LOSSLESS)
@settings(max_examples=150)
@given(document=DOCUMENTS)
@example(document="▁".encode()[:2])
@example(document="a▁".encode()[:-1] + b"\xff")
@example(document=b"\xed\xa0\x80")  # a surrogate half
@example(document=b"\xee\x80" + "\ue001".encode() + b"\xee")  # half a mark, a mark, a third of one
@example(document=b"A\xee\x80\x81B \xe1\xb4\x9bC")
def test_any_bytes_come_back_and_are_counted(name, document):
    holds(trained(name), document)


@pytest.mark.parametrize("name", LOSSLESS)
def test_every_single_byte_and_every_character_at_a_boundary_of_utf8_is_counted_once(name):
    for value in range(256):
        holds(trained(name), bytes([value]))
        holds(trained(name), b" A" + bytes([value]) + b"B")
    for point in (
        0x7F,
        0x80,
        0x7FF,
        0x800,
        0xD7FF,
        0xE000,
        0xE001,
        0xE004,
        0xE005,
        0xFFFF,
        0x10000,
        0x10FFFF,
        0x2581,
    ):
        holds(trained(name), f"A{chr(point)}B {chr(point)} b".encode())


@pytest.mark.parametrize("name", LOSSLESS)
@settings(max_examples=40)
@given(documents=st.lists(DOCUMENTS, max_size=5))
def test_a_stream_is_its_documents_whatever_their_neighbours(name, documents):
    tokenizer = trained(name)
    stream = tokenizer.stream(documents)
    starts = np.flatnonzero(stream == BOS)
    assert len(starts) == len(documents)
    assert tokenizer.decode(stream.tolist()) == b"".join(documents)
    counts = tokenizer.byte_counts(stream)
    assert not counts[starts].any()
    got = [int(part.sum()) for part in np.split(counts.astype(np.int64), starts[1:])] if documents else []
    assert got == list(map(len, documents))


@pytest.mark.parametrize("name", LOSSLESS)
@settings(max_examples=60)
@given(data=st.data())
def test_any_ids_stand_for_as_many_bytes_as_are_counted(name, data):
    """Also such as no text is encoded to: cut documents, marks that dangle, documents in the middle."""
    tokenizer = trained(name)
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1) | st.integers(0, 12), max_size=40))
    counts = tokenizer.byte_counts(np.array(ids, dtype=np.uint16))
    assert counts.sum() == len(tokenizer.decode(ids))
    cut = data.draw(st.integers(0, len(ids)))
    part = tokenizer.byte_counts(np.array(ids[:cut], dtype=np.uint16))
    assert part.tolist() == counts[:cut].tolist(), "a count depends on no later token"


@pytest.mark.parametrize("name", LOSSLESS)
def test_special_pieces_written_in_a_text_are_text(name):
    for text in (b"<s>", b"</s>", b"<unk>", b"<pad>"):
        ids = trained(name).encode(text)
        assert min(ids) > 3
        assert trained(name).decode(ids) == text


@pytest.mark.parametrize("name", SECTIONS)
def test_an_id_outside_the_vocabulary_cannot_be_decoded(name):
    with pytest.raises(IndexError):
        trained(name).decode([trained(name).vocab_size])


@pytest.mark.parametrize("name", LOSSLESS)
def test_raw_counts_of_a_lossless_kind_are_its_counts(name):
    ids, counts = trained(name).encode_counted("A  ﬁne DAY▁".encode())
    assert ids == trained(name).encode("A  ﬁne DAY▁".encode())
    assert counts.tolist() == trained(name).byte_counts(np.array(ids, dtype=np.uint16)).tolist()


def test_a_model_that_lost_a_byte_would_be_found_out(monkeypatch):
    tokenizer = Tokenizer(trained("case_ops").model)
    assert tokenizer.lossless
    monkeypatch.setattr(
        tokenizer, "_split_exactly", lambda text: trained("case_ops")._split_exactly(text[:-1])
    )
    with pytest.raises(DataError, match="gives every byte back"):
        tokenizer.encode(b"Hello")


# ----------------------------------------------------------------------------------- every kind


@pytest.mark.parametrize("name", SECTIONS)
def test_a_kind_is_found_by_its_name_and_says_the_vocabulary_it_will_have(name):
    section = SECTIONS[name]
    assert OF_KIND.validate_python(section.plain()) == section
    assert section.vocab_size == 360
    assert trained(name).vocab_size <= 360  # hard_vocab_limit is off


@pytest.mark.parametrize("name", SECTIONS)
def test_a_model_file_is_the_whole_tokenizer(name, tmp_path):
    made = SECTIONS[name].train(LESSONS)
    (tmp_path / "t.model").write_bytes(made.model)
    read = Tokenizer.load(tmp_path / "t.model")
    assert (read.case, read.lossless) == (made.case, name in LOSSLESS)
    assert read.encode(LESSONS[3]) == made.encode(LESSONS[3])
    assert spm.SentencePieceProcessor(model_file=str(tmp_path / "t.model")).vocab_size() == made.vocab_size


@pytest.mark.parametrize("name", SECTIONS)
def test_training_twice_gives_the_same_model(name):
    assert SECTIONS[name].train(LESSONS).model == trained(name).model


@pytest.mark.parametrize("name", SECTIONS)
def test_a_vocabulary_larger_than_the_text_can_teach_is_refused(name):
    with pytest.raises(DataError, match="needs text"):
        SECTIONS[name].train([])


@pytest.mark.parametrize("base", [SpBpe(vocab_size=300), SpOfficial(vocab_size=300)], ids=repr)
def test_a_vocabulary_without_room_for_the_characters_is_refused_with_the_size_it_takes(base):
    with pytest.raises(DataError, match=r"given: 300 for 3\d\d\n.*above 3\d\d"):
        CaseOps(base=base).train(LESSONS)


@pytest.mark.parametrize("name", SECTIONS)
def test_a_stream_fits_its_own_tokenizer(name):
    """Folded capitals included: "™" is TM under NFKC, and its capitals were never coded."""
    mine = trained(name).stream(["½™ TM ﬁ Foo™".encode(), b" ", *LESSONS[:9], b""])
    trained(name).fits(mine, "mine.bin")
    with pytest.raises(DataError, match="begins with BOS"):
        trained(name).fits(mine[1:], "cut.bin")
    with pytest.raises(DataError, match="below the vocabulary's size"):
        trained(name).fits(np.array([BOS, trained(name).vocab_size], dtype=np.uint16), "big.bin")


@pytest.mark.parametrize("section", [SMALL, CaseOps(base=SMALL), OFFICIAL, CaseOps(base=OFFICIAL)], ids=repr)
def test_a_stream_of_another_tokenizer_does_not_fit(section):
    mine = section.train(LESSONS)
    other = section.train([b"Zebra QUARTZ vox jumps over " + lesson[::-1] for lesson in LESSONS])
    stream = mine.stream([__doc__.encode() * 2, b""])  # the last document may be cut and is not looked at
    mine.fits(stream, "mine.bin")
    with pytest.raises(DataError, match=r"other\.bin"):
        other.fits(stream, "other.bin")


def test_a_token_has_no_bytes_of_its_own_where_case_is_coded():
    for name in SECTIONS:
        if "case" in name:
            with pytest.raises(DataError, match="read the tokens in order"):
                _ = trained(name).token_bytes
        else:
            assert len(trained(name).token_bytes) == trained(name).vocab_size


@pytest.mark.parametrize(("given_", "said"), [
    ({"kind": "case_opps"}, "case_opps"),
    ({"kind": "case_ops", "base": {"kind": "case_ops"}}, "case_ops"),
    ({"kind": "cross_ws", "base": {"kind": "cross_ws"}}, "cross_ws"),
    ({"kind": "case_marks", "merges_with": "anything"}, "merges_with"),
    ({"kind": "sp_bpe", "vocab_size": 12}, "vocab_size"),
])  # fmt: skip
def test_what_does_not_compose_is_refused(given_, said):
    with pytest.raises(ValidationError, match=said):
        OF_KIND.validate_python(given_)


# ------------------------------------------------------------------ models that normalize (official ones)


@pytest.mark.parametrize("name", [n for n in SECTIONS if "official" in n])
@settings(max_examples=120)
@given(texts=st.lists(TEXTS, min_size=1, max_size=4))
@example(texts=["  A  ﬁne ", "\u00a0The\u3000", "\ufeffX", "™", "a\u200b B"])
def test_a_normalizing_kind_counts_what_its_documents_decode_to(name, texts):
    tokenizer = trained(name)
    stream = tokenizer.stream(text.encode() for text in texts)
    counts = tokenizer.byte_counts(stream).astype(np.int64)
    starts = np.flatnonzero(stream == BOS)
    assert counts.sum() == len(tokenizer.decode(stream.tolist()))
    for begin, end in zip(starts, [*starts[1:], len(stream)], strict=True):
        assert counts[begin:end].sum() == len(tokenizer.decode(stream[begin + 1 : end].tolist()))


def sentencepiece_model(**changes) -> bytes:
    model = io.BytesIO()
    lines = [f"the quick brown fox number {i} jumps over {i % 7} lazy dogs, and so on" for i in range(300)]
    flags = {
        "model_type": "bpe", "vocab_size": 420, "byte_fallback": True, "normalization_rule_name": "nmt_nfkc",
        "add_dummy_prefix": False, "pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3,
        "hard_vocab_limit": False, "minloglevel": 3,
    }  # fmt: skip
    spm.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=model, **{**flags, **changes})
    return model.getvalue()


@pytest.mark.parametrize("dummy_prefix", [True, False])
@pytest.mark.parametrize("squeezed", [True, False])
def test_the_look_up_rule_counts_what_sentencepiece_decodes(dummy_prefix, squeezed):
    """Of any model that somebody else has trained."""
    model = sentencepiece_model(add_dummy_prefix=dummy_prefix, remove_extra_whitespaces=squeezed)
    sp, made = spm.SentencePieceProcessor(model_proto=model), Tokenizer(model)
    assert not made.lossless
    for text in ("the quick fox", "fox", "  the   fox  ", "日 本", "ﬁne", " leading"):
        ids = sp.encode(text)
        counts = made.byte_counts(np.array([BOS, *ids], dtype=np.uint16))
        assert made.decode(ids) == sp.decode(ids).encode()
        if (
            dummy_prefix or squeezed
        ):  # otherwise nothing is taken off in decoding, and the rule counts one less
            assert counts.sum() == len(sp.decode(ids).encode())
        without_bos = made.byte_counts(np.array(ids, dtype=np.uint16))
        assert without_bos.tolist() == counts[1:].tolist()  # a stream begins at a boundary


def test_identity_without_byte_fallback_is_not_lossless():
    """Although it knows every character that lossless models are recognized by."""
    flags = {
        "normalization_rule_name": "identity", "remove_extra_whitespaces": False, "byte_fallback": False,
        "required_chars": "ﬁ①\n\tab", "allow_whitespace_only_pieces": True,
    }  # fmt: skip
    assert not Tokenizer(sentencepiece_model(**flags)).lossless
    assert Tokenizer(sentencepiece_model(**{**flags, "byte_fallback": True})).lossless


def test_a_tokenizer_without_the_space_piece_is_refused():
    """Rename the piece in a real model: the space would be spelt as three byte tokens and cost 3."""
    model = sentencepiece_model(split_by_whitespace=True)
    piece = SPACE.encode()
    field = b"\n" + bytes([len(piece)]) + piece + b"\x15"  # protobuf: piece = 1, score = 2
    assert model.count(field) == 1
    with pytest.raises(DataError, match=re.escape("U+2581")):
        Tokenizer(model.replace(field, b"\n" + bytes([len(piece)]) + "☃".encode() + b"\x15"))


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "t.model").write_bytes(b"no model at all")
    whole = trained("case_ops").model
    (tmp_path / "note.model").write_bytes(whole.replace(b'"marks"', b'"marke"'))
    assert whole.count(b'"marks"') == 1
    for file in ("t.model", "missing.model", "note.model"):
        with pytest.raises(DataError, match=r"SentencePiece \.model"):
            Tokenizer.load(tmp_path / file)


# ------------------------------------------------------------------------------- the stored corpus


@pytest.mark.parametrize("split", SPLITS)
def test_a_splits_sidecar_sums_to_the_text_it_stands_for(tiny_trial, tiny_tokens, split):
    texts = list(read_documents(tiny_trial.stage("corpus"), split))
    tokens, counts = read_split(tiny_tokens, split)
    assert counts.sum(dtype=np.int64) == sum(map(len, texts))
    starts = np.flatnonzero(tokens == BOS)
    assert np.add.reduceat(counts.astype(np.int64), starts).tolist() == list(map(len, texts))
    assert not counts[starts].any()


def test_the_stored_tokens_of_the_validation_split_decode_to_its_documents(
    tiny_trial, tiny_tokens, tokenizer
):
    tokens, _ = read_split(tiny_tokens, "validation")
    texts = b"".join(read_documents(tiny_trial.stage("corpus"), "validation"))
    assert tokenizer.decode(tokens.tolist()) == texts


@pytest.mark.parametrize("document", [text.encode() for text in HOSTILE], ids=lambda d: repr(d[:12]))
def test_every_byte_of_a_hostile_document_is_counted_once(tokenizer, document):
    holds(tokenizer, document)
