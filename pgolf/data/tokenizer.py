"""SentencePiece BPE with byte fallback, made lossless, and the bytes that each token stands for.

Trained with the community's flags, except those that lose text: no normalization, no dummy prefix, no
white-space squeezing. One ambiguity is SentencePiece's own: it writes a space as U+2581, so a literal
U+2581 would come back as a space. Such characters (and bytes that are not UTF-8) go through the byte
tokens instead. Hence the law that the denominator rests on: every token stands for a fixed string of
bytes, and the concatenation over a document is the document.

Official models (NFKC, squeezed white space) lose text; there the byte count follows the challenge's
look-up rule, in which the space before a word costs nothing directly after a document boundary.
"""

import io
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import sentencepiece as spm
from numpy.typing import NDArray
from pydantic import Field

from pgolf.errors import DataError
from pgolf.formats.shards import BOS, Tokens
from pgolf.section import Section

SPACE = "▁"
TRAINING_LINE_BYTES = 4192  # SentencePiece skips longer training lines; documents are cut at line ends
PROBES = (" a  b ", "ﬁ①", "a\nb\t")  # a model that gives these back byte for byte normalizes nothing


class SpBpe(Section):
    """A SentencePiece BPE tokenizer trained on the training documents only."""

    kind: Literal["sp_bpe"] = "sp_bpe"
    vocab_size: int = Field(1024, ge=300, le=65_536)
    character_coverage: float = Field(0.999, gt=0.9, le=1)

    def train(self, documents: Iterable[bytes]) -> "Tokenizer":
        """Train on documents (UTF-8). Deterministic: one thread, no sampling.

        Raises:
            DataError: if the text is too small for the vocabulary.
        """
        model = io.BytesIO()
        try:
            spm.SentencePieceTrainer.train(
                sentence_iterator=_lines(documents),
                model_writer=model,
                model_type="bpe",
                vocab_size=self.vocab_size,
                character_coverage=self.character_coverage,
                byte_fallback=True,
                split_digits=True,
                normalization_rule_name="identity",
                add_dummy_prefix=False,
                remove_extra_whitespaces=False,
                allow_whitespace_only_pieces=True,
                pad_id=0,
                bos_id=BOS,
                eos_id=2,
                unk_id=3,
                hard_vocab_limit=False,
                num_threads=1,
                minloglevel=3,
            )
        except (RuntimeError, OSError) as error:
            raise DataError(
                f"a vocabulary of {self.vocab_size} needs text to learn it from",
                str(error).splitlines()[-1],
                "use a smaller data.tokenizer.vocab_size or more text",
            ) from None
        return Tokenizer(model.getvalue())


def _lines(documents: Iterable[bytes]) -> Iterator[str]:
    for document in documents:
        for line in document.decode("utf-8", "ignore").replace(SPACE, " ").replace("\0", " ").split("\n"):
            if line and len(line.encode()) <= TRAINING_LINE_BYTES:
                yield line


class Tokenizer:
    """A SentencePiece model with the pgolf laws around it."""

    def __init__(self, model: bytes) -> None:
        self.model = model
        self._sp = spm.SentencePieceProcessor(model_proto=model)
        if self._sp.piece_to_id(SPACE) == self._sp.unk_id():
            raise DataError(
                "a tokenizer has U+2581 itself as a piece (else a space would be counted as 3 bytes)",
                "a model without it",
                "train the tokenizer again with byte fallback and this piece",
            )

    @staticmethod
    def load(path: Path) -> "Tokenizer":
        """Raises DataError if the file is missing or no SentencePiece model."""
        try:
            return Tokenizer(path.read_bytes())
        except (OSError, RuntimeError) as error:
            raise DataError(
                "a tokenizer is a SentencePiece .model file",
                f"{path}: {str(error).splitlines()[0]}",
                "check the path",
            ) from None

    @property
    def vocab_size(self) -> int:
        return int(self._sp.vocab_size())

    @cached_property
    def token_bytes(self) -> list[bytes]:
        """For each id the bytes it stands for: control ids none, byte ids one, pieces their text."""
        sp, table = self._sp, []
        for v in range(sp.vocab_size()):
            if sp.is_control(v) or sp.is_unknown(v) or sp.is_unused(v):
                table.append(b"")
            elif sp.is_byte(v):
                table.append(bytes([int(sp.id_to_piece(v)[1:-1], 16)]))
            else:
                table.append(sp.id_to_piece(v).replace(SPACE, " ").encode())
        return table

    @cached_property
    def lossless(self) -> bool:
        """Whether encoding keeps every byte (no normalization), so that counts need no context."""
        return all(self._joined(self._encoded(p.encode())) == p.encode() for p in PROBES)

    def encode(self, document: bytes) -> list[int]:
        """Token ids of a document, without BOS. Any bytes, UTF-8 or not.

        Raises:
            DataError: if a lossless model does not give the document back.
        """
        ids = self._encoded(document)
        if self.lossless and self._joined(ids) != document:
            raise DataError(
                "a lossless tokenizer gives every byte back", repr(document[:60]), "report this text"
            )
        return ids

    def decode(self, ids: Iterable[int]) -> bytes:
        """The bytes of a token sequence; ids outside the vocabulary raise IndexError."""
        return self._joined(ids)

    def text(self, ids: list[int]) -> bytes:
        """The text that a document's ids stand for, as scores count it: exactly `decode` for lossless
        models; for the others what SentencePiece decodes, without the space before the first word."""
        return self.decode(ids) if self.lossless else bytes(self._sp.decode(ids).encode())

    def byte_counts(self, tokens: Tokens) -> NDArray[np.uint16]:
        """Bytes of text each token of a stream stands for; over a document they sum to its length.

        The challenge's look-up rule for models that normalize: a leading space costs one byte unless
        the token before is a boundary. The stream begins at a boundary.
        """
        length = np.array([len(b) for b in self.token_bytes], dtype=np.uint16)
        counts = length[tokens]
        if not self.lossless:
            sp = self._sp
            leads = np.array([sp.id_to_piece(v).startswith(SPACE) for v in range(sp.vocab_size())])
            boundary = np.array([len(b) == 0 for b in self.token_bytes])
            after_boundary = np.concatenate([[True], boundary[tokens[:-1]]])
            counts = counts - (leads[tokens] & after_boundary).astype(np.uint16)
        return counts

    def fits(self, tokens: Tokens, where: str) -> None:
        """Refuse a stream this model did not write: ids out of range, or documents it splits otherwise.

        Raises:
            DataError: naming the shard and the first thing that does not fit.
        """
        remedy = "give the tokenizer that the shards were written with"
        top = int(tokens.max(initial=0))
        if top >= self.vocab_size:
            raise DataError(f"tokens of a shard are below the vocabulary's size {self.vocab_size}",
                            f"{where}: token {top}", remedy)  # fmt: skip
        head = np.asarray(tokens[:65_536]).astype(np.int64)
        bounds = np.flatnonzero(head == BOS)
        if len(bounds) == 0 or bounds[0] != 0:
            raise DataError(f"a shard begins with BOS ({BOS})", f"{where}: {head[:4].tolist()}", remedy)
        for begin, end in list(pairwise(bounds))[:4]:
            ids = head[begin + 1 : end].tolist()
            if self._encoded(self.text(ids)) != ids:
                raise DataError("a shard's documents are split as this tokenizer splits them",
                                f"{where}: the document at token {begin} is split otherwise", remedy)  # fmt: skip

    def _joined(self, ids: Iterable[int]) -> bytes:
        table = self.token_bytes
        return b"".join(table[i] for i in ids)

    def _encoded(self, document: bytes) -> list[int]:
        ids: list[int] = []
        for text, raw in _utf8_runs(document):
            if raw:
                ids += [self._byte_id(b) for b in raw]
                continue
            for i, part in enumerate(text.split(SPACE)):
                if i:
                    ids += [self._byte_id(b) for b in SPACE.encode()]
                if part:
                    ids += self._sp.encode(part)
        return ids

    def _byte_id(self, value: int) -> int:
        return int(self._sp.piece_to_id(f"<0x{value:02X}>"))


def _utf8_runs(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Cut bytes into (text, b"") where they are UTF-8 and ("", raw) where they are not."""
    while data:
        try:
            yield data.decode("utf-8"), b""
            return
        except UnicodeDecodeError as error:
            if error.start:
                yield data[: error.start].decode("utf-8"), b""
            yield "", data[error.start : error.end]
            data = data[error.end :]
