"""Cross-entropy of softcapped logits in one pass over them (PR 1787).

    u_v = C tanh(z_v / C)        C = C+ where z_v > 0, C- elsewhere; without a cap u = z
    lse = log sum_v exp(u_v)     nats = lse - u_target
    d/dz_v (nats) = (exp(u_v - lse) - 1[v = target]) (1 - tanh^2(z_v / C))

Eager code writes float32 logits, their softcap and its softmax, each four bytes a score; the kernel reads the
logits twice, as they are, and writes their gradient once. `lse` is an output with a gradient of its own, for
what else is asked of it: z-loss is its mean square. Focal and weighted losses are functions of `nats`.

On CUDA the Triton kernel serves, on the CPU the reference: that is the whole rule. Caps are numbers here;
learned ones are trained by the model's own forward.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

Cap = float | tuple[float, float] | None  # one, (C+, C-), or none


def softcap_cross_entropy(
    logits: Float[Tensor, "tokens vocab"], targets: Int[Tensor, " tokens"], cap: Cap
) -> tuple[Float[Tensor, " tokens"], Float[Tensor, " tokens"]]:
    """(nats, lse) of every token in float32, from logits before the cap in any precision.

    A target outside the vocabulary is an error on the CPU, and NaN nats on a GPU.
    """
    if logits.is_cuda:
        return fused(logits, targets, *_sides(cap))
    return softcap_cross_entropy_reference(logits, targets, cap)


def softcap_cross_entropy_reference(
    logits: Float[Tensor, "tokens vocab"], targets: Int[Tensor, " tokens"], cap: Cap
) -> tuple[Float[Tensor, " tokens"], Float[Tensor, " tokens"]]:
    """The equations, one after another, in float32 (float64 where the logits are)."""
    z = logits if logits.dtype == torch.float64 else logits.float()
    up, down = _sides(cap)
    if up is not None and down is not None:
        side = torch.where(z > 0, up, down)
        z = side * torch.tanh(z / side)
    lse = z.logsumexp(dim=1)
    return lse - z.gather(1, targets.long().unsqueeze(1)).squeeze(1), lse


def _sides(cap: Cap) -> tuple[float | None, float | None]:
    up, down = cap if isinstance(cap, tuple) else (cap, cap)
    assert (up is None) == (down is None), "a cap has two sides"
    assert up is None or down is None or min(up, down) > 0, "a cap is positive"
    return up, down


# ------------------------------------------------- the kernel as an operation that autograd and compilers know


@torch.library.custom_op("pgolf::softcap_cross_entropy", mutates_args=())
def fused(logits: Tensor, targets: Tensor, up: float | None, down: float | None) -> tuple[Tensor, Tensor]:
    """(nats, lse) by the Triton kernel."""
    from pgolf.kernels import softcap_cross_entropy_triton as kernels

    return kernels.forward(logits, targets, up, down)


@fused.register_fake
def _(logits: Tensor, targets: Tensor, up: float | None, down: float | None) -> tuple[Tensor, Tensor]:
    one = logits.new_empty(logits.shape[0], dtype=torch.float32)
    return one, torch.empty_like(one)


@torch.library.custom_op("pgolf::softcap_cross_entropy_backward", mutates_args=())
def fused_backward(
    grad_nats: Tensor,
    grad_lse: Tensor,
    logits: Tensor,
    targets: Tensor,
    lse: Tensor,
    up: float | None,
    down: float | None,
) -> Tensor:
    """The gradient of the logits, in their precision."""
    from pgolf.kernels import softcap_cross_entropy_triton as kernels

    return kernels.backward(grad_nats, grad_lse, logits, targets, lse, up, down)


@fused_backward.register_fake
def _(
    grad_nats: Tensor,
    grad_lse: Tensor,
    logits: Tensor,
    targets: Tensor,
    lse: Tensor,
    up: float | None,
    down: float | None,
) -> Tensor:
    return logits.new_empty(logits.shape)


def _remember(ctx, inputs, output):  # type: ignore[no-untyped-def]
    logits, targets, ctx.up, ctx.down = inputs
    ctx.save_for_backward(logits, targets, output[1])


def _differentiate(ctx, grad_nats, grad_lse):  # type: ignore[no-untyped-def]
    grad = fused_backward(grad_nats, grad_lse, *ctx.saved_tensors, ctx.up, ctx.down)
    return grad, None, None, None


fused.register_autograd(_differentiate, setup_context=_remember)
