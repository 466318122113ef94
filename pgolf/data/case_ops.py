"""CaseOps: case coded apart by four reserved symbols (PR 1729; the tokenizer of the records since).

The transform is pgolf.data.case_coding's; its marks are user-defined symbols of the model, ids 4..7, which
never merge with a neighbour. " NASA" is at least three tokens (a bare space, a mark, "nasa"), whence the 18 %
longer stream; pgolf.data.case_marks lets marks merge.

Over SpOfficial it is the published tokenizer: NFKC after the transform, and for the sidecar the raw bytes
that each piece covers (`Tokenizer.encode_counted`). Over SpBpe or CrossWs nothing is lost: any bytes come
back, literal marks and broken UTF-8 included, and the counts sum to the document's length.
"""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field

from pgolf.data.case_coding import RESERVED
from pgolf.data.cross_ws import CrossWs
from pgolf.data.sentence_piece import Tokenizer
from pgolf.data.sp_bpe import SpBpe
from pgolf.data.sp_official import SpOfficial
from pgolf.data.training import Training
from pgolf.section import Section

Base = Annotated[SpBpe | SpOfficial | CrossWs, Field(discriminator="kind")]


class CaseOps(Section):
    """The tokenizer it holds, over case-coded text with reserved marks."""

    kind: Literal["case_ops"] = "case_ops"
    base: Base = SpBpe()

    @property
    def vocab_size(self) -> int:
        return self.base.vocab_size

    def training(self) -> Training:
        return self.base.training().but(case=RESERVED, user_defined_symbols=list(RESERVED.marks))

    def train(self, documents: Iterable[bytes]) -> Tokenizer:
        """Train on documents (UTF-8). Deterministic. Raises DataError if the text is too small."""
        return self.training().run(documents)
