"""Policies of the study, tried on a landscape that costs nothing."""

from dataclasses import replace
from statistics import mean

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from search_spaces.round import FRONT
from search_spaces.simulate import ROUND, play, run
from search_spaces.study import Study


def play_at_random(round_, trials):
    """The same with no model of the space: what a sampler has to beat."""
    study = Study.open(replace(round_, startup_trials=trials + 1), InMemoryStorage())
    study.optuna.sampler = optuna.samplers.RandomSampler(seed=round_.seed)
    while study.issued < trials:
        proposal = study.ask()
        study.tell(proposal.number, run(proposal.config))
    return study


def best_legal_bpb(study):
    """The lowest bpb among the trials that broke nothing."""
    finished = [trial for trial in study.trials if trial.values]
    return min(trial.values[0] for trial in finished if max(trial.constraints.values()) <= 0)


def feasible(study):
    return [t for t in study.trials if t.values and max(t.constraints.values()) <= 0]


def test_under_constraints_the_sampler_beats_random_search_at_equal_trials():
    rounds = [replace(ROUND, seed=100 * seed) for seed in range(5)]
    ours, random = [play(r, 60) for r in rounds], [play_at_random(r, 60) for r in rounds]
    gains = [best_legal_bpb(r) - best_legal_bpb(o) for o, r in zip(ours, random, strict=True)]
    assert mean(gains) > 0.01
    assert sum(gain > 0 for gain in gains) >= 4
    assert mean(len(feasible(s)) for s in ours) > 1.3 * mean(len(feasible(s)) for s in random)


def test_what_is_infeasible_is_told_and_nothing_is_left_running():
    study = play(replace(ROUND, startup_trials=40), 40)
    states = {t.state for t in study.trials}
    assert states == {TrialState.COMPLETE, TrialState.PRUNED}
    assert all(max(t.constraints.values()) > 0 for t in study.trials if t.state == TrialState.PRUNED)
    assert any(max(t.constraints.values()) > 0 for t in study.trials if t.state == TrialState.COMPLETE)


def test_the_front_option_finds_a_front():
    study = play(replace(ROUND, objectives=FRONT), 40)
    assert len(study.optuna.best_trials) > 3


def test_a_resumed_search_loses_no_trial_and_repeats_none(tmp_path):
    """Three drivers die with two trials in flight each; every number is told once, with its own config."""
    storage, told = f"sqlite:///{tmp_path}/study.db", {}
    for driver in range(4):
        study = Study.open(ROUND, storage, resume=driver > 0)
        for _ in range(6):
            proposal = study.ask()
            assert proposal.number not in told
            study.tell(proposal.number, run(proposal.config))
            told[proposal.number] = proposal.config.digest
        study.ask(), study.ask()
    last = Study.open(ROUND, storage, resume=True)
    assert sorted([*told, *last.orphans]) == list(range(len(last.trials)))
    assert {n: t.user_attrs["config_digest"] for n, t in enumerate(last.trials) if n in told} == told
