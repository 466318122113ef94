"""Which attention backend: by name, or on a GPU the fastest of those that run, timed once in a process.

On the CPU the length of a row decides. Measured there (one thread, float32, forward and backward, heads of
16 to 64 dimensions, documents of 60 to 400 tokens), the written-out mask wins up to 96 tokens a row, either
may from 128 to 256, and at 512 one document after the other takes 0.33 to 0.67 of the mask's time.

What was chosen, why, and every time measured are in the answer. A name that cannot run here is an error
that says what is missing; no other backend takes its place.
"""

import statistics
import time
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from pgolf.errors import ConfigError, UserError
from pgolf.kernels import varlen
from pgolf.kernels.attention import BACKENDS, Backend, attend, prepare
from pgolf.section import nearest

MASK_ROW_TOKENS = 256  # the longest row for which the CPU writes the mask out
MASK_ELEMENTS = 2**28  # on a GPU the mask is timed only where it has at most so many (and its scores fit)
MEAN_DOCUMENT = 800  # tokens; web text under a vocabulary of 8192
WARM_UPS, REPEATS = 3, 10


class Shape(NamedTuple):
    """What attention is asked for: the batch that the timing draws."""

    heads: int
    kv_heads: int
    dim: int
    time: int  # tokens a row
    rows: int = 1
    longest: int | None = None  # tokens of a document at most; None: a row's


class Choice(NamedTuple):
    """A backend, the reason, and milliseconds of forward and backward for all that were timed."""

    name: Backend
    why: str
    milliseconds: dict[str, float]


def choose(
    device: str, dtype: torch.dtype, shape: Shape, name: str = "auto", compiled: bool = False
) -> Choice:
    """The backend for batches like `shape`. `compiled`: attention lies inside a compiled model.

    Under several ranks one of them chooses and tells the others: clocks differ.

    Raises:
        ConfigError: there is no such backend, or it cannot run here.
    """
    lacking = {b: missing(b, device, dtype, shape.dim, compiled) for b in BACKENDS}
    able = tuple(b for b in BACKENDS if lacking[b] is None)
    if name != "auto":
        return Choice(_named(name, lacking), "named", {})
    if device == "cpu":
        return _by_length(shape.time, compiled)
    if shape.rows * shape.time**2 > MASK_ELEMENTS:
        able = tuple(b for b in able if b != "sdpa")
    times = _timed(able, torch.device(device), dtype, shape, compiled)
    best = min(times, key=lambda b: times[b])
    where = torch.cuda.get_device_name(device)
    return Choice(
        best,
        f"the fastest of {len(times)} on {where} at {_described(shape)}",
        {str(b): ms for b, ms in times.items()},
    )


def missing(
    backend: Backend, device: str, dtype: torch.dtype, dim: int, compiled: bool = False
) -> str | None:
    """What a backend lacks to train here; None if it runs."""
    if backend == "sdpa":
        return None
    if backend == "sdpa_documents":
        return (
            "a run that is not compiled (document lengths would be part of the graph)" if compiled else None
        )
    if torch.device(device).type != "cuda":
        return "a CUDA device"
    if backend == "flex":
        return None if dim >= 16 else f"heads of at least 16 dimensions, not {dim}"
    return _kernel_lacks(backend, torch.cuda.get_device_capability(device)[0], dtype, dim)


def _kernel_lacks(kernel: varlen.Kernel, major: int, dtype: torch.dtype, dim: int) -> str | None:
    oldest = varlen.OLDEST_GPU[kernel]
    if major < oldest or (kernel == "flash3" and major > oldest):
        newer = "" if kernel == "flash3" else " or newer"
        return f"a GPU of compute capability {oldest}{newer}, not {major}"
    if dtype not in (torch.bfloat16, torch.float16):
        return f"activations of bfloat16 or float16, not {dtype}"
    if dim % 8 or dim > 256:
        return f"head dimensions of a multiple of 8 up to 256, not {dim}"
    try:
        varlen.load(kernel)
    except ImportError as error:
        return f"the package {varlen.MODULES[kernel][0].partition('.')[0]} ({error})"
    return None


def _named(name: str, lacking: dict[Backend, str | None]) -> Backend:
    able = [b for b in BACKENDS if lacking[b] is None]
    for backend in BACKENDS:
        if backend == name and lacking[backend] is None:
            return backend
        if backend == name:
            rule = f"attention backend {name} needs {lacking[backend]}"
            raise ConfigError(rule, name, f"one of auto, {', '.join(able)}")
    raise ConfigError("there is no such attention backend", name, nearest(name, ("auto", *BACKENDS)))


def _by_length(time: int, compiled: bool) -> Choice:
    if compiled:
        return Choice("sdpa", "a compiled run on the CPU", {})
    if time <= MASK_ROW_TOKENS:
        return Choice(
            "sdpa", f"rows of {time} tokens on the CPU: up to {MASK_ROW_TOKENS} a mask is faster", {}
        )
    return Choice("sdpa_documents", f"rows of {time} tokens on the CPU: more than {MASK_ROW_TOKENS}", {})


def _described(shape: Shape) -> str:
    cap = f", documents up to {shape.longest}" if shape.longest else ""
    groups = f"{shape.heads}/{shape.kv_heads} heads of {shape.dim}"
    return f"{shape.rows} x {shape.time} tokens{cap}, {groups}"


@cache
def _timed(
    backends: tuple[Backend, ...], device: torch.device, dtype: torch.dtype, shape: Shape, compiled: bool
) -> dict[Backend, float]:
    return {b: milliseconds(b, device, dtype, shape, compiled) for b in backends}


def milliseconds(
    backend: Backend, device: torch.device, dtype: torch.dtype, shape: Shape, compiled: bool = False
) -> float:
    """Median milliseconds of one forward and backward over packed documents, inside a graph if `compiled`.

    Raises:
        UserError: the backend is installed and fails: a build for another GPU or another torch, or one that
            cannot be part of a graph.
    """
    run = torch.compile(attend, fullgraph=True, dynamic=False) if compiled else attend
    starts = packed_starts(shape)
    drawn = torch.Generator(device).manual_seed(0)
    q, k, v = (
        torch.randn(shape.rows, shape.time, heads, shape.dim, generator=drawn, device=device, dtype=dtype)
        for heads in (shape.heads, shape.kv_heads, shape.kv_heads)
    )
    leaves = [x.requires_grad_() for x in (q, k, v)]
    try:
        layout = prepare(starts, backend, min(shape.longest or shape.time, shape.time), device)
        times = [
            _seconds(lambda: torch.autograd.grad(run(q, k, v, layout).sum(), leaves), device)
            for _ in range(WARM_UPS + REPEATS)
        ]
    except (RuntimeError, ImportError) as error:
        raise UserError(
            f"attention backend {backend} runs where it is installed",
            f"{type(error).__name__}: {error}",
            "name another backend, or mend its installation",
        ) from error
    return 1e3 * statistics.median(times[WARM_UPS:])


def packed_starts(shape: Shape) -> Bool[Tensor, "rows time"]:
    """Documents of 800 tokens in the mean, none longer than the shape allows; drawn from one seed."""
    drawn = torch.rand(shape.rows, shape.time, generator=torch.Generator().manual_seed(0))
    starts = drawn < 1 / MEAN_DOCUMENT
    starts[:, :: shape.longest or shape.time] = True
    return starts


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Wall seconds until the device is done."""
    waited = torch.cuda.synchronize if device.type == "cuda" else (lambda _: None)
    waited(device)
    began = time.perf_counter()
    work()
    waited(device)
    return time.perf_counter() - began
