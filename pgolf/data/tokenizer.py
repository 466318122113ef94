"""The kinds of tokenizer, and what each becomes once trained (`Tokenizer`, in pgolf.data.sentence_piece).

sp_bpe        lossless SentencePiece BPE
sp_official   the community's flags, normalizing: SP1024, SP4096, SP8192
cross_ws      over one of these: merges cross white space
case_ops      over one of these: case apart, as reserved symbols
case_marks    over one of these: case apart, as marks that merge
"""

from typing import Annotated

from pydantic import Field

from pgolf.data.case_marks import CaseMarks
from pgolf.data.case_ops import CaseOps
from pgolf.data.cross_ws import CrossWs
from pgolf.data.sentence_piece import SPACE as SPACE
from pgolf.data.sentence_piece import Tokenizer as Tokenizer
from pgolf.data.sp_bpe import SpBpe as SpBpe
from pgolf.data.sp_official import SpOfficial

AnyTokenizer = Annotated[SpBpe | SpOfficial | CrossWs | CaseOps | CaseMarks, Field(discriminator="kind")]
