"""The submission folder: whole or absent, counted by its real files, and scored by them alone."""

import json
import re
import shutil
from types import SimpleNamespace

import pytest

from pgolf.errors import StoreError, UserError
from pgolf.formats.blob import ARTIFACT
from pgolf.formats.result import Result
from pgolf.pack.bundle import BUNDLE
from pgolf.recipes import recipe
from pgolf.stage import Store
from services.submission import Author, attribution, export, flat, log_lines, recorded_curves, techniques

MINIMAL = {
    "author", "github_id", "name", "date", "track", "blurb", "val_bpb", "val_loss", "val_bpb_std", "seeds",
    "seed_results", "bytes_total", "bytes_code", "hardware", "pytorch_version", "technique_summary", "compliance",
    "attribution",
}  # fmt: skip
OF_A_SEED = {"val_bpb", "val_loss", "pre_quant_val_bpb", "quantized_val_bpb", "artifact_bytes", "steps",
             "train_time_s", "eval_time_s"}  # fmt: skip


@pytest.fixture
def folder(tiny_trial, tmp_path):
    return export(
        tiny_trial.result, tiny_trial.store, tmp_path / "out", author=Author("Ada", "ada"), check=False
    ).folder


def test_everything_lies_in_the_folder_and_nothing_beside_it(folder, tiny_trial):
    assert {file.name for file in folder.iterdir()} == {
        BUNDLE, ARTIFACT, "tokenizer.model", "submission.json", "README.md", "config.yaml", "result.json",
        f"train_seed{tiny_trial.result.seed}.log",
    }  # fmt: skip
    assert [file.name for file in folder.parent.iterdir()] == ["out"]
    assert Result.read(folder / "result.json") == tiny_trial.result


def test_what_is_counted_is_what_lies_there(folder, tiny_trial):
    result, summary = tiny_trial.result, json.loads((folder / "submission.json").read_text())
    assert (folder / BUNDLE).stat().st_size == result.code_bytes == summary["bytes_code"]
    assert (folder / ARTIFACT).stat().st_size == result.model_bytes == summary["bytes_model_compressed"]
    assert summary["bytes_total"] == result.artifact_bytes == result.tuple.artifact_bytes
    tokenizer = (folder / "tokenizer.model").stat().st_size
    assert tokenizer == result.tokenizer_bytes == summary["bytes_tokenizer"]


def test_the_summary_has_what_records_have(folder, tiny_trial):
    result, summary = tiny_trial.result, json.loads((folder / "submission.json").read_text())
    assert summary.keys() >= MINIMAL
    (of_seed,) = summary["seed_results"].values()
    assert of_seed.keys() == OF_A_SEED
    assert (summary["author"], summary["github_id"], summary["seeds"]) == ("Ada", "ada", [result.seed])
    assert (summary["val_bpb"], summary["val_loss"]) == (result.bpb, result.nats_per_token)
    assert summary["val_bpb_std"] is None, "one seed has no spread"
    assert summary["track"] == "track_non_record_16mb"
    assert summary["compliance"]["artifact_under_cap"] is True
    assert summary["compliance"]["certificate_holds"] is None, "not certified"
    assert summary["attribution"] == {}
    assert summary["technique_summary"] == ["u_net"]


def test_techniques_are_named_with_where_they_come_from():
    config = recipe("pr1855")
    named = ["ln_scale", "recurrence", "skip_gate", "smear_gate", "sparse_gate", "two_lane", "u_net", "xsa"]
    assert techniques(config) == named
    assert attribution(config)["smear_gate"] == "PR 1667"
    assert attribution(config).keys() <= set(named)


def test_a_validated_trial_is_reported_on_the_validation_split(tiny_trial, tmp_path):
    summary = export(tiny_trial.validated, tiny_trial.store, tmp_path / "out", check=False).summary
    assert summary["val_bpb"] == tiny_trial.validated.validation_bpb
    assert summary["val_bpb_method"].startswith("validation split")
    assert summary["compliance"]["certificate_holds"] is True
    log = (tmp_path / "out" / f"train_seed{tiny_trial.result.seed}.log").read_text()
    final = re.search(
        r"^quantized_sliding_window val_loss:[\d.]+ val_bpb:([\d.]+) eval_time:\d+ms$", log, re.MULTILINE
    )
    assert final and final[1] == f"{tiny_trial.validated.validation_bpb:.8f}"


def test_the_log_speaks_the_words_that_readers_of_records_know_in_their_order(folder, tiny_trial):
    result = tiny_trial.result
    lines = (folder / f"train_seed{result.seed}.log").read_text().splitlines()
    wanted = [
        r"seed: 42", r"model\.layers: \d+", rf"val_tokens: {result.val_tokens}", rf"model_params:{result.params}",
        r"peak memory allocated: \d+ MiB",
        r"diagnostic pre-quantization post-ema val_loss:[\d.]+ val_bpb:[\d.]+ eval_time:\d+ms",
        r"GPTQ:collecting Hessians from calibration data\.\.\.",
        rf"Code size \(compressed\): {result.code_bytes} bytes",
        rf"Serialized model quantized\+\w+: {result.model_bytes} bytes",
        rf"Total submission size quantized\+\w+: {result.artifact_bytes} bytes",
        r"diagnostic quantized val_loss:[\d.]+ val_bpb:[\d.]+ eval_time:\d+ms",
        r"total_eval_time:[\d.]+s",
    ]  # fmt: skip
    places = [next(i for i, line in enumerate(lines) if re.fullmatch(pattern, line)) for pattern in wanted]
    assert places == sorted(places)


def test_live_curves_become_step_lines(tiny_trial):
    """As MLflow keeps them: a point by step, and the same by second, at the same time."""

    class Client:
        def get_metric_history(self, run_id, name):
            at = {"train_loss": [(1, 9.5, 10), (2, 9.25, 20)], "train_loss_by_second": [(60, 9.5, 10), (90, 9.25, 20)],
                  "val_bpb": [(2, 3.5, 20)]}  # fmt: skip
            return [SimpleNamespace(step=s, value=v, timestamp=t) for s, v, t in at.get(name, [])]

    curves = recorded_curves(Client(), "run")
    summary = {"bytes_code": 1, "bytes_model_compressed": 2, "bytes_total": 3}
    lines = list(log_lines(tiny_trial.result, tiny_trial.config, summary, curves))
    speed = f"tok/s: {tiny_trial.result.tokens_per_second:.0f}"
    steps = [line for line in lines if re.match(r"\d+/\d+ ", line)]
    assert steps == [
        f"1/12 train_loss: 9.5000 train_time: 1.0m {speed}",
        f"2/12 train_loss: 9.2500 train_time: 1.5m {speed}",
        f"2/12 val_bpb: 3.5000 {speed}",
    ]


def test_the_exported_file_is_run_and_has_to_come_to_the_score_on_record(tiny_trial, tmp_path):
    done = export(tiny_trial.result, tiny_trial.store, tmp_path / "out")
    assert done.scored == tiny_trial.result.bpb
    assert done.agrees
    other = tiny_trial.result.but(bpb=tiny_trial.result.bpb * (1 + 1e-15))
    assert not export(other, tiny_trial.store, tmp_path / "other").agrees


def test_what_lies_there_is_not_written_over_unless_it_is_given_up(tiny_trial, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("dear")
    with pytest.raises(UserError, match="new folder, or an empty one"):
        export(tiny_trial.result, tiny_trial.store, out, check=False)
    assert [file.name for file in out.iterdir()] == ["mine.txt"]
    export(tiny_trial.result, tiny_trial.store, out, check=False, force=True)
    assert not (out / "mine.txt").exists()
    assert (out / BUNDLE).exists()
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_a_run_without_an_artifact_is_refused_and_nothing_is_written(tiny_trial, tmp_path):
    killed = tiny_trial.result.but(stages={}, artifact_sha256=None, status="infeasible")
    with pytest.raises(StoreError, match="packed an artifact"):
        export(killed, tiny_trial.store, tmp_path / "out")
    with pytest.raises(StoreError, match="has the trial's artifact"):
        export(tiny_trial.result, Store(tmp_path / "empty"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_without_the_tokens_it_is_written_and_says_that_it_was_not_run(tiny_trial, tmp_path):
    for stage in ("pack", "bundle"):
        shutil.copytree(
            tiny_trial.stage(stage), tmp_path / "store" / stage / tiny_trial.result.stages[stage].key
        )
    done = export(tiny_trial.result, Store(tmp_path / "store"), tmp_path / "out")
    assert (done.scored, done.agrees) == (None, True)
    assert "no longer has the select split" in done.skipped
    assert not (tmp_path / "out" / "tokenizer.model").exists()
    assert done.summary["bytes_tokenizer"] is None


def test_the_readme_holds_the_tuple_and_the_command(folder, tiny_trial):
    text = (folder / "README.md").read_text()
    assert (
        f"python {BUNDLE} --artifact {ARTIFACT} --tokens select_000000.bin --bytes select_bytes_000000.bin"
        in text
    )
    for number in (f"{tiny_trial.result.bpb:.4f}", f"{tiny_trial.result.artifact_bytes:,}"):
        assert number in text


def test_nested_settings_become_dotted_names():
    assert list(flat({"a": {"b": 1, "c": {}}, "d": None})) == [("a.b", 1), ("d", None)]
