"""Block-sparse attention: which blocks are listed, and on the CPU its forward (torch has no backward there)."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import create_block_mask

from pgolf.kernels import flex
from pgolf.kernels.attention import attend, attend_reference, prepare, visible
from tests.kernels.elsewhere import compiled_attention
from tests.kernels.packed import drawn, plain

LONG_ROWS = st.tuples(st.integers(1, 2), st.integers(1, 700), st.integers(0, 12), st.integers(0, 2**31 - 1))


def scattered(rows, time, documents, seed):
    """Rows with so many further documents at random places; next to blocks' edges as well."""
    generator = torch.Generator().manual_seed(seed)
    starts = torch.zeros(rows, time, dtype=torch.bool)
    for row in starts:
        row[torch.randint(time, (documents,), generator=generator)] = True
        edges = torch.arange(0, time, flex.BLOCK) + torch.randint(-1, 2, (1,), generator=generator)
        row[edges.clamp(0, time - 1)[torch.rand(len(edges), generator=generator) < 0.3]] = True
    return starts


def listed(count, columns):
    """The blocks that a list names, as a table."""
    table = torch.zeros(columns.shape, dtype=torch.bool)
    for at in torch.cartesian_prod(*(torch.arange(n) for n in count.shape)).tolist():
        table[tuple(at)][columns[tuple(at)][: count[tuple(at)]].long()] = True
    return table


@settings(max_examples=60)
@given(drawn_rows=LONG_ROWS)
def test_blocks_are_those_that_torch_finds_by_writing_the_mask_out(drawn_rows):
    starts = scattered(*drawn_rows)
    mask = prepare(starts, "flex").mask
    seen = visible(starts)
    rows, time = starts.shape
    exact = create_block_mask(lambda b, h, q, k: seen[b, q, k], rows, None, time, time, device="cpu")
    for kind in ("kv", "full_kv", "q", "full_q"):
        ours, theirs = (
            listed(getattr(m, f"{kind}_num_blocks"), getattr(m, f"{kind}_indices")) for m in (mask, exact)
        )
        assert torch.equal(ours, theirs), kind


def test_three_blocks_by_hand():
    """One document over two and a half blocks, then a second: only the first two are whole below."""
    starts = torch.zeros(1, 3 * 128, dtype=torch.bool)
    starts[0, 320] = True
    mask = prepare(starts, "flex").mask
    assert mask.kv_num_blocks.tolist() == [[[1, 1, 3]]]
    assert mask.full_kv_num_blocks.tolist() == [[[0, 1, 0]]]


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(("heads", "kv_heads", "rows", "time"), [(4, 2, 2, 12), (1, 1, 1, 1), (3, 1, 3, 130)])
def test_its_rule_is_the_definition(heads, kv_heads, rows, time):
    torch._dynamo.reset()  # torch traces the rule once for every shape, and only for so many
    starts = scattered(rows, time, 3, seed=time)
    q, k, v = drawn(time, starts, heads, kv_heads, 4)
    exact = attend_reference(q.double(), k.double(), v.double(), starts)
    assert torch.allclose(attend(q, k, v, prepare(starts, "flex")).double(), exact, atol=1e-5)


@pytest.mark.heavy
def test_compiled_it_is_the_definition_for_every_packing_of_one_shape(unchecked):
    """Here the blocks decide what is computed at all; one graph serves them."""
    batches = []
    for seed in range(4):
        starts = scattered(2, 300, 4, seed)
        batches.append((*drawn(seed, starts, 4, 2, 16), starts))
    outputs, graphs = unchecked(compiled_attention, "flex", batches)
    assert graphs == 1
    for (q, k, v, starts), got in zip(batches, outputs, strict=True):
        assert torch.allclose(got.double(), plain(q.double(), k.double(), v.double(), starts), atol=2e-5)
