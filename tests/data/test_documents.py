"""Documents out of files: every kind, every compression, every kind of broken text, by the rule written there."""

import bz2
import gzip
import json
import lzma
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgolf.data import documents as module
from pgolf.data.documents import Tally, documents, text_files
from pgolf.errors import DataError

zstandard = module.zstandard  # not among what pgolf needs
TEXTS = ["one\n", "zwei ▁ \0 \ufeffdrei", "日本語\u2028\x85\r\n", " ", "x" * 3000]
PACK = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
if zstandard is not None:
    PACK[".zst"] = zstandard.ZstdCompressor().compress


def lines(texts: list[str], field: str = "text") -> bytes:
    return "".join(json.dumps({"id": i, field: t}) + "\n" for i, t in enumerate(texts)).encode()


def read(path: Path, **more) -> list[bytes]:
    tally = Tally()
    return list(documents(text_files([path], tally), tally, **more))


@pytest.mark.parametrize("ending", PACK)
@pytest.mark.parametrize("kind", [".jsonl", ".ndjson", ".JSONL"])
def test_json_lines_plain_or_compressed(tmp_path, ending, kind):
    file = tmp_path / f"d{kind}{ending}"
    file.write_bytes(PACK[ending](lines(TEXTS)))
    assert read(file) == [t.encode() for t in TEXTS]


@pytest.mark.parametrize("ending", PACK)
def test_a_text_file_is_a_document(tmp_path, ending):
    file = tmp_path / f"d.txt{ending}"
    file.write_bytes(PACK[ending]("".join(TEXTS).encode()))
    assert read(file) == ["".join(TEXTS).encode()]


@given(
    parts=st.lists(st.text("ab-", max_size=6), min_size=1, max_size=8),
    separator=st.text("-b", min_size=1, max_size=3),
    block=st.integers(1, 7),
)
def test_a_separator_cuts_as_str_split_does_wherever_blocks_end(tmp_path, parts, separator, block):
    whole = separator.join(parts)
    (tmp_path / "d.txt").write_text(whole)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_BYTES", block)
        got = read(tmp_path / "d.txt", separator=separator)
    assert got == [p.encode() for p in whole.split(separator) if p]


@pytest.mark.parametrize("ending", [e for e in PACK if e])
@pytest.mark.parametrize("cut", ["begin", "end"])
def test_an_archive_that_is_cut_short_is_refused_and_not_read_as_a_shorter_one(tmp_path, ending, cut):
    packed = PACK[ending](os.urandom(40_000).hex().encode())
    file = tmp_path / f"d.txt{ending}"
    file.write_bytes(packed[: 7 if cut == "begin" else -5])
    with pytest.raises(DataError, match=r"read whole(.|\n)*d\.txt"):
        read(file)


@pytest.mark.parametrize("ending", [e for e in PACK if e])
def test_what_is_no_such_archive_is_refused(tmp_path, ending):
    (tmp_path / f"d.txt{ending}").write_bytes(b"no archive at all, only text")
    with pytest.raises(DataError, match=r"read whole(.|\n)*d\.txt"):
        read(tmp_path / f"d.txt{ending}")


@pytest.mark.skipif(zstandard is None, reason="pip install zstandard")
def test_zstandard_frames_follow_one_another(tmp_path):
    (tmp_path / "d.txt.zst").write_bytes(PACK[".zst"](b"a" * 300_000) + PACK[".zst"](b"b" * 200_000))
    assert read(tmp_path / "d.txt.zst") == [b"a" * 300_000 + b"b" * 200_000]


def test_a_zst_file_without_the_package_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "d.txt.zst").write_bytes(b"(\xb5/\xfd")
    monkeypatch.setattr(module, "zstandard", None)
    with pytest.raises(DataError, match="pip install zstandard"):
        read(tmp_path / "d.txt.zst")


def test_a_folder_is_its_text_in_order_of_paths(tmp_path):
    for name, text in (
        ("b/two.txt", "2"),
        ("a.md", "1"),
        ("c.jsonl", None),
        ("b/x.png", "no"),
        ("z.py", "no"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(lines(["3", "4"]) if text is None else text.encode())
    (tmp_path / "d.txt.gz").write_bytes(gzip.compress(b"5"))
    tally = Tally()
    files = text_files([tmp_path, tmp_path / "z.py"], tally)
    assert list(documents(files, tally)) == [b"1", b"2", b"3", b"4", b"5", b"no"]  # named, any file is text
    assert (tally.files, tally.left_out_files, tally.documents) == (5, 2, 6)
    assert tally.bytes == sum(f.stat().st_size for f in files)


def test_empty_documents_are_none_and_counted(tmp_path):
    (tmp_path / "d.jsonl").write_bytes(lines(["", "a", "", " "]) + b"\n\n")
    (tmp_path / "e.txt").write_bytes(b"")
    tally = Tally()
    assert list(documents(text_files([tmp_path], tally), tally)) == [b"a", b" "]
    assert (tally.documents, tally.empty) == (2, 3)


def test_what_is_no_text_becomes_the_replacement_character_and_is_counted(tmp_path):
    halves = b'{"text": "a\\ud800b"}\n{"text": "\\ud83d\\ude00"}\n{"text": "c\\udc00"}\n{"text": "\\ud800\\ud800"}\n'
    (tmp_path / "d.jsonl").write_bytes(halves + b'{"text": "\xe9t\xc3\xa9"}\n')
    tally = Tally()
    got = list(documents(text_files([tmp_path], tally), tally))
    assert [t.decode() for t in got] == ["a\ufffdb", "😀", "c\ufffd", "\ufffd\ufffd", "\ufffdté"]
    assert tally.broken_utf8 == 4


def test_another_encoding_is_refused_with_the_way_to_convert_it(tmp_path):
    latin = ("été " * 3).encode("latin-1")
    (tmp_path / "d.txt").write_bytes(b"|".join([latin] * 11))
    with pytest.raises(DataError, match=r"text is UTF-8(.|\n)*11 of 11(.|\n)*iconv"):
        read(tmp_path / "d.txt", separator="|")
    (tmp_path / "e.txt").write_bytes(b"|".join([latin] * 11 + [b"plain"] * 1089))
    with pytest.raises(
        DataError, match="text is UTF-8"
    ):  # the count so far decides, not the hope of the rest
        read(tmp_path / "e.txt", separator="|")
    (tmp_path / "f.txt").write_bytes(b"|".join([b"plain"] * 1090 + [latin] * 10))
    assert len(read(tmp_path / "f.txt", separator="|")) == 1100


def test_a_byte_order_mark_before_the_first_line_is_no_part_of_the_json(tmp_path):
    (tmp_path / "d.jsonl").write_bytes(b"\xef\xbb\xbf" + lines(["\ufeffa"]))
    assert read(tmp_path / "d.jsonl") == ["\ufeffa".encode()]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"{broken", ["is JSON", "d.jsonl:2"]),
        (b"[" * 100_000, ["is JSON", "d.jsonl:2"]),
        (b'{"body": "x", "n": 3}', ["field 'text'", "d.jsonl:2", "--text-field", "known: body"]),
        (b'{"text": 7}', ["field 'text'", "d.jsonl:2"]),
        (b'["text"]', ["field 'text'", "d.jsonl:2", "--text-field"]),
        (b'"text"', ["field 'text'", "d.jsonl:2"]),
    ],
)
def test_a_line_that_is_no_row_is_named(tmp_path, line, words):
    (tmp_path / "d.jsonl").write_bytes(lines(["a"]) + line + b"\n")
    with pytest.raises(DataError) as raised:
        read(tmp_path / "d.jsonl")
    for word in words:
        assert word in str(raised.value)


def test_the_text_may_be_in_another_field(tmp_path):
    (tmp_path / "d.jsonl").write_bytes(lines(["a", "b"], "body"))
    assert read(tmp_path / "d.jsonl", text_field="body") == [b"a", b"b"]


def test_a_path_with_nothing_there_and_a_folder_without_text_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"can be read(.|\n)*gone"):
        text_files([tmp_path / "gone"], Tally())
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(DataError, match="1 files, none of them"):
        text_files([tmp_path], Tally())


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "d.txt").write_text("secret")

    def denied(self, mode):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(DataError, match=r"read whole(.|\n)*d\.txt: Permission denied"):
        read(tmp_path / "d.txt")
