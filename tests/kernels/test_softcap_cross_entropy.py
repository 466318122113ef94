"""Cross-entropy of softcapped logits: the reference against torch, the kernel (interpreted) against float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from pgolf.kernels import softcap_cross_entropy as module
from pgolf.kernels.softcap_cross_entropy import softcap_cross_entropy, softcap_cross_entropy_reference
from tests.kernels.elsewhere import cross_entropy, cross_entropy_for_hopper, operations_are_sound

CAPS = [None, 30.0, (30.0, 7.0)]
BF16_STEP = 2.0**-7  # the interpreter cuts what it stores in bfloat16, a GPU rounds


def batch(seed, tokens, vocab, scale=20.0):
    """Logits, targets, and gradients of the two outputs."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(tokens, vocab, generator=generator) * scale
    targets = torch.randint(vocab, (tokens,), generator=generator)
    return logits, targets, *torch.randn(2, tokens, generator=generator)


def exact(logits, targets, cap, of_nats, of_lse):
    """(nats, lse, gradient) of the reference in float64."""
    z = logits.double().requires_grad_()
    nats, lse = softcap_cross_entropy_reference(z, targets, cap)
    (grad,) = torch.autograd.grad((nats, lse), z, (of_nats.double(), of_lse.double()))
    return nats.detach(), lse.detach(), grad


def plain(logits, targets, cap, of_nats, of_lse):
    """The same one operation after another in the precision of the logits."""
    z = logits.clone().requires_grad_()
    u = z if cap is None else cap * torch.tanh(z / cap)
    lse = u.logsumexp(1)
    nats = lse - u.gather(1, targets.unsqueeze(1)).squeeze(1)
    (grad,) = torch.autograd.grad((nats, lse), z, (of_nats.to(nats), of_lse.to(nats)))
    return nats.detach(), lse.detach(), grad


# ------------------------------------------------------------------------------------------ the reference


def test_two_scores_by_hand():
    """exp(0) + exp(ln 3) = 4: the second token costs ln 4/3. Under caps 1 and 2, 1e9 is 1 and -1e9 is -2."""
    free = softcap_cross_entropy_reference(torch.tensor([[0.0, math.log(3)]] * 2), torch.tensor([0, 1]), None)
    assert free[0].tolist() == pytest.approx([math.log(4), math.log(4 / 3)])
    assert free[1].tolist() == pytest.approx([math.log(4)] * 2)
    capped = softcap_cross_entropy_reference(torch.tensor([[1e9, -1e9]]), torch.tensor([1]), (1.0, 2.0))
    assert capped[0].item() == pytest.approx(math.log(math.e + math.exp(-2)) + 2)


@settings(max_examples=20)
@given(
    seed=st.integers(0, 999),
    cap=st.sampled_from([None, 15.0]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_the_reference_is_softcap_then_torchs_cross_entropy(seed, cap, dtype):
    logits, targets, *_ = batch(seed, 4, 11)
    z = logits.to(dtype).float()
    capped = z if cap is None else cap * torch.tanh(z / cap)
    nats, lse = softcap_cross_entropy_reference(logits.to(dtype), targets, cap)
    assert torch.allclose(nats, F.cross_entropy(capped, targets, reduction="none"), atol=1e-5)
    assert torch.allclose(lse, capped.logsumexp(1))
    assert nats.dtype == torch.float32


def test_equal_sides_are_one_cap():
    logits, targets, *_ = batch(0, 4, 11)
    both = softcap_cross_entropy_reference(logits, targets, (9.0, 9.0))
    assert torch.equal(torch.stack(both), torch.stack(softcap_cross_entropy_reference(logits, targets, 9.0)))


@pytest.mark.parametrize("cap", [0.0, -1.0, (3.0, -3.0)])
def test_a_cap_is_positive(cap):
    with pytest.raises(AssertionError, match="positive"):
        softcap_cross_entropy(*batch(0, 2, 3)[:2], cap)


# ------------------------------------------------------------------------------------------ which one serves


def test_on_the_cpu_the_reference_serves(monkeypatch):
    monkeypatch.setattr(module, "fused", None)
    logits, targets, *_ = batch(0, 4, 11)
    got = softcap_cross_entropy(logits, targets, 30.0)
    assert torch.equal(torch.stack(got), torch.stack(softcap_cross_entropy_reference(logits, targets, 30.0)))


class OnCuda(torch.Tensor):
    is_cuda = True


@pytest.mark.parametrize(
    ("cap", "sides"), [(None, (None, None)), (30.0, (30.0, 30.0)), ((3.0, 2.0), (3.0, 2.0))]
)
def test_on_cuda_the_kernel_serves(monkeypatch, cap, sides):
    called = []
    monkeypatch.setattr(
        module, "fused", lambda *arguments: called.append(arguments) or (torch.ones(4), torch.zeros(4))
    )
    logits, targets, *_ = batch(0, 4, 11)
    there = logits.as_subclass(OnCuda)
    assert [out.tolist() for out in softcap_cross_entropy(there, targets, cap)] == [[1.0] * 4, [0.0] * 4]
    assert called[0][0] is there
    assert called[0][1] is targets
    assert called[0][2:] == sides


# ------------------------------------------------------------------------------- the kernel, interpreted here


@pytest.mark.parametrize("cap", CAPS)
@pytest.mark.parametrize("vocab", [1, 5, 1023, 1024, 1025, 2500])
def test_the_kernel_is_the_reference_and_its_gradient(interpreter, cap, vocab):
    """In blocks of 1,024 columns: less than one, just one, one and a column, and several."""
    arguments = batch(vocab, 3, vocab)
    arguments[1][0], arguments[1][1] = 0, vocab - 1
    inputs = arguments[0], arguments[1], cap, arguments[2], arguments[3]
    for got, right in zip(interpreter(cross_entropy, *inputs), exact(*inputs), strict=True):
        assert got.dtype == torch.float32
        assert torch.allclose(got.double(), right, rtol=1e-5, atol=2e-5)


@settings(max_examples=20)
@given(
    seed=st.integers(0, 999),
    tokens=st.integers(1, 4),
    vocab=st.integers(1, 40),
    scale=st.sampled_from([0.1, 5.0, 300.0]),
    cap=st.sampled_from([*CAPS, 1.0]),
)
def test_it_is_so_for_any_scores(interpreter, seed, tokens, vocab, scale, cap):
    logits, targets, of_nats, of_lse = batch(seed, tokens, vocab, scale)
    inputs = logits, targets, cap, of_nats, of_lse
    for got, right in zip(interpreter(cross_entropy, *inputs), exact(*inputs), strict=True):
        assert torch.allclose(got.double(), right, rtol=1e-5, atol=1e-6 * max(scale, 30))


@pytest.mark.parametrize("cap", [None, 30.0])
def test_its_error_is_at_most_twice_that_of_the_plain_form_in_bfloat16(interpreter, cap):
    logits, targets, of_nats, of_lse = batch(3, 4, 1500)
    inputs = logits.bfloat16(), targets, cap, of_nats, of_lse
    results = zip(interpreter(cross_entropy, *inputs), plain(*inputs), exact(*inputs), strict=True)
    for name, (got, rough, right) in zip(("nats", "lse", "grad"), results, strict=True):
        assert (got.double() - right).abs().max() <= 2 * (rough.double() - right).abs().max(), name
        assert ((got.double() - right).abs() <= BF16_STEP * right.abs() + 2e-5).all(), name


def test_it_is_within_the_limits_that_caught_historical_bugs(interpreter):
    """Loss to 1e-3 of the eager float path, cosine of the gradients above 0.9999."""
    logits, targets, _, _ = batch(5, 8, 3000, scale=5.0)
    inputs = logits.bfloat16(), targets, 30.0, torch.full((8,), 1 / 8), torch.zeros(8)
    nats, _, grad = interpreter(cross_entropy, *inputs)
    eager = inputs[0].float().requires_grad_()
    loss = F.cross_entropy(30 * torch.tanh(eager / 30), targets)
    (right,) = torch.autograd.grad(loss, eager)
    assert abs(nats.mean() - loss.detach()) < 1e-3
    assert F.cosine_similarity(grad.float().flatten(), right.flatten(), dim=0) > 0.9999


def test_each_output_has_its_own_gradient(interpreter):
    """The gradient of lse is the softmax times the cap's slope; of nats, that less the target's."""
    logits, targets, *_ = batch(0, 2, 6, scale=2.0)
    share = torch.softmax(4 * torch.tanh(logits / 4), 1)
    slope = 1 - torch.tanh(logits / 4).square()
    one, none = torch.ones(2), torch.zeros(2)
    of_lse = interpreter(cross_entropy, logits, targets, 4.0, none, one)[2]
    of_nats = interpreter(cross_entropy, logits, targets, 4.0, one, none)[2]
    assert torch.allclose(of_lse, share * slope, atol=1e-6)
    assert torch.allclose(of_nats, (share - F.one_hot(targets, 6)) * slope, atol=1e-6)


def test_scores_of_minus_infinity_are_left_out(interpreter):
    """A whole block of them comes first: the running maximum must not become 0 / 0."""
    logits = torch.full((1, 1030), float("-inf"))
    logits[0, 1025:] = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0])
    nats, lse, grad = interpreter(
        cross_entropy, logits, torch.tensor([1029]), None, torch.ones(1), torch.zeros(1)
    )
    assert lse.item() == pytest.approx(logits[0, 1025:].logsumexp(0).item())
    assert nats.item() == pytest.approx(lse.item() - 4.0, abs=1e-6)
    assert not grad[0, :1025].any()


def test_large_scores_do_not_overflow(interpreter):
    logits = torch.tensor([[3e4, -3e4, 2.9e4]])
    nats, lse, _ = interpreter(cross_entropy, logits, torch.tensor([1]), None, torch.ones(1), torch.ones(1))
    assert lse.item() == pytest.approx(3e4, rel=1e-6)
    assert nats.item() == pytest.approx(6e4, rel=1e-6)


@pytest.mark.parametrize("target", [-1, 5, 1024, 2**40])
def test_a_target_outside_the_vocabulary_is_no_number(interpreter, target):
    nats, lse, _ = interpreter(
        cross_entropy, torch.zeros(1, 5), torch.tensor([target]), 30.0, torch.ones(1), torch.ones(1)
    )
    assert nats.isnan().all()
    assert lse.item() == pytest.approx(math.log(5))


@pytest.mark.parametrize("view", [lambda z: z[::2], lambda z: z[:, 3:], lambda z: z.T])
def test_logits_that_are_a_view_will_do(interpreter, view):
    logits = view(batch(0, 6, 6)[0])
    _, targets, of_nats, of_lse = batch(1, len(logits), logits.shape[1])
    inputs = logits, targets, 30.0, of_nats, of_lse
    for got, right in zip(interpreter(cross_entropy, *inputs), exact(*inputs), strict=True):
        assert torch.allclose(got.double(), right, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("cap", CAPS)
def test_torch_finds_the_operations_sound(interpreter, cap):
    assert interpreter(operations_are_sound, *batch(0, 3, 20)[:2], cap) == {"SUCCESS"}


def test_it_is_one_graph_when_compiled(interpreter):
    inputs = (*batch(0, 3, 20)[:2], 30.0, torch.ones(3), torch.ones(3))
    eager, compiled = (interpreter(cross_entropy, *inputs, mode) for mode in (False, True))
    for ours, theirs in zip(eager, compiled, strict=True):
        assert torch.equal(ours, theirs)


# ----------------------------------------------------------------------------------------- and on a GPU


@pytest.mark.parametrize("capped", [False, True])
def test_it_compiles_for_hopper_with_wide_loads_and_all_in_registers(capped):
    pytest.importorskip("triton")
    for ptx, report in cross_entropy_for_hopper(capped):
        assert "ld.global.v4.b32" in ptx  # 16 bytes: 8 logits a thread and load
        assert "STACK:0" in report
        assert "LOCAL:0" in report


@pytest.mark.gpu
@pytest.mark.parametrize("cap", CAPS)
@pytest.mark.parametrize("vocab", [8192, 1000])
def test_on_a_gpu_it_is_as_exact_as_the_plain_form(cap, vocab):
    logits, targets, of_nats, of_lse = batch(0, 512, vocab)
    inputs = logits.bfloat16(), targets, cap, of_nats, of_lse
    z = inputs[0].cuda().requires_grad_()
    nats, lse = softcap_cross_entropy(z, targets.cuda(), cap)
    (grad,) = torch.autograd.grad((nats, lse), z, (of_nats.cuda(), of_lse.cuda()))
    for got, right in zip((nats, lse, grad), exact(*inputs), strict=True):
        error = (got.double().cpu() - right).abs()
        assert (error <= 2**-8 * right.abs() + 5e-5).all()


@pytest.mark.gpu
def test_on_a_gpu_a_record_batch_of_logits_runs():
    """98,304 x 8,192: the offset of its last row does not fit 29 bits; 8 rows are checked."""
    logits = torch.randn(98_304, 8192, device="cuda", dtype=torch.bfloat16).requires_grad_()
    targets = torch.randint(8192, (98_304,), device="cuda")
    nats, _ = softcap_cross_entropy(logits, targets, 30.0)
    (grad,) = torch.autograd.grad(nats.sum(), logits)
    some = slice(-8, None)
    right = exact(logits[some].detach().cpu(), targets[some].cpu(), 30.0, torch.ones(8), torch.zeros(8))
    assert torch.allclose(nats[some].double().cpu(), right[0], atol=5e-5)
    assert torch.allclose(grad[some].double().cpu(), right[2], rtol=2**-8, atol=1e-6)
