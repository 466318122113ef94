"""Two products around a squared leaky ReLU: the kernel (interpreted) against the equation in float64."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from pgolf.kernels import fused_mlp as module
from pgolf.kernels.fused_mlp import fused_mlp, kernel_serves, mlp, mlp_reference
from tests.kernels.elsewhere import (
    compiled_mlp,
    mlp_for_hopper,
    mlp_gradients,
    mlp_operations_are_sound,
    mlp_saved,
)

SLOPES = [-0.014, 0.0, 0.3, 0.5, 1.0]


def drawn(seed, rows, width, hidden, out, dtype=torch.float32):
    """x, up, down and the gradient of y."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, width, generator=generator)
    up = torch.randn(hidden, width, generator=generator) / width**0.5
    down = torch.randn(out, hidden, generator=generator) / hidden**0.5
    return *(t.to(dtype) for t in (x, up, down)), torch.randn(rows, out, generator=generator).to(dtype)


def equation(x, up, down, slope, upstream):
    """(y, dx, dup, ddown), every derivative written out."""
    pre = x @ up.T
    side = torch.where(pre > 0, 1.0, slope).to(pre.dtype)
    post = (side * pre) ** 2
    of_pre = (upstream @ down) * 2 * side * side * pre
    return post @ down.T, of_pre @ up, of_pre.T @ x, upstream.T @ post


def doubled(*tensors):
    return [t.double() for t in tensors]


# ------------------------------------------------------------------------------------------ the reference


def test_two_hidden_units_by_hand():
    """Pre-activations 1 and -2 at slope 0.5: 1 and (0.5 x -2)^2 = 1; derivatives 2 and 2 x 0.25 x -2 = -1."""
    x, up, down = torch.tensor([[1.0, -2.0]]).requires_grad_(), torch.eye(2), torch.ones(1, 2)
    y = mlp_reference(x, up, down, 0.5)
    assert y.item() == 2.0
    assert torch.autograd.grad(y, x)[0].tolist() == [[2.0, -1.0]]


@settings(max_examples=20)
@given(seed=st.integers(0, 999), slope=st.sampled_from(SLOPES))
def test_the_reference_and_its_gradient_are_the_equation(seed, slope):
    x, up, down, upstream = doubled(*drawn(seed, 5, 4, 6, 3))
    leaves = [t.requires_grad_() for t in (x, up, down)]
    y = mlp_reference(*leaves, slope)
    got = y, *torch.autograd.grad(y, leaves, upstream)
    for ours, right in zip(got, equation(x, up, down, slope, upstream), strict=True):
        assert torch.allclose(ours, right)


# ------------------------------------------------------------------------------------------ which one serves


class OnCuda(torch.Tensor):
    is_cuda = True


@pytest.mark.parametrize(("training", "cuda", "dtype", "hidden", "major", "kernel"), [
    (True, True, torch.bfloat16, 16, 9, True),
    (True, True, torch.float16, 16, 10, True),
    (False, True, torch.bfloat16, 16, 9, False),
    (True, False, torch.bfloat16, 16, 9, False),
    (True, True, torch.float32, 16, 9, False),
    (True, True, torch.bfloat16, 20, 9, False),
    (True, True, torch.bfloat16, 16, 8, False),
])  # fmt: skip
def test_the_kernel_serves_in_training_on_hopper_in_16_bits(
    monkeypatch, training, cuda, dtype, hidden, major, kernel
):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(major=major))
    monkeypatch.setattr(module, "fused_mlp", lambda *_: torch.full((3, 8), 7.0))
    monkeypatch.setattr(module, "mlp_reference", lambda *_: torch.full((3, 8), 5.0))
    x, up, down, _ = drawn(0, 3, 8, hidden, 8, dtype)
    x = x.as_subclass(OnCuda) if cuda else x
    assert mlp(x, up, down, 0.5, training).unique().tolist() == [7.0 if kernel else 5.0]
    assert kernel_serves(x, up, down) == (kernel or not training)


# ------------------------------------------------------------------------------- the kernel, interpreted here


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize(
    "shape", [(1, 4, 4, 4), (16, 16, 32, 16), (17, 20, 36, 4), (50, 8, 100, 40), (33, 40, 32, 16)]
)
def test_the_kernel_is_the_equation_and_its_gradient(interpreter, slope, shape):
    """Tiles of 16 x 32 by 16: less than one, just one, cut at every edge, and more than there are programs."""
    x, up, down, upstream = drawn(sum(shape), *shape)
    got = interpreter(mlp_gradients, x, up, down, slope, upstream)
    for ours, right in zip(got, equation(*doubled(x, up, down), slope, upstream.double()), strict=True):
        assert torch.allclose(ours.double(), right, rtol=1e-5, atol=1e-5 * float(right.abs().max() + 1))


@settings(max_examples=10)
@given(seed=st.integers(0, 999), rows=st.integers(1, 40), fours=st.tuples(*[st.integers(1, 12)] * 3),
       slope=st.floats(0, 1))  # fmt: skip
def test_it_is_so_for_any_shape_and_slope(interpreter, seed, rows, fours, slope):
    x, up, down, upstream = drawn(seed, rows, *(4 * n for n in fours))
    got = interpreter(mlp_gradients, x, up, down, slope, upstream)
    for ours, right in zip(got, equation(*doubled(x, up, down), slope, upstream.double()), strict=True):
        assert torch.allclose(ours.double(), right, rtol=1e-5, atol=1e-5 * float(right.abs().max() + 1))


@pytest.mark.parametrize("slope", SLOPES)
def test_its_error_is_at_most_twice_that_of_the_plain_form_in_16_bits(interpreter, slope):
    """In float16: of bfloat16 the interpreter knows no products."""
    x, up, down, upstream = drawn(1, 40, 24, 72, 16, torch.float16)
    got = interpreter(mlp_gradients, x, up, down, slope, upstream)
    leaves = [t.clone().requires_grad_() for t in (x, up, down)]
    y = mlp_reference(*leaves, slope)
    rough = y.detach(), *torch.autograd.grad(y, leaves, upstream)
    exact = equation(*doubled(x, up, down), slope, upstream.double())
    for name, ours, plain, right in zip(("y", "dx", "dup", "ddown"), got, rough, exact, strict=True):
        assert ours.dtype == torch.float16
        worst = (plain.double() - right).abs().max()
        assert (ours.double() - right).abs().max() <= 2 * worst, name
        assert F.cosine_similarity(ours.double().flatten(), right.flatten(), dim=0) > 0.9999, name


@pytest.mark.parametrize("slope", SLOPES)
def test_what_it_keeps_is_rounded_where_eager_code_rounds(interpreter, slope):
    """The square is of the rounded leaky ReLU of the rounded pre-activation, bit for bit."""
    x, up, *_ = drawn(2, 40, 24, 72, 8, torch.float16)
    pre, post = interpreter(mlp_saved, x, up, slope)
    assert torch.equal(post, F.leaky_relu(pre, slope).square())
    assert torch.allclose(pre.float(), x.float() @ up.float().T, rtol=2**-10, atol=1e-4)


def test_rows_may_have_any_shape_and_strides(interpreter):
    x, up, down, _ = drawn(3, 24, 8, 16, 4)
    rows = x.view(2, 3, 4, 8).transpose(0, 2)
    upstream = (
        torch.randn(4, 3, 2, 4, generator=torch.Generator().manual_seed(0)).transpose(0, 1).transpose(0, 1)
    )
    y, dx, dup, ddown = interpreter(mlp_gradients, rows, up, down, 0.5, upstream)
    right = equation(rows.reshape(24, 8), up, down, 0.5, upstream.reshape(24, 4))
    assert dx.shape == rows.shape
    flat = y.reshape(24, 4), dx.reshape(24, 8), dup, ddown
    for ours, theirs in zip(flat, right, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_torch_finds_the_operations_sound(interpreter):
    inputs = drawn(0, 18, 8, 40, 16, torch.float16)[:3]
    assert interpreter(mlp_operations_are_sound, *inputs, 0.5) == {"SUCCESS"}


def test_it_is_one_graph_when_compiled(interpreter):
    x, up, down, upstream = drawn(0, 18, 8, 40, 16)
    eager, compiled = (interpreter(mlp_gradients, x, up, down, 0.5, upstream, mode) for mode in (False, True))
    for ours, theirs in zip(eager, compiled, strict=True):
        assert torch.equal(ours, theirs)


# ----------------------------------------------------------------------------------------- and on a GPU


def hopper(forward, tile):
    ptx, report = mlp_for_hopper(forward, tile)
    assert "wgmma.mma_async" in ptx  # Hopper's products of whole warp groups
    assert "cp.async.bulk.tensor" in ptx  # and its copies of whole tiles
    assert "STACK:0" in report  # nothing that did not fit the registers
    assert "LOCAL:0" in report


@pytest.mark.parametrize("forward", [True, False])
def test_it_compiles_for_hopper_with_its_own_products_and_copies(forward):
    pytest.importorskip("triton")
    from pgolf.kernels.fused_mlp_triton import TILES

    hopper(forward, TILES[0])


@pytest.mark.heavy
def test_so_does_every_tile():
    pytest.importorskip("triton")
    from pgolf.kernels.fused_mlp_triton import TILES

    for tile in TILES:
        hopper(True, tile)
        hopper(False, tile)


@pytest.mark.gpu
@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("shape", [(4096, 512, 2048, 512), (1000, 520, 1048, 264)])
def test_on_a_gpu_it_is_as_exact_as_the_plain_form(slope, shape):
    x, up, down, upstream = (t.cuda() for t in drawn(0, *shape, torch.bfloat16))
    if not kernel_serves(x, up, down):
        pytest.skip("the kernel is for Hopper and newer")
    results = []
    for function in (fused_mlp, mlp_reference):
        leaves = [t.clone().requires_grad_() for t in (x, up, down)]
        y = function(*leaves, slope)
        results.append((y.detach(), *torch.autograd.grad(y, leaves, upstream)))
    exact = equation(*doubled(x, up, down), slope, upstream.double())
    for name, ours, plain, right in zip(("y", "dx", "dup", "ddown"), *results, exact, strict=True):
        worst = (plain.double() - right).abs().max()
        assert (ours.double() - right).abs().max() <= 2 * worst, name
        assert F.cosine_similarity(ours.double().flatten(), right.flatten(), dim=0) > 0.9999, name


@pytest.mark.gpu
def test_on_a_gpu_it_is_one_graph_in_a_compiled_model(unchecked):
    x, up, down, _ = drawn(0, 256, 512, 2048, 512, torch.bfloat16)
    operations = unchecked(compiled_mlp, x, up, down, 0.5)
    assert ("pgolf.fused_mlp.default" in operations) == kernel_serves(x.cuda(), up, down)


@pytest.mark.gpu
def test_on_a_gpu_no_element_is_left_unwritten():
    """At a record's sizes; memory that was handed back full of NaN is what the outputs come out of."""
    x, up, down, upstream = (t.cuda() for t in drawn(0, 98_304, 512, 2048, 512, torch.bfloat16))
    if not kernel_serves(x, up, down):
        pytest.skip("the kernel is for Hopper and newer")
    leaves = [t.requires_grad_() for t in (x, up, down)]
    for _ in range(2):
        poison = [
            torch.full((98_304, 2048), float("nan"), device="cuda", dtype=torch.bfloat16) for _ in range(4)
        ]
        del poison
        y = fused_mlp(*leaves, 0.5)
        assert all(t.isfinite().all() for t in (y, *torch.autograd.grad(y, leaves, upstream)))


def test_the_fastest_tile_that_fits_is_taken_and_timed_once(monkeypatch):
    pytest.importorskip("triton")
    import triton

    from pgolf.kernels import fused_mlp_triton as kernels

    times = dict(zip(kernels.TILES, (1.0, 5.0, 3.0, 4.0, 6.0, 7.0), strict=True))
    launched = []

    def launch(tile, *arguments):
        launched.append(tile)
        if tile is kernels.TILES[0]:
            raise triton.runtime.errors.OutOfResources(229_408, 101_376, "shared memory")

    monkeypatch.setattr(kernels, "_launch", launch)
    monkeypatch.setattr(kernels, "_fastest", {})
    monkeypatch.setattr(triton.testing, "do_bench", lambda run: run() or times[launched[-1]])
    x, up, *_ = drawn(0, 4, 8, 16, 8)
    kernels.forward(x, up, 0.5)
    assert launched == [*kernels.TILES, kernels.TILES[2]]
    kernels.forward(x[:2], up, 0.3)  # other rows and another slope are no other question
    assert launched[len(kernels.TILES) + 1 :] == [kernels.TILES[2]]
    kernels.backward(torch.zeros(4, 8), torch.zeros(8, 16), torch.zeros(4, 16), 0.5)
    assert len(launched) == 2 * len(kernels.TILES) + 3
