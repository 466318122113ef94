"""Kernels against their references, on whatever device is present. Ratios above 1: the kernel is faster.

On the CPU only attention has two forms. On a GPU, at the sizes of a record's rank (98,304 tokens, width 512,
hidden 2048, vocabulary 8192): every attention backend that runs there, and the fused cross-entropy and MLP
against eager code and against the same code under torch.compile, which is what a kernel has to beat.
Forward and backward, the median of ten calls.
"""

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pgolf.kernels import fused_mlp, softcap_cross_entropy
from pgolf.kernels.attention import BACKENDS
from pgolf.kernels.choice import MASK_ELEMENTS, Shape, milliseconds, missing
from pgolf.stage import Store

Rows = dict[str, float]
ON_CPU = [Shape(8, 4, 64, time=n, rows=4096 // n, longest=2048) for n in (128, 256, 512, 2048)]
RECORD = Shape(8, 4, 64, time=98_304, longest=2048)
WARM_UPS, REPEATS = 5, 10


def kernels(store: Store) -> Rows:
    """Kernels against their references."""
    if not torch.cuda.is_available():
        return {name: value for shape in ON_CPU for name, value in _attention("cpu", shape).items()}
    return _attention("cuda", RECORD) | _cross_entropy() | _mlp()


def _attention(device: str, shape: Shape) -> Rows:
    """Milliseconds of each backend, and how many times longer one document after the other takes."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    mask_fits = shape.rows * shape.time**2 <= MASK_ELEMENTS
    able = [b for b in BACKENDS if not missing(b, device, dtype, shape.dim) and (b != "sdpa" or mask_fits)]
    times = {b: milliseconds(b, torch.device(device), dtype, shape) for b in able}
    at = f"attention_{shape.rows}x{shape.time}"
    rows: Rows = {f"{at}_{b}_ms": ms for b, ms in times.items()}
    plain = times["sdpa_documents"]
    return rows | {f"{at}_documents_over_{b}": plain / ms for b, ms in times.items() if b != "sdpa_documents"}


def _cross_entropy() -> Rows:
    logits = torch.randn(RECORD.time, 8192, device="cuda", dtype=torch.bfloat16)
    targets = torch.randint(8192, (RECORD.time,), device="cuda")

    def loss(function: Callable[..., tuple[Tensor, Tensor]]) -> Callable[[Tensor], Tensor]:
        return lambda z: function(z, targets, 30.0)[0].mean()

    kernel = loss(softcap_cross_entropy.softcap_cross_entropy)
    eager = loss(softcap_cross_entropy.softcap_cross_entropy_reference)
    return _compared("cross_entropy", kernel, eager, [logits])


def _mlp() -> Rows:
    shapes = ((RECORD.time, 512), (2048, 512), (512, 2048))
    x, up, down = (torch.randn(s, device="cuda", dtype=torch.bfloat16) * s[1] ** -0.5 for s in shapes)
    if not fused_mlp.kernel_serves(x, up, down):
        return {}

    def loss(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda *tensors: function(*tensors, 0.5).sum()

    return _compared("mlp", loss(fused_mlp.fused_mlp), loss(fused_mlp.mlp_reference), [x, up, down])


def _compared(
    name: str, kernel: Callable[..., Tensor], eager: Callable[..., Tensor], inputs: Sequence[Tensor]
) -> Rows:
    fast, plain = (_milliseconds(f, inputs) for f in (kernel, eager))
    compiled = _milliseconds(torch.compile(eager, dynamic=False), inputs)
    return {
        f"{name}_kernel_ms": fast,
        f"{name}_eager_over_kernel": plain / fast,
        f"{name}_compiled_over_kernel": compiled / fast,
    }


def _milliseconds(loss: Callable[..., Tensor], inputs: Sequence[Tensor]) -> float:
    """Median of one forward and backward on the GPU."""
    leaves = [t.detach().requires_grad_() for t in inputs]
    times = []
    for _ in range(WARM_UPS + REPEATS):
        torch.cuda.synchronize()
        began = time.perf_counter()
        torch.autograd.grad(loss(*leaves), leaves)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return 1e3 * statistics.median(times[WARM_UPS:])
