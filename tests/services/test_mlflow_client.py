"""An address that cannot work is said in three lines, and within seconds, to who wants to read."""

import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from pgolf.errors import UserError
from services import mlflow_client
from services.mlflow_client import check_usable, client_for, client_to_read


def refusal(call, *arguments) -> str:
    with pytest.raises(UserError) as refused:
        call(*arguments)
    assert len(str(refused.value).splitlines()) <= 3
    return str(refused.value)


@pytest.mark.parametrize(
    "uri", ["foo://x", "http://", "http://host:port", "http://[x", "mlruns", "file:///tmp/mlruns", "sqlite"]
)
def test_an_address_of_no_kind_that_mlflow_records_to_is_refused(uri, tmp_path):
    for call in (client_for, client_to_read):
        said = refusal(call, tmp_path, uri)
        assert uri in said
        assert "sqlite:////" in said


def test_a_missing_driver_is_named_and_no_password_is_printed(tmp_path, monkeypatch):
    said = refusal(client_for, tmp_path, "postgresql+no_such_driver://me:secret@host/db")
    assert "secret" not in said
    monkeypatch.setitem(sys.modules, "pymysql", None)
    missing = refusal(client_for, tmp_path, "mysql+pymysql://me:secret@host/db")
    assert "pymysql" in missing
    assert "me:***@host" in missing


def test_servers_and_databases_with_a_driver_are_usable_without_being_asked():
    for uri in ("http://127.0.0.1:9", "https://mlflow.example/prefix", "sqlite:////nowhere/mlflow.db"):
        check_usable(uri)


def test_a_server_that_does_not_answer_is_said_within_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr(mlflow_client, "ANSWER_SECONDS", 0.5)
    with socket.socket() as silent:  # takes connections and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for uri in ("http://127.0.0.1:9", f"http://127.0.0.1:{silent.getsockname()[1]}"):
            began = time.monotonic()
            assert uri in refusal(client_to_read, tmp_path, uri)
            assert time.monotonic() - began < 5


class NotMlflow(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(404)

    def do_POST(self):
        self.send_error(404)

    def log_message(self, *_):
        pass


def test_what_answers_but_is_no_mlflow_is_said(tmp_path):
    with HTTPServer(("127.0.0.1", 0), NotMlflow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert "working MLflow" in refusal(client_to_read, tmp_path, f"http://127.0.0.1:{server.server_port}")
        server.shutdown()


def test_a_file_that_is_no_database_is_said(tmp_path):
    (tmp_path / "mlflow.db").write_text("not a database\n" * 500)
    assert "not a database" in refusal(client_to_read, tmp_path, None)


def test_a_process_killed_while_it_makes_the_database_leaves_none(tmp_path):
    """Migrations take seconds; a file that holds half of them would be refused for ever."""
    code = "import sys; from pathlib import Path; from services.mlflow_client import client_for; "
    code += "print('begun', flush=True); client_for(Path(sys.argv[1]), None)"
    command = [sys.executable, "-c", code, str(tmp_path)]
    maker = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert maker.stdout is not None
    maker.stdout.readline()
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".making-*/mlflow.db")) and time.monotonic() < deadline:
        time.sleep(0.01)
    maker.kill()
    maker.wait()
    assert not (tmp_path / "mlflow.db").exists()
    assert client_for(tmp_path, None).search_experiments(max_results=1)
