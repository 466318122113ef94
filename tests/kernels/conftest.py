"""What needs a CUDA device is skipped without one; two processes for what this one cannot do.

Here every call is checked for shapes and types, and that wrapper cannot be compiled; and Triton decides when
it is first imported whether kernels are compiled or interpreted. So compiled functions and interpreted
kernels are called in a process of their own: the functions are in `tests.kernels.elsewhere`.
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

import pytest
import torch

# torch's compiler reads `.grad` of every tensor it is given and keeps the warning from being printed, which does
# not help where a warning is an error
COMPILING = pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"
)
ELSEWHERE = pytest.mark.skip(reason="needs a CUDA device")


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(COMPILING if torch.cuda.is_available() else ELSEWHERE)


@contextmanager
def process(**variables):
    """call(function, *arguments) in one fresh process with these variables."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        with pytest.MonkeyPatch.context() as environment:
            for name, value in variables.items():
                environment.setenv(name, value)
            pool.submit(int).result(timeout=60)  # starts it
        yield lambda function, *arguments: pool.submit(function, *arguments).result(timeout=300)


@pytest.fixture(scope="session")
def unchecked():
    """A process in which functions can be compiled."""
    with process() as call:
        yield call


@pytest.fixture(scope="session")
def interpreter():
    """A process in which Triton interprets its kernels on the CPU."""
    pytest.importorskip("triton")
    with process(TRITON_INTERPRET="1") as call:
        yield call
