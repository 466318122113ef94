"""Where tokens come from: the embedded corpus, or shards on disk that are imported without being copied."""

import numpy as np
import pytest

from pgolf.certify.checks.bytes import unlike_the_text
from pgolf.data.case_ops import CaseOps
from pgolf.data.source import TOKENIZER, PythonStdlib, SelectTail, Shards
from pgolf.data.sp_official import SpOfficial
from pgolf.data.tokenizer import SpBpe, Tokenizer
from pgolf.errors import DataError
from pgolf.formats.shards import BOS, SPLITS, read_shard, read_split, shard_name, shards_of, write_shard
from pgolf.runtime import Runtime
from pgolf.stage import Store, link_or_copy

HERE = Runtime()
TEXTS = [f"line {i} of a file that says {i % 9} things\n".encode() * 3 for i in range(120)]


@pytest.fixture(scope="module")
def model() -> Tokenizer:
    return SpBpe(vocab_size=320).train(TEXTS)


@pytest.fixture
def given(tmp_path, model) -> Shards:
    """Two training shards and one for validation, in the challenge's format."""
    (tmp_path / "m.model").write_bytes(model.model)
    for name, texts in (
        ("train_000000", TEXTS[:50]),
        ("train_000001", TEXTS[50:100]),
        ("val_000000", TEXTS[100:]),
    ):
        tokens = np.array([t for d in texts for t in (BOS, *model.encode(d))], dtype=np.uint16)
        write_shard(tmp_path / f"{name}.bin", tokens)
    return Shards(
        train=str(tmp_path / "train_*.bin"), validation=str(tmp_path / "val_*.bin"),
        tokenizer=str(tmp_path / "m.model"), select=SelectTail(select_tokens=600),
    )  # fmt: skip


def test_the_corpus_becomes_a_token_directory_with_every_split(tiny_trial, tiny_tokens):
    assert isinstance(tiny_trial.config.data, PythonStdlib)
    for split in SPLITS:
        tokens, counts = read_split(tiny_tokens, split)
        assert len(tokens) == len(counts) > 0
        assert tokens[0] == BOS
    assert Tokenizer.load(tiny_tokens / TOKENIZER).vocab_size == tiny_trial.config.data.tokenizer.vocab_size


def test_the_tokenizer_has_seen_the_training_documents_and_no_others(tiny_trial, tiny_tokens):
    from pgolf.data.corpus import read_documents

    trained = tiny_trial.config.data.tokenizer.train(read_documents(tiny_trial.stage("corpus"), "train"))
    assert trained.model == (tiny_tokens / TOKENIZER).read_bytes()


def test_given_shards_are_imported_whole_and_select_is_cut_from_the_training_tail(given, model, tmp_path):
    given.check()
    ((name, made),) = given.build(Store(tmp_path / "store"), HERE)
    assert name == "shards"
    train = np.concatenate([np.asarray(read_shard(f)) for f in shards_of(made.path, "train")])
    select, select_counts = read_split(made.path, "select")
    validation, counts = read_split(made.path, "validation")
    assert model.decode([*train.tolist(), *select.tolist()]) == b"".join(TEXTS[:100])
    assert select[0] == BOS
    assert 0 < len(select) <= 600
    assert int((select == BOS).sum()) >= 2
    assert select_counts.sum() == len(model.decode(select.tolist()))
    assert model.decode(validation.tolist()) == b"".join(TEXTS[100:])
    assert counts.sum() == sum(map(len, TEXTS[100:]))
    assert made.metrics["vocab_size"] == model.vocab_size


def test_a_later_shard_may_go_on_in_a_document(given, model, tmp_path):
    """Exporters cut by size, not at documents; only a split's first shard begins with one."""
    first, second = (tmp_path / f"train_00000{i}.bin" for i in range(2))
    whole = np.concatenate([np.asarray(read_shard(f)) for f in (first, second)])
    write_shard(first, whole[:701])
    write_shard(second, whole[701:])
    assert whole[701] != BOS
    given.check()
    ((_, made),) = given.build(Store(tmp_path / "store"), HERE)
    parts = [np.asarray(read_shard(f)) for f in shards_of(made.path, "train")]
    select, _ = read_split(made.path, "select")
    assert np.array_equal(np.concatenate([*parts, select]), whole)
    write_shard(first, whole[1:701])
    with pytest.raises(DataError, match="a split begins with BOS"):
        given.check()


def test_an_empty_file_is_no_tokenizer(tmp_path):
    (tmp_path / "empty.model").write_bytes(b"")
    with pytest.raises(DataError, match="a tokenizer is a SentencePiece"):
        Tokenizer.load(tmp_path / "empty.model")


def test_whole_shards_are_linked_and_not_copied(given, tmp_path):
    made = given.build(Store(tmp_path / "store"), HERE)[0][1]
    assert (made.path / shard_name("train", 0)).samefile(tmp_path / "train_000000.bin")


def test_where_the_shards_lie_is_not_what_they_are(given, tmp_path):
    first = given.build(Store(tmp_path / "store"), HERE)[0][1]
    moved = tmp_path / "moved"
    moved.mkdir()
    for file in tmp_path.glob("*.bin"):
        (moved / file.name).write_bytes(file.read_bytes())
    elsewhere = given.but(train=str(moved / "train_*.bin"), validation=str(moved / "val_*.bin"))
    again = elsewhere.build(Store(tmp_path / "store"), HERE)[0][1]
    assert again.cached
    assert again.key == first.key


def test_the_same_files_on_other_sides_of_the_split_are_other_data(given, tmp_path):
    """The same three files in the same order; the middle one was trained on, then is scored."""
    (tmp_path / "x").mkdir()
    for name, file in zip("abc", ("train_000000", "train_000001", "val_000000"), strict=True):
        (tmp_path / "x" / f"{name}.bin").write_bytes((tmp_path / f"{file}.bin").read_bytes())
    trained = given.but(train=str(tmp_path / "x" / "[ab].bin"), validation=str(tmp_path / "x" / "c.bin"))
    scored = given.but(train=str(tmp_path / "x" / "a.bin"), validation=str(tmp_path / "x" / "[bc].bin"))
    keys = {source.build(Store(tmp_path / "s"), HERE)[0][1].key for source in (trained, scored)}
    assert len(keys) == 2


def test_a_select_tail_without_a_document_start_is_refused(given):
    with pytest.raises(DataError, match=r"set aside for select(.|\n)*select_tokens"):
        given.but(select=SelectTail(select_tokens=2)).check()


def test_a_validation_shard_among_the_training_shards_is_refused(given, tmp_path):
    (tmp_path / "train_000002.bin").write_bytes((tmp_path / "val_000000.bin").read_bytes())
    with pytest.raises(DataError, match="disjoint"):
        given.check()


def test_sidecars_beside_given_shards_are_not_taken_for_shards(given, tmp_path):
    write_shard(tmp_path / "train_bytes_000000.bin", np.zeros(5, dtype=np.uint16))
    assert [f.name for f in given._files("train")] == ["train_000000.bin", "train_000001.bin"]


def test_a_shard_given_as_a_link_is_stored_as_the_file_it_leads_to(tmp_path):
    """Hub caches are made of relative links, which lead nowhere from inside a store."""
    real = tmp_path / "blobs" / "x"
    real.parent.mkdir()
    real.write_bytes(b"shard")
    link = tmp_path / "snapshots" / "train_000000.bin"
    link.parent.mkdir()
    link.symlink_to("../blobs/x")
    link_or_copy(link, tmp_path / "stored.bin")
    assert not (tmp_path / "stored.bin").is_symlink()
    assert (tmp_path / "stored.bin").read_bytes() == b"shard"


def coded(tmp_path, base, spaced: str = "a  b") -> tuple[Shards, Tokenizer]:
    """Case-coded shards with the sidecar that `pgolf data build` writes: raw bytes where the model normalizes."""
    texts = [f"Page {i} of NASA's iPhone file, {i % 7} lines long.".encode() * 4 for i in range(200)]
    texts[-1] += spaced.encode()
    tokenizer = CaseOps(base=base).train(texts)
    (tmp_path / "m.model").write_bytes(tokenizer.model)
    for name, some in (("train", texts[:80]), ("val", texts[80:])):
        pairs = [tokenizer.encode_counted(t) for t in some]
        tokens = np.array([t for ids, _ in pairs for t in (BOS, *ids)], dtype=np.uint16)
        write_shard(tmp_path / f"{name}_000000.bin", tokens)
    counts = np.array([c for _, counted in pairs for c in (0, *counted)], dtype=np.uint16)
    write_shard(tmp_path / "val_bytes_000000.bin", counts)
    return Shards(
        train=str(tmp_path / "train_*.bin"), validation=str(tmp_path / "val_*.bin"),
        tokenizer=str(tmp_path / "m.model"), select=SelectTail(select_tokens=600),
    ), tokenizer  # fmt: skip


def test_the_published_kind_of_sidecar_is_the_denominator(tmp_path):
    """A squeezed space is counted: one byte more than the tokens stand for, well below the tolerance."""
    source, tokenizer = coded(tmp_path, SpOfficial(vocab_size=340))
    given = np.asarray(read_shard(tmp_path / "val_bytes_000000.bin"))
    source.check()
    tokens, counts = read_split(source.build(Store(tmp_path / "s"), HERE)[0][1].path, "validation")
    assert np.array_equal(counts, given)
    assert counts.sum() == tokenizer.byte_counts(tokens).sum() + 1
    assert unlike_the_text(tokens, counts, tokenizer) is None
    (tmp_path / "val_bytes_000000.bin").unlink()
    tokens, counts = read_split(source.build(Store(tmp_path / "s"), HERE)[0][1].path, "validation")
    assert np.array_equal(counts, tokenizer.byte_counts(tokens))


@pytest.mark.parametrize("break_it", [
    lambda c: np.where(np.arange(len(c)) == 0, 1, c),  # a byte under BOS
    lambda c: c + (np.arange(len(c)) % 40 == 1),  # operators counted as text
    lambda c: np.roll(c, 1) * 0,
])  # fmt: skip
@pytest.mark.parametrize("base", [SpOfficial(vocab_size=340), SpBpe(vocab_size=340)])
def test_a_sidecar_that_counts_another_text_is_refused(tmp_path, base, break_it):
    source, _ = coded(tmp_path, base)
    file = tmp_path / "val_bytes_000000.bin"
    write_shard(file, break_it(np.asarray(read_shard(file))).astype(np.uint16))
    with pytest.raises(DataError, match=r"count the text that the tokens stand for(.|\n)*lossless"):
        source.build(Store(tmp_path / "s"), HERE)


def test_a_lossless_sidecar_is_exact_at_every_token(tmp_path):
    source, _ = coded(tmp_path, SpBpe(vocab_size=340))
    file = tmp_path / "val_bytes_000000.bin"
    counts = np.array(read_shard(file))
    donor, taker = np.flatnonzero(counts)[:2]
    counts[donor] -= 1
    counts[taker] += 1  # the same sum
    source.build(Store(tmp_path / "s"), HERE)
    write_shard(tmp_path / "moved.bin", counts)
    (tmp_path / "moved.bin").replace(file)
    with pytest.raises(DataError, match="count the text"):
        source.build(Store(tmp_path / "s"), HERE)


def test_white_space_that_the_tokens_lost_is_no_denominator(tmp_path):
    source, _ = coded(tmp_path, SpOfficial(vocab_size=340), spaced="a" + " " * 90 + "b")
    with pytest.raises(DataError, match="count the text"):
        source.build(Store(tmp_path / "s"), HERE)


def test_sidecars_are_whole_and_for_all_validation_shards(tmp_path):
    source, _ = coded(tmp_path, SpBpe(vocab_size=340))
    file, shard = tmp_path / "val_bytes_000000.bin", tmp_path / "val_000000.bin"
    counts = np.asarray(read_shard(file))
    write_shard(tmp_path / "val_000001.bin", np.asarray(read_shard(shard))[:9])
    with pytest.raises(DataError, match=r"or none(.|\n)*val_bytes_000001"):
        source.check()
    (tmp_path / "val_000001.bin").unlink()
    write_shard(tmp_path / "other.bin", counts[:-1])
    (tmp_path / "other.bin").replace(file)
    with pytest.raises(DataError, match="one count for each token"):
        source.check()


def test_a_document_that_goes_on_in_the_next_shard_is_counted_as_one(tmp_path):
    source, tokenizer = coded(tmp_path, SpOfficial(vocab_size=340))
    (tmp_path / "val_bytes_000000.bin").unlink()
    whole = np.array(read_shard(tmp_path / "val_000000.bin"))
    table = [tokenizer._sp.id_to_piece(int(t)) for t in whole[:60]]
    cut = next(i for i, piece in enumerate(table) if i > 9 and piece.startswith("▁"))
    for i, part in enumerate((whole[:cut], whole[cut:])):
        write_shard(tmp_path / "new.bin", part)
        (tmp_path / "new.bin").replace(tmp_path / f"val_00000{i}.bin")
    tokens, counts = read_split(source.build(Store(tmp_path / "s"), HERE)[0][1].path, "validation")
    assert np.array_equal(tokens, whole)
    assert np.array_equal(counts, tokenizer.byte_counts(whole))
