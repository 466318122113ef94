"""Where each family takes singular values, and the whole of Turbo by a slow twin."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pgolf.optim.muon import Muon
from pgolf.optim.orthogonalizer import PolarExpress, Turbo, orthogonalize

# singular value (of a Frobenius norm of 1) -> where 3 and 5 classic steps and 5 of Polar Express take it
MAP = {
    1e-4: (0.0041, 0.0485, 0.0988), 1e-3: (0.0409, 0.4705, 0.8589), 3e-3: (0.1224, 1.1104, 0.9664),
    0.01: (0.4001, 0.6989, 1.0271), 0.03: (1.0120, 1.1223, 1.0605), 0.1: (0.7071, 0.7121, 1.0592),
    0.3: (0.9689, 1.0796, 0.9831), 1.0: (0.7207, 0.6964, 0.8591),
}  # fmt: skip
SHAPES = [(16, 48), (48, 16), (8, 64)]
SEEDS = st.integers(0, 2**31 - 1)


def gaussian(seed, shape, scale=1.0):
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed)).double() * scale


@pytest.mark.parametrize("s", MAP)
def test_singular_values_go_where_the_table_says(s):
    x = torch.diag(torch.tensor([s, (1 - s * s) ** 0.5], dtype=torch.float64)).unsqueeze(0)
    for (how, steps), expected in zip([(None, 3), (None, 5), (PolarExpress(), 5)], MAP[s], strict=True):
        assert float(orthogonalize(x, steps, how)[0, 0, 0]) == pytest.approx(expected, abs=6e-5)


@pytest.mark.parametrize(("how", "low", "high"), [(None, 0.682, 1.202), (PolarExpress(), 0.859, 1.141)])
def test_the_band_of_five_steps(how, low, high):
    """For every singular value of at least 0.003 of the norm; and both ends of the band are reached."""
    s = torch.logspace(np.log10(0.003), 0, 4000, dtype=torch.float64)
    x = torch.zeros(4000, 2, 2, dtype=torch.float64)
    x[:, 0, 0], x[:, 1, 1] = s, (1 - s * s).clamp_min(0).sqrt()
    got = orthogonalize(x, 5, how)[:, 0, 0]
    assert float(got.min()) == pytest.approx(low, abs=1e-3)
    assert float(got.max()) == pytest.approx(high, abs=1e-3)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, shape=st.sampled_from(SHAPES), scale=st.floats(1e-3, 1e3), polar=st.booleans())
def test_the_update_keeps_directions_and_evens_out_lengths(seed, shape, scale, polar):
    x, (low, high) = gaussian(seed, shape, scale), (0.85, 1.15) if polar else (0.68, 1.21)
    got = orthogonalize(x, 5, PolarExpress() if polar else None)
    u, _, vt = torch.linalg.svd(x, full_matrices=False)
    core = u.mT @ got @ vt.mT
    values = core.diagonal(dim1=1, dim2=2)
    assert ((values > low) & (values < high)).all()
    assert (core - torch.diag_embed(values)).abs().max() < 1e-6, "the singular vectors are the input's"
    assert torch.allclose(u @ core @ vt, got, atol=1e-6), "nothing outside its row and column space"


@pytest.mark.parametrize(("how", "low", "high"), [(None, 0.68, 1.21), (PolarExpress(), 0.85, 1.15)])
@pytest.mark.parametrize("shape", SHAPES)
def test_bfloat16_widens_the_band_by_little(how, low, high, shape):
    """What a GPU computes in, here on a CPU."""
    got = orthogonalize(gaussian(0, shape).bfloat16(), 5, how)
    assert got.dtype == torch.bfloat16
    values = torch.linalg.svdvals(got.float())
    assert ((values > low - 0.04) & (values < high + 0.04)).all()


@pytest.mark.parametrize(("rows", "cols"), [(512, 512), (256, 512), (512, 2048), (2048, 512)])
def test_shapes_of_the_records_in_float32(rows, cols):
    """A random square matrix has a few singular values near zero, which stay small."""
    x = torch.randn(1, rows, cols, generator=torch.Generator().manual_seed(0))
    for how, low, high in ((None, 0.68, 1.21), (PolarExpress(), 0.85, 1.15)):
        values = torch.linalg.svdvals(orthogonalize(x, 5, how))
        outside = ((values < low) | (values > high)).float().mean()
        assert outside <= (0.025 if rows == cols else 0.0)


def test_polar_express_makes_longer_updates():
    """6-8 % in rms, which an isolated comparison must take out of the rate."""
    for shape in ((256, 512), (512, 2048)):
        x = gaussian(0, shape).float()
        ratio = orthogonalize(x, 5, PolarExpress()).norm() / orthogonalize(x, 5).norm()
        assert 1.05 < float(ratio) < 1.09


def test_a_margin_divides_the_start():
    """Of 1.02: a singular value of 1 starts where one of 1/1.02 would."""
    x = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]], dtype=torch.float64)
    y = 1 / 1.02
    for a, b, c in [
        (8.156554524902461, -22.48329292557795, 15.878769915207462),
        (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    ]:
        y = a * y + b * y**3 + c * y**5
    assert float(orthogonalize(x, 2, PolarExpress(margin=1.02))[0, 0, 0]) == pytest.approx(y, rel=1e-5)


TURBO = [
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115952949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.8913, -1.26800, 0.37680),
    (1.875, -1.25, 0.375),
    (1.875, -1.25, 0.375),
    (1.875, -1.25, 0.375),
]


def slow_turbo(x, tuples):
    flip = x.shape[0] > x.shape[1]
    x = x.T.copy() if flip else x.copy()
    gram = x @ x.T
    for i in range(len(x)):
        x[i] /= np.sqrt(np.abs(gram[i]).sum())
    for a, b, c in tuples:
        gram = x @ x.T
        x = a * x + b * gram @ x + c * gram @ gram @ x
    x = x.T if flip else x
    x = x / np.sqrt((x**2).sum(1, keepdims=True))
    return x / np.sqrt((x**2).sum(0, keepdims=True))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("first", "steps"), [(1, 4), (2, 4), (3, 7)])
def test_turbo_is_the_equations(shape, first, steps):
    x = gaussian(3, shape)
    got = orthogonalize(x, steps, Turbo(first=first)).numpy()
    for i in range(2):
        expected = slow_turbo(x[i].numpy(), TURBO[first - 1 : first - 1 + steps])
        assert np.allclose(got[i], expected, atol=1e-6)


def test_turbo_needs_one_step_less_from_its_second_tuple_on():
    """The preconditioner is worth the first: four steps are there. From the first on they are not yet."""
    x = gaussian(0, (64, 256)).float()
    by_first = [torch.linalg.svdvals(orthogonalize(x, 4, Turbo(first=k))) / 2 for k in (1, 2)]
    within = [
        ((v > 0.8) & (v < 1.2)).float().mean() for v in by_first
    ]  # of sqrt(256 / 64): columns of length 1
    assert within[1] == 1.0
    assert within[0] < 0.8


@pytest.mark.parametrize("how", [None, PolarExpress(), Turbo()])
@pytest.mark.parametrize("scale", [1e-2, 1e12])
def test_the_scale_of_a_gradient_does_not_matter(how, scale):
    """As long as it is far above the 1e-7 that keeps a zero gradient zero."""
    x = gaussian(1, (6, 10))
    assert torch.allclose(orthogonalize(x * scale, 4, how), orthogonalize(x, 4, how), atol=1e-4)


@pytest.mark.parametrize("how", [None, PolarExpress(), Turbo()])
def test_a_zero_gradient_makes_no_update(how):
    """Nor does a zero matrix in a stack touch the others: that is what a bank is padded with."""
    x = gaussian(0, (3, 5))
    got = orthogonalize(torch.cat([x, torch.zeros(1, 3, 5)]), 5, how)
    assert not got[2].any()
    assert torch.allclose(got[:2], orthogonalize(x, 5, how))


def test_polar_express_has_five_tuples():
    assert Muon(orthogonalizer=PolarExpress(), newton_schulz_steps=5)
    with pytest.raises(ValidationError, match="coefficients for 5 steps"):
        Muon(orthogonalizer=PolarExpress(), newton_schulz_steps=6)
    assert Muon(orthogonalizer=Turbo(), newton_schulz_steps=9)
