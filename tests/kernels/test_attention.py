"""Document-isolated causal attention against its definition."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from pgolf.kernels.attention import attend, attend_reference, prepare, visible

STARTS = st.lists(st.booleans(), min_size=1, max_size=14).map(lambda s: torch.tensor([[True, *s[1:]]]))


@settings(max_examples=60, deadline=None)
@given(starts=STARTS)
def test_a_position_sees_exactly_the_past_of_its_own_document(starts):
    mask = visible(starts)[0]
    begins = [max(s for s in range(t + 1) if starts[0, s]) for t in range(len(starts[0]))]
    for t in range(len(begins)):
        assert mask[t].tolist() == [begins[t] <= s <= t for s in range(len(begins))]


def test_rows_of_a_batch_have_their_own_documents():
    starts = torch.tensor([[True, False, True], [True, False, False]])
    assert visible(starts)[:, 2].tolist() == [[False, False, True], [True, True, True]]


def drawn(seed: int, heads: int, kv_heads: int, time: int, dim: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = (heads, kv_heads, kv_heads)
    return [torch.randn(1, time, h, dim, generator=generator) * 2 for h in shapes]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), starts=STARTS, groups=st.sampled_from([(1, 1), (4, 1), (4, 2), (6, 3), (2, 2)]),
       dim=st.integers(1, 9))  # fmt: skip
def test_it_is_its_definition(seed, starts, groups, dim):
    q, k, v = drawn(seed, *groups, starts.shape[1], dim)
    got = attend(q, k, v, prepare(starts))
    exact = attend_reference(q.double(), k.double(), v.double(), starts)
    assert torch.allclose(got.double(), exact, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_its_error_is_at_most_twice_that_of_the_plain_form(dtype):
    """Plain: scores, mask, softmax and product one after another in the same precision."""
    starts = torch.rand(1, 64, generator=torch.Generator().manual_seed(1)) < 0.1
    starts[:, 0] = True
    mask = visible(starts)
    for seed in range(4):
        q, k, v = drawn(seed, 4, 2, 64, 16)
        exact = attend_reference(q.double(), k.double(), v.double(), starts)
        q, k, v = (t.to(dtype) for t in (q, k, v))
        queries, keys, values = (
            t.repeat_interleave(n, dim=2).transpose(1, 2) for t, n in ((q, 1), (k, 2), (v, 2))
        )
        score = (queries @ keys.mT / 4.0).masked_fill(~mask.unsqueeze(1), float("-inf"))
        plain = (F.softmax(score, dim=-1) @ values).transpose(1, 2)
        worst = (plain.double() - exact).abs().max()
        assert (attend(q, k, v, prepare(starts)).double() - exact).abs().max() <= 2 * worst + 1e-7


def test_query_heads_read_neighbouring_key_heads():
    """Of 4 query heads on 2 key heads, heads 0 and 1 share the first."""
    q, k = torch.zeros(1, 1, 4, 2), torch.zeros(1, 1, 2, 2)
    v = torch.tensor([[[[1.0, 1.0], [2.0, 2.0]]]])
    got = attend(q, k, v, prepare(torch.ones(1, 1, dtype=torch.bool)))
    assert got[0, 0, :, 0].tolist() == [1.0, 1.0, 2.0, 2.0]
