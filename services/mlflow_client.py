"""The one door to MLflow: its client, quietly; its address; where its artifacts go.

The default is SQLite beside the store, opened directly: no server to start, and single-user speed.
MLflow's and Alembic's loggers announce every migration of a new database; they are turned down to
warnings. The environment it wants to find is set in the package's `__init__`.

An address that can never work is the user's mistake, and said before anything is done with it. A server
that does not answer is one only for who wants to read: what is recorded waits for it in an outbox. To
tell in seconds, it is asked once by a plain request first: MLflow's own client tries for minutes.
"""

import logging
import re
import ssl
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from pgolf.errors import StoreError, UserError
from pgolf.stage import made_whole

for _name in ("mlflow", "alembic"):
    logging.getLogger(_name).setLevel(logging.WARNING)

__all__ = ["MlflowClient", "address", "artifact_root", "check_usable", "client_for", "client_to_read"]

SERVERS = ("http", "https")
ANSWER_SECONDS = 5.0  # within which a server has to answer who wants to read
FORMS = "give http://HOST:PORT of an MLflow server, or sqlite:////PATH/mlflow.db"


def address(store_dir: Path, tracking_uri: str | None) -> str:
    """The tracking URI: the one given, else the store's own SQLite file."""
    return tracking_uri or f"sqlite:///{Path(store_dir).absolute()}/mlflow.db"


def artifact_root(store_dir: Path, uri: str) -> str | None:
    """Where artifacts go: beside the store for a bare database, the server's choice for a server."""
    return (
        None if uri.startswith(("http:", "https:")) else (Path(store_dir).absolute() / "mlartifacts").as_uri()
    )


def check_usable(uri: str) -> None:
    """Whether MLflow could work with a tracking URI; connects to nothing.

    Raises:
        UserError: if the URI is of no kind that MLflow records to, or its database's driver is missing.
    """
    rule = "trials are recorded to an MLflow server or to a database"
    try:
        scheme, host = urlsplit(uri).scheme, urlsplit(uri).hostname
        _ = urlsplit(uri).port  # raises if it is not a number
        if scheme in SERVERS and host:
            return
        if scheme.split("+")[0] not in DATABASE_ENGINES:
            raise UserError(rule, _shown(uri), FORMS)
        make_url(uri).get_dialect().import_dbapi()
    except (ValueError, SQLAlchemyError):
        raise UserError(rule, _shown(uri), FORMS) from None
    except ImportError as error:
        given = f"{_shown(uri)}: there is no {error.name or error}"
        way_out = "install it, or name one that is there (postgresql+psycopg2://...)"
        raise UserError("a tracking database needs its driver", given, way_out) from None


def client_for(store_dir: Path, tracking_uri: str | None) -> MlflowClient:
    """A client that may create the database.

    Raises:
        UserError: if the tracking URI is none that MLflow can record to.
    """
    uri = address(store_dir, tracking_uri)
    check_usable(uri)
    if uri.startswith("sqlite:////"):
        made_whole(Path(uri.removeprefix("sqlite:///")), _new_database)
    return MlflowClient(uri)


def _new_database(file: Path) -> None:
    """Every table of MLflow's: seconds of migrations, and a file half through them is of no use to anyone."""
    MlflowClient(f"sqlite:///{file}").search_experiments(max_results=1)


def client_to_read(store_dir: Path, tracking_uri: str | None) -> MlflowClient:
    """A client that finds what was recorded and leaves no file where there was none.

    Raises:
        StoreError: if the SQLite database does not exist.
        UserError: if the tracking URI cannot be used, or nothing of MLflow's answers there.
    """
    uri = address(store_dir, tracking_uri)
    check_usable(uri)
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        rule, file = (
            "trials are recorded in MLflow's database, and there is none yet",
            uri[len("sqlite:///") :],
        )
        raise StoreError(rule, file, "run `pgolf search ROUND` first, or give its --store")
    if uri.startswith(SERVERS):
        _check_answers(uri)
    try:
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        rule = "a record is read from a working MLflow of this version's kind"
        raise UserError(rule, f"{_shown(uri)}: {said}", FORMS) from None
    return client


def _check_answers(uri: str) -> None:
    """Any answer will do here, be it an error: who answers is MLflow's client to find out."""
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=ANSWER_SECONDS):
            pass
    except urllib.error.HTTPError:
        pass
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        if not isinstance(reason, ssl.SSLError):  # MLflow has its own settings for certificates
            given = f"{_shown(uri)}: {reason or type(reason).__name__}"
            raise UserError(
                "a record is read from an MLflow server that answers", given, "start it, or mend the URI"
            ) from None


def _shown(uri: str) -> str:
    """The URI as it may be printed: without its password."""
    return re.sub(r"(://[^:/@]*):[^/@]*@", r"\1:***@", uri)
