"""Muon's whole update, with everything on and off, against a slow float64 transcription of the equations."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from pgolf.optim.centralize import Centralize
from pgolf.optim.decay_taper import DecayTaper
from pgolf.optim.gradient_power import GradientPower
from pgolf.optim.muon import Muon, MuonState
from pgolf.optim.nor_muon import NorMuon
from pgolf.optim.orthogonalizer import PolarExpress
from pgolf.optim.ranks import Ranks
from pgolf.runtime import Runtime

CLASSIC = [(3.4445, -4.7750, 2.0315)] * 12
POLAR = [
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
]


def state_of(section, params):
    return MuonState(section, params, Ranks(Runtime()))


def step(state, *when):
    state.send()
    state.step(*when)


def slow_update(section, w, grads, lr_scale, progress):
    """One matrix, one step after another."""
    m, v, w = np.zeros_like(w), np.zeros((len(w), 1)), w.copy()
    for g, scale, f in zip(grads, lr_scale, progress, strict=True):
        mu = section.momentum
        if f < section.momentum_warmup_fraction:
            share = f / section.momentum_warmup_fraction
            mu = section.momentum_start * (1 - share) + section.momentum * share
        if section.centralize is not None:
            g = g - g.mean(1, keepdims=True)
        if section.gradient_power is not None:
            g = np.sign(g) * np.abs(g) ** section.gradient_power.exponent
        m = mu * m + g
        u = g + mu * m
        if section.row_normalize:
            u = u / np.maximum(np.sqrt((u**2).sum(1, keepdims=True)), 1e-7)
        x = u / (np.sqrt((u**2).sum()) + 1e-7)
        x = x.T if len(x) > len(x.T) else x
        for a, b, c in (POLAR if section.orthogonalizer else CLASSIC)[: section.newton_schulz_steps]:
            gram = x @ x.T
            x = a * x + b * gram @ x + c * gram @ gram @ x
        x = x.T if x.shape != w.shape else x
        if section.nor_muon is not None:
            beta, length = section.nor_muon.beta2, np.sqrt((x**2).sum())
            v = beta * v + (1 - beta) * (x**2).mean(1, keepdims=True)
            x = x / (np.sqrt(v) + 1e-8)
            x = x * length / np.sqrt((x**2).sum())
        decay = section.weight_decay
        if section.decay_taper is not None and f > section.decay_taper.start_fraction:
            start, end = section.decay_taper.start_fraction, section.decay_taper.end
            decay *= 1 - (1 - end) * (f - start) / (1 - start)
        w *= 1 - section.lr * scale * decay
        w -= section.lr * scale * np.sqrt(max(1.0, w.shape[0] / w.shape[1])) * x
    return w


@pytest.mark.parametrize("section", [
    Muon(lr=0.1, momentum=0.9, momentum_start=0.5, momentum_warmup_fraction=0.5),
    Muon(lr=0.1, momentum=0.95, row_normalize=True, weight_decay=0.3, newton_schulz_steps=3),
    Muon(lr=0.1, row_normalize=True, orthogonalizer=PolarExpress(), weight_decay=0.2),
    Muon(lr=0.1, nor_muon=NorMuon(beta2=0.8)),
    Muon(lr=0.1, nor_muon=NorMuon(), row_normalize=True, centralize=Centralize(),
         gradient_power=GradientPower(exponent=0.8), orthogonalizer=PolarExpress(), newton_schulz_steps=4,
         weight_decay=0.5, decay_taper=DecayTaper(start_fraction=0.3, end=0.1)),
])  # fmt: skip
def test_a_step_is_the_equations_for_each_matrix_alone(section):
    """Shapes that are equal, tall and wide, so that batching by shape could mix them up; and a stack."""
    rng = np.random.default_rng(0)
    shapes = [(6, 4), (4, 6), (6, 4), (5, 5), (4, 6), (2, 6, 4)]
    starts = [rng.normal(size=s) for s in shapes]
    grads = [[rng.normal(size=s) for _ in range(4)] for s in shapes]
    params = [torch.tensor(w, requires_grad=True) for w in starts]
    state, scales, progress = state_of(section, params), (1.0, 0.8, 0.5, 0.1), (0.0, 0.2, 0.4, 0.9)
    for i in range(4):
        for p, g in zip(params, grads, strict=True):
            p.grad = torch.tensor(g[i])
        step(state, scales[i], progress[i])
    for p, w, g in zip(params, starts, grads, strict=True):
        got, stack = p.detach().numpy(), w.ndim == 3
        for k in range(len(w) if stack else 1):
            one = (w[k], [x[k] for x in g]) if stack else (w, g)
            assert np.allclose(
                got[k] if stack else got, slow_update(section, *one, scales, progress), atol=1e-7
            )


def test_the_scale_is_two_for_an_up_projection_and_one_for_everything_else():
    """sqrt(max(1, rows / cols)): 2048x512 against 512x2048 and 256x512, here a quarter of a hundredth."""
    moved = []
    for shape in ((32, 8), (8, 32), (4, 8), (8, 8)):
        p = torch.zeros(shape, requires_grad=True)
        p.grad = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        step(state_of(Muon(lr=1.0, orthogonalizer=PolarExpress()), [p]), 1.0, 1.0)
        moved.append(torch.linalg.svdvals(p.detach()))
    assert ((moved[0] > 2 * 0.85) & (moved[0] < 2 * 1.15)).all()
    assert all(((m[:-1] > 0.8) & (m < 1.15)[:-1]).all() for m in moved[1:])


def test_rows_of_equal_direction_count_the_same_once_normalized():
    """The norm is over the inputs: scaling a row of the gradient changes nothing."""
    g = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    ends = []
    for scale in (torch.ones(3, 1), torch.tensor([[10.0], [1.0], [0.1]])):
        p = torch.zeros(3, 5, requires_grad=True)
        p.grad = g * scale
        step(state_of(Muon(row_normalize=True), [p]), 1.0, 1.0)
        ends.append(p.detach())
    assert torch.allclose(ends[0], ends[1], atol=1e-6)


def test_a_gradient_that_is_none_is_zero():
    """The momentum decays and goes on moving the matrix; the last gradient is not taken again."""
    ends = []
    for last in (None, torch.zeros(3, 4, dtype=torch.float64)):
        p = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
        state = state_of(Muon(weight_decay=0.1), [p])
        for grad in (torch.ones(3, 4, dtype=torch.float64).triu(), last, last):
            p.grad = grad
            step(state, 1.0, 0.5)
        ends.append(p.detach())
    assert torch.equal(*ends)


def test_bfloat16_momentum_keeps_the_weights_in_float32():
    g = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
    ends = []
    for dtype in (None, "bfloat16"):
        p = torch.zeros(8, 16, requires_grad=True)
        state = state_of(Muon(momentum_dtype=dtype), [p])
        for _ in range(3):
            p.grad = g.clone()
            step(state, 1.0, 1.0)
        assert state.banks[0].momentum.dtype == (torch.bfloat16 if dtype else torch.float32)
        ends.append(p.detach())
    assert ends[1].dtype == torch.float32
    assert 1e-6 < float((ends[1] - ends[0]).norm() / ends[0].norm()) < 0.02


def test_momentum_warms_up_over_a_fraction_of_the_run():
    muon = Muon(momentum=0.9, momentum_start=0.5, momentum_warmup_fraction=0.2)
    assert [muon.momentum_at(f) for f in (0.0, 0.1, 0.2, 1.0)] == pytest.approx([0.5, 0.7, 0.9, 0.9])
    assert Muon(momentum=0.9, momentum_warmup_fraction=0.0).momentum_at(0.0) == 0.9


def test_a_taper_without_decay_is_refused():
    with pytest.raises(ValidationError, match="tapers a weight decay"):
        Muon(decay_taper=DecayTaper())
