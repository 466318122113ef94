"""MLflow's own UI on a store, started light: one worker, no job runner, no telemetry.

By default its server starts four workers and seven job processes, 2 GB and half a minute for a page
that one process serves. The address printed is the runs table sorted by rank, which is the leaderboard;
it is printed once the server answers, because before that it is an error page.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO

from pgolf.errors import StoreError, UserError
from services.leaderboard import BOARD_VIEW, rounds
from services.mlflow_client import address, client_to_read

LIGHT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
START_SECONDS = 120.0


def serve(
    store_dir: Path,
    tracking_uri: str | None = None,
    port: int = 5000,
    host: str = "127.0.0.1",
    say: Callable[[str], None] = print,
    started: Callable[["subprocess.Popen[bytes]"], None] | None = None,
) -> int:
    """Run the UI until it is interrupted; returns the server's exit code.

    `started` is called with the server's process once it answers. With a tracking URI that is a server
    already, only its address is printed.

    Raises:
        StoreError: if nothing was recorded yet.
        UserError: if the port is taken, or the server does not start.
    """
    uri = address(store_dir, tracking_uri)
    found = rounds(client_to_read(store_dir, tracking_uri))
    if not found:
        rule = "the UI shows a store that has trials"
        raise StoreError(rule, str(store_dir), "run `pgolf search ROUND` first")
    tables = {e.name: table_path(e.experiment_id) for e in found}
    if uri.startswith(("http:", "https:")):
        _say_where(uri.rstrip("/"), tables, say)
        return 0
    _check_free(host, port)
    with tempfile.TemporaryFile() as log:
        process = _start(uri, Path(store_dir), host, port, log)
        try:
            base = f"http://{host}:{port}"
            _wait_until_it_answers(base, process, log)
            _say_where(base, tables, say)
            if started is not None:
                started(process)
            process.wait()
        except KeyboardInterrupt:
            pass
        finally:
            process.terminate()
            process.wait()
    return max(process.returncode, 0)  # ended by a signal: the way to end it


def _start(uri: str, store_dir: Path, host: str, port: int, log: IO[bytes]) -> "subprocess.Popen[bytes]":
    artifacts = (store_dir.absolute() / "mlartifacts").as_uri()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--default-artifact-root", artifacts, "--host", host, "--port", str(port)]
    command += ["--workers", "1", "--uvicorn-opts", "--log-level warning"]
    return subprocess.Popen(command, env={**os.environ, **LIGHT}, stdout=log, stderr=log)


def table_path(experiment_id: str) -> str:
    """The runs table of a round as the leaderboard: the view that its record keeps under this name."""
    return f"/#/experiments/{experiment_id}/runs?viewStateShareKey={BOARD_VIEW}"


def _say_where(base: str, tables: dict[str, str], say: Callable[[str], None]) -> None:
    for name, path in tables.items():
        say(f"{name}: {base}{path}")


def _check_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError("the UI needs a port of its own", f"{host}:{port} ({error.strerror})",
                            f"`pgolf ui --port {port + 1}`") from None  # fmt: skip


def _wait_until_it_answers(base: str, process: "subprocess.Popen[bytes]", log: IO[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{base}/health", timeout=5):
                return
        except OSError:  # nothing listens yet
            time.sleep(0.2)
    log.seek(0)
    last = log.read().decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
    raise UserError("MLflow's server did not start", last[0], "try `mlflow server` by hand for its whole log")
