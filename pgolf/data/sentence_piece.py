"""A SentencePiece model with the byte laws around it: what every kind of tokenizer becomes once trained.

Two kinds of model. A *lossless* one (no normalization, no dummy prefix, no squeezed white space; byte
fallback) gives every byte back. One ambiguity is SentencePiece's own: it writes a space as U+2581, so a
literal U+2581 would come back as a space. Such characters, and bytes that are not UTF-8, go through the
byte tokens instead. Hence the law that the denominator rests on: the bytes that the tokens of a document
stand for sum to the document's length, and joined they are the document.

A *normalizing* one (the official ones: NFKC, squeezed white space) loses text. There the byte count is the
challenge's: the text as the tokens decode, in which the space before a word costs nothing directly after
a document boundary. `encode_counted` gives the other published count, the raw bytes under each token.

Either may hold a case coding (pgolf.data.case_coding), which the text passes through first. Then the bytes
of a token depend on the tokens before it, and there is no table of them; counts and decoding are exact all
the same, document by document. The model file says so itself, in a protobuf field that SentencePiece
passes over: one file is the whole tokenizer, and any SentencePiece still opens it.
"""

from collections.abc import Iterable
from functools import cached_property
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
import sentencepiece as spm
from numpy.typing import NDArray

from pgolf.data.case_coding import RESERVED, CaseCoding
from pgolf.data.model_file import case_coding_of
from pgolf.data.utf8 import runs
from pgolf.errors import DataError
from pgolf.formats.shards import BOS, Tokens

SPACE = "▁"
PROBES = (" a  b ", "ﬁ①", "a\nb\t")  # a model that gives these back byte for byte normalizes nothing


class Tokenizer:
    """Bytes to ids and back, and the bytes each id of a stream stands for."""

    def __init__(self, model: bytes) -> None:
        self.model = model
        self._sp = spm.SentencePieceProcessor(model_proto=model)
        self.case = case_coding_of(model) or _published_coding(self._sp)
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
            model = Tokenizer(path.read_bytes())
            if model.vocab_size == 0:
                raise ValueError("no pieces")
            return model
        except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
            raise DataError(
                "a tokenizer is a SentencePiece .model file",
                f"{path}: {str(error).splitlines()[0]}",
                "check the path",
            ) from None

    @property
    def vocab_size(self) -> int:
        return int(self._sp.vocab_size())

    @cached_property
    def lossless(self) -> bool:
        """Whether every byte of every document comes back."""
        if not all(self._sp.is_byte(self._byte_id(value)) for value in range(256)):
            return False
        return all(self._joined(self._split_exactly(p.encode())) == p.encode() for p in PROBES)

    @property
    def token_bytes(self) -> list[bytes]:
        """For each id the bytes it stands for: control ids none, byte ids one, pieces their text.

        Raises:
            DataError: under a case coding, where a token's bytes depend on the tokens before it.
        """
        if self.case is not None:
            raise DataError("a token has bytes of its own where case is not coded apart", f"{self.case}",
                            "use byte_counts or decode, which read the tokens in order")  # fmt: skip
        return self._pieces

    def encode(self, document: bytes) -> list[int]:
        """Token ids of a document, without BOS. Any bytes, UTF-8 or not.

        A normalizing model reads them as the official export does: NUL as a space, outer white space
        off, what is not UTF-8 as U+FFFD.

        Raises:
            DataError: if a lossless model does not give the document back.
        """
        text = self._coded(document)
        if not self.lossless:
            return list(self._sp.encode(text))
        ids = self._split_exactly(text)
        if self._joined(ids) != text or (self.case and self.case.decode(text) != document):
            raise DataError(
                "a lossless tokenizer gives every byte back", repr(document[:60]), "report this text"
            )
        return ids

    def encode_counted(self, document: bytes) -> tuple[list[int], Tokens]:
        """Token ids of a document and the raw bytes of it that each covers: the published CaseOps sidecar.

        A normalizing model's pieces are traced back to the text they were made from, so squeezed white
        space and folded characters count in full (on one of the pieces that came of them); outer white
        space is not counted. A lossless model's counts are those of `byte_counts`.
        """
        if self.lossless:
            ids = self.encode(document)
            return ids, self.byte_counts(np.array(ids, dtype=np.uint16))
        text = self._coded(document)
        found = self._sp.encode(text, return_type="offset_mapping")
        weights = np.ones(len(text), np.uint8) if self.case is None else self.case.weights(text)
        before = np.concatenate([[0], np.cumsum(weights, dtype=np.int64)])
        begin, end = np.array(found["offsets"], dtype=np.int64).reshape(-1, 2).T
        return found["ids"], _narrow(before[end] - before[begin])

    def stream(self, documents: Iterable[bytes]) -> Tokens:
        """All documents' tokens, each document behind its BOS."""
        parts = [np.array([BOS, *self.encode(d)], dtype=np.uint16) for d in documents]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint16)

    def decode(self, ids: Iterable[int]) -> bytes:
        """The text that the ids of one or more documents stand for, as scores count it.

        A document of a normalizing model comes without the space before its first word. Ids outside the
        vocabulary raise IndexError.
        """
        documents = (list(part) for inside, part in groupby(ids, lambda i: bool(self._pieces[i])) if inside)
        texts = (self._joined(d) if self.lossless else self._sp.decode(d).encode() for d in documents)
        return b"".join(texts if self.case is None else map(self.case.decode, texts))

    def exact_ids(self, text: bytes) -> list[int]:
        """Ids from which `exact_text` gives any bytes back, whatever the model does to text.

        A normalizing model's own pieces serve line by line where they give the line back, and its byte tokens
        elsewhere.

        Raises:
            DataError: if the model has neither.
        """
        if self.lossless:
            return self.encode(text)
        ids: list[int] = []
        for line in text.splitlines(keepends=True):
            found = self._sp.encode(line.decode("utf-8", "replace")) if self.case is None else []
            ids += found if self._joined(found) == line else [self._byte_id(value) for value in line]
        if self._joined(ids) != text:
            raise DataError("a tokenizer that codes any file has a token for every byte",
                            f"{self.vocab_size} pieces without some", "train it with byte fallback")  # fmt: skip
        return ids

    def exact_text(self, ids: Iterable[int]) -> bytes:
        """The bytes of `exact_ids`: of a document's pieces, nothing left out."""
        return self.decode(ids) if self.lossless else self._joined(ids)

    def byte_counts(self, tokens: Tokens) -> Tokens:
        """Bytes of text each token of a stream stands for; over a document they sum to `decode`'s length.

        The challenge's look-up rule for models that normalize: a leading space costs one byte unless
        the token before is a boundary. The stream begins at a boundary.
        """
        length = np.array([len(b) for b in self._pieces], dtype=np.int64)
        boundary = length == 0
        counts = length[tokens] if self.case is None else self._counts_of_case(tokens, length, self.case)
        if not self.lossless:
            leads = np.array([self._sp.id_to_piece(v).startswith(SPACE) for v in range(self.vocab_size)])
            after_boundary = np.concatenate([[True], boundary[tokens[:-1]]])[: len(tokens)]
            counts = counts - (leads[tokens] & after_boundary)
        return _narrow(counts)

    def fits(self, tokens: Tokens, where: str, *, first: bool = True) -> None:
        """Refuse a stream this model did not write: ids out of range, or documents it splits otherwise.

        A split's first shard begins with a document; the others may go on in one: exporters cut by size.

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
        if first and (len(bounds) == 0 or bounds[0] != 0):
            raise DataError(f"a split begins with BOS ({BOS})", f"{where}: {head[:4].tolist()}", remedy)
        for begin, end in list(pairwise(bounds))[:4]:
            ids = head[begin + 1 : end].tolist()
            if self._again(ids) != ids:
                raise DataError("a shard's documents are split as this tokenizer splits them",
                                f"{where}: the document at token {begin} is split otherwise", remedy)  # fmt: skip

    @cached_property
    def _pieces(self) -> list[bytes]:
        """The (case-coded) bytes of each id; none for control, unknown and unused ids."""
        sp, table = self._sp, []
        for v in range(sp.vocab_size()):
            if sp.is_control(v) or sp.is_unknown(v) or sp.is_unused(v):
                table.append(b"")
            elif sp.is_byte(v):
                table.append(bytes([int(sp.id_to_piece(v)[1:-1], 16)]))
            else:
                table.append(sp.id_to_piece(v).replace(SPACE, " ").encode())
        return table

    def _counts_of_case(
        self, tokens: Tokens, length: NDArray[np.int64], case: CaseCoding
    ) -> NDArray[np.int64]:
        """Per token the sum of its bytes' weights; documents apart, so that none escapes into the next."""
        counts = np.zeros(len(tokens), dtype=np.int64)
        bounds = np.flatnonzero(length[tokens] == 0)
        for begin, end in pairwise([-1, *bounds.tolist(), len(tokens)]):
            part = tokens[begin + 1 : end]
            if len(part):
                weights = case.weights(self._joined(part.tolist()))
                ends = np.cumsum(length[part])
                before = np.concatenate([[0], np.cumsum(weights, dtype=np.int64)])
                counts[begin + 1 : end] = before[ends] - before[ends - length[part]]
        return counts

    def _again(self, ids: list[int]) -> list[int]:
        """The ids that this model gives to what the ids of one document decode to.

        A normalizing model's capitals may come from folding ("™" is TM), so there the case stays coded.
        """
        return self.encode(self.decode(ids)) if self.lossless else list(self._sp.encode(self._sp.decode(ids)))

    def _coded(self, document: bytes) -> bytes:
        if not self.lossless:
            document = official_text(document).encode()
        return document if self.case is None else self.case.encode(document)

    def _joined(self, ids: Iterable[int]) -> bytes:
        return b"".join(map(self._pieces.__getitem__, ids))

    def _split_exactly(self, text: bytes) -> list[int]:
        ids: list[int] = []
        for part, raw in runs(text, apart=SPACE.encode()):
            ids += [self._byte_id(b) for b in raw] if raw else self._sp.encode(part)
        return ids

    def _byte_id(self, value: int) -> int:
        return int(self._sp.piece_to_id(f"<0x{value:02X}>"))


def official_text(document: bytes) -> str:
    """A document as the official export reads it: NUL as a space, no outer white space."""
    return document.decode("utf-8", "replace").replace("\0", " ").strip()


def _published_coding(sp: spm.SentencePieceProcessor) -> CaseCoding | None:
    """Published CaseOps models carry no note; their reserved pieces show what they are."""
    reserved = [sp.id_to_piece(v) for v in range(4, 8)] if sp.vocab_size() >= 8 else []
    return RESERVED if reserved == list(RESERVED.marks) else None


def _narrow(counts: NDArray[np.int64]) -> Tokens:
    """Counts as sidecars store them."""
    most = int(counts.max(initial=0))
    if most > np.iinfo(np.uint16).max:
        raise DataError("a token stands for at most 65535 bytes", f"{most} bytes of white space under one token",
                        "take such runs out of the text")  # fmt: skip
    return counts.astype(np.uint16)
