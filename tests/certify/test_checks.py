"""Where the rules draw their lines: what is just lawful, what is just not, and what a rule says it lacks."""

import math

import numpy as np
import pytest

from pgolf.certify.checks import CHECKS, examine
from pgolf.certify.checks.artifact import fits_the_cap
from pgolf.certify.checks.bytes import (
    bytes_are_the_text,
    covers_the_split,
    implied_bytes,
    unlike_the_text,
)
from pgolf.certify.checks.clocks import within_the_clocks
from pgolf.certify.checks.data import (
    SHINGLE,
    _found,
    _shingles,
    no_validation_data_before,
    splits_are_disjoint,
)
from pgolf.certify.checks.ledger import order_is_declared
from pgolf.certify.checks.signs import (
    LONGEST_RUN,
    changes_change_something,
    no_paid_prefix,
    switches_do_something,
)
from pgolf.certify.checks.statistics import all_runs_are_disclosed, seeds_share_one_config
from pgolf.certify.dossier import Clocks, Dossier, Opening, Reported, SeedResult, Switch
from pgolf.data.published import SPLITS
from pgolf.data.source import TOKENIZER
from pgolf.data.tokenizer import Tokenizer
from pgolf.formats.ledger import Ledger
from pgolf.formats.shards import read_split
from tests.cheats.shards import TRAIN, VALIDATION, lay
from tests.nets import BOS


def test_of_nothing_nothing_is_said():
    verdicts = examine(Dossier())
    assert len(verdicts) == len(CHECKS)
    assert all(v.holds is None and v.evidence for v in verdicts)
    assert len({v.rule for v in verdicts}) == len({v.name for v in verdicts}) == len(CHECKS)


# ------------------------------------------------------------------------------------ published numbers


@pytest.mark.parametrize(("tokens", "loss", "bpb"), [
    (47_851_520, 2.31958, 1.05989454),  # PR 1855, seed 42, as logged
    (40_540_160, 2.583 * 1.0, 2.583 / math.log(2) / (151_078_222 / 40_540_160)),
])  # fmt: skip
def test_numbers_of_sound_records_hold(tokens, loss, bpb):
    d = Dossier(official=True, reported=Reported(tokens=tokens, loss=loss, bpb=bpb, documents=50_000))
    assert bytes_are_the_text(d).holds
    assert covers_the_split(d).holds


def test_implied_bytes_by_hand():
    """Eight targets of ln 2 nats each at half a bit a byte: sixteen bytes."""
    assert implied_bytes(Reported(tokens=8, loss=math.log(2), bpb=0.5)) == pytest.approx(16)
    assert implied_bytes(Reported(tokens=8, loss=1.0)) is None


@pytest.mark.parametrize("off", [0.99e-4, -0.99e-4, 1.01e-4, -1.01e-4])
@pytest.mark.parametrize("split", SPLITS[:4], ids=lambda s: s.name)
def test_a_published_denominator_holds_to_a_hundredth_of_a_percent(split, off):
    loss = 2.0
    bpb = loss * split.scored_tokens / math.log(2) / (split.text_bytes * (1 + off))
    verdict = bytes_are_the_text(Dossier(reported=Reported(tokens=split.scored_tokens, loss=loss, bpb=bpb)))
    assert verdict.holds == (abs(off) < 1e-4)


def test_the_operators_are_named_where_they_are_counted():
    verdict = bytes_are_the_text(
        Dossier(reported=Reported(tokens=47_851_520, loss=2.40073153, bpb=1.00692894))
    )
    assert "case operators are counted as text" in verdict.evidence
    assert "+8.95%" in verdict.evidence


@pytest.mark.parametrize(("tokens", "official", "holds"), [
    (47_851_520, True, True), (47_853_343, True, True), (47_851_519, True, False), (47_853_600, True, False),
    (9_662_464, False, False), (1000, False, None), (None, True, None),
])  # fmt: skip
def test_coverage(tokens, official, holds):
    assert covers_the_split(Dossier(official=official, reported=Reported(tokens=tokens))).holds is holds


def test_counts_are_the_text_document_by_document(deployed):
    tokenizer = Tokenizer.load(deployed.tokens / TOKENIZER)
    ids, counts = read_split(deployed.tokens, "validation")
    assert unlike_the_text(ids, counts, tokenizer) is None
    for change in (1, -1):
        altered = counts.copy()
        altered[2] = altered[2] + change if change > 0 else altered[2] - 1
        assert "are counted" in unlike_the_text(ids, altered, tokenizer)
    moved = counts.copy()  # the same sum, but one document pays for another
    moved[2], moved[-1] = moved[2] + 1, moved[-1] - 1
    assert "the document at token 0" in unlike_the_text(ids, moved, tokenizer)


# ------------------------------------------------------------------------------------------- passages


def document(seed: int, length: int) -> np.ndarray:
    return np.concatenate([[BOS], np.random.default_rng(seed).integers(2, 60_000, length)]).astype(np.uint16)


def test_a_passage_is_found_wherever_it_lies_and_across_shards():
    text = document(0, 3 * SHINGLE)
    passages = _shingles(np.concatenate([text, document(1, SHINGLE - 1)]))
    assert len(passages) == 3, "of a document that is long enough its beginning, middle and end"
    for before in (0, 1, 500):
        stream = np.concatenate([document(2, before), text[1:], document(3, 40)])
        assert _found(passages, [stream]) == 3
        for cut in (1, 80, len(stream) // 2, len(stream) - 1):
            assert _found(passages, [stream[:cut], stream[cut:]]) == 3
        tiny = np.array_split(stream, 17)
        assert _found(passages, tiny) == 3
    assert _found(passages, [document(4, 5000)]) == 0
    assert _found(passages, [text[: SHINGLE // 2]]) == 0
    changed = text.copy()
    changed[1 + SHINGLE // 2] ^= 1
    assert _found(passages, [changed]) == 2


@pytest.mark.parametrize(("words", "holds"), [(1, True), (30, False)])
def test_a_shared_document_convicts_unless_it_is_a_few_words(words, holds, tmp_path):
    shared = b"and so on " * words
    made = Dossier(tokens=lay(tmp_path, [*TRAIN[:9], shared], [*VALIDATION[:9], shared]))
    verdict = splits_are_disjoint(made)
    assert verdict.holds is holds
    assert verdict.measured["docs_val"] == (9 if holds else 10)


# ------------------------------------------------------------------------------- artifact, clocks, files


@pytest.mark.parametrize(("total", "cap", "holds"), [
    (16_000_000, None, True), (16_000_001, None, False), (15_000_000, 16_000_000, True),
    (15_000_000, 16_777_216, False), (None, None, None),
])  # fmt: skip
def test_the_cap(total, cap, holds):
    verdict = fits_the_cap(Dossier(cap=cap, reported=Reported(artifact_bytes=total)))
    assert verdict.holds is holds
    assert ("MiB" in verdict.evidence) == (cap == 16_777_216)


@pytest.mark.parametrize(("clocks", "holds"), [
    (Clocks(train_seconds=600.0, eval_seconds=600.0), True),
    (Clocks(train_seconds=596.0, calibrate_seconds=4.1), False),
    (Clocks(train_seconds=592.0, train_data_until=595.5), None),  # of the other one nothing is known
    (Clocks(train_seconds=592.0, train_data_until=595.5, eval_seconds=10.0), True),
    (Clocks(train_data_until=600.5), False),
    (Clocks(eval_seconds=600.1), False),
    # shown, and not what was charged
    (Clocks(train_seconds=1.0, eval_seconds=590.0, eval_seconds_strict=730.0), True),
    (Clocks(), None),
])  # fmt: skip
def test_the_clocks(clocks, holds):
    assert within_the_clocks(Dossier(clocks=clocks)).holds is holds


def test_validation_shards_before_and_after_the_artifact():
    def verdict(at: float) -> bool | None:
        opened = (Opening(file="val_000000.bin", at=at), Opening(file="train_000000.bin", at=1.0))
        return no_validation_data_before(Dossier(opened=opened, clocks=Clocks(artifact_at=700.0))).holds

    assert verdict(699.9) is False
    assert verdict(700.0) is True


# --------------------------------------------------------------------------------------- seeds and signs


def seeds(*scores: float, config: str | None = "a") -> tuple[SeedResult, ...]:
    return tuple(SeedResult(seed=i, bpb=s, config_digest=config) for i, s in enumerate(scores))


def test_three_seeds_of_one_config():
    assert seeds_share_one_config(Dossier(seeds=seeds(1, 2, 3))).holds
    assert seeds_share_one_config(Dossier(seeds=seeds(1, 2))).holds is None
    assert seeds_share_one_config(Dossier(seeds=seeds(1, 2), official=True)).holds is False
    assert seeds_share_one_config(Dossier(seeds=seeds(1, 2, 3, config=None))).holds is None
    twice = (*seeds(1, 2, 3), SeedResult(seed=2, config_digest="a"))
    assert "not all different" in seeds_share_one_config(Dossier(seeds=twice)).evidence
    other = (*seeds(1, 2, 3), SeedResult(seed=9, config_digest="b"))
    assert "seed 9 is of another config" in seeds_share_one_config(Dossier(seeds=other)).evidence


def test_the_mean_of_all_runs_and_of_chosen_ones():
    runs = seeds(1.060, 1.062, 1.064, 1.070)

    def verdict(bpb, shown=()):
        return all_runs_are_disclosed(Dossier(runs=runs, seeds=shown, reported=Reported(bpb=bpb)))

    assert verdict(1.064).holds
    assert "the mean of the best 3 of 4 runs" in verdict(1.062).evidence
    assert "the mean of 2 of 4 runs" in verdict(1.067).evidence
    assert "no mean of the 4 runs" in verdict(1.0).evidence
    hidden = (*runs, SeedResult(seed=77, bpb=1.064))
    assert "seed 77" in verdict(1.064, hidden).evidence
    assert verdict(None, runs).holds


def test_text_that_was_there_before_may_be_known():
    """A licence that occurs again costs nothing, and was not paid for."""
    licence = np.random.default_rng(0).integers(2, 500, 200)
    once = np.random.default_rng(1).integers(2, 500, 200)
    tokens = np.concatenate([[BOS], licence, [BOS], licence]).astype(np.uint16)
    nll = np.full(len(tokens), 3.0)
    nll[201 + 12 :] = 1e-5
    assert no_paid_prefix(Dossier(nll=nll, stream=(tokens, tokens))).holds
    fresh = np.concatenate([[BOS], licence, [BOS], once]).astype(np.uint16)
    assert no_paid_prefix(Dossier(nll=nll, stream=(fresh, fresh))).holds is False


@pytest.mark.parametrize(("run", "holds"), [(LONGEST_RUN - 1, True), (LONGEST_RUN, False)])
def test_how_long_a_run_of_certainty_may_be(run, holds):
    nll = np.full(500, 2.0)
    nll[100 : 100 + run] = 0.0005
    nll[300:310] = 0.0
    verdict = no_paid_prefix(Dossier(nll=nll))
    assert verdict.holds is holds
    assert verdict.measured["longest_run"] == run
    assert verdict.measured["certain_share"] == pytest.approx((run + 10) / 499)


def test_a_change_is_a_setting_that_differs_below_any_name():
    mine = {"model": {"width": 512}, "seed": 1, "run_id": "x"}
    assert changes_change_something(Dossier(config=mine, baseline=mine | {"seed": 2})).holds is False
    other = mine | {"model": {"width": 513}}
    assert "model.width" in changes_change_something(Dossier(config=mine, baseline=other)).evidence
    assert changes_change_something(Dossier(config=mine, baseline=mine | {"new": 1})).holds


def test_a_switch_has_an_effect_in_its_last_bit():
    def verdict(on, off):
        return switches_do_something(Dossier(switches=(Switch(name="s", on=on, off=off),))).holds

    assert verdict(1.0, math.nextafter(1.0, 2.0))
    assert verdict(1.0, 1.0) is False


def test_the_order_is_what_the_ledger_shows():
    """Two documents of the stream; the second one is scored first, and teaches the first."""
    ids = np.array([BOS, 5, 6, BOS, 7, 8], dtype=np.uint16)

    def events(*told: tuple[int, int]):
        ledger = Ledger()
        ledger.scored(-1, 3, 4, 6, ledger.shared)
        state = ledger.updated([(-1, *span) for span in told], ledger.shared) if told else ledger.shared
        ledger.scored(-1, 0, 1, 4, state)
        return ledger.events()

    for told, shown in (((), "document_independent"), (((4, 6),), "reordered_carry")):
        for declared, rank in (("document_independent", 0), ("stream", 1), ("reordered_carry", 2)):
            d = Dossier(stream=(ids, ids), events=events(*told), nll=np.zeros(6), order=declared)
            assert order_is_declared(d).holds == (rank >= (0 if not told else 2))
            assert shown in order_is_declared(Dossier(stream=(ids, ids), events=events(*told))).evidence
