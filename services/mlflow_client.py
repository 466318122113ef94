"""The one door to MLflow: its client, quietly; its address; where its artifacts go.

The default is SQLite beside the store, opened directly: no server to start, and single-user speed.
MLflow's and Alembic's loggers announce every migration of a new database; they are turned down to
warnings. The environment it wants to find is set in the package's `__init__`.
"""

import logging
from pathlib import Path

from mlflow import MlflowClient

from pgolf.errors import StoreError

for _name in ("mlflow", "alembic"):
    logging.getLogger(_name).setLevel(logging.WARNING)

__all__ = ["MlflowClient", "address", "artifact_root", "client_for", "client_to_read"]


def address(store_dir: Path, tracking_uri: str | None) -> str:
    """The tracking URI: the one given, else the store's own SQLite file."""
    return tracking_uri or f"sqlite:///{Path(store_dir).absolute()}/mlflow.db"


def artifact_root(store_dir: Path, uri: str) -> str | None:
    """Where artifacts go: beside the store for a bare database, the server's choice for a server."""
    return (
        None if uri.startswith(("http:", "https:")) else (Path(store_dir).absolute() / "mlartifacts").as_uri()
    )


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
        rule, file = (
            "trials are recorded in MLflow's database, and there is none yet",
            uri[len("sqlite:///") :],
        )
        raise StoreError(rule, file, "run `pgolf search ROUND` first, or give its --store")
    return MlflowClient(uri)
