"""Optimizers of rows are torch's, a row at a time, and rows do not meet."""

import pytest
import torch

from pgolf.evaluate.ttt.row_optimizer import AdamW, Momentum, Part, RmsProp, RowMuon
from pgolf.optim.orthogonalizer import orthogonalize

PARTS = [Part(0, 2, 3), Part(6, 4, 1)]
SECTIONS = [AdamW(), AdamW(beta1=0.9, beta2=0.95, eps=1e-3), RmsProp(eps=1e-4), Momentum(), RowMuon()]


def walk(section, rows: torch.Tensor, lr: float = 0.1, steps: int = 4) -> torch.Tensor:
    """Some steps on gradients that depend on the step and on where they are taken."""
    values = rows.clone()
    moments = [torch.zeros_like(values) for _ in range(section.moments)]
    for count in range(1, steps + 1):
        u = section.update(gradient(values, count), moments, count, PARTS)
        values = values * (1 - lr * section.weight_decay) - lr * u
    return values


def gradient(values: torch.Tensor, count: int) -> torch.Tensor:
    return (values * count).sin() + 0.1


@pytest.mark.parametrize(("section", "made"), [
    (SECTIONS[0], lambda p: torch.optim.AdamW(p, 0.1, betas=(0.0, 0.99), eps=1e-10, weight_decay=0.5)),
    (SECTIONS[1], lambda p: torch.optim.AdamW(p, 0.1, betas=(0.9, 0.95), eps=1e-3, weight_decay=0.5)),
    (SECTIONS[2], lambda p: torch.optim.RMSprop(p, 0.1, alpha=0.99, eps=1e-4)),
    (SECTIONS[3], lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)),
])  # fmt: skip
def test_it_is_torchs(section, made):
    rows = torch.randn(3, 10, generator=torch.Generator().manual_seed(0))
    p = torch.nn.Parameter(rows.clone())
    steps = made([p])
    for count in range(1, 5):
        p.grad = gradient(p.detach(), count)
        steps.step()
    assert torch.allclose(walk(section, rows), p, atol=1e-6)


def test_muon_orthogonalizes_every_matrix():
    rows = torch.randn(2, 10, generator=torch.Generator().manual_seed(1))
    g = gradient(rows, 1)
    u = RowMuon(momentum=0.5).update(g, [torch.zeros_like(g)], 1, PARTS)
    wide, tall = (orthogonalize(1.5 * part.of(g), 5) for part in PARTS)
    assert torch.allclose(PARTS[0].of(u), wide, atol=1e-6)
    assert torch.allclose(PARTS[1].of(u), 2.0 * tall, atol=1e-6), "sqrt(4 / 1)"


@pytest.mark.parametrize("section", SECTIONS, ids=lambda s: s.kind)
def test_rows_do_not_meet(section):
    rows = torch.randn(3, 10, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(walk(section, rows)[1:2], walk(section, rows[1:2]), atol=1e-6)
