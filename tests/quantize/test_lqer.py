"""Low-rank correction: the best components there are by a full SVD, packed as told, bought at what they save."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import FixedTrial
from pydantic import ValidationError

from pgolf.formats.quantized import LowRankMatrix, QuantizedMatrix
from pgolf.model.roles import Role
from pgolf.quantize.forms import FisherGrid
from pgolf.quantize.gptq import Gptq
from pgolf.quantize.grids import RoleGrids
from pgolf.quantize.lqer import Asymmetric, Lqer, Symmetric, coded_bytes, leading
from pgolf.quantize.rate_distortion import RateDistortion
from pgolf.quantize.rtn import Rtn
from pgolf.quantize.sd_clip import SdClip
from pgolf.quantize.statistics import FISHER, HESSIANS, Statistics, predicted_loss
from search_spaces.quantize.lqer import lqer
from tests.quantize import problems
from tests.quantize.problems import problem, same

SEEDS = st.integers(0, 2**31 - 1)
COARSE = SdClip(bits=4, clip_sigmas=6.0)
BASE = Gptq(grids=RoleGrids(embedding=COARSE, attention=COARSE, mlp=COARSE))
FINE = Symmetric(bits=8)
PACKINGS = [FINE, Symmetric(bits=3), Asymmetric(group=4), Asymmetric(group=4, scales="tensor"),
            Asymmetric(group=64, otherwise=Symmetric())]  # fmt: skip


def root(m: torch.Tensor) -> torch.Tensor:
    values, vectors = torch.linalg.eigh(m)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T


def twin(e: torch.Tensor, g: torch.Tensor, a: torch.Tensor, rank: int) -> torch.Tensor:
    """The best correction in the metric: a full SVD between symmetric roots, undone by their inverses."""
    left, right = root(torch.diag(g)), root(a)
    u, s, vt = torch.linalg.svd(left @ e @ right, full_matrices=False)
    best = (u[:, :rank] * s[:rank]) @ vt[:rank]
    return torch.linalg.inv(left) @ best @ torch.linalg.inv(right)


def loss(p, matrices) -> float:
    errors = {n: m.dequantize() - p.weights[n] for n, m in matrices.items()}
    return sum(predicted_loss(n, e, p.statistics) for n, e in errors.items())


def corrected(matrices) -> set[str]:
    return {n for n, m in matrices.items() if isinstance(m, LowRankMatrix)}


@settings(max_examples=30)
@given(seed=SEEDS, shape=st.sampled_from([(5, 5), (9, 4), (4, 9)]), rank=st.integers(1, 4))
def test_components_are_the_best_there_are_in_the_metric(seed, shape, rank):
    gen = torch.Generator().manual_seed(seed)
    e = torch.randn(*shape, generator=gen, dtype=torch.float64)
    g = torch.rand(shape[0], generator=gen, dtype=torch.float64) + 0.05
    a = problems.gram(shape[1], gen).double() + 0.05 * torch.eye(shape[1], dtype=torch.float64)
    left, right = leading(e, g, torch.linalg.cholesky(a), rank)
    assert torch.allclose(left.T @ right, twin(e, g, a, rank), atol=1e-8)
    plain_left, plain_right = leading(e, torch.ones_like(g), None, rank)
    eye = torch.eye(shape[1], dtype=torch.float64)
    assert torch.allclose(plain_left.T @ plain_right, twin(e, torch.ones_like(g), eye, rank), atol=1e-8)


def test_right_factors_have_length_one_and_left_ones_reach_furthest_below_zero():
    e = torch.randn(9, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for m in (e, -e, e.T):
        left, right = leading(m, torch.ones(len(m), dtype=torch.float64), None, 3)
        assert torch.allclose(right.norm(dim=1), torch.ones(3, dtype=torch.float64))
        assert torch.equal(left.amin(1), -left.abs().amax(1))
        assert (left.norm(dim=1).diff() < 0).all()


def test_there_are_no_more_components_than_the_error_has():
    e = torch.outer(torch.arange(1.0, 7), torch.arange(1.0, 5)).double()
    left, right = leading(e, torch.ones(6, dtype=torch.float64), None, 3)
    assert left.shape == (1, 6)
    assert torch.allclose(left.T @ right, e)


def test_a_worked_example_of_asymmetric_codes():
    """The base is 0, so E = W = a b^T with a = (-3, 0.8, 2.2) and b = (6, 0, -4, 4), |b| = 8.246.

    A holds a |b| = (-24.7, 6.6, 18.1); 24.7 / 1.5 is nearest to a step of 16: codes (-2, 0, 1). To those, b is
    refitted as E^T A / A^T A = (6 + 2.2) / (16 * 5) b = (0.615, 0, -0.41, 0.41). In groups of two, 0.615 / 7.5 is
    nearest to 2^(-29/8) = 0.0811, and 0.41 / 7.5 to 2^(-34/8) = 0.0526: 7.6 and 7.8 of them, clamped to -8 .. 7.
    """
    w = torch.outer(torch.tensor([-3.0, 0.8, 2.2]), torch.tensor([6.0, 0.0, -4.0, 4.0]))
    p = replace(problem(shapes={"m": (3, 4, Role.MLP)}), weights={"m": w}, statistics=Statistics())
    zero = RoleGrids(mlp=SdClip(bits=2, clip_sigmas=1e3))
    made = Lqer(base=Rtn(grids=zero), rank=1, whiten=False, select="frobenius", packing=Asymmetric(group=2))
    got = made.quantize_all(p)["m"]
    assert not got.base.q.any()
    assert (got.a.row.tolist(), got.a.q.tolist()) == ([32], [[-2, 0, 1]])
    assert (got.b.row.tolist(), got.b.q.tolist()) == ([-29, -34], [[7, 0], [-8, 7]])


@pytest.mark.parametrize("packing", PACKINGS)
def test_codes_keep_to_their_bits(packing):
    lowest = {"a": -2, "b": -8} if packing.kind == "asymmetric" and packing.group == 4 else {}
    got = Lqer(base=BASE, packing=packing, top_k=9).quantize_all(problem())
    assert corrected(got) == set(problems.SHAPES)
    for m in got.values():
        for part, factor in {"a": m.a, "b": m.b}.items():
            bits = getattr(packing, "bits", 4)
            least = lowest.get(
                part, -(2 ** (bits - 1) - 1) if part == "b" or packing.kind == "symmetric" else -2
            )
            most = {-2: 1, -8: 7}.get(least, -least)
            assert factor.q.min() >= least
            assert factor.q.max() <= most
        assert m.correction().shape == m.base.shape


def test_one_step_for_all_of_a_is_what_the_records_have_and_one_each_what_mends_it():
    p = problem()
    one = Lqer(base=BASE, packing=Asymmetric(group=4, scales="tensor"), top_k=9).quantize_all(p)
    each = Lqer(base=BASE, packing=Asymmetric(group=4), top_k=9).quantize_all(p)
    assert all(len(set(m.a.row.tolist())) == 1 for m in one.values())
    assert any(len(set(m.a.row.tolist())) > 1 for m in each.values())
    assert loss(p, each) < loss(p, one)


def test_a_group_that_does_not_divide_the_columns_is_an_error_unless_something_is_said_of_it():
    p, asked = problem(), Asymmetric(group=8, otherwise=None)
    with pytest.raises(ValueError, match=r"divides the columns.*has 12.*group is 8"):
        Lqer(base=BASE, packing=asked).quantize_all(p)
    got = Lqer(base=BASE, packing=asked.but(otherwise=Symmetric(bits=5))).quantize_all(p)
    factors = [got[n].b for n in corrected(got)]
    assert factors
    assert all(f.q.shape[1] in (12, 36) and f.q.abs().max() <= 15 for f in factors)


@pytest.mark.parametrize("base", [Rtn(grids=BASE.grids), BASE])
def test_the_base_is_what_it_is_without_correction(base):
    p = problem()
    got, plain = Lqer(base=base, top_k=2, packing=FINE).quantize_all(p), base.quantize_all(p)
    assert len(corrected(got)) == 2
    assert list(got) == list(plain)
    for name, m in got.items():
        assert torch.equal(problems.codes_of(m), plain[name].q)


@settings(max_examples=10)
@given(seed=SEEDS)
def test_whitened_and_refitted_is_better_than_plain_in_what_it_costs(seed):
    p = problem(seed)
    made = Lqer(base=BASE, top_k=9, packing=FINE)
    whitened, plain = made.quantize_all(p), made.but(whiten=False).quantize_all(p)
    assert loss(p, whitened) < loss(p, plain) < loss(p, BASE.quantize_all(p))


@settings(max_examples=10)
@given(seed=SEEDS)
def test_refitting_mends_what_two_bits_do(seed):
    p, made = problem(seed), Lqer(base=BASE, top_k=9, packing=Asymmetric(group=4))
    assert loss(p, made.quantize_all(p)) < loss(p, made.but(refit=False).quantize_all(p))


def savings(p, every, base) -> tuple[dict, dict]:
    """What each matrix's correction saves, and its bytes."""
    saved = {n: loss(p, {n: base[n]}) - loss(p, {n: m}) for n, m in every.items() if n in corrected(every)}
    return saved, {n: coded_bytes(every[n].a, every[n].b) for n in saved}


def two(weight: float):
    """A large matrix and a small one, the rows of the small one worth `weight` times as much."""
    p = problem(shapes={"large": (60, 12, Role.MLP), "small": (12, 12, Role.ATTENTION)})
    rows = {"large": p.statistics.rows["large"], "small": p.statistics.rows["small"] * weight}
    return replace(p, statistics=replace(p.statistics, rows=rows))


def best(scores: dict) -> set[str]:
    return {max(scores, key=scores.get)}


def test_by_norm_the_largest_errors_are_corrected_and_by_gain_those_that_save_most_a_byte():
    made, differ = Lqer(base=BASE, top_k=1, packing=FINE), set()
    for weight in 2.0 ** torch.arange(-4, 8).double():
        p = two(float(weight))
        base, every = BASE.quantize_all(p), made.but(top_k=9).quantize_all(p)
        norms = {n: float((m.dequantize() - p.weights[n]).norm()) for n, m in base.items()}
        saved, size = savings(p, every, base)
        rates = {n: s / size[n] for n, s in saved.items()}
        assert corrected(made.but(select="frobenius").quantize_all(p)) == best(norms)
        assert corrected(made.quantize_all(p)) == best(rates)
        differ |= {"norm"} if best(rates) != best(norms) else set()
        differ |= {"saved"} if best(rates) != best(saved) else set()
    assert differ == {"norm", "saved"}, "else this test says less than it seems to"


def test_without_fisher_gain_is_the_error_weighted_by_the_inputs():
    p = problem(fisher=False)
    got = Lqer(base=BASE, top_k=1, packing=FINE).quantize_all(p)
    same_as = replace(p, statistics=Statistics(p.statistics.hessians, {}, {
        n: torch.ones(len(w)) for n, w in p.weights.items()
    }))  # fmt: skip
    assert same(got, Lqer(base=BASE, top_k=1, packing=FINE).quantize_all(same_as))


class Priced(Gptq):
    """A base that asks for corrections at a price."""

    def quantize_all(self, problem, finish=None):
        return finish(super().quantize_all(problem), self.damping)  # its damping is the price here


def priced(price: float, p=None, **fields):
    p = problem() if p is None else p
    made = Lqer(base=BASE, top_k=9, rank=6, packing=FINE).but(**fields)
    return p, made.model_copy(update={"base": Priced(grids=BASE.grids, damping=price)}).quantize_all(p)


@pytest.mark.parametrize("price", [1e-6, 1e-3, 1e-2, 0.1])
def test_every_component_bought_saves_more_than_it_costs_and_the_next_would_not(price):
    p, got = priced(price)
    base = Gptq(grids=BASE.grids, damping=price).quantize_all(p)
    for name, m in got.items():
        bought = len(m.a.q) if isinstance(m, LowRankMatrix) else 0
        every = Lqer(base=Gptq(grids=BASE.grids, damping=price), top_k=9, rank=6, packing=FINE).quantize_all(
            p
        )[name]
        if bought:
            assert torch.equal(m.a.q, every.a.q[:bought])
            assert torch.equal(m.b.q, every.b.q[:bought])
        before: object = base[name]
        for i in range(min(bought + 1, len(every.a.q))):
            a, b = (QuantizedMatrix(x.q[: i + 1], x.row[: i + 1]) for x in (every.a, every.b))
            after = LowRankMatrix(every.base, a, b)
            saves = loss(p, {name: before}) - loss(p, {name: after})
            costs = price * coded_bytes(
                *(QuantizedMatrix(x.q[i : i + 1], x.row[i : i + 1]) for x in (every.a, every.b))
            )
            assert (saves > costs) == (i < bought), (name, i)
            before = after


def test_the_dearer_a_byte_the_less_is_bought():
    ranks = [
        sum(len(m.a.q) for m in priced(p)[1].values() if isinstance(m, LowRankMatrix))
        for p in (1e-9, 0.01, 10.0)
    ]
    assert ranks[0] == 24
    assert 24 > ranks[1] > ranks[2] == 0


def test_at_a_price_those_that_gain_most_above_it_are_kept():
    price, differ = 0.05, False
    for weight in 2.0 ** torch.arange(-2, 2, 0.25).double():
        p = two(float(weight))
        every = priced(price, p)[1]
        saved, size = savings(p, every, Gptq(grids=BASE.grids, damping=price).quantize_all(p))
        net = {n: s - price * size[n] for n, s in saved.items()}
        assert corrected(priced(price, p, top_k=1)[1]) == best(net)
        differ |= best(net) != best(saved)
    assert differ, "else this test says less than it seems to"


def test_at_a_price_top_k_is_only_a_limit():
    assert len(corrected(priced(1e-9, top_k=2)[1])) == 2
    assert not corrected(priced(10.0, top_k=2)[1])


def test_inside_the_rate_distortion_solver_it_lands_within_the_target():
    p = problem()
    base = RateDistortion(form=FisherGrid(), target_bytes=1900)
    got = Lqer(base=base, packing=Symmetric(bits=3), top_k=9).quantize_all(p)
    assert 1850 < problems.coded_bytes(got) <= 1900


def test_the_outer_quantizers_finish_comes_last():
    seen = []

    def outer(matrices, price):
        seen.append((corrected(matrices), price))
        return {**matrices, "mark": matrices["q"]}

    got = Lqer(base=BASE, top_k=2, packing=FINE).quantize_all(problem(), outer)
    assert "mark" in got
    assert len(seen[0][0]) == 2
    assert seen[0][1] is None


def test_an_error_of_zero_is_left_alone():
    p = problem()
    weights = {n: m.dequantize() for n, m in BASE.quantize_all(p).items()}
    exact = replace(p, weights=weights)

    class Exact(Gptq):
        def quantize_all(self, problem, finish=None):
            return finish(BASE.quantize_all(p), None)

    for select in ("gain", "frobenius"):
        made = Lqer(packing=FINE, select=select).model_copy(update={"base": Exact()})
        assert not corrected(made.quantize_all(exact))


def test_it_is_the_same_twice():
    made = Lqer(base=BASE, packing=Asymmetric(group=4))
    assert same(made.quantize_all(problem()), made.quantize_all(problem()))


@pytest.mark.parametrize(("made", "needs"), [
    (Lqer(base=Rtn(), whiten=False, select="frobenius"), frozenset()),
    (Lqer(base=Rtn(), whiten=False, select="gain"), {HESSIANS}),
    (Lqer(base=Rtn(), whiten=True, select="frobenius"), {HESSIANS}),
    (Lqer(base=Gptq(), whiten=False, select="frobenius"), {HESSIANS}),
    (Lqer(base=RateDistortion()), {HESSIANS, FISHER}),
])  # fmt: skip
def test_it_needs_what_its_base_needs_and_what_it_looks_at(made, needs):
    assert made.needs == needs


def test_it_works_with_nothing_measured():
    p = replace(problem(), statistics=Statistics())
    got = Lqer(base=Rtn(grids=BASE.grids), whiten=False, select="frobenius", packing=FINE).quantize_all(p)
    assert len(corrected(got)) == 3


def test_its_expected_bits_are_the_bases_and_the_tables_factors():
    base = Gptq()
    made = Lqer(base=base, rank=4)
    own = base.expected_bits(Role.EMBEDDING, 8192, 512)
    assert made.expected_bits(Role.MLP, 2048, 512) == base.expected_bits(Role.MLP, 2048, 512)
    assert made.expected_bits(Role.EMBEDDING, 8192, 512) == own + 4 * (2 * 8192 + 4 * 512 + 2.5 * 9)
    symmetric = made.but(packing=Symmetric(bits=5))
    assert symmetric.expected_bits(Role.EMBEDDING, 8192, 512) == own + 4 * (5 * 8704 + 5)
    solver = RateDistortion()
    assert Lqer(base=solver).expected_bits(Role.EMBEDDING, 9, 9) == solver.expected_bits(Role.EMBEDDING, 9, 9)
    assert [Lqer(base=b).solves_for_bytes for b in (base, solver)] == [False, True]


def test_bytes_of_factors_by_hand():
    """Four codes of two kinds, evenly: a bit each; a table of half log2 4 bits, and 2.5 bits of step: 7.5 bits."""
    m = QuantizedMatrix(torch.tensor([[0, 0, 1, 1]], dtype=torch.int16), torch.zeros(1, dtype=torch.int16))
    assert coded_bytes(m) == pytest.approx(7.5 / 8)
    assert coded_bytes(m, m) == pytest.approx(15 / 8)


@pytest.mark.parametrize("change", [{"rank": 0}, {"rank": 9}, {"top_k": 0}, {"base": {"kind": "lqer"}}, {"ranks": 4},
                                    {"packing": {"kind": "symmetric", "bits": 2}}])  # fmt: skip
def test_an_impossible_or_misspelt_setting_is_refused(change):
    with pytest.raises(ValidationError):
        Lqer.model_validate({"kind": "lqer", **change})


def test_the_space_holds_the_base_it_is_given():
    asked = {"q.rank": 4, "q.top_k": 3, "q.whiten": False, "q.refit": False, "q.select": "frobenius",
             "q.packing.kind": "asymmetric", "q.packing.group": 64, "q.packing.scales": "tensor"}  # fmt: skip
    made = lqer(FixedTrial(asked), "q", Rtn())
    assert made.base == Rtn()
    assert made.packing == Asymmetric(scales="tensor", otherwise=Symmetric())
