"""Code bytes: what is counted is what the scoring process really loads."""

import json
import os
import subprocess
import sys

import brotli

from pgolf.pack.code import ENTRY, ROOT, compressed_source, imported_modules, source_of


def test_the_modules_counted_are_the_modules_a_fresh_scoring_process_loads():
    show = f"import sys, json, {ENTRY}; print(json.dumps([m for m in sys.modules if m.split('.')[0] == 'pgolf']))"
    done = subprocess.run(
        [sys.executable, "-c", show], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert imported_modules() == sorted(json.loads(done.stdout))


def test_nothing_that_trains_searches_or_commands_is_counted():
    counted = imported_modules()
    assert ENTRY in counted
    for outside in (
        "pgolf.train", "pgolf.optim", "pgolf.data.source", "pgolf.data.tokenizer", "pgolf.data.corpus",
        "pgolf.certify", "pgolf.cli", "pgolf.pipeline",
    ):  # fmt: skip
        assert not any(m == outside or m.startswith(outside + ".") for m in counted), outside


def test_the_source_is_every_file_whole_under_its_name():
    modules = imported_modules()
    text = source_of(modules).decode()
    for name in modules:
        assert f"# {name}\n" in text
    assert (ROOT / "pgolf/evaluate/scorer.py").read_text() in text
    assert brotli.decompress(compressed_source()).decode() == text


def test_counting_twice_counts_the_same():
    assert compressed_source() == compressed_source()
    assert imported_modules() == imported_modules()


def test_a_trials_artifact_bytes_are_model_and_code_together(tiny_trial):
    result = tiny_trial.result
    assert result.code_bytes == len(compressed_source())
    assert result.model_bytes == (tiny_trial.stage("pack") / "artifact.bin").stat().st_size
    assert result.artifact_bytes == result.model_bytes + result.code_bytes == result.tuple.artifact_bytes
