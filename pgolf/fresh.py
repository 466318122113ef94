"""Fresh processes for what must be proved from files alone: start one, and seal it to its own files.

The seal is not a jail against hostile native code; it is a tripwire that turns an honest mistake (a
path to training data, a download) into an error instead of a score.
"""

import os
import site
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

from pgolf.errors import PgolfError, UserError

SYSTEM = (
    "/proc",
    "/sys",
    "/etc",
    "/usr",
    "/lib",
    "/lib64",
    "/dev/null",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
)
STARTING = (
    "subprocess.Popen",
    "os.exec",
    "os.posix_spawn",
    "os.system",
    "os.fork",
    "os.forkpty",
    "pty.spawn",
)
KEPT = ("PATH", "HOME", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "VIRTUAL_ENV", "TMPDIR")

ALONE = """\
import runpy, sys
sys.modules.update(dict.fromkeys(("pgolf", "pydantic", "jaxtyping")))  # importing one is an ImportError
def hook(event, args):
    if event == "socket.connect":
        raise PermissionError(f"may not connect to {args[1]}")
sys.addaudithook(hook)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class WorkerFailed(PgolfError):
    """A fresh process ended with an error; its last lines are the message."""


def run_fresh(
    module: str, arguments: list[str], threads: int, heard: Callable[[str], object] = lambda line: None,
    limit_seconds: float | None = None,
) -> float:  # fmt: skip
    """Run `python -m module` in an empty directory; returns its wall seconds, interpreter included.

    Args:
        heard: is given each line that it prints, as it prints it.
        limit_seconds: after which it is killed.

    Raises:
        WorkerFailed: if it exits with anything but 0.
    """
    root = str(Path(__file__).resolve().parents[1])
    began = time.perf_counter()
    variables = {"PYTHONPATH": root, "OMP_NUM_THREADS": str(threads)}
    _run(module, ["-m", module, *arguments], variables, heard, limit_seconds)
    return time.perf_counter() - began


def run_alone(file: Path, arguments: list[str], threads: int) -> str:
    """Run one Python file in an empty directory, without pgolf and without a network; returns what it printed.

    Raises:
        WorkerFailed: if it exits with anything but 0.
    """
    return _run(file.name, ["-I", "-c", ALONE, str(file), *arguments], {"OMP_NUM_THREADS": str(threads)})


def _run(
    name: str, arguments: list[str], variables: dict[str, str],
    heard: Callable[[str], object] = lambda line: None, limit_seconds: float | None = None,
) -> str:  # fmt: skip
    env = {k: v for k, v in os.environ.items() if k in KEPT} | variables
    lines = []
    with tempfile.TemporaryDirectory() as elsewhere, tempfile.TemporaryFile("w+") as complaints:
        command = [sys.executable, *arguments]
        pipe = subprocess.PIPE
        with subprocess.Popen(
            command, env=env, cwd=elsewhere, stdout=pipe, stderr=complaints, text=True
        ) as process:
            late = threading.Timer(limit_seconds or threading.TIMEOUT_MAX, process.kill)
            late.daemon = True
            late.start()
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    lines.append(line)
                    heard(line)
            except BaseException:
                process.kill()
                raise
            finally:
                process.wait()
                late.cancel()
        if process.returncode:
            complaints.seek(0)
            raise WorkerFailed(f"{name} exited with {process.returncode}:\n{complaints.read()[-2000:]}")
    return "".join(lines)


def leave(main: Callable[[list[str]], int]) -> NoReturn:
    """End a fresh process with main's answer; a user's mistake is its message and exit code 2."""
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def seal_whole(allowed: Iterable[Path]) -> None:
    """From now on refuse every file but the allowed ones, Python's and pgolf's code and the system's own; and to
    start a program, which would be sealed to nothing."""
    installed = [*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()]
    code = [Path(place) for place in (sys.prefix, sys.base_prefix, *installed, *SYSTEM)]
    seal([Path("/")], [*code, Path(__file__).parent, Path.cwd(), *allowed])

    def hook(event: str, args: tuple[object, ...]) -> None:
        if event in STARTING:
            raise PermissionError(f"a sealed process may not start a program ({event})")

    sys.addaudithook(hook)


def seal(directories: Iterable[Path], allowed: Iterable[Path]) -> None:
    """From now on refuse files below `directories` that are not `allowed`, and every connection.

    An allowed directory allows what is below it. Cannot be undone in this process.
    """
    sealed = [str(d.resolve()) for d in directories]
    given = [str(p.resolve()) for p in allowed]

    def below(path: str, roots: list[str]) -> bool:
        return any(path == root or path.startswith(root.rstrip("/") + "/") for root in roots)

    def hook(event: str, args: tuple[object, ...]) -> None:
        if event == "open" and isinstance(args[0], str | bytes):
            path = os.path.realpath(os.fsdecode(args[0]))
            if below(path, sealed) and not below(path, given):
                raise PermissionError(f"a sealed process may not open {path}: it was given other files")
        elif event in ("socket.connect", "socket.sendto"):
            raise PermissionError(f"a sealed process may not connect to {args[1]}")

    sys.addaudithook(hook)
