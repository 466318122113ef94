"""Case coded apart by marks that BPE may merge: CaseOps without its bare spaces and lone marks.

The transform is pgolf.data.case_coding's, with the marks as ordinary characters. Two knobs, both lossless:

    before_space   "a Cat" is "a", T, " cat" instead of "a", " ", T, "cat": the word is the piece it always is
    merges_with    what a mark may share a piece with, decided by the script of the character it is written as
                   (SentencePiece merges within one script): "punctuation" (". T" as one piece) by
                   private-use characters, or "words" (" Tthe" as one piece) by rare Latin letters

Tokens per byte of 2.75 MB of web prose after training on 13.3 MB of other documents (lossless base):

    vocabulary                              1024      4096      8192     8192 over CrossWs
    plain                                  0.4129    0.3006    0.2689    0.2538
    CaseOps                                0.4465    0.3391    0.3084    0.2933
    punctuation, before the space          0.4153    0.3051    0.2758    0.2598
    punctuation, after it                  0.4253    0.3168    0.2859    0.2636
    words, before the space                0.4176    0.3037    0.2733    0.2539
    words, after it                        0.4141    0.3007    0.2689    0.2547

Merged with words after the space BPE learns the capitalized words again and only what it cannot afford stays
factored; merged with punctuation before it the factoring of CaseOps stays, for a sixth of its extra
tokens or less. Which of them a model likes best is what the search is for.
"""

from collections.abc import Iterable
from typing import Literal

from pgolf.data.case_coding import CaseCoding
from pgolf.data.case_ops import Base
from pgolf.data.sentence_piece import Tokenizer
from pgolf.data.sp_bpe import SpBpe
from pgolf.data.training import Training
from pgolf.section import Section

MARKS = {"punctuation": "\ue001\ue002\ue003\ue004", "words": "ᴛᴀᴄᴇ"}  # small capitals, U+1D1B and so on


class CaseMarks(Section):
    """The tokenizer it holds, over case-coded text with marks that merge."""

    kind: Literal["case_marks"] = "case_marks"
    base: Base = SpBpe()
    before_space: bool = True
    merges_with: Literal["punctuation", "words"] = "punctuation"

    @property
    def vocab_size(self) -> int:
        return self.base.vocab_size

    def training(self) -> Training:
        case = CaseCoding(MARKS[self.merges_with], self.before_space)
        return self.base.training().but(case=case, required_chars=case.marks)

    def train(self, documents: Iterable[bytes]) -> Tokenizer:
        """Train on documents (UTF-8). Deterministic. Raises DataError if the text is too small."""
        return self.training().run(documents)
