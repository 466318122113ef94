"""What this machine has, and what pgolf will use of it."""

import os
import platform
import shutil
from pathlib import Path
from typing import Any

import torch

from pgolf.kernels.attention import BACKENDS
from pgolf.kernels.choice import MASK_ROW_TOKENS, Shape, choose, missing
from pgolf.kernels.fused_mlp import OLDEST_GPU
from pgolf.runtime import PACKAGES, version

KERNEL_PACKAGES = ("triton", "flash-attn", "flash-attn-3")
RECORD = Shape(heads=8, kv_heads=4, dim=64, time=98_304, longest=2048)  # a rank's batch in the record runs


def examine(store: Path) -> dict[str, Any]:
    """Facts by name; nothing is changed. `store` is where disk space is looked at."""
    place = next((p for p in (store.absolute(), *store.absolute().parents) if p.exists()), Path("/"))
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "memory_gib": _memory_gib(),
        "disk_free_gib": round(shutil.disk_usage(place).free / 2**30, 1),
        "gpus": gpus,
        "device": "cuda" if gpus else "cpu",
        "activations": "bfloat16" if gpus else "float32",
        **_attention("cuda" if gpus else "cpu"),
        **_kernels(bool(gpus)),
        "compiler": shutil.which("cc") or "none",
        "packages": {name: version(name) or "missing" for name in (*PACKAGES, *KERNEL_PACKAGES)},
    }


def _attention(device: str) -> dict[str, Any]:
    """What `auto` takes, with the times where it measures, and what the other backends lack here."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    lacking = {b: missing(b, device, dtype, RECORD.dim) for b in BACKENDS}
    longer = choose(device, dtype, RECORD)
    if device == "cuda":
        times = ", ".join(f"{b} {ms:.2f} ms" for b, ms in longer.milliseconds.items())
        chosen = f"{longer.name}: {longer.why} ({times})"
    else:
        shorter = choose(device, dtype, RECORD._replace(time=MASK_ROW_TOKENS))
        chosen = f"{shorter.name} for rows up to {MASK_ROW_TOKENS} tokens, {longer.name} for longer ones"
    return {
        "attention": chosen,
        "attention_backends": {b: f"needs {lack}" if lack else "available" for b, lack in lacking.items()},
    }


def _kernels(gpu: bool) -> dict[str, str]:
    """Which fused kernels serve in training."""
    hopper = gpu and torch.cuda.get_device_capability()[0] >= OLDEST_GPU
    return {
        "cross_entropy": "one Triton kernel" if gpu else "eager",
        "mlp": "Triton kernels" if hopper else "eager",
    }


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None
