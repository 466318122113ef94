"""Documents out of files: JSON lines, plain text, folders of both, plain or compressed; streamed, by rule.

    .jsonl .ndjson     a document is the text field of a line; blank lines are nothing
    any other name     a document is the file, or each part of it between separators
    .gz .bz2 .xz .zst  are opened first, and what they hold goes by the name without that ending
    a folder           its files of the endings in TEXT and JSON, in order of their paths; others are counted

A document is text in UTF-8. What is not (broken bytes, halves of surrogate pairs in JSON escapes) becomes
U+FFFD and is counted; where that befalls more than one document in a hundred, the text is in another
encoding and is refused. NUL, U+2581, byte order marks and control characters are text and stay. A document
without a byte is none; it is counted.
"""

import bz2
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from pgolf.errors import DataError, nearest

zstandard: Any = None  # not among what pgolf needs; asked for by whoever has such files
with suppress(ImportError):
    zstandard = import_module("zstandard")

JSON = (".jsonl", ".ndjson")
TEXT = (".txt", ".text", ".md", ".rst")
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
BROKEN_SHARE, BROKEN_FEW = 0.01, 10  # more than this share of the documents, and more than a few of them
BLOCK_BYTES = 1 << 20
DAMAGED: tuple[type[Exception], ...] = (OSError, EOFError, zlib.error, lzma.LZMAError)
if zstandard is not None:
    DAMAGED += (zstandard.ZstdError,)


@dataclass
class Tally:
    """What was read, for the report. `bytes` are the files' own, compressed as they lie."""

    files: int = 0
    bytes: int = 0
    left_out_files: int = 0
    documents: int = 0
    empty: int = 0
    broken_utf8: int = 0

    def plain(self) -> dict[str, int]:
        return asdict(self)


def text_files(inputs: list[Path], tally: Tally) -> list[Path]:
    """The files to read, folders opened.

    Raises:
        DataError: if there is nothing at a path, or no text in a folder.
    """
    found: list[Path] = []
    for path in inputs:
        if path.is_dir():
            inside = sorted(f for f in path.rglob("*") if f.is_file())
            chosen = [f for f in inside if _plain_name(f).endswith((*JSON, *TEXT))]
            if not chosen:
                raise DataError(f"a folder of text has files that end in {', '.join((*JSON, *TEXT))}",
                                f"{path}: {len(inside)} files, none of them", "name the files themselves")  # fmt: skip
            tally.left_out_files += len(inside) - len(chosen)
            found += chosen
        elif path.is_file():
            found.append(path)
        else:
            raise DataError("an input is a file or a folder that can be read", str(path), "check the path")
    tally.files = len(found)
    return found


def documents(
    files: list[Path], tally: Tally, text_field: str = "text", separator: str | None = None
) -> Iterator[bytes]:
    """The documents of files, in order, as UTF-8 bytes.

    Raises:
        DataError: for a file that cannot be read, a line that is no JSON object with that field, or text
            that is not UTF-8.
    """
    for file in files:
        parts = _json_lines(file, text_field, tally) if _is_json(file) else _parts(file, separator, tally)
        for text, broken in parts:
            tally.documents += 1
            tally.broken_utf8 += broken
            if tally.broken_utf8 > max(BROKEN_FEW, BROKEN_SHARE * tally.documents):
                raise DataError("text is UTF-8",
                                f"{file}: {tally.broken_utf8} of {tally.documents} documents are not",
                                "convert it first, for example with `iconv -f latin1 -t utf8`")  # fmt: skip
            if not text:
                tally.empty += 1
                tally.documents -= 1
                continue
            yield text


def _plain_name(file: Path) -> str:
    """The file's name in lower case, without the ending that says it is compressed."""
    name = file.name.lower()
    return next((name.removesuffix(end) for end in COMPRESSED if name.endswith(end)), name)


def _is_json(file: Path) -> bool:
    return _plain_name(file).endswith(JSON)


def _json_lines(file: Path, text_field: str, tally: Tally) -> Iterator[tuple[bytes, bool]]:
    with _opened(file, tally) as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            whole, broken = _utf8(line)
            try:
                row = json.loads(whole.decode().removeprefix("\ufeff"))
            except (ValueError, RecursionError) as error:
                raise DataError("a line of a .jsonl file is JSON", f"{file}:{number}: {error}",
                                "mend or delete the line") from None  # fmt: skip
            text = row.get(text_field) if isinstance(row, dict) else None
            if not isinstance(text, str):
                known = [k for k, v in row.items() if isinstance(v, str)] if isinstance(row, dict) else []
                raise DataError(f"a line of a .jsonl file has its text in field {text_field!r}",
                                f"{file}:{number}: {line[:80].decode('utf-8', 'replace')}",
                                f"--text-field; {nearest(text_field, known)}" if known else "--text-field")  # fmt: skip
            try:
                yield text.encode(), broken
            except UnicodeEncodeError:  # "\ud800" is JSON and is no text
                yield text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode(), True


def _parts(file: Path, separator: str | None, tally: Tally) -> Iterator[tuple[bytes, bool]]:
    """The file as one document, or what lies between separators, of which one at a time is in memory."""
    with _opened(file, tally) as stream:
        if separator is None:
            yield _utf8(stream.read())
            return
        mark, held, searched = separator.encode(), bytearray(), 0
        while block := stream.read(BLOCK_BYTES):
            held += block
            while (at := held.find(mark, searched)) >= 0:
                yield _utf8(bytes(held[:at]))
                del held[: at + len(mark)]
                searched = 0
            searched = max(len(held) - len(mark) + 1, 0)
        yield _utf8(bytes(held))


def _utf8(text: bytes) -> tuple[bytes, bool]:
    """Text with U+FFFD for whatever is no UTF-8, and whether there was any."""
    try:
        text.decode("utf-8")
        return text, False
    except UnicodeDecodeError:
        return text.decode("utf-8", "replace").encode(), True


@contextmanager
def _opened(file: Path, tally: Tally) -> Iterator[io.BufferedIOBase]:
    """A file's bytes, decompressed by its name's ending.

    Raises:
        DataError: if it cannot be opened, is no such archive, or is cut short.
    """
    try:
        with file.open("rb") as raw:
            yield _decompressed(file, io.BufferedReader(_CountedReader(raw, tally), BLOCK_BYTES))
    except DAMAGED as error:
        said = getattr(error, "strerror", None) or str(error)
        raise DataError("an input is a file that can be read whole", f"{file}: {said}",
                        "check the file and its permissions") from None  # fmt: skip


def _decompressed(file: Path, stream: io.BufferedReader) -> io.BufferedIOBase:
    match file.name.lower().rpartition(".")[2]:
        case "gz":
            return gzip.GzipFile(fileobj=stream)
        case "bz2":
            return bz2.BZ2File(stream)
        case "xz":
            return lzma.LZMAFile(stream)
        case "zst" if zstandard is None:
            raise DataError(
                "a .zst file is read with the package zstandard", str(file), "pip install zstandard"
            )
        case "zst":
            return io.BufferedReader(_Zstandard(stream), BLOCK_BYTES)
    return stream


class _Zstandard(io.RawIOBase):
    """Frame after frame of a .zst file; unlike the package's own reader it tells a file that is cut short."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self._stream, self._held = stream, b""
        self._frame: Any = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._held:
            packed = self._stream.read(BLOCK_BYTES >> 4)  # it may unfold to many times its size
            if not packed:
                if self._frame is not None:
                    raise EOFError("compressed file ended before its end mark")
                return 0
            while packed:
                self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
                self._held += self._frame.decompress(packed)
                packed = self._frame.unused_data
                self._frame = None if self._frame.eof else self._frame
        count = min(len(buffer), len(self._held))
        buffer[:count], self._held = self._held[:count], self._held[count:]
        return count


class _CountedReader(io.RawIOBase):
    """A raw file whose bytes are tallied as they are read."""

    def __init__(self, raw: Any, tally: Tally) -> None:
        self._raw, self._tally = raw, tally

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = int(self._raw.readinto(buffer))
        self._tally.bytes += count
        return count
