"""NorMuon: rows evened out by their history, at the length of the update."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from pgolf.optim.nor_muon import NorMuon


def drawn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_worked_example():
    """Rows of rms 3 and 1: the first step divides each by its own rms (times a common factor)."""
    x, second = torch.tensor([[[3.0, 3.0], [1.0, -1.0]]]), torch.zeros(1, 2, 1)
    got = NorMuon(beta2=0.5).evened(x, second)
    assert torch.allclose(second, torch.tensor([[[4.5], [0.5]]]))
    length = (20 / 4) ** 0.5  # |X| = sqrt(20), spread evenly over four entries
    assert torch.allclose(got, length * torch.tensor([[[1.0, 1.0], [1.0, -1.0]]]), atol=1e-5)


@given(seed=st.integers(0, 2**31 - 1), beta2=st.floats(0, 0.99), steps=st.integers(1, 4))
def test_it_is_the_slow_loop_and_keeps_the_length(seed, beta2, steps):
    section, second, slow = NorMuon(beta2=beta2), drawn(0, 2, 3, 1) * 0, [[0.0] * 3 for _ in range(2)]
    for step in range(steps):
        x = drawn(seed + step, 2, 3, 5)
        got = section.evened(x, second)
        for i in range(2):
            rows = []
            for r in range(3):
                slow[i][r] = beta2 * slow[i][r] + (1 - beta2) * float((x[i, r] ** 2).mean())
                rows.append(x[i, r] / (slow[i][r] ** 0.5 + 1e-8))
            expected = torch.stack(rows)
            assert torch.allclose(got[i], expected * (x[i].norm() / expected.norm()))
        assert torch.allclose(got.norm(dim=(1, 2)), x.norm(dim=(1, 2)))


def test_a_row_or_a_matrix_of_zeros_stays_zero():
    x = drawn(0, 2, 3, 4)
    x[0, 1], x[1] = 0, 0
    got = NorMuon().evened(x, torch.zeros(2, 3, 1, dtype=torch.float64))
    assert torch.isfinite(got).all()
    assert not got[0, 1].any()
    assert not got[1].any()


def test_bfloat16_updates_keep_their_dtype_and_a_float32_history():
    second = torch.zeros(1, 3, 1)
    assert NorMuon().evened(drawn(0, 1, 3, 4).bfloat16(), second).dtype == torch.bfloat16
    assert second.dtype == torch.float32
    assert second.all()
