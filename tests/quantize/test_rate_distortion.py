"""The rate-distortion solver: as many bytes as there are and never one more, spent where they are worth most."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pgolf.errors import InfeasibleTrial
from pgolf.formats.quantized import QuantizedMatrix, QuantizedModel, steps_of
from pgolf.model.roles import Role
from pgolf.pack.ans_packer import AnsPacker
from pgolf.pack.brotli_packer import BrotliPacker
from pgolf.quantize.forms import FisherGrid, FisherRows, TensorClips, TwoSided, TypeClips
from pgolf.quantize.problem import TOLERANCE, Problem
from pgolf.quantize.rate_distortion import RateDistortion, land, price_of
from pgolf.quantize.statistics import FISHER, FULL_FISHER, HESSIANS, Statistics, predicted_loss
from tests.quantize.problems import coded_bytes, codes_of, gram, problem, same

FORMS = [TypeClips(), TensorClips(), FisherRows(), FisherGrid(), TwoSided()]
LARGE = {
    "table": (300, 24, Role.EMBEDDING),
    "q": (24, 24, Role.ATTENTION),
    "k": (24, 24, Role.ATTENTION),
    "up": (96, 24, Role.MLP),
    "down": (24, 96, Role.MLP),
}
WEIGHTS = sum(r * c for r, c, _ in LARGE.values())


def large(seed: int = 0, measure=coded_bytes, full: bool = False) -> Problem:
    """13,000 weights; rows of the table that are worth nothing among them."""
    p = replace(problem(seed, shapes=LARGE), measure=measure)
    p.statistics.rows["table"][torch.rand(300, generator=torch.Generator().manual_seed(seed)) < 0.3] = 0
    if full:
        gen = torch.Generator().manual_seed(seed)
        whole = {n: gram(r, gen) for n, (r, _, role) in LARGE.items() if role is not Role.EMBEDDING}
        known = p.statistics
        rows = known.rows | {n: g.diagonal().clone() for n, g in whole.items()}
        p = replace(p, statistics=Statistics(known.hessians, known.lookups, rows, whole))
    return p


def packed(packer):
    """What the packer makes of matrices, in bytes."""

    def measure(matrices) -> int:
        model = QuantizedModel({}, 1, matrices, dict.fromkeys(matrices, "mlp"), {})
        arrays = [a.numpy() for _, _, a in model.arrays()]
        groups = [model.roles[n] for n, _, _ in model.arrays()]
        return len(packer.codec().encode(arrays, groups))

    return measure


def loss(p, matrices) -> float:
    errors = {n: m.dequantize() - p.weights[n] for n, m in matrices.items()}
    return sum(predicted_loss(n, e, p.statistics) for n, e in errors.items())


def target_of(p: Problem, bits: float) -> int:
    return p.measure({}) + int(bits * WEIGHTS / 8)


@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.kind)
@pytest.mark.parametrize("bits", [1.0, 2.2, 3.5, 6.0])
def test_it_lands_within_a_thousandth_under_the_target_and_never_over(form, bits):
    p = large(full=True)
    target = target_of(p, bits)
    size = p.measure(RateDistortion(form=form, target_bytes=target).quantize_all(p))
    assert target - max(target * TOLERANCE, 8) <= size <= target


@pytest.mark.parametrize(("packer", "room"), [(AnsPacker(), 0.002), (BrotliPacker(quality=5), 0.005)])
@pytest.mark.parametrize("bits", [1.5, 3.0, 5.0, 8.5])
def test_it_lands_on_the_bytes_that_a_real_packer_makes(packer, room, bits):
    """Small matrices' sizes jump by a few bytes with every row that changes its step: hence the room."""
    p = large(1, packed(packer))
    target = target_of(p, bits)
    size = p.measure(RateDistortion().quantize_all(replace(p, target_bytes=target)))
    assert target - max(room * target, 8) <= size <= target


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), bits=st.floats(0.7, 9))
def test_it_never_lands_over_whatever_the_problem(seed, bits):
    p = problem(seed)
    target = p.measure({}) + int(bits * 1488 / 8)
    assert p.measure(RateDistortion(target_bytes=target).quantize_all(p)) <= target


def test_a_target_of_ones_own_goes_before_the_rules():
    p = large()
    low, high = target_of(p, 2), target_of(p, 5)
    assert p.measure(RateDistortion(target_bytes=low).quantize_all(replace(p, target_bytes=high))) <= low
    assert low < p.measure(RateDistortion().quantize_all(replace(p, target_bytes=high))) <= high


def test_where_even_the_coarsest_grids_do_not_fit_the_trial_is_infeasible():
    p = large()
    least = p.measure(RateDistortion(target_bytes=target_of(p, 0.2)).quantize_all(p))
    assert least <= target_of(p, 0.2)
    for target in (100, p.measure({}) - 1):
        with pytest.raises(InfeasibleTrial) as stopped:
            RateDistortion(target_bytes=target).quantize_all(p)
        outcome = stopped.value.outcome
        assert (outcome.reason, outcome.limit) == ("artifact_bytes", target)
        assert p.measure({}) <= outcome.measured < least, "the smallest that was found"


def test_more_bytes_than_anything_takes_are_not_spent():
    p = large()
    matrices = RateDistortion(target_bytes=2**40).quantize_all(p)
    for name, m in matrices.items():
        assert 8000 < codes_of(m).abs().max() < 32_767, "as fine as codes can be"
        assert (m.dequantize() - p.weights[name]).norm() < 1e-3 * p.weights[name].norm()


def test_the_same_problem_has_the_same_answer():
    p = replace(large(full=True), target_bytes=target_of(large(), 3))
    for form in FORMS:
        assert same(RateDistortion(form=form).quantize_all(p), RateDistortion(form=form).quantize_all(p))


@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.kind)
def test_more_bytes_mean_less_predicted_loss(form):
    p = large(2, full=True)
    losses = [
        loss(p, RateDistortion(form=form, target_bytes=target_of(p, bits)).quantize_all(p))
        for bits in (1.5, 2.0, 3.0, 4.0, 6.0)
    ]
    assert all(more > 1.2 * less for more, less in pairwise(losses))


def test_at_equal_bytes_forms_that_know_more_lose_less():
    """By what the statistics predict: clips by type, by tensor, by row, by row and column."""
    won = dict.fromkeys(["tensor_clips", "fisher_rows", "fisher_grid"], 0)
    for seed in range(4):
        p = large(seed)
        by_form = {
            f.kind: loss(p, RateDistortion(form=f, target_bytes=target_of(p, 3)).quantize_all(p))
            for f in FORMS[:4]
        }
        for simpler, better in pairwise(by_form):
            won[better] += by_form[better] < by_form[simpler]
    assert won == {"tensor_clips": 4, "fisher_rows": 4, "fisher_grid": 4}


def test_feedback_on_both_sides_loses_less_where_outputs_go_together():
    p = large(full=True)
    one, both = (
        loss(p, RateDistortion(form=f, target_bytes=target_of(p, 3)).quantize_all(p))
        for f in (FisherGrid(), TwoSided(shrinkage=0.0))
    )
    assert both < 0.9 * one


def test_a_byte_costs_what_the_next_one_saves():
    """From the two laws of high rates: loss = N kappa^2 / 24, bytes = -N log2(kappa) / 8."""
    n, kappa, d = 1000, 0.01, 1e-6
    saved = n / 24 * (kappa**2 - (kappa * (1 - d)) ** 2)
    bought = n / 8 * (math.log2(kappa) - math.log2(kappa * (1 - d)))
    assert price_of(kappa) == pytest.approx(saved / bought, rel=1e-5)


def test_the_price_is_what_bytes_cost_on_real_ones():
    """Twice solved, a little apart: the loss saved over the bytes spent."""
    p, prices = large(3), []

    def noted(matrices, price):
        prices.append(price)
        return matrices

    sizes, losses, at = [], [], []
    for bits in (4.0, 4.5):
        matrices = RateDistortion(target_bytes=target_of(p, bits)).quantize_all(p, noted)
        sizes.append(p.measure(matrices))
        losses.append(loss(p, matrices))
        at.append(prices[-1])
    assert at[1] < (losses[0] - losses[1]) / (sizes[1] - sizes[0]) < at[0]


def test_what_is_done_to_an_answer_is_measured_with_it():
    """An outer quantizer that adds a kilobyte has it taken off the rest."""
    p = large()
    extra = replace(p, measure=lambda matrices: coded_bytes(matrices) + (1000 if "marked" in matrices else 0))

    def marked(matrices, price):
        assert price > 0
        return matrices | {"marked": matrices["q"]}

    target = target_of(p, 3)
    made = RateDistortion(target_bytes=target).quantize_all(extra, marked)
    assert "marked" in made
    assert target - max(target * TOLERANCE, 8) <= extra.measure(made) <= target


def test_the_answer_has_every_matrix_in_the_networks_order():
    """Though equal shapes are solved together."""
    shapes = {"table": (40, 12, Role.EMBEDDING), "q": (12, 12, Role.ATTENTION), "up": (36, 12, Role.MLP),
              "o": (12, 12, Role.ATTENTION), "down": (12, 36, Role.MLP), "fc": (36, 12, Role.MLP)}  # fmt: skip
    p = problem(0, target=10_000, shapes=shapes)
    assert list(RateDistortion().quantize_all(p)) == list(shapes)


def test_type_clips_are_shared_by_a_type_and_tensor_clips_are_not():
    """The step over the row's deviation, as the mean of its rows: eighths of octaves even out."""
    p = replace(large(), target_bytes=target_of(large(), 3))
    clips = {}
    for form in (TypeClips(), TensorClips()):
        made = RateDistortion(form=form).quantize_all(p)
        shares = {n: steps_of(made[n].row) / p.weights[n].std(1, correction=0) for n in LARGE}
        clips[form.kind] = {n: float(share.log2().mean()) for n, share in shares.items()}
    by_type, by_tensor = clips["type_clips"], clips["tensor_clips"]
    assert abs(by_type["q"] - by_type["k"]) < 0.04
    assert abs(by_type["up"] - by_type["down"]) < 0.04
    assert abs(by_type["q"] - by_type["up"]) > 0.1
    assert abs(by_tensor["q"] - by_tensor["k"]) > 0.1


def test_tables_and_gates_are_solved_without_hessians_and_their_columns_count_alike():
    shapes = {"table": (40, 12, Role.EMBEDDING), "hashed": (30, 6, Role.TABLE), "gate": (4, 12, Role.GATE)}
    p = problem(0, shapes=shapes)
    known = Statistics({"table": p.statistics.hessians["table"]}, p.statistics.lookups, p.statistics.rows)
    nearest = RateDistortion(rate_aware=0.0, target_bytes=1000 + 300)
    made = nearest.quantize_all(replace(p, statistics=known))
    for name in ("hashed", "gate"):
        assert made[name].col is None or made[name].col.unique().numel() == 1
        error = (made[name].dequantize() - p.weights[name]).abs()
        assert (error <= 0.5 * made[name].step * (1 + 1e-6)).all(), "rounded, with no feedback"


@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.kind)
def test_odd_matrices_are_solved(form):
    """Zero rows, dead columns, one column, one row, nothing but zeros, one weight a thousand times the rest."""
    shapes = {"table": (40, 12, Role.EMBEDDING), "thin": (20, 1, Role.MLP), "flat": (1, 20, Role.MLP),
              "zeros": (6, 12, Role.MLP), "spiked": (8, 12, Role.ATTENTION)}  # fmt: skip
    p = problem(0, shapes=shapes)
    p.weights["table"][7] = 0
    p.weights["zeros"].zero_()
    p.weights["spiked"][3, 4] *= 1000
    for dead in (2, 11):
        for name in ("table", "spiked"):
            p.statistics.hessians[name][dead] = p.statistics.hessians[name][:, dead] = 0
        p.statistics.lookups["table"][dead] = p.statistics.lookups["table"][:, dead] = 0
    whole = gram(8, torch.Generator().manual_seed(1))
    p.statistics.rows["spiked"].copy_(whole.diagonal())
    p = replace(p, statistics=replace(p.statistics, full={"spiked": whole}))
    made = RateDistortion(form=form, target_bytes=1000 + 500).quantize_all(p)
    assert 1400 < p.measure(made) <= 1500
    assert not made["table"].dequantize()[7].any()
    assert not made["table"].q[:, [2, 11]].any()
    assert not made["spiked"].q[:, [2, 11]].any()
    assert not made["zeros"].dequantize().any()
    assert all(m.dequantize().isfinite().all() for m in made.values())
    assert made["spiked"].dequantize()[3, 4].item() == pytest.approx(
        p.weights["spiked"][3, 4].item(), rel=0.05
    )


def test_codes_fit_int16_however_many_bytes_there_are():
    """Feedback may carry a code beyond its own weight: it is not clamped for that."""
    p = problem(0, shapes={"table": (8, 12, Role.EMBEDDING), "spiked": (8, 12, Role.ATTENTION)})
    p.weights["spiked"][3, 4] = 1e5
    for form in FORMS[:4]:
        made = RateDistortion(form=form, target_bytes=10**9).quantize_all(p)
        assert all(m.q.abs().max() < 32_767 for m in made.values())
        assert made["spiked"].dequantize()[3, 4].item() == pytest.approx(1e5, rel=1e-3)


@pytest.mark.parametrize("eta", [0.5, 2.0])
def test_rate_aware_rounding_pulls_codes_toward_zero_and_lands_as_well(eta):
    p = large()
    target = target_of(p, 2)
    plain, aware = (RateDistortion(rate_aware=e, target_bytes=target).quantize_all(p) for e in (0.0, eta))
    assert target - max(target * TOLERANCE, 8) <= p.measure(aware) <= target
    assert sum(int(m.q.abs().sum()) for m in aware.values()) != sum(
        int(m.q.abs().sum()) for m in plain.values()
    )
    assert steps_of(aware["up"].row).log2().mean() < steps_of(plain["up"].row).log2().mean(), (
        "finer steps paid so"
    )
    assert sum(int((m.q == 0).sum()) for m in aware.values()) / WEIGHTS > 0.0


def test_a_code_shrinks_by_what_its_bits_are_worth():
    """1 / (1 + eta / (12 rho (std / step)^2)), rho = g d step^2 / kappa^2 the weight's cost over the usual: a loop."""
    from pgolf.quantize.rate_distortion import _Part

    p = problem(0)
    part = _Part(RateDistortion(rate_aware=0.8), p, ["q"])
    part.prepare()
    row, col = part.steps(0.05, {"q": 1.0})
    step = (steps_of(row).unsqueeze(2) * steps_of(col).unsqueeze(1)).double()
    got = part._shrink(step, 0.05)[0]
    spread, d, g = p.weights["q"].double().std(1, correction=0), part.d[0], part.g[0]
    for r in range(12):
        for c in range(12):
            rho = float(g[r] * d[c] * step[0, r, c] ** 2) / 0.05**2
            sigmas = float(spread[r] / step[0, r, c])
            assert rho == pytest.approx(1, rel=0.2), "steps are rounded to eighths"
            assert got[r, c].item() == pytest.approx(1 / (1 + 0.8 / (12 * rho * sigmas**2)))


def test_rows_of_one_step_change_it_one_after_the_other():
    """Else all rows that calibration never met would cross to the next eighth of an octave together."""
    from pgolf.quantize.rate_distortion import _Part

    p = large()
    part = _Part(RateDistortion(form=FisherRows()), p, ["table"])
    part.prepare()
    idle = p.statistics.rows["table"] == 0
    assert idle.sum() > 60
    changed = []
    for i in range(200):
        row, _ = part.steps(2.0 ** (-6 + i / 800), {"table": 1.0})
        changed.append(row[0][idle].double().mean().item())
    jumps = np.diff(changed)
    assert (jumps >= 0).all()
    assert sum(jumps) == pytest.approx(2, abs=0.6)
    assert jumps.max() < 0.1, "a tenth of them at once, at most"


def test_it_says_what_it_needs():
    assert RateDistortion(form=FisherRows()).needs == {HESSIANS, FISHER}
    assert RateDistortion(form=TwoSided()).needs == {HESSIANS, FISHER, FULL_FISHER}
    assert RateDistortion().solves_for_bytes


@pytest.mark.parametrize("change", [
    {"target_bytes": 0}, {"damping": 0}, {"rate_aware": -0.1}, {"rate_aware": 5}, {"clip_sigmas": 3},
    {"form": {"kind": "fisher_columns"}}, {"form": {"kind": "two_sided", "shrinkage": 1.1}},
])  # fmt: skip
def test_an_impossible_or_misspelt_setting_is_refused(change):
    with pytest.raises(ValidationError):
        RateDistortion(**change)


def told(x: float) -> dict[str, QuantizedMatrix]:
    """A matrix that is a number, for sizes that are functions of it."""
    codes = torch.tensor([x], dtype=torch.float64).view(torch.int16).unsqueeze(0)
    return {"at": QuantizedMatrix(codes, torch.zeros(1, dtype=torch.int16))}


def heard(matrices) -> float:
    return matrices["at"].q[0].view(torch.float64).item()


class Stairs:
    """Sizes that fall with kappa in steps, and stand still between them."""

    def __init__(self, height: float, tread: float, base: int = 0) -> None:
        self.height, self.tread, self.base, self.calls = height, tread, base, 0

    def solved(self, log_kappa: float):
        self.calls += 1
        return told(log_kappa)

    def measure(self, matrices) -> int:
        return self.base + int((40 - math.floor(heard(matrices) / self.tread) * self.tread) * self.height)


@settings(max_examples=60)
@given(
    height=st.floats(50, 50_000),
    guess=st.floats(-20, 20),
    share=st.floats(0.05, 0.95),
    base=st.integers(0, 5000),
)
def test_the_search_lands_from_any_guess(height, guess, share, base):
    """On sizes of a slope that is not the one it was told."""
    s = Stairs(height, 2.0**-30, base)
    target = int(base + 60 * height * share)
    made = land(s.solved, s.measure, target, guess, -height * 0.6)
    assert target - max(target * TOLERANCE, 8) - 1 <= s.measure(made) <= target
    assert s.calls <= 16


@pytest.mark.parametrize("tread", [0.5, 0.11, 0.013])
def test_where_sizes_stand_still_and_jump_the_best_step_of_the_stairs_is_found(tread):
    """A chord between the ends would come back to the same point for ever."""
    s = Stairs(1000, tread)
    for target in (41_500, 35_123, 60_001):
        got = s.measure(land(s.solved, s.measure, target, 3.3, -1000))
        assert got <= target < got + max(1000 * tread, target * TOLERANCE) + 1


def test_sizes_that_do_not_quite_fall_do_not_lead_it_astray():
    noise = np.random.default_rng(0).integers(-40, 41, 10_000)

    def measure(matrices) -> int:
        x = heard(matrices)
        return 30_000 - int(1000 * x) + int(noise[int(x * 1e6) % 10_000])

    for target in range(25_000, 35_000, 999):
        got = measure(land(told, measure, target, 0.0, -1000))
        assert target - 60 <= got <= target


def scripted(*sizes: int):
    """Sizes in the order in which they are asked for, the last one for ever; and what was asked about."""
    left, asked = list(sizes), []

    def measure(matrices) -> int:
        asked.append(heard(matrices))
        return left.pop(0) if len(left) > 1 else left[0]

    return measure, asked


def test_the_largest_that_fits_is_kept_though_a_smaller_one_comes_later():
    measure, asked = scripted(120_000, 90_000, 98_500, 95_000, 97_000, 120_000)
    assert heard(land(told, measure, 100_000, 1.0, -20_000)) == asked[2]


def test_what_is_infeasible_is_reported_with_the_smallest_size_that_was_found():
    measure, _ = scripted(500, 300, 400)
    with pytest.raises(InfeasibleTrial) as stopped:
        land(told, measure, 100, 1.0, -20)
    assert stopped.value.outcome.measured == 300


@pytest.mark.parametrize("guess", [-12.0, -3.0, 0.0, 9.0])
def test_at_rates_where_entropy_is_flat_it_lands_too(guess):
    """As real sizes go: a straight line at high rates, and less and less below a bit a weight."""

    def measure(matrices) -> int:
        return int(1000 + 3000 * math.log2(1 + 2.0 ** -heard(matrices)))

    for target in (1020, 1300, 4000, 31_000):
        measured = measure(land(told, measure, target, guess, -3000))
        assert target - max(target * TOLERANCE, 8) - 1 <= measured <= target


def test_a_cliff_is_approached_by_halves():
    """A chord from so high an end would creep toward it."""
    asked = []

    def measure(matrices) -> int:
        asked.append(heard(matrices))
        return 500_000 if asked[-1] < 0.7 else 9_000

    land(told, measure, 10_000, -3.0, -200_000)
    nearest = min(x for x in asked if x >= 0.7) - max(x for x in asked if x < 0.7)
    assert nearest < (max(asked) - min(asked)) / 20
