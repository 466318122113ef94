"""Ternary and binary codes: by hand, the same in training and deployment to the last bit, and idempotent."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pgolf.formats.grouped import alphas, applied, binary, ternary
from pgolf.formats.quantized import MOST_GROUP, GroupedMatrix, array_shapes

CODERS = {"ternary": ternary, "binary": binary}
either = pytest.mark.parametrize("coder", CODERS.values(), ids=list(CODERS))


def weights(seed: int, rows: int, cols: int, scale: float) -> torch.Tensor:
    """With a row of zeros and a few zeros elsewhere."""
    w = torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed)) * scale
    w[0] = 0.0
    w.view(-1)[::7] = 0.0
    return w


def bits_of(w: torch.Tensor) -> list[int]:
    return w.contiguous().view(torch.int32).flatten().tolist()


def test_ternary_by_hand():
    """alpha is 5 / 4; 2 is 1.6 of it and becomes 1, 0.5 is 0.4 of it and becomes 0. Half of the codes are
    zero, so that the others are doubled. The last group is one weight."""
    w = torch.tensor([[2.0, -2.0, 0.5, -0.5, 3.0]])
    q, alpha = ternary(w, 4)
    assert q.tolist() == [[1, -1, 0, 0, 1]]
    assert alpha.tolist() == [1.25, 3.0]
    assert alpha.dtype == torch.float16
    assert applied(w, 4, ternary).tolist() == [[2.5, -2.5, 0, 0, 3]]


def test_binary_by_hand():
    w = torch.tensor([[2.0, -2.0, 0.0, -1.0]])
    q, alpha = binary(w, 4)
    assert q.tolist() == [[1, -1, 1, -1]]
    assert alpha.tolist() == [1.25]
    assert applied(w, 4, binary).tolist() == [[1.25, -1.25, 1.25, -1.25]]


def test_a_group_goes_on_in_the_next_row():
    w = torch.tensor([[1.0, 1.0, 3.0], [3.0, 8.0, 8.0]])
    assert alphas(w, 4).tolist() == [2.0, 8.0]
    assert applied(w, 4, binary).tolist() == [[2, 2, 2], [2, 8, 8]]


@pytest.mark.parametrize(
    ("w", "alpha"), [(1.0004, 1.0), (1.0006, 1.0009765625), (1e6, 65_504.0), (2.0**-26, 0.0)]
)
def test_a_magnitude_is_the_nearest_float16_that_is_finite(w, alpha):
    assert alphas(torch.full((1, 128), w), 128).tolist() == [alpha]


@either
@given(
    seed=st.integers(0, 2**31 - 1), rows=st.integers(1, 9), cols=st.integers(1, 40), group=st.integers(1, 130),
    scale=st.sampled_from([1e-7, 1e-3, 1.0, 1e4, 1e7]),
)  # fmt: skip
def test_what_is_applied_in_training_is_what_deployment_computes_bit_for_bit(
    coder, seed, rows, cols, group, scale
):
    w = weights(seed, rows, cols, scale)
    q, alpha = coder(w, group)
    stored = GroupedMatrix(q.short(), alpha, group)
    assert stored.q.abs().max() <= 1
    assert bits_of(stored.dequantize()) == bits_of(applied(w, group, coder))
    assert torch.isfinite(stored.dequantize()).all()


@either
@given(seed=st.integers(0, 2**31 - 1), group=st.integers(1, 130), scale=st.sampled_from([1e-5, 1.0, 1e6]))
def test_rounded_weights_round_to_themselves(coder, seed, group, scale):
    w = weights(seed, 5, 33, scale)
    once = applied(w, group, coder)
    assert torch.equal(applied(once, group, coder), once)
    if coder is ternary:
        for again, first in zip(coder(once, group), coder(w, group), strict=True):
            assert torch.equal(again, first)


@either
@given(seed=st.integers(0, 2**31 - 1), group=st.integers(1, 130))
def test_every_group_keeps_its_mean_magnitude(coder, seed, group):
    w = weights(seed, 6, 31, 1.0)
    kept = alphas(applied(w, group, coder), group)
    assert torch.equal(kept, alphas(w, group))


@either
def test_zeros_stay_zeros(coder):
    assert not applied(torch.zeros(3, 50), 128, coder).any()
    assert applied(torch.zeros(0, 50), 128, coder).shape == (0, 50)


def test_of_gaussian_weights_a_third_is_zero():
    q, _ = ternary(weights(0, 400, 128, 0.02)[1:], 128)
    nonzero_weights = 1 - 1 / 7  # every seventh was set to zero
    assert float((q != 0).float().mean()) == pytest.approx(0.69 * nonzero_weights, abs=0.06)


@pytest.mark.parametrize("group", [0, -1, MOST_GROUP + 1, 1 << 60])
def test_a_file_cannot_ask_for_absurd_groups(group):
    """A group is filled up when it is read: one weight and a group of 2^60 would be all memory there is."""
    with pytest.raises(ValueError, match="no matrix"):
        array_shapes(["grouped", 1, 1, group])
    assert array_shapes(["grouped", 1, 1, MOST_GROUP]) == {"q": (1, 1), "alpha": (1,)}
