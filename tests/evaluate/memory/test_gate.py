"""Gates against the arithmetic of one hint, and what is learned against a slow optimum."""

import numpy as np
import pytest
from scipy.optimize import minimize

from pgolf.evaluate.memory.gate import Confidence, Learned, Logistic, Odds, expit, gain, joint, logit, summed


def known(conf: float, total: float, q: float, length: float = 4, entropy: float = 2.0) -> np.ndarray:
    return np.array([[conf, total, length, float(logit(np.array([q]))[0]), entropy]])


def many(n: int = 500) -> np.ndarray:
    """Proposals of all kinds."""
    drawn = np.random.default_rng(0)
    share, q = drawn.uniform(0.01, 0.99, (2, n))
    return np.stack(
        [share, drawn.integers(1, 50, n), drawn.integers(1, 9, n), logit(q), drawn.uniform(0, 5, n)], 1
    )


OWN = np.zeros(1, dtype=np.int64)


@pytest.mark.parametrize(("q", "breaks_even"), [
    (0.05, 0.188), (0.2, 0.484), (0.5, 0.762), (0.8, 0.922), (0.9, 0.963), (0.95, 0.982),
])  # fmt: skip
def test_a_fixed_tilt_pays_from_a_confidence_on_that_depends_on_the_network(q, breaks_even):
    """What a tilt of 2.625 breaks even at."""
    for r, pays in ((breaks_even + 0.001, True), (breaks_even - 0.001, False)):
        assert bool(gain(np.array([r]), np.array([q]), np.array([2.625]))[0] > 0) is pays


def test_the_records_gate_looks_at_the_share_alone():
    judge = Confidence().build()
    for q in (0.01, 0.5, 0.99):
        for share, beta in ((0.81, 2.625), (0.79, 0.0)):
            k = known(share, 10, q)
            assert judge.betas(k, judge.rates(k, OWN))[0] == beta


def test_odds_tilt_to_the_rate_that_is_believed_in():
    judge, k = Odds(shrink=1.0, beta_max=40.0, negative=True, prior=2.0).build(), many()
    rates = judge.rates(k, OWN.repeat(len(k)))
    betas = judge.betas(k, rates)
    q = expit(k[:, 3])
    assert np.allclose(rates, (k[:, 0] * k[:, 1] + 2 * q) / (k[:, 1] + 2))
    assert np.allclose(expit(k[:, 3] + betas), rates)
    for off in (-0.3, -0.01, 0.01, 0.3):
        assert (gain(rates, q, betas) >= gain(rates, q, betas + off)).all(), "it is the best tilt"


def test_odds_are_clamped_on_the_side_that_is_allowed():
    judge, k = Odds(shrink=1.0, beta_max=0.5, prior=1e-6).build(), many()
    got = judge.betas(k, judge.rates(k, OWN.repeat(len(k))))
    assert got.min() == 0 and got.max() == 0.5
    assert ((got > 0) == (k[:, 0] > expit(k[:, 3]))).all()


def draws(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    drawn = np.random.default_rng(seed)
    x = np.concatenate([np.ones((n, 1)), drawn.normal(size=(n, 5))], axis=1)
    p = expit(x @ np.array([-0.5, 1.0, 0.0, -1.0, 0.5, 0.2]))
    return x, (drawn.random(n) < p).astype(float)


def test_what_is_learned_at_once_is_the_most_likely_regression():
    x, y = draws(400)
    made = Logistic(1, trust=20.0)
    first, precision = made.mean[0].copy(), made.precision[0].copy()
    for _ in range(1):
        made.tell(x, y, np.zeros(400, dtype=np.int64))

    def cost(w: np.ndarray) -> float:
        z = x @ w
        return float((np.logaddexp(0, z) - y * z).sum() + (w - first) @ precision @ (w - first) / 2)

    best = minimize(cost, first, tol=1e-12)
    assert cost(made.mean[0]) == pytest.approx(best.fun, rel=1e-6)


def test_what_is_learned_bit_by_bit_comes_near_to_that():
    x, y = draws(2000)
    once, often = Logistic(1, 20.0), Logistic(1, 20.0)
    once.tell(x, y, np.zeros(2000, dtype=np.int64))
    for at in range(0, 2000, 50):
        often.tell(x[at : at + 50], y[at : at + 50], np.zeros(50, dtype=np.int64))
    assert np.abs(once.mean - often.mean).max() < 0.05


def test_slots_learn_apart():
    x, y = draws(100)
    alone, among = Logistic(1, 20.0), Logistic(3, 20.0)
    alone.tell(x[:40], y[:40], np.zeros(40, dtype=np.int64))
    among.tell(x, y, np.array([2] * 40 + [0] * 60))
    assert np.allclose(among.mean[2], alone.mean[0], rtol=1e-12)
    assert (among.mean[1] == Logistic(1, 20.0).mean[0]).all()


def test_the_learned_gate_acts_on_expected_gain_alone():
    judge, k = Learned(least_gain=0.01).build(), many()
    rates = judge.rates(k, OWN.repeat(len(k)))
    best = np.clip(logit(rates) - k[:, 3], -6, 6)
    pays = gain(rates, expit(k[:, 3]), best) > 0.01
    assert 0.1 < pays.mean() < 0.95
    assert np.array_equal(judge.betas(k, rates), np.where(pays, best, 0))


def several(seed: int, hints: int, rates_up_to: float = 0.95) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is known of the hints of 40 targets, their rates and their rows."""
    drawn = np.random.default_rng(seed)
    r, q = (drawn.dirichlet(np.ones(hints + 1), 40)[:, :hints] * rates_up_to for _ in range(2))
    rows = np.repeat(np.arange(40) * 3, hints)  # rows without hints lie between
    k = np.repeat(known(0.5, 10, 0.5), len(rows), axis=0)
    k[:, 3] = logit(q.ravel())
    return k, r.ravel(), rows


@pytest.mark.parametrize("hints", [2, 3, 4])
def test_hints_of_one_target_are_tilted_together_as_far_as_pays_most(hints):
    """Against the numeric optimum of the expected gain, which is KL between which hint comes and which was expected."""
    k, rates, rows = several(hints, hints)
    q = expit(k[:, 3])
    betas = Odds(shrink=1.0, beta_max=50.0, negative=True).build().betas(k, rates, rows)
    for row in np.unique(rows)[:12]:
        of = rows == row
        r_, q_ = rates[of], q[of]

        def loss(beta: np.ndarray, r_: np.ndarray = r_, q_: np.ndarray = q_) -> float:
            return float(np.log1p(q_ @ np.expm1(beta)) - r_ @ beta)

        best = minimize(loss, np.zeros(hints), tol=1e-12)
        p, prior = np.append(r_, 1 - r_.sum()), np.append(q_, 1 - q_.sum())
        assert loss(betas[of]) == pytest.approx(best.fun, abs=1e-8)
        assert loss(betas[of]) == pytest.approx(-(p @ np.log(p / prior)), rel=1e-9)
        assert np.allclose(betas[of], best.x, atol=1e-3)
        assert np.allclose(gain(r_, q_, betas[of], np.zeros(hints, dtype=np.int64)), -best.fun, atol=1e-8)


def test_tilted_together_hints_come_to_their_rates():
    """And everything else keeps its proportions in what is left."""
    k, rates, rows = several(7, 3)
    betas = Odds(shrink=1.0, beta_max=50.0, negative=True).build().betas(k, rates, rows)
    raised = expit(k[:, 3]) * np.exp(betas)
    target = rows // 3
    left = 1 - summed(expit(k[:, 3]), target)
    assert np.allclose(raised / (left + summed(raised, target)), rates, rtol=1e-9)


@pytest.mark.parametrize("gate", [Odds(negative=True), Learned(), Confidence(threshold=0.3)])
def test_a_hint_alone_is_tilted_as_ever(gate):
    """To the last bit, whatever rows it is on."""
    judge, k = gate.build(), many()
    rates = judge.rates(k, OWN.repeat(len(k)))
    assert np.array_equal(judge.betas(k, rates, 2 * np.arange(len(k))), judge.betas(k, rates))


def test_rates_that_add_up_to_more_than_one_are_cut():
    k, rates, rows = several(1, 2)
    many_ = np.minimum(rates * 4, 0.99)
    target = rows // 3
    cut = joint(many_, target)
    assert (summed(many_, target) > 1).any() and (summed(cut, target) < 1).all()
    assert np.array_equal(joint(rates, target), rates)
    for section in (Odds(negative=True, beta_max=50.0), Learned(beta_max=50.0)):
        tilts = section.build().betas(k, many_, rows)
        assert np.isfinite(tilts).all()
        assert np.allclose(tilts, section.build().betas(k, cut, rows), atol=1e-6), (
            "a gate goes by those that are cut"
        )


def test_the_learned_gate_opens_for_what_hints_gain_together():
    """All of a target's or none; there are targets that pay only together."""
    k, rates, rows = several(3, 2, rates_up_to=0.2)
    judge = Learned(least_gain=0.02).build()
    betas = judge.betas(k, rates, rows)
    free = Learned(least_gain=0.0).build().betas(k, rates, rows)
    pays = gain(rates, expit(k[:, 3]), free, rows // 3) > 0.02
    assert 0.1 < pays.mean() < 0.9
    assert np.array_equal(betas, np.where(pays, free, 0.0))
    apart = gain(rates, expit(k[:, 3]), free) > 0.02
    assert (pays & ~(summed(apart.astype(float), rows // 3) > 0)).any()


def test_a_gate_that_was_misled_learns_it():
    """Hints that are always wrong are soon tilted away from, whatever their share."""
    judge = Learned().build()
    k = np.repeat(known(0.9, 10, 0.3), 50, axis=0)
    assert judge.betas(k[:1], judge.rates(k[:1], OWN))[0] > 0
    judge.share(k, np.zeros(50))
    judge.open(1)
    assert judge.betas(k[:1], judge.rates(k[:1], OWN))[0] < 0
