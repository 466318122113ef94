"""Any file through an artifact and back, or a named refusal and nothing written."""

import io
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.certify.compressor import Compressor, compress_file, decompress_file, file_frames
from pgolf.data.case_marks import CaseMarks
from pgolf.data.source import TOKENIZER
from pgolf.data.sp_bpe import SpBpe
from pgolf.data.sp_official import SpOfficial
from pgolf.data.tokenizer import Tokenizer
from pgolf.errors import DataError
from pgolf.evaluate.blocks import Blocks
from pgolf.evaluate.document_chunks import DocumentChunks
from pgolf.formats.blob import ARTIFACT, encode, read_artifact
from pgolf.pack.brotli_packer import BrotliPacker
from tests.data.hostile import LESSONS

MODE = DocumentChunks(context=24, chunk=8)
HOSTILE = {
    "empty": b"",
    "NUL": b"\0\0a\0",
    "the marker of a space": "▁ ▁▁".encode(),
    "broken UTF-8": b"caf\xc3 \xff\xfe\xed\xa0\x80 end",
    "every byte": bytes(range(256)),
    "random": random.Random(4).randbytes(300),
    "text": b"the law of the ledger is that every target counts once\n" * 6,
    "lines of all kinds": b"a\r\nb\n\n\n\tc\x0b\x85\n  ",
    "private use": "\ue001A\ue004 ﬁ①ﬀ".encode(),
}


@pytest.fixture(scope="session")
def coded_with(deployed):
    return deployed.packed / ARTIFACT, deployed.tokens / TOKENIZER


def trained(vocab_size: int) -> bytes:
    """A tokenizer of another text."""
    return (
        SpBpe(vocab_size=vocab_size, character_coverage=1.0)
        .train([b"other words than those of the law"] * 9)
        .model
    )


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_any_file_comes_back(text, coded_with, tmp_path):
    source, packed, again = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    source.write_bytes(text)
    made = compress_file(Compressor(*coded_with, MODE, 1), source, packed, frame_bytes=100)
    assert decompress_file(*coded_with, packed, again) == len(text) == made.text_bytes
    assert again.read_bytes() == text
    assert packed.stat().st_size == made.file_bytes
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "c"]


@pytest.mark.parametrize("damage", ["flipped", "cut", "more"])
def test_damage_is_named_and_nothing_is_written(damage, coded_with, tmp_path):
    source, packed, again = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    source.write_bytes(HOSTILE["text"])
    compress_file(Compressor(*coded_with, MODE, 1), source, packed)
    whole = bytearray(packed.read_bytes())
    if damage == "flipped":
        whole[-60] ^= 4
    packed.write_bytes({"flipped": whole, "cut": whole[:-1], "more": whole + b"x"}[damage])
    with pytest.raises(DataError, match="a compressed file is whole"):
        decompress_file(*coded_with, packed, again)
    assert not again.exists()


def test_another_artifact_or_tokenizer_is_refused_by_name(coded_with, tmp_path):
    source, packed, again = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    source.write_bytes(HOSTILE["text"])
    compress_file(Compressor(*coded_with, MODE, 1), source, packed)
    other = tmp_path / "other.model"
    other.write_bytes(trained(300))
    with pytest.raises(DataError, match="tokenizer that compressed it"):
        decompress_file(coded_with[0], other, packed, again)
    larger = tmp_path / "larger.model"
    larger.write_bytes(trained(301))
    with pytest.raises(DataError, match="its own vocabulary"):
        Compressor(coded_with[0], larger, MODE, 1)
    assert not again.exists()


@pytest.mark.parametrize("text", [HOSTILE["text"], b""], ids=["text", "nothing that would come out wrong"])
def test_an_artifact_of_one_other_weight_is_refused_by_name(text, coded_with, tmp_path):
    """Tokenizer, vocabulary and network are the same: the digest in the file's header alone tells it beforehand."""
    source, packed, again = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    source.write_bytes(text)
    compress_file(Compressor(*coded_with, MODE, 1), source, packed)
    model = read_artifact(coded_with[0])
    matrix = next(iter(model.matrices.values()))
    matrix.q[0, 0] += 1 if matrix.q[0, 0] < 1 else -1
    other = tmp_path / "other.bin"
    other.write_bytes(encode(model, BrotliPacker().codec()))
    with pytest.raises(DataError, match="artifact that compressed it"):
        decompress_file(other, coded_with[1], packed, again)
    assert not again.exists()


def test_a_machine_that_computes_otherwise_is_found_out(coded_with, tmp_path, monkeypatch):
    """The decoder's sums differ in a bit here and there: what comes out is refused, not handed over."""
    source, packed, again = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    source.write_bytes(HOSTILE["text"])
    compress_file(Compressor(*coded_with, MODE, 1), source, packed)
    again.write_bytes(b"what was there")

    from pgolf.evaluate.neural import Neural

    honest = Neural.log_probs
    monkeypatch.setattr(Neural, "log_probs", lambda self, ask: (1.01 * honest(self, ask)).log_softmax(-1))
    with pytest.raises(DataError, match="what is decoded is what was coded"):
        decompress_file(*coded_with, packed, again)
    assert again.read_bytes() == b"what was there"


@settings(max_examples=30)
@given(text=st.binary(max_size=90), most=st.integers(1, 40), separator=st.sampled_from([None, b"\n", b"ab"]))
def test_frames_hold_the_file(text, most, separator, coded_with):
    tokenizer = Tokenizer.load(coded_with[1])
    frames = list(file_frames(io.BytesIO(text), tokenizer, separator, most))
    assert b"".join(tokenizer.exact_text(d) for frame in frames for d in frame) == text
    assert all(
        len(tokenizer.exact_text(d)) <= most + len(separator or b"") for frame in frames for d in frame
    )


@pytest.mark.parametrize("section", [
    SpOfficial(vocab_size=380), CaseMarks(base=SpBpe(vocab_size=380)),
], ids=lambda s: s.kind)  # fmt: skip
def test_a_tokenizer_that_normalizes_codes_any_bytes_all_the_same(section):
    tokenizer = section.train(LESSONS)
    for text in HOSTILE.values():
        assert tokenizer.exact_text(tokenizer.exact_ids(text)) == text


def test_documents_apart_cost_what_separators_say(coded_with, tmp_path):
    source = tmp_path / "a"
    source.write_bytes(HOSTILE["text"])
    compressor = Compressor(*coded_with, Blocks(context=16), 1)
    one, many = (compress_file(compressor, source, tmp_path / "b", ends) for ends in (None, b"\n"))
    assert one.text_bytes == many.text_bytes
    assert many.tokens > one.tokens, "documents end, and that is coded"


def test_a_path_that_is_none_is_an_error_in_three_lines(coded_with, tmp_path):
    compressor = Compressor(*coded_with, MODE, 1)
    with pytest.raises(DataError, match="No such file"):
        compress_file(compressor, tmp_path / "none", tmp_path / "b")
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(DataError, match="folder that is there"):
        compress_file(compressor, tmp_path / "a", tmp_path / "none" / "b")
