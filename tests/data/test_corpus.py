"""The embedded corpus: the same documents every time, each once, each on one side of the split."""

import hashlib
import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgolf.data.corpus import (
    Document,
    fingerprint,
    read_documents,
    split_of,
    stdlib_documents,
    write_documents,
)
from pgolf.errors import DataError
from pgolf.formats.shards import SPLITS

HASHES = st.binary(min_size=32, max_size=32).map(bytes.hex)


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return stdlib_documents()


def test_the_corpus_is_the_same_text_twice(documents):
    again = stdlib_documents()
    assert fingerprint(again) == fingerprint(documents)
    assert again == documents


def test_every_document_is_there_once_by_id_and_by_content(documents):
    assert Counter(d.id for d in documents).most_common(1)[0][1] == 1
    assert Counter(d.sha256 for d in documents).most_common(1)[0][1] == 1


def test_documents_are_utf8_text_of_some_length(documents):
    for d in documents:
        assert d.content.decode("utf-8")
        assert d.sha256 == hashlib.sha256(d.content).hexdigest()
    assert sum(len(d.content) for d in documents) > 2_000_000


@pytest.mark.parametrize("change", ["content", "id", "less", "more"])
def test_the_fingerprint_is_of_ids_and_contents_whatever_their_order(documents, change):
    few = documents[:5]
    assert fingerprint(few[::-1]) == fingerprint(few)
    first = few[0]
    other = {
        "content": [Document(first.id, first.content + b" "), *few[1:]],
        "id": [Document(first.id + "x", first.content), *few[1:]],
        "less": few[1:],
        "more": documents[:6],
    }[change]
    assert fingerprint(other) != fingerprint(few)


@given(sha=HASHES, select=st.floats(0.01, 0.49), validation=st.floats(0.01, 0.49))
def test_a_documents_split_is_its_own_hashs_doing(sha, select, validation):
    split = split_of(sha, select, validation)
    assert split in SPLITS
    assert split == split_of(sha, select, validation)
    if split == "validation":  # a larger share takes in documents and gives none back
        assert split_of(sha, select, min(validation * 1.5, 0.5)) == "validation"


def test_the_splits_have_the_shares_that_were_asked_for():
    hashes = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(4000)]
    counts = Counter(split_of(h, 0.1, 0.2) for h in hashes)
    assert counts["select"] / 4000 == pytest.approx(0.1, abs=0.02)
    assert counts["validation"] / 4000 == pytest.approx(0.2, abs=0.025)


def test_the_three_splits_are_disjoint_and_whole(documents, tmp_path):
    metrics = write_documents(documents, tmp_path, 0.05, 0.05)
    texts = {split: list(read_documents(tmp_path, split)) for split in SPLITS}
    together = [text for split in SPLITS for text in texts[split]]
    assert sorted(together) == sorted(d.content for d in documents)
    for split in SPLITS:
        assert metrics[f"{split}_documents"] == len(texts[split])
        assert metrics[f"{split}_bytes"] == sum(map(len, texts[split]))


def test_taking_a_document_away_moves_no_other(documents, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    write_documents(documents, tmp_path / "a", 0.05, 0.05)
    write_documents(documents[1:], tmp_path / "b", 0.05, 0.05)
    gone = documents[0].content
    for split in SPLITS:
        before = list(read_documents(tmp_path / "a", split))
        assert list(read_documents(tmp_path / "b", split)) == [t for t in before if t != gone]


def test_lines_carry_id_and_hash_beside_the_text(documents, tmp_path):
    write_documents(documents, tmp_path, 0.05, 0.05)
    line = json.loads((tmp_path / "select.jsonl").open(encoding="utf-8").readline())
    assert line["sha256"] == hashlib.sha256(line["text"].encode()).hexdigest()
    assert line["id"].partition("/")[0] in ("topic", "source")


def test_hostile_texts_survive_the_file_they_are_kept_in(tmp_path):
    """Line separators that `str.splitlines` knows but JSON lines must not break at."""
    texts = ["a\u2028b\u2029c\x85d\r\ne\x0bf\x1cg\n", " ", "\0", "▁", "\ufeffx"]
    every = [Document(f"t/{i}", f"{text}{i % 7}".encode()) for i, text in enumerate(texts * 60)]
    unique = list({d.sha256: d for d in every}.values())
    write_documents(unique, tmp_path, 0.3, 0.3)
    together = [t for split in SPLITS for t in read_documents(tmp_path, split)]
    assert sorted(together) == sorted(d.content for d in unique)


def test_an_empty_split_is_refused(documents, tmp_path):
    with pytest.raises(DataError, match="split has a document"):
        write_documents(documents[:1], tmp_path, 0.01, 0.01)


def test_a_python_without_sources_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("pgolf.data.corpus._topics", lambda: iter(()))
    with pytest.raises(DataError, match="standard library's"):
        stdlib_documents(tmp_path)


def test_what_distributions_patch_and_what_is_no_utf8_is_not_read(tmp_path):
    (tmp_path / "json").mkdir()
    (tmp_path / "test").mkdir()
    for name in (
        "site.py",
        "_sysconfigdata_x.py",
        "json/good.py",
        "test/t.py",
        "symtable.py",
        "this.py",
        "sched.py",
        "added.py",  # beside the library: a distribution's own
    ):
        (tmp_path / name).write_text(f"# {name}\n" + "x = 1\n" * 30)
    for i in range(60):
        (tmp_path / "json" / f"m{i}.py").write_text(f"y = {i}\n" * 30)
    (tmp_path / "shelve.py").write_bytes((tmp_path / "sched.py").read_bytes())
    (tmp_path / "symtable.py").write_bytes(b"# \xe9\xe8\n" + b"x = 1\n" * 30)  # no UTF-8
    (tmp_path / "this.py").write_text("pass\n")  # too short
    found = {d.id for d in stdlib_documents(tmp_path) if d.id.startswith("source/")}
    assert {name for name in found if "/m" not in name} in (
        {"source/json/good.py", "source/sched.py"},
        {"source/json/good.py", "source/shelve.py"},  # one content, one document
    )
