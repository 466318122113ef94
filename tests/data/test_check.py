"""Every law convicts what breaks it, and nothing else: one set of sound shards, one break at a time."""

import json
import struct
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgolf.data import check as module
from pgolf.data import checked
from pgolf.data.case_ops import CaseOps
from pgolf.data.check import RULES, check, verdict
from pgolf.data.checked import look_up_bytes
from pgolf.data.directory import MANIFEST, checksum, write_manifest
from pgolf.data.published import SPLITS, VALIDATION_DOCUMENTS
from pgolf.data.shard_files import Shards, sidecar_beside
from pgolf.data.sp_bpe import SpBpe
from pgolf.data.sp_official import SpOfficial
from pgolf.data.tokenizer import Tokenizer
from pgolf.errors import DataError
from pgolf.formats.shards import BOS, read_shard, write_shard

TEXTS = [
    f"The parcel number {i} was sent to Street {i * 7} on a day in May\n".encode() * 2 for i in range(60)
]
TRAIN, VALIDATION = "fineweb_train_{:06d}.bin", "mine_val_{:06d}.bin"
CASEOPS = next(s for s in SPLITS if s.name == "SP8192 CaseOps")


@pytest.fixture(scope="module")
def plain() -> Tokenizer:
    return SpBpe(vocab_size=320).train(TEXTS)


@pytest.fixture(scope="module")
def coded() -> Tokenizer:
    """As the published CaseOps tokenizer: normalizing, case operators as reserved symbols."""
    return CaseOps(base=SpOfficial(vocab_size=320)).train(TEXTS)


def lay(folder: Path, tokenizer: Tokenizer, validation: str = VALIDATION) -> Path:
    """Two shards of each split, the second of training beginning inside a document; sidecars; the model."""
    folder.mkdir(exist_ok=True)
    (folder / "t.model").write_bytes(tokenizer.model)
    train = tokenizer.stream(TEXTS[:40])
    for i, part in enumerate((train[:1500], train[1500:])):
        write_shard(folder / TRAIN.format(i), part)
    for i, texts in enumerate((TEXTS[40:50], TEXTS[50:])):
        put(folder, validation.format(i), tokenizer, texts)
    return folder


def put(folder: Path, name: str, tokenizer: Tokenizer, texts: list[bytes]) -> None:
    tokens = tokenizer.stream(texts)
    counts = [0 for _ in tokens]
    at = 0
    for text in texts:
        ids, here = tokenizer.encode_counted(text)
        counts[at + 1 : at + 1 + len(ids)] = here.tolist()
        at += 1 + len(ids)
    write_shard(folder / name, tokens)
    write_shard(sidecar_beside(folder / name), np.array(counts, dtype=np.uint16))


@pytest.fixture
def sound(tmp_path, plain) -> Path:
    return lay(tmp_path / "d", plain)


@pytest.fixture
def operators(tmp_path, coded) -> Path:
    return lay(tmp_path / "c", coded)


def verdicts(directory: Path, **more) -> dict[str, str]:
    findings = check(Shards.of_directory(directory), **more)
    assert len(findings) == len(RULES)
    return {rule.__name__.strip("_"): f.verdict for rule, f in zip(RULES, findings, strict=True)}


def broken(directory: Path, **more) -> set[str]:
    return {name for name, found in verdicts(directory, **more).items() if found == "broken"}


def evidence(directory: Path, rule: str, **more) -> str:
    findings = check(Shards.of_directory(directory), **more)
    return next(f.evidence for r, f in zip(RULES, findings, strict=True) if r.__name__.strip("_") == rule)


NO_CLAIM = {
    "as_the_manifest_says",
    "as_many_bos_as_documents",
    "the_pinned_denominator",
    "all_validation_documents",
}


@pytest.mark.parametrize("kind", ["sound", "operators"])
def test_sound_shards_break_no_law(kind, request):
    found = verdicts(request.getfixturevalue(kind))
    assert {n for n, v in found.items() if v == "no claim"} == NO_CLAIM
    assert {n for n, v in found.items() if v == "broken"} == set()


# -------------------------------------------------------------------- one break, and the law it breaks


def edit(file: Path, change) -> None:
    tokens = np.asarray(read_shard(file)).copy()
    write_shard(file, np.asarray(change(tokens), dtype=np.uint16))


def header(file: Path, word: int, value: int) -> None:
    data = bytearray(file.read_bytes())
    data[4 * word : 4 * word + 4] = struct.pack("<i", value)
    file.write_bytes(bytes(data))


def at(tokens: np.ndarray, index: int, value: int) -> np.ndarray:
    tokens[index] = value
    return tokens


T0, T1, V0, V1 = TRAIN.format(0), TRAIN.format(1), VALIDATION.format(0), VALIDATION.format(1)
S0 = sidecar_beside(Path(V0)).name

BREAKS = {
    "a shard cut short": (lambda d: (d / T1).write_bytes((d / T1).read_bytes()[:-7]), {"whole_files"}),
    "a shard cut inside its header": (lambda d: (d / T0).write_bytes((d / T0).read_bytes()[:500]), {"whole_files"}),
    "an empty shard": (lambda d: (d / T1).write_bytes(b""), {"whole_files"}),
    "bytes behind the last token": (lambda d: (d / T0).write_bytes((d / T0).read_bytes() + b"xx"), {"whole_files"}),
    "another magic": (lambda d: header(d / V1, 0, 20240521), {"whole_files"}),
    "another version": (lambda d: header(d / T0, 1, 2), {"whole_files"}),
    "another count": (lambda d: header(d / T1, 2, 3), {"whole_files"}),
    "words behind the third": (lambda d: header(d / T1, 9, 1), {"whole_files"}),
    "a sidecar cut short": (
        lambda d: (d / S0).write_bytes((d / S0).read_bytes()[:-2]), {"whole_files", "a_count_for_every_token"},
    ),
    "a sidecar of other length": (
        lambda d: edit(d / S0, lambda c: c[:-1]), {"a_count_for_every_token"},
    ),
    "a missing sidecar": (lambda d: (d / S0).unlink(), {"a_count_for_every_token"}),
    "a sidecar without its shard": (lambda d: (d / V0).unlink(), {"sidecars_apart"}),
    "a sidecar under a shard's name": (
        lambda d: (d / S0).rename(d / "x_val_000007.bin"),
        {"a_count_for_every_token", "no_other_control_tokens", "the_tokenizer_fits"},
    ),
    "bytes on BOS": (lambda d: edit(d / S0, lambda c: at(c, 0, 3)), {"counts_are_the_tokens_bytes"}),
    "a count off by one": (lambda d: edit(d / S0, lambda c: at(c, 5, c[5] + 1)), {"counts_are_the_tokens_bytes"}),
    "a token beyond the vocabulary": (
        lambda d: edit(d / T1, lambda t: at(t, 900, 320)), {"tokens_below_the_vocabulary", "the_tokenizer_fits"},
    ),
    "no BOS at the beginning": (
        lambda d: edit(d / T0, lambda t: t[1:]), {"a_document_begins_with_bos"},
    ),
    "no BOS at all": (
        lambda d: edit(d / T1, lambda t: t[t != BOS]), {"a_document_begins_with_bos"},
    ),
    "no BOS in the whole split": (
        lambda d: [edit(d / n, lambda t: np.where(t == BOS, 5, t)) for n in (V0, V1)],
        {"a_document_begins_with_bos"},
    ),
    "an end mark behind a document": (
        lambda d: edit(d / T1, lambda t: np.append(t, 2)), {"no_other_control_tokens"},
    ),
    "padding": (lambda d: edit(d / T1, lambda t: np.append(t, [0] * 9)), {"no_other_control_tokens"}),
    "a validation document in training": (
        lambda d: edit(d / T1, lambda t: np.append(t, document(d / V0, 1))), {"splits_are_disjoint"},
    ),
    "a training document in validation": (
        lambda d: put(d, V1, Tokenizer.load(d / "t.model"), [*TEXTS[50:], TEXTS[0]]), {"splits_are_disjoint"},
    ),
    "a document that two training shards share, in validation": (
        lambda d: put(d, V1, Tokenizer.load(d / "t.model"), [straddling(d), *TEXTS[50:]]), {"splits_are_disjoint"},
    ),
    "a validation split named as the official one": (
        lambda d: [f.rename(d / f.name.replace("mine", "fineweb")) for f in d.glob("mine_*")],
        {"all_validation_documents"},
    ),
}  # fmt: skip


def document(file: Path, number: int) -> np.ndarray:
    tokens = np.asarray(read_shard(file))
    starts = np.flatnonzero(tokens == BOS)
    return tokens[starts[number] : starts[number + 1]]


def straddling(d: Path) -> bytes:
    """The text of the document that the first training shard breaks off."""
    tokens = np.concatenate([np.asarray(read_shard(d / n)) for n in (T0, T1)])
    starts = np.flatnonzero(tokens == BOS)
    i = int(np.searchsorted(starts, 1500)) - 1
    assert starts[i] < 1500 < starts[i + 1]
    return TEXTS[i]


@pytest.mark.parametrize("break_", BREAKS)
def test_what_is_broken_is_convicted_and_nothing_else(sound, break_):
    change, expected = BREAKS[break_]
    change(sound)
    assert broken(sound) == expected
    findings = check(Shards.of_directory(sound))
    assert verdict(findings) == "broken"
    assert all(f.remedy for f in findings if f.verdict == "broken")


def test_shards_of_another_tokenizer_are_convicted(sound, plain):
    other = SpBpe(vocab_size=320).train([b"zebra quartz vox jumps over " + t for t in TEXTS] * 4)
    assert other.vocab_size == plain.vocab_size
    (sound / "t.model").write_bytes(other.model)
    assert "the_tokenizer_fits" in broken(sound)


# ------------------------------------------------------------------------------------- case operators


def test_case_coded_shards_without_a_sidecar_are_convicted_with_what_would_be_counted(operators, coded):
    """Each operator has three UTF-8 bytes and the look-up rule counts them all."""
    true = sum(int(read_shard(f).sum(dtype=np.int64)) for f in operators.glob("*_bytes_*"))
    marks = sum(int(np.isin(read_shard(operators / n), coded_ids(coded)).sum()) for n in (V0, V1))
    assert marks > 0
    for file in operators.glob("*_bytes_*"):
        file.unlink()
    assert broken(operators) == {"a_count_for_every_token"}
    said = evidence(operators, "a_count_for_every_token")
    looked_up = int(said.split("would count ")[1].split(" bytes")[0].replace(",", ""))
    trailing = len(TEXTS[40:])  # each text ends in a newline, outer white space, which neither counts
    assert looked_up == true + 3 * marks
    assert true == sum(map(len, TEXTS[40:])) - trailing


def coded_ids(tokenizer: Tokenizer) -> list[int]:
    import sentencepiece as spm

    sp = spm.SentencePieceProcessor(model_proto=tokenizer.model)
    return [sp.piece_to_id(chr(0xE001 + i)) for i in range(4)]


def test_a_sidecar_made_by_the_look_up_rule_is_convicted(operators, coded):
    for name in (V0, V1):
        tokens = np.asarray(read_shard(operators / name))
        counts = [look_up_bytes(coded, tokens[: i + 1]) for i in range(len(tokens))]
        write_shard(sidecar_beside(operators / name), np.diff([0, *counts]).astype(np.uint16))
    assert broken(operators) == {"counts_are_the_tokens_bytes"}


def test_the_look_up_rule_is_the_tokenizers_own_where_case_is_not_coded():
    normalizing = SpOfficial(vocab_size=320).train(TEXTS)
    tokens = normalizing.stream([*TEXTS[:9], "  ﬁne É  日本 ①".encode()])
    assert look_up_bytes(normalizing, tokens) == int(normalizing.byte_counts(tokens).sum())


def test_the_look_up_rule_takes_one_space_mark_off_and_counts_the_others_at_three_bytes():
    """Rule 3 as it stands: what makes it wrong for vocabularies that merge across white space."""
    import sentencepiece as spm

    spaced = SpBpe(vocab_size=320).train([t.replace(b" ", b"  ") for t in TEXTS])
    sp = spm.SentencePieceProcessor(model_proto=spaced.model)
    double = next(v for v in range(sp.vocab_size()) if sp.id_to_piece(v) == "▁▁")
    assert look_up_bytes(spaced, np.array([BOS, double, double], dtype=np.uint16)) == 3 + 4


def test_a_published_sidecar_has_nothing_on_bos(operators):
    """Its other counts cannot be held against the tokens: this one can."""
    edit(operators / S0, lambda c: at(c, 0, 3))
    assert broken(operators) == {"counts_are_the_tokens_bytes"}


# -------------------------------------------------------------------------------- published splits


@pytest.fixture
def official(operators, coded, monkeypatch) -> tuple[Path, tuple]:
    """The shards of `operators` as if they were a published split: the same law at a smaller size."""
    tokens = sum(len(read_shard(operators / n)) for n in (V0, V1))
    total = sum(int(read_shard(f).sum(dtype=np.int64)) for f in operators.glob("*_bytes_*"))
    look_up = sum(look_up_bytes(coded, np.asarray(read_shard(operators / n))) for n in (V0, V1))
    monkeypatch.setattr(module, "VALIDATION_DOCUMENTS", 20)
    split = replace(
        CASEOPS,
        vocab_size=coded.vocab_size,
        scored_tokens=tokens - 1,
        text_bytes=total,
        look_up_bytes=look_up,
    )
    return operators, (split,)


def test_a_published_split_is_recognized_and_its_denominator_compared(official):
    directory, published = official
    found = verdicts(directory, published=published)
    assert found["the_pinned_denominator"] == "holds"
    assert found["all_validation_documents"] == "holds"
    assert verdict(check(Shards.of_directory(directory), published=published)) == "holds"


def test_only_scored_targets_count(official):
    """What lies behind the last whole window belongs to no published sum."""
    directory, (split,) = official
    last = np.asarray(read_shard(sidecar_beside(directory / V1)))[-200:]
    shorter = replace(
        split, scored_tokens=split.scored_tokens - 200, text_bytes=split.text_bytes - int(last.sum())
    )
    assert verdicts(directory, published=(shorter,))["the_pinned_denominator"] == "holds"
    whole = replace(shorter, text_bytes=split.text_bytes)
    assert verdicts(directory, published=(whole,))["the_pinned_denominator"] == "broken"


@pytest.mark.parametrize(
    ("scale", "found"), [(1.00009, "holds"), (0.99991, "holds"), (1.0002, "broken"), (0.9998, "broken")]
)
def test_a_denominator_is_held_to_a_hundredth_of_a_percent(official, scale, found):
    directory, (split,) = official
    big = 100_000  # so that rounding to whole bytes does not decide
    for name in (V0, V1):
        edit(sidecar_beside(directory / name), lambda c: c)
    edit(sidecar_beside(directory / V0), lambda c: at(c, 5, 60_000))
    edit(sidecar_beside(directory / V1), lambda c: at(c, 5, 60_000))
    total = sum(int(read_shard(f).sum(dtype=np.int64)) for f in directory.glob("*_bytes_*"))
    assert total > big
    pinned = replace(split, text_bytes=round(total / scale), look_up_bytes=None)
    assert verdicts(directory, published=(pinned,))["the_pinned_denominator"] == found


def test_case_operators_counted_as_text_are_named_as_the_reason(official, coded):
    directory, published = official
    for name in (V0, V1):
        tokens = np.asarray(read_shard(directory / name))
        counts = [look_up_bytes(coded, tokens[: i + 1]) for i in range(len(tokens))]
        write_shard(sidecar_beside(directory / name), np.diff([0, *counts]).astype(np.uint16))
    assert broken(directory, published=published) == {"the_pinned_denominator", "counts_are_the_tokens_bytes"}
    assert "operators are counted as text" in evidence(
        directory, "the_pinned_denominator", published=published
    )


def test_ten_thousand_validation_documents_are_convicted(official):
    """Their own denominator holds, so a score looks right; the other forty thousand were trained on."""
    directory, (split,) = official
    ten = replace(split, name="10 documents", documents=10)
    for split_file in (V1, sidecar_beside(Path(V1)).name):
        (directory / split_file).unlink()
    kept = len(read_shard(directory / V0))
    ten = replace(ten, scored_tokens=kept - 1, text_bytes=int(read_shard(directory / S0).sum(dtype=np.int64)))
    assert broken(directory, published=(ten,)) == {"all_validation_documents"}
    assert evidence(directory, "all_validation_documents", published=(ten,)) == "10 documents"


def test_the_published_figures_are_the_ones_on_record():
    assert VALIDATION_DOCUMENTS == 50_000
    assert {(s.name, s.scored_tokens, s.text_bytes) for s in SPLITS} == {
        ("SP1024", 62_021_632, 151_475_668),
        ("SP4096", 45_508_608, 151_075_000),
        ("SP8192", 40_540_160, 151_078_222),
        ("SP8192 CaseOps", 47_851_520, 151_074_499),
        ("SP8192 CaseOps, 10,000 documents", 9_662_464, 32_756_252),
    }
    assert CASEOPS.look_up_bytes == 164_594_398
    assert all(s.scored_tokens % 2048 == 0 for s in SPLITS)
    assert CASEOPS.matches(8192, True, 47_853_344)  # the untruncated stream
    assert not CASEOPS.matches(8192, False, 47_853_344)
    assert not CASEOPS.matches(8192, True, 47_851_520)  # T targets need T + 1 tokens
    assert CASEOPS.matches(8192, True, 47_851_521)
    assert CASEOPS.matches(8192, True, 47_851_521 + 2047)
    assert not CASEOPS.matches(8192, True, 47_851_521 + 2048)  # another window would be scored


@pytest.mark.heavy
def test_the_real_split_at_its_real_size(tmp_path, coded):
    """Fifty thousand documents, 47,853,344 tokens: with the sidecar it holds, by the look-up rule it does not."""
    total, documents = 47_853_344, VALIDATION_DOCUMENTS
    sp_ids = coded.encode(TEXTS[0])
    marks = set(coded_ids(coded))
    letters = [i for i in sp_ids if i not in marks]
    tokens = np.array((letters * (total // len(letters) + 1))[:total], dtype=np.uint16)
    tokens[np.linspace(0, total - 400, documents).astype(np.int64)] = BOS
    room = np.flatnonzero(tokens != BOS)
    tokens[room[:: len(room) // 4_506_633][:4_506_633]] = coded_ids(coded)[0]
    text = np.flatnonzero((tokens != BOS) & (tokens != coded_ids(coded)[0]))
    counts = np.zeros(total, dtype=np.uint16)
    counts[text] = 3
    over = int(counts[: CASEOPS.scored_tokens + 1].sum(dtype=np.int64)) - CASEOPS.text_bytes
    assert over < 0 or len(text) > over
    counts[text[: abs(over)]] = 3 - int(np.sign(over))
    write_shard(tmp_path / "fineweb_val_000000.bin", tokens)
    write_shard(tmp_path / "fineweb_val_bytes_000000.bin", counts)
    write_shard(tmp_path / "fineweb_train_000000.bin", coded.stream(TEXTS))
    (tmp_path / "t.model").write_bytes(coded.model)
    published = (replace(CASEOPS, vocab_size=coded.vocab_size),)
    found = verdicts(tmp_path, published=published)
    for rule in (
        "the_pinned_denominator",
        "all_validation_documents",
        "counts_are_the_tokens_bytes",
        "splits_are_disjoint",
    ):
        assert found[rule] == "holds", rule
    counts[tokens == coded_ids(coded)[0]] = 3
    write_shard(tmp_path / "fineweb_val_bytes_000000.bin", counts)
    assert {"the_pinned_denominator", "counts_are_the_tokens_bytes"} <= broken(tmp_path, published=published)
    assert "operators are counted as text" in evidence(
        tmp_path, "the_pinned_denominator", published=published
    )


# --------------------------------------------------------------------------------------- the manifest


def with_manifest(directory: Path, **splits) -> None:
    (directory / MANIFEST).unlink(missing_ok=True)
    content = {"splits": {name: {"documents": n} for name, n in splits.items()}} if splits else {}
    write_manifest(directory, content, list(directory.iterdir()))


def test_files_are_compared_with_their_manifest(sound):
    with_manifest(sound, train=40, validation=20)
    assert broken(sound) == set()
    assert verdicts(sound)["as_the_manifest_says"] == "holds"
    assert verdicts(sound)["as_many_bos_as_documents"] == "holds"
    edit(sound / T1, lambda t: at(t, 9, 300 if t[9] != 300 else 301))
    assert "as_the_manifest_says" in broken(sound)


def test_a_file_that_the_manifest_misses_and_one_that_is_missing(sound, plain):
    with_manifest(sound)
    put(sound, VALIDATION.format(7), plain, [b"one more", b"and one"])
    assert "mine_val_000007" in evidence(sound, "as_the_manifest_says")
    (sound / VALIDATION.format(7)).unlink()
    sidecar_beside(sound / VALIDATION.format(7)).unlink()
    assert broken(sound) == set()
    (sound / T1).unlink()
    assert T1 in evidence(sound, "as_the_manifest_says")
    assert "as_the_manifest_says" in broken(sound)


def test_fewer_bos_than_documents_are_convicted(sound):
    with_manifest(sound, train=41, validation=20)
    assert broken(sound) == {"as_many_bos_as_documents"}
    assert "40 BOS for 41 documents" in evidence(sound, "as_many_bos_as_documents")


def test_the_manifest_of_another_program_makes_no_claim(sound):
    (sound / MANIFEST).write_text(json.dumps({"datasets": [], "tokenizers": []}))
    assert verdicts(sound)["as_the_manifest_says"] == "no claim"
    (sound / MANIFEST).write_text("{half")
    with pytest.raises(DataError, match="manifest is JSON"):
        check(Shards.of_directory(sound))


def test_git_names_the_same_bytes_by_another_hash(tmp_path):
    """`printf hello | git hash-object --stdin` says b6fc4c62..."""
    (tmp_path / "f").write_bytes(b"hello")
    assert checksum(tmp_path / "f", "git") == "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"
    assert checksum(tmp_path / "f").startswith("2cf24dba5fb0a30e")


# ------------------------------------------------------------------------------- finding the files


def test_files_are_found_by_directory_and_by_globs_and_sidecars_never_are_shards(sound, plain):
    put(sound, "select_000000.bin", plain, [b"a select document"])
    whole = Shards.of_directory(sound)
    assert [f.name for f in whole.train] == [T0, T1]
    assert [f.name for f in whole.validation] == [V0, V1]
    assert [f.name for f in whole.select] == ["select_000000.bin"]
    assert len(whole.sidecars) == 3
    assert broken(sound) == set()
    globs = Shards.of_globs(str(sound / "fineweb_train_*.bin"), str(sound / "mine_val_*"), sound / "t.model")
    assert (globs.train, globs.validation) == (whole.train, whole.validation)
    assert [f.name for f in globs.sidecars] == [sidecar_beside(Path(v)).name for v in (V0, V1)]
    assert verdict(check(globs)) == "holds"


def test_a_select_document_in_training_is_convicted(sound, plain):
    put(sound, "select_000000.bin", plain, [TEXTS[3], b"another"])
    assert broken(sound) == {"splits_are_disjoint"}
    assert "1 of 40 in train are in select" in evidence(sound, "splits_are_disjoint")


def test_what_is_not_there_is_refused(sound, tmp_path):
    with pytest.raises(DataError, match=r"directory of shards(.|\n)*gone"):
        Shards.of_directory(tmp_path / "gone")
    (sound / "u.model").write_bytes(b"no model")
    with pytest.raises(DataError, match=r"has one tokenizer(.|\n)*has 2(.|\n)*--tokenizer"):
        Shards.of_directory(sound)
    assert Shards.of_directory(sound, sound / "t.model").tokenizer == sound / "t.model"
    with pytest.raises(DataError, match="SentencePiece"):
        check(Shards.of_directory(sound, sound / "u.model"))
    for pair in (("x_*.bin", V0), (T0, "x_*.bin"), (T0, S0)):
        with pytest.raises(DataError, match="shard to check"):
            Shards.of_globs(*(str(sound / p) for p in pair), sound / "t.model")


# ------------------------------------------------------------------------------------------- helpers


@given(seed=st.integers(0, 2**31), length=st.integers(0, 60), size=st.integers(1, 12))
def test_parts_are_the_stream_cut_at_documents(seed, length, size):
    tokens = np.random.default_rng(seed).integers(0, 5, length).astype(np.uint16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checked, "PART_TOKENS", size)
        parts = list(checked.parts(tokens))
    assert [t for p in parts for t in p.tolist()] == tokens.tolist()
    assert all(p[0] == BOS for p in parts[1:])
    assert all(len(p) for p in parts)


@given(
    documents=st.lists(st.lists(st.integers(4, 9), max_size=7), min_size=1, max_size=9),
    cuts=st.lists(st.integers(0, 70), max_size=4),
)
def test_where_shards_end_changes_no_documents_hash(tmp_path, plain, documents, cuts):
    stream = [t for d in documents for t in (BOS, *d)]
    (tmp_path / "t.model").write_bytes(plain.model)
    for file in tmp_path.glob("*.bin"):
        file.unlink()
    bounds = sorted({0, len(stream), *(c for c in cuts if c < len(stream))})
    for i, (a, b) in enumerate(pairwise(bounds)):
        write_shard(tmp_path / TRAIN.format(i), np.array(stream[a:b], dtype=np.uint16))
    write_shard(tmp_path / V0, np.array([BOS], dtype=np.uint16))
    subject = checked.Subject(Shards.of_directory(tmp_path), plain, ())
    got = list(checked.document_hashes(subject, "train"))
    assert got == [checked.document_hash(np.array([BOS, *d], dtype=np.uint16).tobytes()) for d in documents]
