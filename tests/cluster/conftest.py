"""One Ray for the tests that need one: eight pretended GPUs on however many cores there are."""

import logging

import pytest


@pytest.fixture(scope="session")
def pretended_gpus():
    ray = pytest.importorskip("ray")
    ray.init(address="local", num_cpus=4, num_gpus=8, include_dashboard=False, log_to_driver=False,
             logging_level=logging.ERROR)  # fmt: skip
    yield ray
    ray.shutdown()
