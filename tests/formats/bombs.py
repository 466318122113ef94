"""Small files that claim to hold much, opened by a process that may not take much.

Started by tests/formats/test_fuzz.py: prints what became of each, as JSON.
"""

import json
import lzma
import resource
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import brotli
import zstandard

from pgolf.errors import DataError
from pgolf.formats.blob import decode, encode
from pgolf.pack.ans_packer import AnsPacker
from pgolf.pack.brotli_packer import BrotliPacker
from tests.formats.forge import opened, resized, signed, with_header
from tests.formats.samples import quantized

MORE_BYTES = 192 << 20  # than the process has when it begins to read
BOMB = 260  # MB
ZEROS = bytes(1 << 20)


def blown(begin: bytes, process: Callable[[bytes], bytes], finish: Callable[[], bytes]) -> bytes:
    """A stream of so many megabytes of zeros, packed piece by piece."""
    return process(begin) + b"".join(process(ZEROS) for _ in range(BOMB)) + finish()


def brotlied(begin: bytes = b"") -> bytes:
    packer = brotli.Compressor(quality=1)
    return blown(begin, packer.process, packer.finish)


def xz_of_a_large_dictionary() -> bytes:
    """LZMA data whose block header says that its dictionary has 4 GiB."""
    made = bytearray(lzma.compress(b"codes", lzma.FORMAT_XZ, lzma.CHECK_NONE))
    begin, length = 12, 4 * (made[12] + 1)
    assert made[begin + 2 : begin + 4] == b"\x21\x01", "LZMA2, one byte of properties"
    made[begin + 4] = 40
    made[begin + length - 4 : begin + length] = struct.pack(
        "<I", zlib.crc32(made[begin : begin + length - 4])
    )
    return bytes(made)


def bombs() -> Iterator[tuple[str, bytes]]:
    header, codes, halves = opened(encode(quantized(), BrotliPacker().codec()))
    text = json.dumps(header)

    def claims(*matrices: list[object], rest: object = (), codec: str = "brotli") -> bytes:
        named = [[f"m{i}", "mlp", tree] for i, tree in enumerate(matrices)]
        return resized({**header, "codec": codec, "matrices": named, "rest": rest}, codes, halves)

    def streams(codec: str, bomb: bytes) -> bytes:
        of = [(flag, bomb) for flag in codes[1 : 1 + 5 * codes[0] : 5]]
        head = bytes([len(of)]) + b"".join(struct.pack("<BI", flag, len(b)) for flag, b in of)
        return resized({**header, "codec": codec}, head + b"".join(b for _, b in of), halves)

    yield "2^40 weights", claims(["scaled", 2**20, 2**20, False])
    yield "2^40 weights in many matrices", claims(*[["scaled", 2**12, 2**12, False]] * 2**16)
    yield "2^40 halves", claims(["scaled", 1, 1, False], rest=[["x", [2**20, 2**20]]])
    yield "2^70 rows of nothing", claims(["scaled", 2**70, 0, False])
    yield "2^70 nothings", claims(["scaled", 1, 1, False], rest=[["x", [0, 2**70]]])
    yield "a tensor of 100 axes", claims(["scaled", 1, 1, False], rest=[["x", [1] * 100]])
    for codec in ("ans", "brotli"):
        yield f"2^24 rows of nothing, {codec}", claims(["scaled", 2**24, 0, False], codec=codec)
        yield f"2^24 steps, {codec}", claims(*[["scaled", 2**20, 0, False]] * 16, codec=codec)
    yield "half as large a group as there are numbers", claims(["grouped", 2, 2, 2**63])
    blown_up = brotlied(text[:-1].encode())
    yield "a header that blows up", signed(struct.pack("<I", len(blown_up)) + blown_up)
    yield "a header of lists in lists", with_header(b"[" * 2**21, codes, halves)
    yield "a header of many digits", with_header(text.replace("300", "3" * 10**6).encode(), codes, halves)
    yield "halves that blow up", resized(header, codes, brotlied(brotli.decompress(halves)))
    yield "Brotli codes that blow up", streams("brotli", brotlied())
    xz = lzma.LZMACompressor(preset=0)
    yield "LZMA codes that blow up", streams("lzma", blown(b"", xz.compress, xz.flush))
    yield "a dictionary of 4 GiB", streams("lzma", xz_of_a_large_dictionary())
    zstd = zstandard.ZstdCompressor(level=1).compressobj()
    yield "Zstandard codes that blow up", streams("zstd", blown(b"", zstd.compress, zstd.flush))
    sized = zstandard.ZstdCompressor(level=1).compressobj(size=BOMB << 20)
    yield "Zstandard codes that say so", streams("zstd", blown(b"", sized.compress, sized.flush))
    ans_header, ans_codes, _ = opened(encode(quantized(), AnsPacker().codec()))
    yield "entropy-coded codes without end", resized(ans_header, ans_codes + bytes(1 << 22), halves)


def outcome(data: bytes) -> str:
    try:
        decode(data)
    except DataError:
        return "refused"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return "opened"


def main() -> None:
    made = list(bombs())
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MORE_BYTES, used + MORE_BYTES))
    print(json.dumps({name: outcome(data) for name, data in made}))


if __name__ == "__main__":
    main()
