"""RMSNorm without weights."""

import torch

from pgolf.model.rms_norm import RmsNorm, rms_norm


def test_worked_example():
    """(3, 4) has the root mean square sqrt(12.5)."""
    got = rms_norm(torch.tensor([[3.0, 4.0]]))
    assert torch.allclose(got, torch.tensor([[3.0, 4.0]]) / 12.5**0.5)


def test_the_output_has_unit_power_at_any_scale_and_zero_stays_zero():
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    for scale in (0.01, 1.0, 1000.0):
        assert torch.allclose(RmsNorm()(x * scale).square().mean(-1), torch.ones(5), atol=0.01)
    assert not rms_norm(torch.zeros(1, 4)).any()


def test_the_mean_is_taken_in_float32_and_the_dtype_comes_back():
    x = torch.full((1, 4096), 300.0, dtype=torch.float16)  # 300^2 is beyond float16
    got = rms_norm(x)
    assert got.dtype == torch.float16
    assert torch.allclose(got.float(), torch.ones(1, 4096))
