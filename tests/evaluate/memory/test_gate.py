"""Gates against the arithmetic of one hint, and what is learned against a slow optimum."""

import numpy as np
import pytest
from scipy.optimize import minimize

from pgolf.evaluate.memory.gate import Confidence, Learned, Logistic, Odds, expit, gain, logit


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


def test_a_gate_that_was_misled_learns_it():
    """Hints that are always wrong are soon tilted away from, whatever their share."""
    judge = Learned().build()
    k = np.repeat(known(0.9, 10, 0.3), 50, axis=0)
    assert judge.betas(k[:1], judge.rates(k[:1], OWN))[0] > 0
    judge.share(k, np.zeros(50))
    judge.open(1)
    assert judge.betas(k[:1], judge.rates(k[:1], OWN))[0] < 0
