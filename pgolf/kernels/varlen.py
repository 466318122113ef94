"""Attention kernels for documents of different lengths side by side in one long row.

    torch_varlen    torch.nn.attention.varlen, FlashAttention 2 as torch carries it      Ampere or newer
    flash2          flash_attn.flash_attn_varlen_func                                    Ampere or newer
    flash3          flash_attn_interface.flash_attn_varlen_func                          Hopper

All three take the rows of a batch end to end and `cu_seqlens`; query heads of one group read one key head
without copies. The longest document is a constant that the caller promises (the cap on attention's reach):
the true maximum would be another compiled graph for every batch. A kernel is looked up when a layout is
prepared, so that nothing is imported in what a compiler traces.
"""

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int32
from torch import Tensor

from pgolf.kernels.documents import cu_seqlens

Kernel = Literal["torch_varlen", "flash2", "flash3"]
Attention = Callable[[Tensor, Tensor, Tensor, Tensor, int], Tensor]  # q, k, v, cu_seqlens, longest
MODULES: dict[str, tuple[str, ...]] = {  # where each is published; the first that exists is taken
    "torch_varlen": ("torch.nn.attention.varlen",),
    "flash2": ("flash_attn",),
    "flash3": ("flash_attn_interface", "flash_attn_3.flash_attn_interface"),
}
OLDEST_GPU = {"torch_varlen": 8, "flash2": 8, "flash3": 9}  # major compute capability
_loaded: dict[str, Attention] = {}


class Packed(NamedTuple):
    """The documents of all rows as boundaries in their concatenation."""

    cu_seqlens: Int32[Tensor, " entries"]
    longest: int
    kernel: Kernel


def prepare(starts: Bool[Tensor, "batch time"], kernel: Kernel, longest: int, device: torch.device) -> Packed:
    """Counts documents where `starts` is: on the CPU no GPU is waited for.

    Raises:
        ImportError: the kernel's package is not installed.
    """
    load(kernel)
    boundaries = cu_seqlens(starts, longest)
    if device.type == "cuda" and not boundaries.is_cuda:
        boundaries = boundaries.pin_memory()
    return Packed(boundaries.to(device, non_blocking=True), longest, kernel)


def attend(
    q: Float[Tensor, "batch time heads dim"],
    k: Float[Tensor, "batch time kv_heads dim"],
    v: Float[Tensor, "batch time kv_heads dim"],
    layout: Packed,
) -> Float[Tensor, "batch time heads dim"]:
    kernel = _loaded[layout.kernel]
    queries, keys, values = (x.flatten(0, 1) for x in (q, k, v))
    return kernel(queries, keys, values, layout.cu_seqlens, layout.longest).view(q.shape)


def load(kernel: str) -> Attention:
    """The kernel behind one signature.

    Raises:
        ImportError: its package is not installed, or does not fit the installed torch.
    """
    if kernel not in _loaded:
        module = _first_installed(MODULES[kernel])
        _loaded[kernel] = _of_torch(module) if kernel == "torch_varlen" else _of_flash(module)
    return _loaded[kernel]


def _first_installed(names: tuple[str, ...]) -> Any:
    for name in names[:-1]:
        try:
            return import_module(name)
        except ModuleNotFoundError:
            continue
    return import_module(names[-1])


def _of_torch(module: Any) -> Attention:
    kernel = module.varlen_attn
    # torch 2.11 takes groups of heads as they are; from 2.12 on it wants to be told
    told = {"enable_gqa": True} if "enable_gqa" in inspect.signature(kernel).parameters else {}

    def attention(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, longest: int) -> Tensor:
        return kernel(q, k, v, cu_seqlens, cu_seqlens, longest, longest, window_size=(-1, 0), **told)

    return attention


def _of_flash(module: Any) -> Attention:
    kernel = module.flash_attn_varlen_func

    def attention(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, longest: int) -> Tensor:
        ends = {"cu_seqlens_q": cu_seqlens, "cu_seqlens_k": cu_seqlens}
        out = kernel(q, k, v, **ends, max_seqlen_q=longest, max_seqlen_k=longest, causal=True)
        return out[0] if isinstance(out, tuple) else out  # early builds of flash3 return the lse as well

    return attention
