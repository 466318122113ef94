"""The report of a memory's log: sums against adding up by hand, and a trial's from end to end."""

import json

import numpy as np
import pytest

from pgolf.cli import main
from pgolf.errors import StoreError
from pgolf.evaluate.document_chunks import DocumentChunks
from pgolf.evaluate.memory.remembering import EVENT_COLUMNS, SAMPLE
from pgolf.evaluate.memory.token_tilt import TokenTilt
from pgolf.evaluate.memory.unigram_cache import UnigramCache
from services.memory_picture import picture
from services.memory_report import FILES, markdown, memory_report, part_rows, report_of

KINDS = ["unigram_cache", "token_tilt"]


def logs(n: int = 400, seed: int = 0) -> dict[str, np.ndarray]:
    """Tilts by the truth: hints are right as often as is believed."""
    drawn = np.random.default_rng(seed)
    r, q = drawn.uniform(0.02, 0.98, (2, n))
    hit = drawn.random(n) < r
    gated = np.arange(n) % 3 > 0
    beta = np.where(gated, np.log(r / (1 - r)) - np.log(q / (1 - q)), 0.0)
    columns = {
        "memory": np.arange(n) % 2, "pos": (64 + np.arange(n)) * SAMPLE, "doc": np.zeros(n),
        "h": drawn.integers(2, 9, n),
        "conf": r, "match_len": drawn.choice([3, 6], n), "count": drawn.integers(1, 9, n), "q": q, "H": 2 * q,
        "beta": beta, "gated": gated, "hit": hit, "nll_base": r, "nll_mixed": r,
        "dloss": np.log1p(q * np.expm1(beta)) - beta * hit, "in_window": drawn.random(n) < 0.4,
        "dist": drawn.integers(1, 600, n), "w": np.ones(n),
    }  # fmt: skip
    out = {name: c.astype(EVENT_COLUMNS[name]) for name, c in columns.items()}
    return out | {"total_targets": np.array([900, 900]), "total_nll_base": np.array([2000.0, 1900.0]),
                  "total_dloss": np.array([-90.0, -45.0]),
                  "total_dloss_believed": np.array([-60.0, -45.0])}  # fmt: skip


def test_sums_are_those_of_adding_up():
    log = logs()
    report = memory_report(log, KINDS, bytes_=1000.0)
    for number, part in enumerate(report.parts):
        own = log["memory"] == number
        w = np.where(log["gated"], 1, SAMPLE)[own]
        gated, d = log["gated"][own], log["dloss"][own].astype(float)
        assert part.gained_nats == -log["total_dloss"][number]
        assert part.believed_nats == -log["total_dloss_believed"][number]
        assert part.proposals.proposals == w.sum()
        assert part.gated.proposals == gated.sum()
        assert part.gated.gained_nats == pytest.approx(-d[gated].sum())
        assert part.oracle_nats == pytest.approx((w * np.maximum(-d, 0)).sum())
        assert part.near.gained_nats + part.far.gained_nats == pytest.approx(-(w * d).sum())
        for buckets in (part.calibration, part.lengths, part.distances):
            assert sum(b[-1].proposals for b in buckets) == w.sum()
            assert sum(b[-1].gained_nats for b in buckets) == pytest.approx(-(w * d).sum())
        assert part.oracle_nats >= part.gated.gained_nats
    assert report.bpb(np.log(2) * 1000) == pytest.approx(1.0)


def test_a_memory_that_tells_the_truth_gains_what_it_expects():
    part = memory_report(logs(40_000), KINDS).parts[0]
    assert part.gated.gained_nats == pytest.approx(part.gated.expected_nats, rel=0.05)
    for c, _, bucket in part.calibration:
        assert abs(bucket.hit_rate - bucket.conf) < 0.15, c


def test_a_log_of_nothing_is_a_report():
    empty = {name: c[:0] if len(c) > 2 else c for name, c in logs().items()}
    report = memory_report(empty, KINDS)
    assert report.parts[0].gated is None
    assert picture(report).axes
    assert "unigram_cache" in markdown(report)
    assert json.dumps(report.plain())


def test_the_picture_has_three_panels_a_memory():
    assert len(picture(memory_report(logs(), KINDS)).axes) == 6
    assert len(part_rows(memory_report(logs(), KINDS))) == 2


@pytest.mark.heavy
def test_a_trial_with_memory_has_a_report_from_end_to_end(tiny_trial, tmp_path, capsys, monkeypatch):
    import shutil

    from pgolf.pipeline import run_trial
    from pgolf.runtime import Runtime
    from pgolf.stage import Store

    store = Store(tmp_path / "store")
    shutil.copytree(tiny_trial.store.directory, store.directory)
    memory = TokenTilt(orders=(2, 4), base=UnigramCache(rate=0.02), share_documents=True, round_tokens=4096)
    config = tiny_trial.config.but(evaluate=DocumentChunks(context=64, chunk=32, memory=memory))
    result = run_trial(config, store, Runtime())
    assert result.status == "ok", result.infeasible
    assert result.adapted_bpb < result.quantized_bpb, "memory helps a weak network"
    report = report_of(result, store)
    gained = report.bpb(sum(p.gained_nats for p in report.parts))
    assert gained == pytest.approx(result.quantized_bpb - result.adapted_bpb, abs=1e-5)
    assert [p.kind for p in report.parts] == KINDS
    with pytest.raises(StoreError, match="scored with a memory"):
        report_of(tiny_trial.result, tiny_trial.store)
    result.write(tmp_path / "result.json")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "sys.argv", ["pgolf", "memory-report", "result.json", "--store", str(store.directory)]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code is None
    said = capsys.readouterr().out
    where = tmp_path / "runs" / f"{result.name}-seed{result.seed}" / "memory-report"
    assert {f.name for f in where.iterdir()} == set(FILES)
    for words in ("token_tilt", "oracle", str(where.relative_to(tmp_path))):
        assert words in said
