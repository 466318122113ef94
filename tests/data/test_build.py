"""Building shards from text: the split, the tokenizer, the sidecars, and nothing where something failed."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.data import build as module
from pgolf.data import encoding
from pgolf.data.build import Build, build
from pgolf.data.case_marks import CaseMarks
from pgolf.data.case_ops import CaseOps
from pgolf.data.check import check, verdict
from pgolf.data.cross_ws import CrossWs
from pgolf.data.directory import MANIFEST, TOKENIZER_FILE
from pgolf.data.shard_files import Shards as Checked
from pgolf.data.source import SelectTail, Shards
from pgolf.data.sp_bpe import SpBpe
from pgolf.data.sp_official import SpOfficial
from pgolf.data.spill import Spill, Split
from pgolf.data.tokenizer import Tokenizer
from pgolf.errors import DataError
from pgolf.formats.shards import BOS, read_shard, read_split, shards_of
from pgolf.runtime import Runtime
from pgolf.stage import Store

ROOT = Path(__file__).resolve().parents[2]
TEXTS = [
    f"The parcel number {i} was sent to Street {i * 7} on a day in May\n".encode() * 3 for i in range(150)
]
HOSTILE = ["\0", "▁", " ", "\ufeffx", "a\r\nb\u2028c", "ﬁ①É", "\ue001\ue002\ue003\ue004", "<s>", "word  gap"]
KINDS = {
    "sp_bpe": SpBpe(vocab_size=300),
    "cross_ws": CrossWs(base=SpBpe(vocab_size=300)),
    "case_ops": CaseOps(base=SpBpe(vocab_size=300)),
    "case_marks": CaseMarks(base=SpBpe(vocab_size=300)),
    "sp_official": SpOfficial(vocab_size=300),
    "case_ops_official": CaseOps(base=SpOfficial(vocab_size=300)),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """Every kind of tokenizer, trained once, as a file."""
    folder = tmp_path_factory.mktemp("models")
    for name, recipe in KINDS.items():
        (folder / f"{name}.model").write_bytes(recipe.train(TEXTS).model)
    return {name: folder / f"{name}.model" for name in KINDS}


def jsonl(path: Path, texts: list[bytes]) -> Path:
    path.write_text("".join(json.dumps({"text": t.decode()}) + "\n" for t in texts))
    return path


def asked(inputs: list[Path], tokenizer, **more) -> Build:
    more = {"validation_documents": 12, "workers": 1} | more
    split = {f.name: more.pop(f.name) for f in fields(Split) if f.name in more}
    return Build(inputs, tokenizer, Split(**split), **more)


def tokens_of(out: Path, split: str) -> list[int]:
    return [t for f in shards_of(out, split) for t in np.asarray(read_shard(f)).tolist()]


def slowly(texts: list[bytes], tokenizer: Tokenizer, validation: int) -> dict[str, list[int]]:
    """The twin: sort by hash, cut after the first so many distinct texts, one list of tokens each."""
    ordered = sorted(texts, key=lambda t: hashlib.sha256(t).digest())
    first = set(sorted(set(ordered), key=lambda t: hashlib.sha256(t).digest())[:validation])
    return {
        split: [
            t for d in ordered if (d in first) == (split == "validation") for t in (BOS, *tokenizer.encode(d))
        ]
        for split in ("validation", "train")
    }


def test_shards_are_what_the_slow_obvious_way_gives(tmp_path, models):
    texts = [*TEXTS, *TEXTS[:7], TEXTS[3]]
    manifest = build(asked([jsonl(tmp_path / "d.jsonl", texts)], models["sp_bpe"]), tmp_path / "o")
    expected = slowly(texts, Tokenizer.load(models["sp_bpe"]), 12)
    for split in ("validation", "train"):
        assert tokens_of(tmp_path / "o", split) == expected[split]
        assert manifest["splits"][split]["tokens"] == len(expected[split])
        assert manifest["splits"][split]["documents"] == expected[split].count(BOS)
    assert manifest["split"]["copies_kept_on_one_side"] == 8


def test_the_manifest_names_every_file_with_its_hash(tmp_path, models):
    out = tmp_path / "o"
    manifest = build(asked([jsonl(tmp_path / "d.jsonl", TEXTS)], models["sp_bpe"]), out)
    assert set(manifest["files"]) == {f.name for f in out.iterdir()} - {MANIFEST}
    for name, about in manifest["files"].items():
        content = (out / name).read_bytes()
        assert about == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert manifest["source"]["documents"] == len(TEXTS)
    assert manifest["tokenizer"]["lossless"] is True
    assert (out / TOKENIZER_FILE).read_bytes() == models["sp_bpe"].read_bytes()


@settings(max_examples=8)
@given(order=st.permutations(range(40)), cuts=st.lists(st.integers(0, 40), max_size=3))
def test_how_texts_lie_in_files_changes_no_shard(tmp_path, models, order, cuts):
    """Another order, other files, another kind of file: the same bytes."""
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    texts = [TEXTS[i] for i in order]
    bounds = sorted({0, 40, *cuts})
    inputs = [jsonl(tmp_path / f"{i}.jsonl", texts[a:b]) for i, (a, b) in enumerate(pairwise(bounds))]
    build(asked(inputs, models["sp_bpe"]), tmp_path / "a")
    (tmp_path / "all.txt").write_bytes(b"|||".join(TEXTS[:40]))
    build(asked([tmp_path / "all.txt"], models["sp_bpe"], separator="|||"), tmp_path / "b")
    for name in ("train_000000.bin", "validation_000000.bin", "validation_bytes_000000.bin"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_spill_by_hash_is_read_one_of_many_small_files_at_a_time(tmp_path):
    """Memory holds one of them; which one a text lies in is its hash's doing, and their order is the hashes'."""
    texts = [f"{i}".encode() * 20 for i in range(4000)]
    spill = Spill(tmp_path, Split(validation_documents=1), texts)
    sizes = [f.stat().st_size for f in tmp_path.iterdir()]
    assert max(sizes) < 0.03 * sum(sizes)
    assert [text for _, text in spill] == sorted(texts, key=lambda t: hashlib.sha256(t).digest())


def test_two_processes_write_what_one_writes(tmp_path, models, monkeypatch):
    monkeypatch.setattr(encoding, "CHUNK_DOCUMENTS", 5)
    file = jsonl(tmp_path / "d.jsonl", TEXTS)
    for workers in (1, 2):
        more = {"select_documents": 9, "shard_tokens": 2000, "workers": workers}
        build(asked([file], models["case_ops"], **more), tmp_path / f"w{workers}")
    assert sorted(p.name for p in (tmp_path / "w1").iterdir()) == sorted(
        p.name for p in (tmp_path / "w2").iterdir()
    )
    for one in (tmp_path / "w1").iterdir():
        assert one.read_bytes() == (tmp_path / "w2" / one.name).read_bytes()


# ------------------------------------------------------------------------------------------- the bytes


@pytest.mark.parametrize("kind", KINDS)
def test_every_law_holds_of_what_is_built(tmp_path, models, kind):
    texts = [*TEXTS, *(h.encode() * 2 + TEXTS[i] for i, h in enumerate(HOSTILE))]
    build(asked([jsonl(tmp_path / "d.jsonl", texts)], models[kind], select_documents=5), tmp_path / "o")
    findings = check(Checked.of_directory(tmp_path / "o"))
    assert verdict(findings) == "holds", [f for f in findings if f.verdict == "broken"]


@settings(max_examples=25)
@given(
    texts=st.lists(
        st.lists(st.sampled_from([*HOSTILE, "The ", "parcel ", "NASA", "é日"]), min_size=1, max_size=6).map("".join),
        min_size=4, max_size=9, unique=True,
    ),
    kind=st.sampled_from(["sp_bpe", "cross_ws", "case_ops", "case_marks"]),
)  # fmt: skip
def test_bytes_of_all_documents_are_the_sum_of_the_sidecar_of_a_lossless_tokenizer(
    tmp_path, models, texts, kind
):
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    file = jsonl(tmp_path / "d.jsonl", [t.encode() for t in texts])
    manifest = build(asked([file], models[kind], validation_documents=2, select_documents=1), tmp_path / "o")
    tokenizer = Tokenizer.load(models[kind])
    ordered = sorted((t.encode() for t in texts), key=lambda t: hashlib.sha256(t).digest())
    for split, expected in (("validation", ordered[:2]), ("select", ordered[2:3])):
        tokens, counts = read_split(tmp_path / "o", split)
        starts = np.flatnonzero(tokens == BOS)
        assert np.add.reduceat(counts.astype(int), starts).tolist() == [len(t) for t in expected]
        assert tokenizer.decode(tokens.tolist()) == b"".join(expected)
        assert manifest["splits"][split]["bytes"] == sum(map(len, expected))
        assert not counts[starts].any()
    assert tokenizer.decode(tokens_of(tmp_path / "o", "train")) == b"".join(ordered[3:])


def test_a_normalizing_case_coding_has_the_published_sidecar_of_raw_bytes(tmp_path, models):
    """Two spaces before a word and a ligature count as they were written, outer white space does not."""
    texts = [f" Sent to  the ﬁrst Street {i}\n".encode() for i in range(30)]
    manifest = build(asked([jsonl(tmp_path / "d.jsonl", texts)], models["case_ops_official"]), tmp_path / "o")
    first = sorted(texts, key=lambda t: hashlib.sha256(t).digest())[:12]
    assert manifest["splits"]["validation"]["bytes"] == sum(len(t.strip()) for t in first)


# ------------------------------------------------------------------------------------------- the split


def test_copies_fall_on_one_side_and_texts_that_normalize_alike_too(tmp_path, models):
    """Under NFKC "ﬁ" is "fi": the training twin of a held-out text is left out, and both are counted."""
    twins = [f"the ﬁrst parcel of day {i}" for i in range(40)]
    texts = [t.encode() for twin in twins for t in (twin, twin.replace("ﬁ", "fi"))]
    manifest = build(asked([jsonl(tmp_path / "d.jsonl", texts)], models["sp_official"]), tmp_path / "o")
    left_out = manifest["left_out"]["same_tokens_as_held_out"]
    assert left_out > 0
    assert manifest["splits"]["train"]["documents"] == 80 - 12 - left_out
    assert verdict(check(Checked.of_directory(tmp_path / "o"))) == "holds"
    lossless = build(asked([tmp_path / "d.jsonl"], models["sp_bpe"]), tmp_path / "p")
    assert lossless["left_out"]["same_tokens_as_held_out"] == 0
    assert lossless["splits"]["train"]["documents"] == 68


def test_a_document_that_a_normalizing_tokenizer_sees_nothing_in_is_none(tmp_path, models):
    file = jsonl(tmp_path / "d.jsonl", [*TEXTS, b" \n", b"\0"])
    for kind, blank in (("sp_official", 2), ("sp_bpe", 0)):
        manifest = build(asked([file], models[kind]), tmp_path / kind)
        assert manifest["left_out"]["blank_to_the_tokenizer"] == blank
        assert sum(s["documents"] for s in manifest["splits"].values()) == 152 - blank


def test_in_the_given_order_the_first_documents_are_validation(tmp_path, models):
    """The challenge's rule. Copies of held-out texts that come later are left out of what comes later."""
    texts = [*TEXTS[:20], TEXTS[2], TEXTS[30], TEXTS[4], TEXTS[30], TEXTS[15], *TEXTS[40:60]]
    more = {"order": "given", "validation_documents": 10, "select_documents": 8}
    manifest = build(asked([jsonl(tmp_path / "d.jsonl", texts)], models["sp_bpe"], **more), tmp_path / "o")
    decode = Tokenizer.load(models["sp_bpe"]).decode
    assert decode(tokens_of(tmp_path / "o", "validation")) == b"".join(TEXTS[:10])
    assert decode(tokens_of(tmp_path / "o", "select")) == b"".join(TEXTS[10:18])
    rest = [*TEXTS[18:20], TEXTS[30], TEXTS[30], *TEXTS[40:60]]
    assert decode(tokens_of(tmp_path / "o", "train")) == b"".join(rest)
    assert manifest["split"]["copies_of_held_out_left_out"] == 3


def test_select_is_filled_with_texts_that_are_not_in_validation(tmp_path, models):
    texts = [TEXTS[0], TEXTS[1], TEXTS[0], TEXTS[2], TEXTS[3], TEXTS[4]]
    more = {"order": "given", "validation_documents": 2, "select_documents": 2}
    build(asked([jsonl(tmp_path / "d.jsonl", texts)], models["sp_bpe"], **more), tmp_path / "o")
    decode = Tokenizer.load(models["sp_bpe"]).decode
    assert decode(tokens_of(tmp_path / "o", "select")) == TEXTS[2] + TEXTS[3]
    assert decode(tokens_of(tmp_path / "o", "train")) == TEXTS[4]


def test_a_fraction_is_of_hashes_so_more_text_moves_nothing_across(tmp_path, models):
    more = {"validation_documents": None, "validation_fraction": 0.3}
    build(asked([jsonl(tmp_path / "a.jsonl", TEXTS[:60])], models["sp_bpe"], **more), tmp_path / "a")
    build(asked([jsonl(tmp_path / "b.jsonl", TEXTS)], models["sp_bpe"], **more), tmp_path / "b")
    decode = Tokenizer.load(models["sp_bpe"]).decode
    few, all_ = (decode(tokens_of(tmp_path / n, "validation")) for n in "ab")
    assert 0 < tokens_of(tmp_path / "a", "validation").count(BOS) < 40
    for text in TEXTS[:60]:
        assert (text in few) == (text in all_)


# ------------------------------------------------------------------------------- tokenizer and shards


def test_the_tokenizer_learns_from_training_documents_alone(tmp_path):
    texts = [*TEXTS, b"zebra quartz vox " * 40]  # its pieces would be seen
    recipe = SpBpe(vocab_size=310)
    more = {"order": "given", "validation_documents": 20}
    build(asked([jsonl(tmp_path / "d.jsonl", [texts[-1], *texts[:-1]])], recipe, **more), tmp_path / "o")
    assert (tmp_path / "o" / TOKENIZER_FILE).read_bytes() == recipe.train(TEXTS[19:]).model
    assert recipe.train(TEXTS[19:]).model != recipe.train(texts).model


def test_the_tokenizer_learns_from_no_more_text_than_it_is_given(tmp_path):
    recipe = SpBpe(vocab_size=300)
    most = sum(map(len, TEXTS[10:40])) + 5
    more = {"order": "given", "validation_documents": 10, "tokenizer_bytes": most}
    build(asked([jsonl(tmp_path / "d.jsonl", TEXTS)], recipe, **more), tmp_path / "o")
    assert (tmp_path / "o" / TOKENIZER_FILE).read_bytes() == recipe.train(TEXTS[10:40]).model


def test_shards_hold_whole_documents_and_a_long_one_has_a_shard_to_itself(tmp_path, models):
    texts = [*TEXTS[:30], b"".join(TEXTS)]
    build(asked([jsonl(tmp_path / "d.jsonl", texts)], models["sp_bpe"], shard_tokens=700), tmp_path / "o")
    sizes = []
    for shard in shards_of(tmp_path / "o", "train"):
        tokens = np.asarray(read_shard(shard))
        assert tokens[0] == BOS
        sizes.append(len(tokens))
        assert len(tokens) <= 700 or (tokens == BOS).sum() == 1
    assert len(sizes) > 3
    assert sorted(sizes)[-1] > 700
    assert sorted(sizes)[-2] > 350  # full as far as whole documents go
    for shard in shards_of(tmp_path / "o", "validation"):
        assert len(read_shard(shard)) == len(
            read_shard(shard.with_name(shard.name.replace("n_", "n_bytes_")))
        )


# ---------------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize("there", ["train_000000.bin", "notes.txt", ".hidden"])
def test_nothing_is_written_into_a_directory_that_has_something(tmp_path, models, there):
    out = tmp_path / "o"
    out.mkdir()
    (out / there).write_text("mine")
    with pytest.raises(DataError, match=r"new or empty directory(.|\n)*--out"):
        build(asked([jsonl(tmp_path / "d.jsonl", TEXTS)], models["sp_bpe"]), out)
    assert [(f.name, f.read_text()) for f in out.iterdir()] == [(there, "mine")]


def test_an_empty_directory_may_be_filled(tmp_path, models):
    (tmp_path / "o").mkdir()
    build(asked([jsonl(tmp_path / "d.jsonl", TEXTS)], models["sp_bpe"]), tmp_path / "o")
    assert (tmp_path / "o" / MANIFEST).is_file()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("at", ["_trained", "_write_shards", "write_manifest"])
def test_a_build_that_fails_leaves_nothing(tmp_path, monkeypatch, at):
    def broken(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, at, broken)
    with pytest.raises(OSError, match="No space left"):
        build(asked([jsonl(tmp_path / "d.jsonl", TEXTS)], KINDS["sp_bpe"]), tmp_path / "o")
    assert [f.name for f in tmp_path.iterdir()] == ["d.jsonl"]


def test_what_a_killed_process_left_is_cleared_away(tmp_path, models):
    for folder in ("spill", "shards"):
        (tmp_path / ".o.building" / folder).mkdir(parents=True)
        (tmp_path / ".o.building" / folder / "000").write_bytes(b"half a document")
    (tmp_path / ".o.building" / ".lock").touch()
    build(asked([jsonl(tmp_path / "d.jsonl", TEXTS)], models["sp_bpe"]), tmp_path / "o")
    assert sorted(f.name for f in tmp_path.iterdir()) == ["d.jsonl", "o"]
    assert "000" not in {f.name for f in (tmp_path / "o").iterdir()}


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads process ids from /proc")
def test_a_build_that_is_killed_leaves_no_shard_and_no_process(tmp_path, models):
    """Its workers end by themselves; the same command then starts anew."""
    file = jsonl(tmp_path / "d.jsonl", [f"{i} ".encode() + b"".join(TEXTS[:40]) for i in range(2500)])
    command = [sys.executable, "-m", "pgolf", "data", "build", str(file), "--out", str(tmp_path / "o"),
               "--tokenizer", str(models["sp_bpe"]), "--workers", "2"]  # fmt: skip
    process = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL, text=True
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    encoding_begun = tmp_path / ".o.building" / "shards" / "train_000000.bin"
    deadline = time.monotonic() + 60
    while not encoding_begun.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    pids = children.read_text().split()
    assert len(pids) >= 2
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    assert not (tmp_path / "o").exists()
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "a worker goes on without its parent"
        time.sleep(0.05)
    build(asked([jsonl(file, TEXTS)], models["sp_bpe"]), tmp_path / "o")
    assert sorted(f.name for f in tmp_path.iterdir()) == ["d.jsonl", "o"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"validation_documents": None}, ["a number of documents or a fraction", "one of"]),
        ({"validation_fraction": 0.1}, ["a number of documents or a fraction", "12 and 0.1"]),
        ({"validation_documents": None, "validation_fraction": 0.5}, ["below a half", "0.5"]),
        (
            {"validation_documents": None, "validation_fraction": 0.1, "order": "given"},
            ["in the given order"],
        ),
        ({"validation_documents": 0}, ["--validation-documents is at least 1", "0"]),
        ({"shard_tokens": 2**31}, ["--shard-tokens", "at most 2147483647", "2147483648"]),
        ({"workers": 0}, ["--workers is at least 1"]),
        ({"separator": ""}, ["a separator is a text"]),
        ({"validation_documents": 150}, ["every split", "train: 0 of 1, out of 150"]),
        ({"validation_documents": 140, "select_documents": 20}, ["every split", "select: 10 of 20"]),
    ],
)
def test_a_split_that_cannot_be_is_refused_with_the_way_out(tmp_path, models, more, words):
    with pytest.raises(DataError) as raised:
        build(asked([jsonl(tmp_path / "d.jsonl", TEXTS)], models["sp_bpe"], **more), tmp_path / "o")
    for word in [*words, "way out"]:
        assert word in str(raised.value)
    assert not (tmp_path / "o").exists()


def test_too_little_text_for_the_vocabulary_is_said_with_what_it_taught(tmp_path):
    with pytest.raises(DataError, match=r"vocabulary of 4000(.|\n)*bytes of training text taught"):
        build(asked([jsonl(tmp_path / "d.jsonl", TEXTS)], SpBpe(vocab_size=4000)), tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_text_that_is_blank_to_the_tokenizer_is_no_split(tmp_path, models):
    blank = [b" " * i for i in range(1, 30)]
    with pytest.raises(DataError, match="none that the tokenizer sees anything in"):
        build(asked([jsonl(tmp_path / "d.jsonl", blank)], models["sp_official"]), tmp_path / "o")


def test_a_model_with_another_bos_is_refused(tmp_path):
    import io

    import sentencepiece as spm

    model = io.BytesIO()
    flags = {"vocab_size": 300, "byte_fallback": True, "bos_id": 2, "eos_id": 1, "pad_id": 0, "unk_id": 3}
    spm.SentencePieceTrainer.train(sentence_iterator=iter(t.decode() for t in TEXTS), model_writer=model,
                                   model_type="bpe", hard_vocab_limit=False, minloglevel=3, **flags)  # fmt: skip
    (tmp_path / "m.model").write_bytes(model.getvalue())
    with pytest.raises(DataError, match=r"BOS at id 1(.|\n)*m\.model: 2"):
        build(asked([jsonl(tmp_path / "d.jsonl", TEXTS)], tmp_path / "m.model"), tmp_path / "o")


# ------------------------------------------------------------------------------------- what it is for


@pytest.mark.heavy
def test_the_pipeline_takes_what_is_built_and_trains_on_it(tmp_path):
    """The source `shards` finds what it asks for, and recipe `tiny` runs whole on it."""
    from pgolf.pipeline import run_trial
    from pgolf.recipes import tiny

    texts = [t * 4 for t in TEXTS]
    out = tmp_path / "o"
    build(asked([jsonl(tmp_path / "d.jsonl", texts)], KINDS["sp_bpe"], shard_tokens=9000), out)
    source = Shards(train=f"{out}/train_*.bin", validation=f"{out}/validation_*.bin",
                    tokenizer=f"{out}/{TOKENIZER_FILE}", select=SelectTail(select_tokens=1500))  # fmt: skip
    source.check()
    store, runtime = Store(tmp_path / "store"), Runtime()
    made = source.build(store, runtime)[-1][1]
    assert np.array_equal(read_split(made.path, "validation")[1], read_split(out, "validation")[1])
    result = run_trial(tiny().but(data=source), store, runtime)
    assert result.status == "ok"
    assert result.bpb is not None
