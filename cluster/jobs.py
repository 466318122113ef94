"""`pgolf submit`: a search as a Ray job. The working tree goes up, the log comes down, the exit code counts.

Three environment variables make it a search that can be stopped and traced. Ray ends a job with SIGTERM and
kills it three seconds later; Tune answers to SIGINT and needs longer to let its trials go. And the uploaded
tree has no `.git`, so the commit it was made from travels beside it.
"""

import asyncio
import json
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from pgolf.errors import UserError
from pgolf.runtime import source
from search_spaces import rounds

EXCLUDED = [".git", ".venv", "venv", "store", "runs", "mlruns", "*.db", "*.egg-info", "__pycache__"]
STOP_SECONDS = 30  # between SIGINT and SIGKILL: Tune stops its trials, the recorder empties its outbox
POLL_SECONDS = 0.5
INTERRUPTED = 130  # what a shell returns for Ctrl-C


def submit(
    round_name: str,
    address: str,
    arguments: Sequence[str] = (),
    *,
    working_dir: Path = Path(),
    wait: bool = True,
    say: Callable[[str], None] = print,
) -> int:
    """Run `pgolf search ROUND ARGUMENTS` on a cluster, streaming its log; returns the job's exit code.

    Without `wait`, returns 0 as soon as the job is accepted.

    Raises:
        ConfigError: if there is no such round.
        UserError: if the cluster does not answer or does not let us in.
    """
    rounds.load(round_name)
    entrypoint = shlex.join(["pgolf", "search", round_name, *arguments])
    return submit_entrypoint(
        entrypoint, address, name=round_name, working_dir=working_dir, wait=wait, say=say
    )


def submit_entrypoint(
    entrypoint: str,
    address: str,
    *,
    name: str,
    working_dir: Path,
    wait: bool = True,
    say: Callable[[str], None] = print,
) -> int:
    """Run any command line as a job. Without resources of its own it runs on the head node."""
    client = _client(address)
    job = client.submit_job(
        entrypoint=entrypoint,
        submission_id=f"{name}-{time.time_ns()}",
        runtime_env=runtime_env(working_dir),
        metadata={"round": name},
    )
    say(f"job {job}: {entrypoint}")
    if not wait:
        return 0
    try:
        return asyncio.run(_follow(client, job, say))
    except KeyboardInterrupt:
        say(f"the job goes on; to end it: ray job stop --address {address} {job}")
        return INTERRUPTED


def runtime_env(working_dir: Path) -> dict[str, object]:
    """What a job takes along: the working tree without its history and products, and three variables."""
    return {
        "working_dir": str(working_dir.resolve()),
        "excludes": EXCLUDED,
        "env_vars": {
            "RAY_JOB_STOP_SIGNAL": "SIGINT",
            "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS),
            "PGOLF_SOURCE": json.dumps(source(working_dir)),
        },
    }


def _client(address: str) -> JobSubmissionClient:
    try:
        return JobSubmissionClient(address)
    except AuthenticationError:
        remedy = "set RAY_AUTH_MODE=token, with the head's token in ~/.ray/auth_token or RAY_AUTH_TOKEN"
        raise UserError("this Ray head wants a token", address, remedy) from None
    except (ConnectionError, RuntimeError, ValueError):
        remedy = "the URL of a Ray dashboard that answers, for example http://127.0.0.1:8265"
        raise UserError("a job goes to a Ray head", address, remedy) from None


async def _follow(client: JobSubmissionClient, job: str, say: Callable[[str], None]) -> int:
    """Stream the log until the job has ended; the job's exit code, 1 if it never got as far as having one."""
    seen = ""
    async for text in client.tail_job_logs(job):
        seen = _said(seen + text, say)
    if seen:
        say(seen)
    while not client.get_job_status(job).is_terminal():  # the log ends a moment before the job does
        await asyncio.sleep(POLL_SECONDS)
    info = client.get_job_info(job)
    if info.status != JobStatus.SUCCEEDED:
        say(f"job {job} {info.status.value.lower()}: {info.message or 'no message'}")
    if info.driver_exit_code is not None:
        return int(info.driver_exit_code)
    return 0 if info.status == JobStatus.SUCCEEDED else 1


def _said(text: str, say: Callable[[str], None]) -> str:
    """Say whole lines; return the rest, to be completed by what comes next."""
    *lines, rest = text.split("\n")
    for line in lines:
        say(line)
    return rest
