"""Grouped-query attention as a module: shapes that are refused, what the norm and the gain do."""

import pytest
import torch
from pydantic import ValidationError

from pgolf.kernels.attention import prepare
from pgolf.model.attention import Attention
from pgolf.model.gpt import GptConfig
from pgolf.model.reads import Reads
from pgolf.model.rope import Rope
from pgolf.section import RuleBroken
from tests.conformance.technique import TIME, TechniqueContract
from tests.nets import randomized


class TestAttention(TechniqueContract):
    def build(self):
        return Attention(heads=4, kv_heads=2).build(self.width, Rope(dims=2))

    def apply(self, module, x, starts):
        return module(x, Reads(x, prepare(starts)))


def one_document(x: torch.Tensor) -> torch.Tensor:
    starts = torch.zeros(x.shape[:2], dtype=torch.bool)
    starts[:, 0] = True
    return Reads(x, prepare(starts))


def test_it_begins_as_no_change():
    module = Attention(heads=2, kv_heads=1, qk_gain=2.5).build(16, Rope(dims=4))
    for part in module.modules():
        if callable(reset := getattr(part, "reset", None)):
            reset(torch.Generator().manual_seed(0))
    x = torch.randn(1, TIME, 16)
    assert not module(x, one_document(x)).any()
    assert module.gain.tolist() == [2.5, 2.5]


def test_the_norm_makes_the_scale_of_queries_and_keys_irrelevant():
    module = randomized(Attention(heads=2, kv_heads=1).build(16, Rope(dims=4)), seed=0)
    x = torch.randn(1, TIME, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = module(x, one_document(x))
        module.q.weight *= 10.0
        module.k.weight *= 0.1
        assert torch.allclose(module(x, one_document(x)), before, atol=1e-4)
        module.v.weight *= 2.0
        assert torch.allclose(module(x, one_document(x)), 2 * before, atol=1e-4)


def test_without_gain_every_visible_position_weighs_the_same():
    module = randomized(Attention(heads=2, kv_heads=2).build(16, Rope(dims=4)), seed=0)
    x = torch.randn(1, TIME, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        module.gain.zero_()
        mean = module.v(x).cumsum(1) / torch.arange(1, TIME + 1).view(1, -1, 1)
        assert torch.allclose(module(x, one_document(x)), module.o(mean), atol=1e-4)


def test_heads_that_do_not_share_evenly_are_refused():
    with pytest.raises(ValidationError, match="kv_heads divides heads"):
        Attention(heads=6, kv_heads=4)


def test_a_width_that_heads_do_not_divide_is_refused_with_the_nearest():
    with pytest.raises(RuleBroken) as refused:
        Attention(heads=4, kv_heads=2).head_dim(90)
    assert refused.value.refusal.remedy == "width=88 or 96"
    with pytest.raises(ValidationError, match="multiple of 2 x attention"):
        GptConfig(width=90, attention=Attention(heads=4, kv_heads=2), rope=Rope(dims=8))
