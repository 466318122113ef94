"""A token directory with something to learn: a noisy cycle through 20 tokens, in short documents."""

from pathlib import Path

import numpy as np
import pytest

from tests.kernels.conftest import process


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="session")
def unchecked():
    """A process in which functions can be compiled: here every call is checked for shapes and types."""
    with process() as call:
        yield call


def written(directory: Path) -> Path:
    from pgolf.formats.shards import shard_name, sidecar_name, write_shard

    rng = np.random.Generator(np.random.PCG64(3))
    for split, length in (("train", 6000), ("select", 400), ("validation", 400)):
        ids = 2 + (np.cumsum(rng.choice([1, 1, 1, 2], size=length)) % 20)
        ids[np.flatnonzero(rng.random(length) < 0.02)] = 1
        ids[0] = 1
        write_shard(directory / shard_name(split), ids.astype(np.uint16))
        write_shard(directory / sidecar_name(split), (ids != 1).astype(np.uint16) * 3)
    return directory
