"""Where bytes are UTF-8 and where they are not, in time linear in their number."""

import re
from collections.abc import Iterator

WELL_FORMED = re.compile(  # UTF-8, linear in the text (Unicode 15, table 3-7)
    rb"(?:[\x00-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|"
    rb"\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|"
    rb"\xf4[\x80-\x8f][\x80-\xbf]{2})+"
)


def runs(data: bytes, apart: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Cut bytes into (text, b"") and (b"", raw): raw is what is not UTF-8, and every `apart` (UTF-8 itself).

    >>> list(runs(b"a\\xffb-c", apart=b"-"))
    [(b'a', b''), (b'', b'\\xff'), (b'b', b''), (b'', b'-'), (b'c', b'')]
    """
    at = 0
    for begin, end in _spans(data):
        if begin > at:
            yield b"", data[at:begin]
        for i, part in enumerate(data[begin:end].split(apart)):
            if i:
                yield b"", apart
            if part:
                yield part, b""
        at = end
    if at < len(data):
        yield b"", data[at:]


def _spans(data: bytes) -> list[tuple[int, int]]:
    """The maximal stretches that are UTF-8."""
    try:
        data.decode("utf-8")
        return [(0, len(data))]
    except UnicodeDecodeError:
        return [m.span() for m in WELL_FORMED.finditer(data)]
