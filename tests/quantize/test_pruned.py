"""Pruning codes of +-1: it fires, the cheapest go first, and the target is met and not passed."""

from dataclasses import replace

import pytest
import torch
from optuna.trial import FixedTrial

from pgolf.errors import InfeasibleTrial
from pgolf.formats.quantized import GroupedMatrix, LowRankMatrix, QuantizedMatrix
from pgolf.model.roles import Role
from pgolf.quantize.gptq import Gptq
from pgolf.quantize.grids import RoleGrids
from pgolf.quantize.lqer import Lqer, Symmetric
from pgolf.quantize.pruned import Pruned
from pgolf.quantize.rate_distortion import RateDistortion
from pgolf.quantize.rtn import Rtn
from pgolf.quantize.sd_clip import SdClip
from pgolf.quantize.statistics import FISHER, predicted_loss
from search_spaces.quantize.pruned import pruned
from tests.quantize.problems import codes_of, problem, same

GRID = SdClip(bits=5, clip_sigmas=8.0)
BASE = Gptq(grids=RoleGrids(embedding=GRID, attention=GRID, mlp=GRID))
PAIR = {"a": (30, 40, Role.MLP), "b": (50, 30, Role.ATTENTION)}


def bounds(p, base=BASE) -> tuple[int, int]:
    """Bytes of the base's answer, and of the same without a single +-1."""
    given = base.quantize_all(p)
    bare = {n: replace(m, q=m.q.masked_fill(m.q.abs() == 1, 0)) for n, m in given.items()}
    return p.measure(given), p.measure(bare)


def loss(p, matrices) -> float:
    return sum(predicted_loss(n, m.dequantize() - p.weights[n], p.statistics) for n, m in matrices.items())


@pytest.mark.parametrize("fisher", [True, False])
@pytest.mark.parametrize("share", [0.05, 0.4, 0.95])
def test_it_lands_within_the_target_and_close_to_it(share, fisher):
    p = problem(fisher=fisher, shapes=PAIR)
    most, least = bounds(p)
    target = int(most - share * (most - least))
    got = Pruned(base=BASE).quantize_all(replace(p, target_bytes=target))
    assert target - 8 <= p.measure(got) <= target


@pytest.mark.parametrize("fisher", [True, False])
def test_only_codes_of_one_go_and_everything_else_stays(fisher):
    p = problem(fisher=fisher)
    most, least = bounds(p)
    given = BASE.quantize_all(p)
    got = Pruned(base=BASE, target_bytes=(most + least) // 2).quantize_all(p)
    gone = 0
    for n, m in got.items():
        changed = m.q != given[n].q
        assert (given[n].q[changed].abs() == 1).all()
        assert not m.q[changed].any()
        assert torch.equal(m.row, given[n].row)
        gone += int(changed.sum())
    assert gone > 0


def test_what_fits_already_is_the_bases_answer():
    p = problem()
    assert same(Pruned(base=BASE).quantize_all(p), BASE.quantize_all(p))
    most, _ = bounds(p)
    assert same(Pruned(base=BASE, target_bytes=most).quantize_all(p), BASE.quantize_all(p))


def test_where_all_of_them_do_not_suffice_it_is_infeasible_and_says_by_how_much():
    p = problem()
    _, least = bounds(p)
    assert Pruned(base=BASE, target_bytes=least).quantize_all(p)
    with pytest.raises(InfeasibleTrial) as raised:
        Pruned(base=BASE, target_bytes=least - 1).quantize_all(p)
    found = raised.value.outcome
    assert (found.reason, found.measured, found.limit) == ("artifact_bytes", least, least - 1)


def test_the_cheapest_go_first_where_the_fisher_is_known():
    """A code's cost is the loss of an error of one step there, and of nothing elsewhere."""
    p = problem()
    most, least = bounds(p)
    given = BASE.quantize_all(p)
    got = Pruned(base=BASE, target_bytes=(most + least) // 2).quantize_all(p)
    went, stayed = [], []
    for n, m in given.items():
        for row, col in (m.q.abs() == 1).nonzero().tolist():
            alone = torch.zeros(m.shape)
            alone[row, col] = m.step[row, 0]
            cost = predicted_loss(n, alone, p.statistics)
            (went if got[n].q[row, col] == 0 else stayed).append(cost)
    assert went
    assert stayed
    assert max(went) <= min(stayed) * (1 + 1e-6)


def test_without_the_fisher_those_of_the_smallest_steps_go_first():
    p = problem(fisher=False)
    most, least = bounds(p)
    given = BASE.quantize_all(p)
    got = Pruned(base=BASE, target_bytes=(most + least) // 2).quantize_all(p)
    steps = {n: m.step.expand(m.shape) for n, m in given.items()}
    ones = {n: m.q.abs() == 1 for n, m in given.items()}
    went = [float(s) for n in got for s in steps[n][ones[n] & (got[n].q == 0)]]
    stayed = [float(s) for n in got for s in steps[n][ones[n] & (got[n].q != 0)]]
    assert max(went) <= min(stayed)


def test_knowing_the_fisher_pays():
    p = problem(shapes=PAIR)
    most, least = bounds(p)
    made = Pruned(base=BASE, target_bytes=(most + least) // 2)
    blind = made.quantize_all(replace(p, statistics=replace(p.statistics, rows={}, lookups={})))
    assert loss(p, made.quantize_all(p)) < loss(p, blind)


def test_below_a_correction_the_base_is_pruned_and_the_factors_stay():
    p = problem()
    base = Lqer(base=BASE, packing=Symmetric(bits=8), top_k=2)
    given = base.quantize_all(p)
    got = Pruned(base=base, target_bytes=p.measure(given) - 100).quantize_all(p)
    assert p.measure(got) <= p.measure(given) - 100
    for n, m in got.items():
        assert type(m) is type(given[n])
        if isinstance(m, LowRankMatrix):
            assert torch.equal(m.b.q, given[n].b.q)
    assert any((codes_of(m) != codes_of(given[n])).any() for n, m in got.items())


class Mixed(Rtn):
    """A base with a ternary matrix among others."""

    def quantize_all(self, problem, finish=None):
        w = problem.weights["q"]
        ternary = GroupedMatrix(w.sign().short(), w.abs().mean().half().unsqueeze(0), w.numel())
        return {**super().quantize_all(problem), "q": ternary}


def test_ternary_matrices_are_left_alone():
    p = problem()
    base = Mixed(grids=BASE.grids)
    given = base.quantize_all(p)
    made = Pruned(target_bytes=p.measure(given) - 50).model_copy(update={"base": base})
    got = made.quantize_all(p)
    assert torch.equal(got["q"].q, given["q"].q)
    assert p.measure(got) <= p.measure(given) - 50


def test_it_measures_what_an_outer_quantizer_makes_of_it():
    p = problem()
    most, least = bounds(p)

    def heavier(matrices, price):
        extra = torch.arange(40, dtype=torch.int16).view(1, 40)
        return {**matrices, "extra": QuantizedMatrix(extra, torch.zeros(1, dtype=torch.int16))}

    target = (most + least) // 2
    got = Pruned(base=BASE, target_bytes=target).quantize_all(p, heavier)
    assert "extra" in got
    assert p.measure(got) <= target


def test_magnitude_pruning_comes_before_rounding():
    p = problem()
    got = Pruned(base=Rtn(grids=BASE.grids), magnitude=0.5).quantize_all(p)
    for n, w in p.weights.items():
        smallest = w.abs() < w.abs().median()
        assert not got[n].q[smallest].any()
        kept = w.abs() > w.abs().median()
        assert (got[n].step * got[n].q - w).abs()[kept].max() <= got[n].step.max() * 0.51


def test_it_solves_for_bytes_and_needs_what_its_base_needs():
    assert Pruned(base=Rtn()).needs == frozenset()
    assert FISHER in Pruned(base=RateDistortion()).needs
    assert Pruned(base=Rtn()).solves_for_bytes


@pytest.mark.parametrize("sigmas", [6.0, 12.85, 30.0])
def test_the_least_it_can_do_with_is_what_a_gaussian_has_left_without_ones(sigmas):
    grid = SdClip(bits=8, clip_sigmas=sigmas * 127 / 31)
    base = Rtn(grids=RoleGrids(mlp=grid))
    w = torch.randn(2000, 100, generator=torch.Generator().manual_seed(0))
    q = (w / (grid.clip_sigmas / grid.qmax)).round()
    q[q.abs() == 1] = 0
    shares = q.unique(return_counts=True)[1].double() / q.numel()
    entropy = float(-(shares * shares.log2()).sum())
    expected = Pruned(base=base).expected_bits(Role.MLP, 2000, 100) / w.numel()
    assert expected == pytest.approx(entropy, rel=0.1)


def test_the_space_holds_the_base_it_is_given():
    made = pruned(FixedTrial({"q.magnitude": None}), "q", Lqer(base=Rtn()))
    assert made == Pruned(base=Lqer(base=Rtn()))
