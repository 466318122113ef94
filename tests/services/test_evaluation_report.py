"""Where bits go: tables that add up, a test that can tell, a picture that is drawn."""

import json

import numpy as np
import pytest
from rich.console import Console

from pgolf.errors import StoreError
from services.evaluation_report import FILES, paired_test, render, report_of, write


def test_a_report_of_a_finished_trial(tiny_trial, tmp_path):
    result = tiny_trial.validated
    report = report_of(result, tiny_trial.store)
    assert report.bpb["evaluate"] == result.quantized_bpb
    assert report.bpb["validate"] == result.validation_bpb
    for stage, tables in report.tables.items():
        for rows in tables.values():
            assert sum(r["bits"] for r in rows) / sum(r["bytes"] for r in rows) == pytest.approx(
                report.bpb[stage]
            )
    write(report, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(FILES)
    assert json.loads((tmp_path / "report.json").read_text())["run"] == result.name
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    console = Console(record=True, width=160)
    console.print(render(report))
    assert "targets of the document" in console.export_text()


def test_a_trial_without_scores_has_no_report(tiny_trial):
    unscored = tiny_trial.result.but(
        stages={n: s for n, s in tiny_trial.result.stages.items() if n != "evaluate"}
    )
    with pytest.raises(StoreError, match="still has"):
        report_of(unscored, tiny_trial.store)


def test_the_paired_test_by_hand():
    """Three documents of 2, 1 and 1 targets; bytes 4, 2, 2; each costs ln 2 nats a byte less or more afterwards."""
    ids = np.array([1, 5, 1, 7, 1, 8], dtype=np.uint16)
    counts = np.array([0, 4, 0, 2, 0, 2], dtype=np.uint16)
    before = np.array([0, 4.0, 0, 2.0, 0, 2.0]) * np.log(2)
    after = before - np.log(2) * np.array([0, 4.0, 0, 2.0, 0, -2.0])
    found = paired_test(ids, counts, before, after)
    assert found.documents == 3
    assert found.better == 2
    assert found.mean_bpb == pytest.approx((-1 - 1 + 1) / 3)
    assert found.standard_error == pytest.approx(np.std([-1, -1, 1], ddof=1) / np.sqrt(3))
    assert found.p == pytest.approx(0.667, abs=1e-3)
    assert paired_test(ids[:2], counts[:2], before[:2], after[:2]) is None
