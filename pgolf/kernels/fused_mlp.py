"""Two products around a squared leaky ReLU, with the activation inside the first (PR 1530).

    y = phi(x Wup') Wdown'        phi(p) = (p if p > 0 else slope p)^2

Eager code writes the pre-activation, its leaky ReLU and the square, and reads them all again on the way back;
the kernel writes two of the three while the product is still on the chip, and on the way back turns g Wdown
into the pre-activation's gradient without writing it first (+3 % steps a second, with other changes).

`mlp` says which one serves: the kernel in training on a Hopper GPU or newer in 16 bits, where both widths
are multiples of 8; eager code elsewhere, and in evaluation always, so that what is scored does not depend
on a kernel. Both round at the same places: the pre-activation, its leaky ReLU and the square.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

OLDEST_GPU = 9  # major compute capability: before it, tiles are not copied by the hardware


def mlp(
    x: Float[Tensor, "*batch width"],
    up: Float[Tensor, "hidden width"],
    down: Float[Tensor, "out hidden"],
    slope: float,
    training: bool,
) -> Float[Tensor, "*batch out"]:
    """By the kernel where it serves, else by the reference."""
    serve = fused_mlp if training and kernel_serves(x, up, down) else mlp_reference
    return serve(x, up, down, slope)


def kernel_serves(x: Tensor, up: Tensor, down: Tensor) -> bool:
    """Whether the kernel runs for these: where they are, their precision and their shapes."""
    if not x.is_cuda or x.dtype not in (torch.bfloat16, torch.float16):
        return False
    whole = all(n % 8 == 0 for n in (*up.shape, *down.shape))
    return whole and torch.cuda.get_device_properties(x.device).major >= OLDEST_GPU  # compilers fold this one


def mlp_reference(
    x: Float[Tensor, "*batch width"],
    up: Float[Tensor, "hidden width"],
    down: Float[Tensor, "out hidden"],
    slope: float,
) -> Float[Tensor, "*batch out"]:
    """The equation in eager operations."""
    return F.linear(F.leaky_relu(F.linear(x, up), slope).square(), down)


def fused_mlp(
    x: Float[Tensor, "*batch width"],
    up: Float[Tensor, "hidden width"],
    down: Float[Tensor, "out hidden"],
    slope: float,
) -> Float[Tensor, "*batch out"]:
    """The equation by the kernel. Weights in the precision of x; differentiable in all three."""
    y, _, _ = fused(x.reshape(-1, x.shape[-1]), up, down, slope)
    return y.view(*x.shape[:-1], down.shape[0])


# ------------------------------------------------- the kernel as an operation that autograd and compilers know


@torch.library.custom_op("pgolf::fused_mlp", mutates_args=())
def fused(x: Tensor, up: Tensor, down: Tensor, slope: float) -> tuple[Tensor, Tensor, Tensor]:
    """(y, pre, post), all but y for the backward."""
    from pgolf.kernels import fused_mlp_triton as kernels

    pre, post = kernels.forward(x, up, slope)
    return post @ down.T, pre, post


@fused.register_fake
def _(x: Tensor, up: Tensor, down: Tensor, slope: float) -> tuple[Tensor, Tensor, Tensor]:
    y, pre, post = (x.new_empty(x.shape[0], n) for n in (down.shape[0], up.shape[0], up.shape[0]))
    return y, pre, post


@torch.library.custom_op("pgolf::fused_mlp_backward", mutates_args=())
def fused_backward(
    grad: Tensor, x: Tensor, up: Tensor, down: Tensor, pre: Tensor, post: Tensor, slope: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x, up and down."""
    from pgolf.kernels import fused_mlp_triton as kernels

    of_pre = kernels.backward(grad, down, pre, slope)
    return of_pre @ up, of_pre.T @ x, grad.T @ post


@fused_backward.register_fake
def _(
    grad: Tensor, x: Tensor, up: Tensor, down: Tensor, pre: Tensor, post: Tensor, slope: float
) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), up.new_empty(up.shape), down.new_empty(down.shape)


def _remember(ctx, inputs, output):  # type: ignore[no-untyped-def]
    x, up, down, ctx.slope = inputs
    _, pre, post = output
    ctx.save_for_backward(x, up, down, pre, post)
    ctx.mark_non_differentiable(pre, post)


def _differentiate(ctx, grad, *of_saved):  # type: ignore[no-untyped-def]
    return *fused_backward(grad, *ctx.saved_tensors, ctx.slope), None


fused.register_autograd(_differentiate, setup_context=_remember)
