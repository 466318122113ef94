import warnings
from dataclasses import replace

import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from pgolf.errors import ConfigError, Infeasible, StoreError, UserError
from pgolf.formats.result import DeployedTuple, Result
from search_spaces.round import FRONT, Gate
from search_spaces.simulate import ROUND, RULES, SimulatedConfig, run
from search_spaces.study import MOST_ATTEMPTS, Study, committed, most_gang_seconds, violations


def storage_of(tmp_path) -> str:
    return f"sqlite:///{tmp_path}/study.db"


def outcome(config, status="ok", broken=(), **measured) -> Result:
    deployed = {name: measured.get(name) for name in DeployedTuple.model_fields}
    return Result.model_validate({
        "name": config.label, "config": config.plain(), "config_digest": config.digest, "seed": config.seed,
        "status": status, "infeasible": list(broken), "tuple": deployed, **measured,
    })  # fmt: skip


def finish(study, number_of_trials):
    for _ in range(number_of_trials):
        proposal = study.ask()
        study.tell(proposal.number, run(proposal.config))


def params_of(study):
    return [trial.params for trial in study.trials]


# ------------------------------------------------------------------------------------------ telling


def test_a_cap_is_a_relative_violation_and_a_kept_one_is_negative():
    result = outcome(
        SimulatedConfig(), "infeasible", artifact_bytes=5_000_000, train_seconds=300, eval_seconds=900
    )
    assert violations(result, RULES) == {"artifact_bytes": 0.25, "train_seconds": -0.5, "eval_seconds": 0.5}


def test_a_trial_over_a_cap_with_all_its_values_is_complete_and_infeasible():
    study = Study.open(ROUND, InMemoryStorage())
    proposal = study.ask()
    over = {"artifact_bytes": 6_000_000, "train_seconds": 10, "eval_seconds": 10}
    study.tell(
        proposal.number, outcome(proposal.config, "infeasible", RULES.broken_by(**over), bpb=1.2, **over)
    )
    trial = study.trials[0]
    assert trial.state == TrialState.COMPLETE
    assert trial.values == [1.2]
    assert trial.constraints["artifact_bytes"] == pytest.approx(0.5)


@pytest.mark.parametrize("reason", ["gate", "diverged", "certificate"])
@pytest.mark.parametrize("objectives", [("bpb",), FRONT])
def test_a_trial_that_ended_early_is_pruned_with_the_violation_that_ended_it(reason, objectives):
    study = Study.open(replace(ROUND, objectives=objectives), InMemoryStorage())
    proposal = study.ask()
    broken = Infeasible(reason=reason, measured=3.0, limit=2.0)
    study.tell(proposal.number, outcome(proposal.config, "infeasible", [broken], train_seconds=1))
    trial = study.trials[0]
    assert trial.state == TrialState.PRUNED
    assert trial.constraints == {reason: 0.5, "train_seconds": pytest.approx(1 / 600 - 1)}


def test_a_front_with_one_value_missing_is_pruned_and_not_left_running():
    study = Study.open(replace(ROUND, objectives=FRONT), InMemoryStorage())
    proposal = study.ask()
    broken = Infeasible(reason="eval_seconds", measured=700, limit=600)
    study.tell(proposal.number, outcome(proposal.config, "infeasible", [broken], bpb=1.2, artifact_bytes=100))
    assert study.trials[0].state == TrialState.PRUNED


def test_a_fault_is_a_failure_that_says_why_and_constrains_nothing():
    study = Study.open(ROUND, InMemoryStorage())
    proposal = study.ask()
    study.tell(proposal.number, outcome(proposal.config, "failed", error="ZeroDivisionError: a bug"))
    trial = study.trials[0]
    assert trial.state == TrialState.FAIL
    assert "ZeroDivisionError" in trial.user_attrs["why"]
    assert trial.constraints == {}


def test_a_trial_carries_its_digest_name_and_seed():
    study = Study.open(ROUND, InMemoryStorage())
    proposal = study.ask()
    attrs = study.trials[0].user_attrs
    assert attrs["config_digest"] == proposal.config.digest
    assert attrs["run_name"] == proposal.config.label
    assert attrs["seed"] == 0


# --------------------------------------------------------------------------------------- warm starts


def test_warm_starts_run_first_under_their_recipes_name_and_only_once(tmp_path):
    two = {"small": {**ROUND.warm_starts["baseline"], "layers": 2}, **ROUND.warm_starts}
    round_ = replace(ROUND, warm_starts=two)
    first = Study.open(round_, storage_of(tmp_path))
    small = first.ask()
    assert small.config.label.startswith("small-")
    first.tell(small.number, run(small.config))
    second = Study.open(round_, storage_of(tmp_path), resume=True)
    assert second.ask().config.name == "baseline"
    third = Study.open(round_, storage_of(tmp_path), resume=True)
    assert [trial.user_attrs.get("recipe") for trial in third.trials] == ["small", "baseline"]


def test_a_warm_start_that_does_not_fit_is_refused_before_a_study_is_made(tmp_path):
    off = {"off": {**ROUND.warm_starts["baseline"], "layers": 99}}
    with pytest.raises(ConfigError, match="layers"):
        Study.open(replace(ROUND, warm_starts=off), storage_of(tmp_path))
    assert not list(tmp_path.iterdir())


# -------------------------------------------------------------------------------------------- resume


def test_a_running_trial_is_handed_out_again_under_its_number_with_its_parameters(tmp_path):
    first = Study.open(ROUND, storage_of(tmp_path))
    finish(first, 12)
    left = first.ask()
    second = Study.open(ROUND, storage_of(tmp_path), resume=True)
    assert second.orphans == (left.number,)
    again = second.ask()
    assert (again.number, again.params, again.attempt) == (left.number, left.params, 2)
    assert again.config.digest == left.config.digest
    second.tell(again.number, run(again.config))
    assert second.ask().number == left.number + 1
    assert len(second.trials) == 14


def test_a_trial_whose_driver_died_before_it_was_sampled_is_sampled_on_resume(tmp_path):
    first = Study.open(replace(ROUND, warm_starts={}), storage_of(tmp_path))
    first.optuna.ask()  # and not a step further
    second = Study.open(replace(ROUND, warm_starts={}), storage_of(tmp_path), resume=True)
    again = second.ask()
    assert again.number == 0
    assert set(again.params) >= {"layers", "width", "bits", "lr", "adapt.on"}


def test_a_trial_that_outlives_its_drivers_three_times_is_given_up_on(tmp_path):
    storage = storage_of(tmp_path)
    Study.open(ROUND, storage).ask()
    for _ in range(MOST_ATTEMPTS - 1):
        assert Study.open(ROUND, storage, resume=True).ask().number == 0
    last = Study.open(ROUND, storage, resume=True)
    assert last.orphans == last.hopeless == (0,)  # whoever has its result may still tell it
    last.abandon(0, "its driver died too often")
    assert last.orphans == last.hopeless == ()
    assert last.trials[0].state == TrialState.FAIL


def test_a_driver_that_dies_between_constraint_and_verdict_leaves_a_trial_that_can_be_told(tmp_path):
    first = Study.open(ROUND, storage_of(tmp_path))
    proposal = first.ask()
    first._live[proposal.number].set_constraint("artifact_bytes", -0.5)
    second = Study.open(ROUND, storage_of(tmp_path), resume=True)
    again = second.ask()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second.tell(again.number, run(again.config))
    assert second.trials[0].constraints["artifact_bytes"] == -0.5
    assert second.trials[0].state == TrialState.COMPLETE


def test_a_resumed_sampler_does_not_propose_again_what_it_proposed(tmp_path):
    round_ = replace(ROUND, warm_starts={}, startup_trials=100)
    finish(Study.open(round_, storage_of(tmp_path)), 4)
    second = Study.open(round_, storage_of(tmp_path), resume=True)
    finish(second, 4)
    lrs = [params["lr"] for params in params_of(second)]
    assert len(set(lrs)) == 8


def test_a_lost_gang_gives_its_trial_one_more_attempt_and_then_fails_it():
    study = Study.open(ROUND, InMemoryStorage())
    number = study.ask().number
    assert study.again(number)
    proposal = study.ask()
    assert proposal.number == number
    assert not study.again(number)
    study.tell(number, outcome(proposal.config, "failed", error="rank 1 died"))
    assert study.trials[number].state == TrialState.FAIL
    assert study.ask().number == number + 1


def test_going_on_and_beginning_anew_are_never_confused(tmp_path):
    with pytest.raises(UserError, match="there is none"):
        Study.open(ROUND, storage_of(tmp_path), resume=True)
    assert not list(tmp_path.iterdir())
    Study.open(ROUND, storage_of(tmp_path)).ask()
    with pytest.raises(UserError, match="add --resume"):
        Study.open(ROUND, storage_of(tmp_path))


@pytest.mark.parametrize("change", [{"rules": RULES.but(artifact_bytes=1)}, {"objectives": FRONT}])
def test_a_study_keeps_the_terms_it_was_begun_with(tmp_path, change):
    Study.open(ROUND, storage_of(tmp_path)).ask()
    with pytest.raises(StoreError, match="begun with"):
        Study.open(replace(ROUND, **change), storage_of(tmp_path), resume=True)


# ------------------------------------------------------------------------------------- gate and spend


def test_the_gate_is_the_best_earlier_measurement_times_the_tolerance():
    study = Study.open(replace(ROUND, gate=Gate(0.25, 1.1)), InMemoryStorage())
    assert study.gate_limit() is None
    for bpb in (2.0, 1.5, 3.0):
        study.passed_gate(study.ask().number, bpb)
    assert study.gate_limit() == pytest.approx(1.65)


def test_a_measurement_that_is_no_number_does_not_become_the_gate():
    study = Study.open(replace(ROUND, gate=Gate(0.25, 1.1)), InMemoryStorage())
    for bpb in (float("nan"), 2.0, float("-inf")):
        study.passed_gate(study.ask().number, bpb)
    assert study.gate_limit() == pytest.approx(2.2)


@pytest.mark.parametrize(
    "url", ["nonsense", "nonsense://host/name", "postgresql+nodriver://u:secret@host/name",
            "sqlite:////proc/no/such/study.db"],
)  # fmt: skip
def test_a_storage_that_cannot_be_opened_is_a_users_error_that_tells_no_password(url):
    with pytest.raises(UserError, match="URL of a database") as caught:
        Study.open(ROUND, url)
    assert len(str(caught.value).splitlines()) <= 3
    assert "secret" not in str(caught.value)


def test_an_illegal_giant_does_not_shut_the_gate_to_the_others():
    study = Study.open(replace(ROUND, gate=Gate(0.25, 1.1)), InMemoryStorage())
    giant, legal = study.ask(), study.ask()
    study.passed_gate(giant.number, 1.0)
    study.passed_gate(legal.number, 2.0)
    broken = [Infeasible(reason="artifact_bytes", measured=8e6, limit=4e6)]
    study.tell(giant.number, outcome(giant.config, "infeasible", broken, bpb=1.0, artifact_bytes=8_000_000))
    assert study.gate_limit() == pytest.approx(2.2)


def test_running_and_lost_attempts_are_charged_at_their_maximum():
    study = Study.open(ROUND, InMemoryStorage())
    most = most_gang_seconds(RULES)
    done, running = study.ask(), study.ask()
    study.spent(done.number, 100.0)
    study.tell(done.number, run(done.config))
    assert committed(study.trials, ROUND) == 100.0 + most
    assert study.again(running.number)
    study.ask()
    assert study.committed() == 100.0 + 2 * most
    study.spent(running.number, 50.0)
    study.tell(running.number, run(running.config))
    assert study.committed() == 150.0 + most
