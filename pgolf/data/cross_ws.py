"""CrossWS: merges may cross white space, so that " of the" can be one token (seed PR 2111).

SentencePiece's `split_by_whitespace` switched off over the kind it holds, and nothing else. On the source's
10 MB slice the stream is 0.948 times as long; on our web prose (13 MB to learn from) 0.988, 0.964 and 0.944
times at 1024, 4096 and 8192 pieces. Letting pieces be 24 or 32 characters long instead of 16 changes nothing
(0.2537 tokens per byte at 8192, before and after). Interior spaces are what breaks the common byte counters: a
space is written U+2581, three bytes in the piece and one in the text. Here the bytes of a piece are taken
after that sign is a space again, and a literal U+2581 of the text goes through byte tokens, so the counts
and the round trip are those of any other kind.
"""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field

from pgolf.data.sentence_piece import Tokenizer
from pgolf.data.sp_bpe import SpBpe
from pgolf.data.sp_official import SpOfficial
from pgolf.data.training import Training
from pgolf.section import Section


class CrossWs(Section):
    """The tokenizer it holds, with pieces that span words."""

    kind: Literal["cross_ws"] = "cross_ws"
    base: Annotated[SpBpe | SpOfficial, Field(discriminator="kind")] = SpBpe()

    @property
    def vocab_size(self) -> int:
        return self.base.vocab_size

    def training(self) -> Training:
        return self.base.training().but(split_by_whitespace=False)

    def train(self, documents: Iterable[bytes]) -> Tokenizer:
        """Train on documents (UTF-8). Deterministic. Raises DataError if the text is too small."""
        return self.training().run(documents)
