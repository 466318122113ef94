"""Every quantizer, in every wrapper, with the calibration it needs; and the records are points of the space."""

from collections import Counter

import optuna
import pytest

from pgolf.quantize.gptq import Gptq
from pgolf.quantize.lqer import Lqer
from pgolf.quantize.pruned import Pruned
from pgolf.quantize.statistics import FISHER, FULL_FISHER
from pgolf.records import pr1736, pr1787, pr1855
from search_spaces.quantize.gptq import gptq
from search_spaces.quantize.grids import grids
from search_spaces.quantize.quantizer import quantizer
from search_spaces.warm import params_of


def trials(count: int):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return (study.ask() for _ in range(count))


def kinds(made) -> tuple[str, ...]:
    return (made.kind, *(kinds(made.base) if isinstance(made, Lqer | Pruned) else ()))


@pytest.mark.parametrize("switches", [False, True])
def test_every_composition_comes_up_and_no_other(switches):
    plain = {("gptq",), ("rtn",), ("rate_distortion",)}
    corrected = {("lqer", *p) for p in plain}
    cut = {("pruned", *p) for p in plain}
    seen = Counter(kinds(quantizer(t, "q", 256, True, switches)[0]) for t in trials(400))
    assert set(seen) == plain | corrected | (cut if switches else set())


@pytest.mark.parametrize("switches", [False, True])
def test_calibration_measures_what_is_needed_and_is_off_where_nothing_is(switches):
    for trial in trials(200):
        made, calibrate = quantizer(trial, "q", 256, switches=switches)
        assert (calibrate is not None) == bool(made.needs)
        if calibrate is not None:
            fisher = calibrate.fisher
            assert (fisher is not None) == (FISHER in made.needs)
            assert (fisher is not None and fisher.full) == (FULL_FISHER in made.needs)


@pytest.mark.parametrize("switches", [False, True])
def test_sections_read_back_and_parameters_lie_where_the_config_has_them(switches):
    for trial in trials(200):
        made, _ = quantizer(trial, "q", 256, True, switches)
        assert type(made).model_validate(made.plain()) == made
        for path, value in trial.params.items():
            *parents, last = path.split(".")
            if parents[0] != "q":
                continue
            at = made
            for part in parents[1:]:
                at = getattr(at, part)
            assert (at is not None if last == "on" else getattr(at, last)) == value, path


def test_switches_open_what_has_a_low_prior():
    short = [gptq(t, "q") for t in trials(60)]
    wide = [gptq(t, "q", switches=True) for t in trials(60)]
    assert all(made == Gptq(grids=made.grids, damping=made.damping) for made in short)
    assert {made.tied for made in wide} == {"head", "both", "rounded"}
    assert (
        {made.protect is None for made in wide} == {made.dampings is None for made in wide} == {True, False}
    )
    assert {made.grids.mlp.kind for made in wide} == {"sd_clip", "clip_search", "row_max"}
    assert all(made.gate is None for made in (grids(t, "g") for t in trials(20)))
    assert {made.gate is None for made in (grids(t, "g", gated=True) for t in trials(20))} == {True, False}


@pytest.mark.parametrize("recipe", [pr1736, pr1787, pr1855])
def test_the_records_quantizers_are_points_of_the_competitions_space(recipe):
    wanted = recipe()

    def space(trial):
        context = wanted.calibrate.context
        made, calibrate = quantizer(trial, "quantize", context, gated=True, switches=True)
        return wanted.but(quantize=made, calibrate=calibrate)

    params = params_of(space, wanted)
    assert params["quantize.kind"] == wanted.quantize.kind
