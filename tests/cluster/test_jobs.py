"""Jobs against a real head on loopback, at ports that nobody else uses."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from cluster.jobs import runtime_env, submit, submit_entrypoint
from pgolf.errors import ConfigError, UserError
from pgolf.runtime import source

PORTS = {"--port": 26479, "--dashboard-port": 28465, "--dashboard-agent-listen-port": 28565,
         "--ray-client-server-port": 20101, "--dashboard-agent-grpc-port": 28665}  # fmt: skip
ADDRESS = f"http://127.0.0.1:{PORTS['--dashboard-port']}"

ENTRYPOINT = """
import json, os, sys
print("source", json.loads(os.environ["PGOLF_SOURCE"])["commit"], os.environ["RAY_JOB_STOP_SIGNAL"])
print("here", sorted(name for name in os.listdir() if not name.startswith("__")))
sys.exit(int(sys.argv[1]))
"""


def test_an_unknown_round_is_refused_before_anything_is_sent():
    with pytest.raises(ConfigError, match="labtop"):
        submit("labtop", "http://127.0.0.1:1")


def test_a_head_that_does_not_answer_is_a_users_error_of_three_lines(tmp_path):
    with pytest.raises(UserError, match="Ray head") as caught:
        submit_entrypoint("true", "http://127.0.0.1:1", name="x", working_dir=tmp_path, say=print)
    assert len(str(caught.value).splitlines()) <= 3


def test_a_job_carries_its_commit_and_how_it_is_stopped_and_leaves_products_behind(tmp_path):
    assert source(tmp_path) == {"commit": None, "dirty": None}
    env = runtime_env(tmp_path)
    assert env["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"] == "30"
    assert json.loads(env["env_vars"]["PGOLF_SOURCE"])["dirty"] is None
    assert {".git", ".venv", "store"} <= set(env["excludes"])


def test_the_commit_of_a_checkout_is_found_and_a_change_makes_it_dirty(tmp_path):
    def git(*arguments):
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    git("init")
    git("commit", "--allow-empty", "-m", "first")
    clean = source(tmp_path)
    assert len(str(clean["commit"])) == 40
    assert clean["dirty"] is False
    (tmp_path / "new.txt").write_text("x")
    assert source(tmp_path) == {"commit": clean["commit"], "dirty": True}


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """A head of our own that wants a token, ended by its pid: `ray stop` would end everybody's."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # as in an activated environment
    env = {**os.environ, "PATH": path, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=3",
               "--num-gpus=0", "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1",
               "--disable-usage-stats", *(f"{flag}={port}" for flag, port in PORTS.items())]  # fmt: skip
    log = tmp_path_factory.mktemp("head") / "log"
    with log.open("w") as out:
        process = subprocess.Popen(command, start_new_session=True, stdout=out, stderr=out, env=env)
    try:
        deadline = time.monotonic() + 60
        while not answers():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, "the head did not come up"
            time.sleep(0.3)
        yield env
    finally:
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def answers() -> bool:
    try:
        with urllib.request.urlopen(f"{ADDRESS}/api/version", timeout=2) as response:
            return response.status == 200
    except urllib.error.HTTPError:
        return True  # it wants a token, and so it is there
    except OSError:
        return False


SUBMIT = """
import sys
from pathlib import Path
from cluster.jobs import submit_entrypoint
sys.exit(submit_entrypoint(sys.argv[1], sys.argv[2], name="tiny", working_dir=Path(sys.argv[3]), say=print))
"""


@pytest.mark.heavy
@pytest.mark.xdist_group("ray")
@pytest.mark.parametrize("wanted", [3, 0])
def test_a_job_runs_in_the_uploaded_tree_and_its_log_and_exit_code_come_back(head, tmp_path, wanted):
    (tmp_path / "job.py").write_text(ENTRYPOINT)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "big.bin").write_text("left behind")
    command = [sys.executable, "-c", SUBMIT, f"{sys.executable} job.py {wanted}", ADDRESS, str(tmp_path)]
    done = subprocess.run(command, env=head, capture_output=True, text=True, timeout=120)
    lines = done.stdout.splitlines()
    assert done.returncode == wanted, done.stderr
    assert "source None SIGINT" in lines
    assert "here ['job.py']" in lines
    assert any("failed" in line for line in lines) == (wanted != 0)


@pytest.mark.heavy
@pytest.mark.xdist_group("ray")
def test_a_head_that_wants_a_token_says_so_in_three_lines(head, tmp_path):
    env = {**head, "RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, "-c", SUBMIT, "true", ADDRESS, str(tmp_path)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "this Ray head wants a token" in done.stderr
    assert "RAY_AUTH_MODE=token" in done.stderr


@pytest.mark.heavy
@pytest.mark.xdist_group("ray")
def test_a_search_runs_as_a_ray_job_from_the_uploaded_tree(head, tmp_path):
    """The contract's own command line: the job joins the cluster it runs on and leaves a ranked record."""
    bin_ = Path(sys.executable).parent
    root = Path(__file__).resolve().parents[2]
    store = tmp_path / "store"
    search = ["pgolf", "search", "smoke", "--trials", "2", "--store", str(store)]
    done = subprocess.run(
        [str(bin_ / "ray"), "job", "submit", "--address", ADDRESS, "--working-dir", ".", "--", *search],
        cwd=root, env=head, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "what to type next" in done.stdout
    board = subprocess.run(
        [str(bin_ / "pgolf"), "board", "smoke", "--store", str(store), "--json"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    rows = json.loads(board.stdout)
    assert [row["rank"] for row in rows] == [1, 2]
    assert {row["status"] for row in rows} <= {"ok", "infeasible"}
