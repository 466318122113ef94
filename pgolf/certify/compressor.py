"""An artifact as a text compressor for any file: `pgolf compress`, `pgolf decompress` and the certificate.

A file is cut into frames of about a megabyte, so that any length streams; within a frame its documents (the parts
between separators, or the frame as one) are coded as a stream is scored, and what adapts begins anew with every
frame. A lossless tokenizer has tokens for all bytes there are; one that normalizes writes what it would not give
back as byte tokens.
"""

import hashlib
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from pgolf.certify.coder import decode, encode
from pgolf.certify.container import (
    Frame,
    digest_of_text,
    read_frames,
    read_header,
    write_end,
    write_frame,
    write_header,
)
from pgolf.data.tokenizer import Tokenizer
from pgolf.errors import DataError
from pgolf.evaluate.evaluation import Evaluation
from pgolf.evaluate.growing import Growing
from pgolf.evaluate.mode import Mode
from pgolf.evaluate.predictor import Predictor
from pgolf.formats.blob import read_artifact
from pgolf.model.gpt import assemble
from pgolf.runtime import processor
from pgolf.stage import sha256_of

FRAME_BYTES = 1 << 20
SOFT_BYTES = 1 << 12  # how far back the end of a line is looked for where a document is cut

Said = Callable[[int], None]  # bytes done of the file that is read


@dataclass(frozen=True)
class Compressed:
    """What came of a file."""

    text_bytes: int
    coded_bytes: int  # the arithmetic coder's, which the scorer's bits foretell
    file_bytes: int  # with everything that describes them
    tokens: int  # targets coded

    @property
    def bits_per_byte(self) -> float:
        return 8 * self.file_bytes / self.text_bytes if self.text_bytes else 0.0


class Compressor:
    """An artifact, its tokenizer and an evaluation, ready to code on the CPU."""

    def __init__(self, artifact: Path, tokenizer: Path, mode: Mode, threads: int) -> None:
        """Raises DataError if the artifact or the tokenizer is none, or they do not fit."""
        torch.set_num_threads(threads)
        packed = read_artifact(artifact)
        self.mode, self.threads = mode, threads
        self.otherwise = ""  # how this machine differs from the one that coded what is decoded
        self.tokenizer = Tokenizer.load(tokenizer)
        if self.tokenizer.vocab_size != packed.vocab_size:
            raise DataError("an artifact codes tokens of its own vocabulary",
                            f"{packed.vocab_size} in {artifact}, {self.tokenizer.vocab_size} in {tokenizer}",
                            "give the tokenizer that it was trained with")  # fmt: skip
        self.made_with = {"artifact": sha256_of(artifact), "tokenizer": sha256_of(tokenizer)}
        network = assemble(packed.model, packed.vocab_size, packed.weights(), "cpu")
        self.predictor: Predictor = mode.predictor(network, Growing)

    def compress(
        self, frames: Iterable[list[list[int]]], out: BufferedIOBase, said: Said | None = None
    ) -> Compressed:
        """Code frames of documents (token ids without BOS)."""
        write_header(
            out, {**self.made_with, "evaluate": self.mode.plain(), "threads": self.threads, **machine()}
        )
        whole, size, coded, tokens, count = hashlib.sha256(), 0, 0, 0, 0
        for documents in frames:
            text = b"".join(map(self.text_of, documents))
            words = encode(self.predictor, self.mode, documents, _scaled(said, size, len(text)))
            write_frame(out, Frame([len(d) for d in documents], words, digest_of_text(text)))
            whole.update(text)
            size, coded, count = size + len(text), coded + 4 * len(words), count + 1
            tokens += sum(len(d) + 1 for d in documents) - 1
        write_end(out, count, whole.digest())
        return Compressed(size, coded, out.tell(), tokens)

    def decompress(self, coded: BufferedIOBase, out: BufferedIOBase, said: Said | None = None) -> int:
        """Write the text of what `compress` wrote, after its header; returns its bytes.

        Raises:
            DataError: if a part is damaged, or what is decoded is not what was coded.
        """
        whole, size, read, count = hashlib.sha256(), 0, 0, 0
        for frame in read_frames(coded):
            if not isinstance(frame, Frame):
                if frame != (count, whole.digest()):
                    raise DataError(
                        "a compressed file is whole", "its end does not fit its frames", "get it again"
                    )
                break
            progress = _scaled(said, read, frame.words.nbytes)
            documents = decode(self.predictor, self.mode, frame.lengths, frame.words, progress)
            text = b"".join(map(self.text_of, documents))
            if digest_of_text(text) != frame.text:
                raise DataError(
                    "what is decoded is what was coded", f"frame {count} came out as other text{self.otherwise}",
                    "decompress where it was compressed, or on the same kind of processor with the same torch",
                )  # fmt: skip
            out.write(text)
            whole.update(text)
            size, read, count = size + len(text), read + frame.words.nbytes, count + 1
        return size

    def check_made_with(self, header: dict[str, Any]) -> None:
        """Raises DataError if a file was made with another artifact or tokenizer."""
        for name, digest in self.made_with.items():
            if header.get(name) != digest:
                raise DataError(f"a file is decompressed with the {name} that compressed it",
                                f"SHA-256 {digest[:16]}, the file wants {str(header.get(name))[:16]}",
                                f"give that {name}")  # fmt: skip

    def text_of(self, ids: Sequence[int]) -> bytes:
        """The bytes that a document's ids stand for."""
        return self.tokenizer.exact_text(ids)


def mode_of(header: dict[str, Any]) -> tuple[Mode, int]:
    """The evaluation and the threads that a file was coded with. Raises DataError if they are none."""
    try:
        mode = TypeAdapter(Evaluation).validate_python(header.get("evaluate"))
    except ValidationError as error:
        raise DataError("a compressed file says how it was coded", str(error).splitlines()[0],
                        "decompress it with the pgolf that wrote it") from None  # fmt: skip
    assert isinstance(mode, Mode)
    return mode, int(header.get("threads", 1))


def file_frames(
    source: BufferedIOBase,
    tokenizer: Tokenizer,
    separator: bytes | None = None,
    frame_bytes: int = FRAME_BYTES,
) -> Iterator[list[list[int]]]:
    """A file's documents in frames, as token ids."""
    frame: list[list[int]] = []
    size = 0
    for document in _documents(source, separator, frame_bytes):
        frame.append(tokenizer.exact_ids(document))
        size += len(document)
        if size >= frame_bytes:
            yield frame
            frame, size = [], 0
    if frame:
        yield frame


def compress_file(
    compressor: Compressor, file: Path, out: Path, separator: bytes | None = None, said: Said | None = None,
    frame_bytes: int = FRAME_BYTES,
) -> Compressed:  # fmt: skip
    """Compress a file; what was at `out` is replaced when all is written.

    Raises:
        DataError: if the file cannot be read.
    """
    _apart(file, out)
    with _source(file) as source, _whole(out) as made:
        return compressor.compress(
            file_frames(source, compressor.tokenizer, separator, frame_bytes), made, said
        )


def decompress_file(artifact: Path, tokenizer: Path, file: Path, out: Path, said: Said | None = None) -> int:
    """Restore a file; nothing is at `out` unless all of it is right. Returns its bytes.

    Raises:
        DataError: if the file is damaged, or was made with something else.
    """
    _apart(file, out)
    with _source(file) as coded, _whole(out) as text:
        return opened(coded, artifact, tokenizer).decompress(coded, text, said)


def machine() -> dict[str, str]:
    """What float sums may depend on; for the error message, where a file does not decode."""
    return {"torch": str(torch.__version__), "processor": processor(), "platform": platform.machine()}


def opened(coded: BufferedIOBase, artifact: Path, tokenizer: Path) -> Compressor:
    """The compressor that a file wants, its header being read.

    Raises:
        DataError: if the file is none, or was made with another artifact or tokenizer.
    """
    header = read_header(coded)
    mode, threads = mode_of(header)
    made = Compressor(artifact, tokenizer, mode, threads)
    made.check_made_with(header)
    differs = [
        f"{name} {header.get(name)} there, {here} here"
        for name, here in machine().items()
        if header.get(name) != here
    ]
    made.otherwise = "".join(f"; {one}" for one in differs)
    return made


def _apart(file: Path, out: Path) -> None:
    """Raises DataError if the result would replace what it is made of."""
    if out.exists() and file.exists() and out.samefile(file):
        raise DataError("-o is another file than the one that is read", str(out), "another -o")


@contextmanager
def _source(file: Path) -> Iterator[BufferedIOBase]:
    try:
        with file.open("rb") as stream:
            yield stream
    except OSError as error:
        if error.filename is None or Path(error.filename) != file:
            raise
        raise DataError("a file can be read", f"{file}: {error.strerror}", "check the path") from None


@contextmanager
def _whole(out: Path) -> Iterator[BufferedIOBase]:
    """A file that has its name only once it is whole."""
    if not out.parent.is_dir():
        raise DataError("a file is written into a folder that is there", str(out.parent), "make it first")
    if out.is_dir():
        raise DataError("-o names a file", f"{out} is a folder", f"{out / 'NAME'}")
    if not os.access(out.parent, os.W_OK):
        raise DataError(
            "a file is written into a folder that may be written to", str(out.parent), "another -o"
        )
    half = out.with_name(f".{out.name}.{os.getpid()}.half")
    try:
        with half.open("wb") as stream:
            yield stream
        half.replace(out)
    finally:
        half.unlink(missing_ok=True)


def _documents(source: BufferedIOBase, separator: bytes | None, most: int) -> Iterator[bytes]:
    """The file in documents, each with the separator that ends it; none longer than `most` bytes."""
    held = b""
    while block := source.read(1 << 16):
        held += block
        while separator and (at := held.find(separator)) >= 0:
            yield held[: at + len(separator)]
            held = held[at + len(separator) :]
        while len(held) >= most:
            line = held.rfind(b"\n", max(most - SOFT_BYTES, 0), most) + 1
            yield held[: line or most]
            held = held[line or most :]
    if held:
        yield held


def _scaled(said: Said | None, before: int, size: int) -> Callable[[int, int], None] | None:
    """Progress over a frame's targets as bytes of the file."""
    if said is None:
        return None
    return lambda done, total: said(before + size * done // max(total, 1))
