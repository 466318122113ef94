"""Documents made of what has broken byte counts and round trips before.

U+2581 (SentencePiece's own sign for a space), NUL, white space of all kinds, control pieces written out,
bytes that are not UTF-8; for the case transforms literal marks, title-case digraphs, combining marks,
capitals with apostrophes and digits between, letters that only look like ASCII.
"""

from pathlib import Path

import pytest
from hypothesis import strategies as st

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"  # beside some checkouts, with README
TOKENIZERS = SHARED / "tokenizers"
needs_shared = pytest.mark.skipif(not TOKENIZERS.is_dir(), reason="the published tokenizers are not here")

HOSTILE = [
    "", " ", "  ", " " * 300, "\0", "a\0b", "▁", " ▁ ", "▁▁a▁", "\r\n", "\r", "\n\n\n", "\t \t", " a", "a ",
    "e\u0301\u0302", "\u0301", "ﬁ①Å", "\ufeff", "\u200b", "\u00a0\u3000", "\ue000\uf8ff", "𝔘🦖\U0010ffff",
    "<s>", "</s>", "<unk>", "<pad>", "<0x41>", "<0xE2>", "x" * 5000, "ab" * 700, "\u2028", "1234567890",
    "".join(map(chr, range(32))), "\ud7ff\ue000\uffff", "ن" * 50, "日本語のテキスト",
]  # fmt: skip
CASED = [
    "Hello world", "NASA", "A", "I", "iPhone", "McDonald", "HTTPServer", "U.S.", "I'm", "DON'T", "O'Neill", "USA2024b",
    "NaN", "ÉCOLE", "ǅ", "ǈUBLJANA", "Ǆungla", "A\u0301BC", "É", "straße", "STRASSE ẞ", "Я", "K Å", "ａＡ", "İI", "aB",
    "A B C", " The", "  The", " NASA ", "the Cat", "▁The", "The▁", "\0The", "a\nThe", "THE\nEND", "x" * 99 + "X",
    "X" * 99,
    "\ue001", "\ue002", "\ue003", "\ue004", "\ue004\ue004\ue001", "x\ue001y", "\ue001the", " \ue001 The", "\ue002NASA",
    "ᴛ", "ᴀ", "ᴄ", "ᴇ", "ᴇᴇᴛ", "xᴛy", " ᴛ The", "ᴀNASA", "™Foo™", "½ ﬁne Ⅷ", "THE  COSTS", "1ST 2nd 3Rd",
]  # fmt: skip
PARTS = st.sampled_from([*HOSTILE, *CASED])
TEXTS = st.one_of(
    st.lists(PARTS, max_size=6).map("".join),
    st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace").decode()),
    st.text("aAbBzZ '1 \n▁\ue001\ue002\ue003\ue004ᴛᴀᴄᴇÉ", max_size=40),
)
DOCUMENTS = st.one_of(
    TEXTS.map(str.encode),
    st.binary(max_size=40),
    st.lists(
        st.sampled_from([b"A", b"b", b" ", b"\xee", b"\x80", b"\x81", b"\x84", b"\xe1", b"\xb4", b"\xe2"]),
        max_size=24,
    ).map(b"".join),
    st.tuples(PARTS, st.binary(max_size=8), PARTS).map(lambda p: p[0].encode() + p[1] + p[2].encode()),
)
LESSONS = [  # enough to learn some hundred pieces from, and to need each mark
    (f"The value number {i} of NASA's iPhone is {i * i}; the U.S. saw McDonald and the other {i % 7} of them.\n"
     f"In the end DON'T count on it: a fox of the {i % 9} days jumps over the lazy HTTPServer.").encode()
    for i in range(150)
]  # fmt: skip
