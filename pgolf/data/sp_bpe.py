"""SentencePiece BPE with byte fallback, made lossless.

The community's flags, except those that lose text: no normalization, no white-space squeezing. Documents
are cut at line ends for training, so that long ones teach too (SentencePiece skips a sentence longer than
its limit, and most of the text lies in long documents).
"""

from collections.abc import Iterable, Iterator
from typing import Literal

from pydantic import Field

from pgolf.data.sentence_piece import SPACE, Tokenizer
from pgolf.data.training import Training
from pgolf.section import Section

TRAINING_LINE_BYTES = 4192  # SentencePiece's own limit of a training sentence


class SpBpe(Section):
    """A lossless SentencePiece BPE tokenizer trained on the training documents only."""

    kind: Literal["sp_bpe"] = "sp_bpe"
    vocab_size: int = Field(1024, ge=300, le=65_536)
    character_coverage: float = Field(0.999, gt=0.9, le=1)

    def training(self) -> Training:
        flags = {
            "vocab_size": self.vocab_size,
            "character_coverage": self.character_coverage,
            "normalization_rule_name": "identity",
            "remove_extra_whitespaces": False,
            "allow_whitespace_only_pieces": True,
        }
        return Training(flags, _lines)

    def train(self, documents: Iterable[bytes]) -> Tokenizer:
        """Train on documents (UTF-8). Deterministic. Raises DataError if the text is too small."""
        return self.training().run(documents)


def _lines(documents: Iterable[bytes]) -> Iterator[str]:
    for document in documents:
        for line in document.decode("utf-8", "ignore").replace(SPACE, " ").replace("\0", " ").split("\n"):
            if line and len(line.encode()) <= TRAINING_LINE_BYTES:
                yield line
