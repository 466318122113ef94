"""How SentencePiece learns a vocabulary: flags, how documents become its training sentences, case coding.

A kind of tokenizer is a value of this; kinds compose by changing it (`CrossWs` flips a flag of the kind it
holds, `CaseOps` adds reserved symbols and codes the text). Deterministic: one thread, no sampling.
"""

import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import sentencepiece as spm

from pgolf.data.case_coding import CaseCoding
from pgolf.data.model_file import with_case_coding
from pgolf.data.sentence_piece import Tokenizer
from pgolf.errors import DataError
from pgolf.formats.shards import BOS

FLAGS: dict[str, Any] = {  # of every kind: the community's, and no threads
    "model_type": "bpe",
    "byte_fallback": True,
    "split_digits": True,
    "add_dummy_prefix": False,
    "pad_id": 0,
    "bos_id": BOS,
    "eos_id": 2,
    "unk_id": 3,
    "hard_vocab_limit": False,
    "num_threads": 1,
    "minloglevel": 3,
}


@dataclass(frozen=True)
class Training:
    """`flags` go to SentencePiece beside the common ones; `sentences` cuts documents for it."""

    flags: Mapping[str, Any]
    sentences: Callable[[Iterable[bytes]], Iterator[str]]
    case: CaseCoding | None = None

    def but(self, case: CaseCoding | None = None, **flags: Any) -> "Training":
        """The same with further flags and, if given, a case coding."""
        return replace(self, flags={**self.flags, **flags}, case=case or self.case)

    def run(self, documents: Iterable[bytes]) -> Tokenizer:
        """Train on documents.

        Raises:
            DataError: if the text is too small for the vocabulary, or the vocabulary for its characters.
        """
        coded = documents if self.case is None else map(self.case.encode, documents)
        model = io.BytesIO()
        try:
            spm.SentencePieceTrainer.train(
                sentence_iterator=self.sentences(coded), model_writer=model, **{**FLAGS, **self.flags}
            )
        except (RuntimeError, OSError) as error:
            raise _explained(str(error).splitlines()[-1], self.flags["vocab_size"]) from None
        learned = model.getvalue()
        return Tokenizer(learned if self.case is None else with_case_coding(learned, self.case))


def _explained(said: str, vocab_size: int) -> DataError:
    """What SentencePiece said, as a user can mend it."""
    if found := re.search(r"smaller than required_chars\. (\d+) vs (\d+)", said):
        return DataError(
            "a vocabulary has room for special ids, 256 bytes, marks and the characters of the text",
            f"{found[1]} for {found[2]}",
            f"use a data.tokenizer.vocab_size (or base.vocab_size) above {found[2]}",
        )
    return DataError(
        f"a vocabulary of {vocab_size} needs text to learn it from",
        said,
        "use a smaller data.tokenizer.vocab_size or more text",
    )
