"""The one door to MLflow: importing it quietly, finding its database, naming its address.

MLflow reads its switches from the environment while it is being imported, so they are set here, before,
and only where the user has not set them: no telemetry, no git probing, and HTTP retries short enough
that a dead server costs seconds per attempt instead of minutes (whoever calls retries at its own pace).
Its loggers announce every database migration; those are turned down to warnings.

The default is SQLite beside the store, opened directly: no server to start, and single-user speed.
"""

import logging
import os
from pathlib import Path

from pgolf.errors import StoreError

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

from mlflow import MlflowClient  # noqa: E402  (the environment first)

for _name in ("mlflow", "alembic"):
    logging.getLogger(_name).setLevel(logging.WARNING)

__all__ = ["MlflowClient", "address", "artifact_root", "client_for", "client_to_read"]


def address(store_dir: Path, tracking_uri: str | None) -> str:
    """The tracking URI: the one given, else the store's own SQLite file."""
    return tracking_uri or f"sqlite:///{Path(store_dir).absolute()}/mlflow.db"


def artifact_root(store_dir: Path, uri: str) -> str | None:
    """Where artifacts go: beside the store for a bare database, the server's choice for a server."""
    return None if uri.startswith(("http:", "https:")) else (Path(store_dir).absolute() / "mlartifacts").as_uri()


def client_for(store_dir: Path, tracking_uri: str | None) -> MlflowClient:
    """A client that may create the database."""
    uri = address(store_dir, tracking_uri)
    if uri.startswith("sqlite:////"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(uri)


def client_to_read(store_dir: Path, tracking_uri: str | None) -> MlflowClient:
    """A client that finds what was recorded and leaves no file where there was none.

    Raises:
        StoreError: if the SQLite database does not exist.
    """
    uri = address(store_dir, tracking_uri)
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise StoreError("trials are recorded in MLflow's database, and there is none yet",
                         uri.removeprefix("sqlite:///"), "run `pgolf search ROUND` first, or give its --store")  # fmt: skip
    return MlflowClient(uri)
