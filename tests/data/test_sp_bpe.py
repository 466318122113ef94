"""The lossless kind: nothing normalized, long documents learnt from, the model of before unchanged."""

import hashlib

import numpy as np
import pytest

from pgolf.data.source import PythonStdlib
from pgolf.data.sp_bpe import TRAINING_LINE_BYTES, SpBpe
from pgolf.errors import DataError
from pgolf.formats.shards import BOS

# of the pieces that SpBpe learnt from TEXTS before it had siblings
PINNED = "5bda4fc49e63f847add7572a64ef3a53add2d1bbcd6a917f74f379d019b93389"
TEXTS = [f"the value number {i} is {i * i}\n".encode() * 3 for i in range(400)]


def test_a_worked_example():
    """Spaces, line ends and an accent, each as it stands; what the vocabulary lacks goes byte by byte."""
    made = SpBpe(vocab_size=320).train(TEXTS)
    assert made.lossless
    ids = made.encode("the  value\né".encode())
    pieces = [made._sp.id_to_piece(i) for i in ids]
    assert "".join(pieces) == "the▁▁value<0x0A><0xC3><0xA9>"
    counts = made.byte_counts(np.array([BOS, *ids], dtype=np.uint16))
    assert counts.sum() == 13
    assert counts[-3:].tolist() == [1, 1, 1]


def test_a_document_longer_than_the_trainers_limit_is_learnt_from_line_by_line():
    line = b"a quokka sat by the billabong with a didgeridoo\n"
    long = line * (2 * TRAINING_LINE_BYTES // len(line))
    pieces = SpBpe(vocab_size=360).train([long]).token_bytes
    assert b" billabong" in pieces
    with pytest.raises(DataError, match="needs text"):
        SpBpe(vocab_size=360).train([long.replace(b"\n", b" ")])


def test_the_models_of_before_are_the_models_of_today():
    """What old runs were trained on can be made again."""
    made = SpBpe(vocab_size=320).train(TEXTS)
    assert hashlib.sha256(b"\0".join(made.token_bytes)).hexdigest() == PINNED


def test_a_tokenizer_without_its_kind_is_this_one():
    """As configs were written when there was no other; and its identity is what it was."""
    old = PythonStdlib.model_validate({"tokenizer": {"vocab_size": 512}})
    assert old == PythonStdlib(tokenizer=SpBpe(vocab_size=512))
    assert old.plain()["tokenizer"] == {"kind": "sp_bpe", "vocab_size": 512, "character_coverage": 0.999}
    other = PythonStdlib.model_validate({"tokenizer": {"kind": "case_ops", "base": {"kind": "sp_official"}}})
    assert other.tokenizer.kind == "case_ops"
