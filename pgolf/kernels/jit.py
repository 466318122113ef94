"""Triton's `jit`, of the function as it was written.

Triton compiles a function's source in its module's namespace. A wrapper that checks types at run time (the
test run has one around every function) has another namespace, so it is taken off first.
"""

import inspect
from collections.abc import Callable
from typing import Any

import triton


def jit(function: Callable[..., Any]) -> Any:
    """A kernel, or a function that kernels call."""
    return triton.jit(inspect.unwrap(function))
