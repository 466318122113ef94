"""What this machine has, and what pgolf will use of it."""

import os
import platform
import shutil
from importlib import util
from pathlib import Path
from typing import Any

import torch

from pgolf.runtime import PACKAGES, version


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
        "attention": "torch scaled_dot_product_attention with a document mask",
        "activations": "bfloat16" if gpus else "float32",
        "compiler": shutil.which("cc") or "none",
        "triton": util.find_spec("triton") is not None,
        "flash_attn": util.find_spec("flash_attn") is not None,
        "packages": {name: version(name) or "missing" for name in PACKAGES},
    }


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None
