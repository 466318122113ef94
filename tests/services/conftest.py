"""One empty MLflow database per session, copied per test: creating it costs seconds."""

import shutil
from pathlib import Path

import pytest

from services.mlflow_client import client_for


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with MLflow's empty database in it."""
    store = tmp_path_factory.mktemp("empty")
    client_for(store, None).search_experiments()
    return store / "mlflow.db"


@pytest.fixture
def store_dir(empty_mlflow: Path, tmp_path: Path) -> Path:
    """A store of one's own, its MLflow database ready."""
    store = tmp_path / "store"
    store.mkdir()
    shutil.copyfile(empty_mlflow, store / "mlflow.db")
    return store
