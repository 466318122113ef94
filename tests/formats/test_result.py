"""`result.json`: names that scripts rely on, what was not measured absent, and a damaged file refused."""

import json

import pytest
from pydantic import ValidationError

from pgolf.errors import Infeasible, StoreError
from pgolf.formats.result import METRICS, DeployedTuple, Result


def result(**changes) -> Result:
    fields = {
        "name": "tiny-1", "config": {"seed": 1}, "config_digest": "d", "seed": 1, "status": "ok",
        "tuple": DeployedTuple(bpb=1.5), "bpb": 1.5,
    }  # fmt: skip
    return Result(**{**fields, **changes})


def test_a_result_comes_back_equal(tmp_path, tiny_trial):
    for i, given in enumerate((result(), tiny_trial.result, tiny_trial.validated)):
        given.write(tmp_path / f"{i}" / "result.json")
        assert Result.read(tmp_path / f"{i}" / "result.json") == given
        assert [f.name for f in (tmp_path / f"{i}").iterdir()] == [
            "result.json"
        ]  # no half-written file beside it


def test_what_was_not_measured_is_absent_and_zero_is_a_measurement(tmp_path):
    killed = result(status="infeasible", bpb=None, tuple=DeployedTuple(), steps=0,
                    infeasible=[Infeasible(reason="gate", measured=3.0, limit=2.0)])  # fmt: skip
    killed.write(tmp_path / "result.json")
    data = json.loads((tmp_path / "result.json").read_text())
    assert "bpb" not in data
    assert data["steps"] == 0
    assert killed.metrics() == {"steps": 0}


def test_a_finished_trials_metrics_have_every_contract_name(tiny_trial):
    measured = tiny_trial.validated.metrics()
    assert set(METRICS) - set(measured) == {"adapted_bpb"}
    assert all(isinstance(v, int | float) for v in measured.values())


def test_every_metric_is_a_field_of_the_result():
    assert set(METRICS) <= set(Result.model_fields)


def test_writing_again_replaces_the_file_whole(tmp_path):
    result(name="a" * 5000).write(tmp_path / "result.json")
    result(name="b").write(tmp_path / "result.json")
    assert Result.read(tmp_path / "result.json").name == "b"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "x"}', None])
def test_a_damaged_or_missing_result_is_a_store_error(tmp_path, text):
    if text is not None:
        (tmp_path / "result.json").write_text(text)
    with pytest.raises(StoreError, match=r"readable result\.json"):
        Result.read(tmp_path / "result.json")


def test_a_status_of_no_kind_and_a_number_that_is_none_are_refused():
    with pytest.raises(ValidationError):
        result(status="fine")
    with pytest.raises(ValidationError):
        result(bpb=float("nan"))
