"""Document-isolated causal attention against its definition, on every backend that runs here."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.kernels.attention import BACKENDS, Masked, attend, attend_reference, prepare, visible
from pgolf.kernels.choice import missing
from tests.kernels.elsewhere import compiled_attention, refusal
from tests.kernels.packed import drawn, gradients, plain, rows_of

SEEDS = st.integers(0, 2**31 - 1)
GROUPS = st.sampled_from([(1, 1), (4, 1), (4, 2), (6, 3), (2, 2)])
EVERYWHERE = ["sdpa", "sdpa_documents"]


@settings(max_examples=60)
@given(starts=rows_of(max_rows=1))
def test_a_position_sees_exactly_the_past_of_its_own_document(starts):
    mask = visible(starts)[0]
    begins = [max(s for s in range(t + 1) if s == 0 or starts[0, s]) for t in range(len(starts[0]))]
    for t in range(len(begins)):
        assert mask[t].tolist() == [begins[t] <= s <= t for s in range(len(begins))]


def test_rows_of_a_batch_have_their_own_documents():
    starts = torch.tensor([[True, False, True], [True, False, False]])
    assert visible(starts)[:, 2].tolist() == [[False, False, True], [True, True, True]]


def test_the_last_positions_of_a_row_read_all_of_it():
    starts = torch.tensor([[True, False, True, False, False]])
    assert torch.equal(visible(starts, 3), visible(starts)[:, 3:])
    q, k, v = (torch.randn(1, 5, heads, 4, generator=torch.Generator().manual_seed(0)) for heads in (4, 2, 2))
    got = attend(q[:, 3:], k, v, Masked(visible(starts, 3)))
    assert torch.allclose(got, attend(q, k, v, prepare(starts))[:, 3:], atol=1e-6)


@pytest.mark.parametrize("backend", EVERYWHERE)
@settings(max_examples=25)
@given(seed=SEEDS, starts=rows_of(), groups=GROUPS, dim=st.integers(1, 9))
def test_it_is_its_definition(backend, seed, starts, groups, dim):
    q, k, v = drawn(seed, starts, *groups, dim)
    got = attend(q, k, v, prepare(starts, backend))
    exact = attend_reference(q.double(), k.double(), v.double(), starts)
    assert torch.allclose(got.double(), exact, atol=1e-5)


@pytest.mark.parametrize("backend", EVERYWHERE)
@settings(max_examples=12)
@given(seed=SEEDS, starts=rows_of(max_rows=2, max_time=8), groups=GROUPS)
def test_its_gradient_is_that_of_the_definition(backend, seed, starts, groups):
    q, k, v = drawn(seed, starts, *groups, dim=4)
    upstream = torch.randn(q.shape, generator=torch.Generator().manual_seed(seed))
    got = gradients(lambda *x: attend(*x, prepare(starts, backend)), (q, k, v), upstream)
    exact = gradients(lambda *x: attend_reference(*x, starts), [x.double() for x in (q, k, v)], upstream)
    for ours, theirs in zip(got, exact, strict=True):
        assert torch.allclose(ours.double(), theirs, atol=1e-5)


@settings(max_examples=12)
@given(seed=SEEDS, starts=rows_of(), groups=GROUPS)
def test_the_plain_form_that_larger_tests_compare_with_is_the_definition(seed, starts, groups):
    q, k, v = (x.double() for x in drawn(seed, starts, *groups))
    assert torch.allclose(plain(q, k, v, starts), attend_reference(q, k, v, starts))


@pytest.mark.parametrize("backend", EVERYWHERE)
@settings(max_examples=15)
@given(seed=SEEDS, starts=rows_of(max_rows=2, max_time=12), data=st.data())
def test_only_the_rest_of_its_own_document_feels_a_position(backend, seed, starts, data):
    """Causality and isolation at once; the key and the value of a position reach no other output."""
    row, at = (data.draw(st.integers(0, n - 1)) for n in starts.shape)
    q, k, v = drawn(seed, starts, heads=2)
    layout = prepare(starts, backend)
    before = attend(q, k, v, layout)
    k[row, at], v[row, at] = -3.0, 50.0
    changed = (attend(q, k, v, layout) != before).any(dim=-1).any(dim=-1)
    feels = torch.zeros_like(starts)
    feels[row] = visible(starts)[row, :, at]
    assert torch.equal(changed, feels)


@pytest.mark.parametrize("backend", EVERYWHERE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_its_error_is_at_most_twice_that_of_the_plain_form(dtype, backend):
    starts = torch.rand(1, 64, generator=torch.Generator().manual_seed(1)) < 0.1
    for seed in range(4):
        q, k, v = drawn(seed, starts, 4, 2, 16)
        exact = plain(q.double(), k.double(), v.double(), starts)
        q, k, v = (t.to(dtype) for t in (q, k, v))
        worst = (plain(q, k, v, starts).double() - exact).abs().max()
        got = attend(q, k, v, prepare(starts, backend))
        assert got.dtype == dtype
        assert (got.double() - exact).abs().max() <= 2 * worst + 1e-7


@pytest.mark.parametrize("backend", EVERYWHERE)
def test_query_heads_read_neighbouring_key_heads(backend):
    """Of 4 query heads on 2 key heads, heads 0 and 1 share the first."""
    q, k = torch.zeros(1, 1, 4, 2), torch.zeros(1, 1, 2, 2)
    v = torch.tensor([[[[1.0, 1.0], [2.0, 2.0]]]])
    got = attend(q, k, v, prepare(torch.ones(1, 1, dtype=torch.bool), backend))
    assert got[0, 0, :, 0].tolist() == [1.0, 1.0, 2.0, 2.0]


@pytest.mark.parametrize("backend", EVERYWHERE)
def test_a_view_of_a_wider_projection_will_do(backend):
    starts = torch.tensor([[True, False, False, True, False]])
    wide = torch.randn(1, 5, 2, 24, generator=torch.Generator().manual_seed(0))
    parts = wide.split(8, dim=3)
    got = attend(*parts, prepare(starts, backend))
    assert torch.allclose(got, attend(*(p.contiguous() for p in parts), prepare(starts, backend)))


def test_documents_of_equal_length_share_a_call():
    """Rows of one document each are one call; a shorter neighbour has its own."""
    assert prepare(torch.zeros(6, 5, dtype=torch.bool), "sdpa_documents").runs == ((6, 5),)
    starts = torch.tensor([[True, False, True, False, True], [True, False, False, True, True]])
    assert prepare(starts, "sdpa_documents").runs == ((2, 2), (1, 1), (1, 3), (2, 1))


def test_a_row_of_98304_tokens_takes_no_mask(tmp_path):
    """The mask alone would have 9.7e9 entries. Checked at a few positions of a few documents."""
    generator = torch.Generator().manual_seed(0)
    starts = torch.rand(1, 98_304, generator=generator) < 1 / 60
    q, k, v = drawn(0, starts, 2, 1, 16)
    got = attend(q, k, v, prepare(starts, "sdpa_documents"))
    firsts = starts[0].nonzero().squeeze(1)
    for first, after in ((firsts[3], firsts[4]), (firsts[-2], firsts[-1])):
        one = slice(int(first), int(after))
        alone = torch.zeros(1, one.stop - one.start, dtype=torch.bool)
        exact = plain(q[:, one].double(), k[:, one].double(), v[:, one].double(), alone)
        assert torch.allclose(got[:, one].double(), exact, atol=1e-5)


def test_the_compiler_is_told_that_it_cannot_have_it(unchecked):
    starts = torch.tensor([[True, False, True]])
    batch = [(*drawn(0, starts), starts)]
    said = unchecked(refusal, compiled_attention, "sdpa_documents", batch, "cpu", "eager")
    assert "sdpa_documents is compiled anew" in said


def packings(rows, time, heads, kv_heads, dim):
    """Three batches of one shape."""
    for seed in range(3):
        starts = torch.rand(rows, time, generator=torch.Generator().manual_seed(seed)) < 0.03
        yield *drawn(seed, starts, heads, kv_heads, dim), starts


def test_one_graph_serves_all_packings_of_one_shape(unchecked):
    batches = list(packings(2, 40, 4, 2, 16))
    outputs, graphs = unchecked(compiled_attention, "sdpa", batches, "cpu", "eager")
    assert graphs == 1
    for (q, k, v, starts), got in zip(batches, outputs, strict=True):
        assert torch.allclose(got, plain(q, k, v, starts), atol=1e-5)


# ---------------------------------------------------------------------------------------------- on a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(8, 4, 64), (4, 4, 128), (6, 1, 32)])
def test_on_a_gpu_it_is_as_exact_as_the_plain_form(backend, heads, kv_heads, dim):
    """Output and gradients in bfloat16, several rows, documents of 1 to some hundred tokens."""
    if lacking := missing(backend, "cuda", torch.bfloat16, dim):
        pytest.skip(f"{backend} needs {lacking}")
    starts = torch.rand(3, 384, generator=torch.Generator().manual_seed(5)) < 0.03
    starts[1, 100:104] = True
    starts[2] = False
    q, k, v = (x.bfloat16() for x in drawn(1, starts, heads, kv_heads, dim, scale=1.0))
    upstream = torch.randn(q.shape, generator=torch.Generator().manual_seed(2)).bfloat16()
    exact = gradients(lambda *x: plain(*x, starts), [x.double() for x in (q, k, v)], upstream)
    layout = prepare(starts, backend, 384, "cuda")
    there = [x.cuda() for x in (q, k, v)]
    got = gradients(lambda *x: attend(*x, layout), there, upstream.cuda())
    rough = gradients(lambda *x: plain(*x, starts.cuda()), there, upstream.cuda())
    for name, ours, rough_, right in zip(("out", "dq", "dk", "dv"), got, rough, exact, strict=True):
        error, bound = ((x.double().cpu() - right).abs().max() for x in (ours, rough_))
        assert error <= 2 * bound + 1e-5, name


@pytest.mark.gpu
@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "sdpa"])
def test_on_a_gpu_a_record_row_of_98304_tokens_runs(backend):
    if lacking := missing(backend, "cuda", torch.bfloat16, 64):
        pytest.skip(f"{backend} needs {lacking}")
    starts = torch.rand(1, 98_304, generator=torch.Generator().manual_seed(0)) < 1 / 800
    starts[:, ::2048] = True
    q, k, v = (x.bfloat16().cuda() for x in drawn(0, starts, 8, 4, 64, scale=1.0))
    got = attend(q, k, v, prepare(starts, backend, 2048, "cuda"))
    first, after = starts[0].nonzero().squeeze(1)[[-2, -1]].tolist()
    one = slice(first, after)
    alone = torch.zeros(1, after - first, dtype=torch.bool, device="cuda")
    exact = plain(q[:, one].double(), k[:, one].double(), v[:, one].double(), alone)
    assert torch.allclose(got[:, one].double(), exact, atol=2e-2)


@pytest.mark.gpu
@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "sdpa_documents"])
def test_on_a_gpu_other_packings_of_one_shape_compile_nothing_new(backend, unchecked):
    if lacking := missing(backend, "cuda", torch.bfloat16, 64, compiled=True):
        pytest.skip(f"{backend} needs {lacking}")
    batches = [(q.bfloat16(), k.bfloat16(), v.bfloat16(), s) for q, k, v, s in packings(2, 512, 4, 2, 64)]
    outputs, graphs = unchecked(compiled_attention, backend, batches, "cuda")
    assert graphs == 1
    for (q, k, v, starts), got in zip(batches, outputs, strict=True):
        assert torch.allclose(got.float(), plain(q.float(), k.float(), v.float(), starts), atol=0.05)
