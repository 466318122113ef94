"""The Ray cluster a search runs on: the one it was given, the one it is a job of, or this machine.

Ray is kept quiet. Its workers' output, Tune's tables and the usage ping would bury the few lines that a
search says itself; what a trial printed stays in Ray's own log files.
"""

import logging
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from cluster.gang import TRAINABLE_CPUS, bundles
from pgolf.errors import UserError
from pgolf.rules import Rules

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # Tune's older reporter obeys verbose=0, the newer does not
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no csv, json and tensorboard files per trial
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # nothing is restored from Tune's own state, so it need not be saved
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's own advice against a warning on hosts with GPUs
}
IN_A_JOB = ("RAY_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR")  # set by Ray where a cluster is already around us
KNOCK_SECONDS = 5.0  # for a head to take a connection
SPARE_CPUS = 1  # for Trainables, which only wait: the ranks get the machine's cores


@contextmanager
def session(address: str | None, rules: Rules) -> Iterator[None]:
    """Connected to Ray for the block. A connection that exists already is used and left as it is.

    Raises:
        UserError: if this machine, asked to be the cluster, cannot hold one gang; if nothing answers at
            the address; if one is given to a process that is connected already.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if address is not None:
        check_address(address)
    if ray.is_initialized():
        if address not in (None, "auto"):
            raise UserError("a process that is connected to Ray stays there", f"--ray-address {address}",
                            "leave it out, or disconnect first: ray.shutdown()")  # fmt: skip
        yield
        return
    if address is None and any(name in os.environ for name in IN_A_JOB):
        address = "auto"
    if address is None:
        check_machine(rules)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own deprecations are not the user's business
        try:
            ray.init(
                address=address or "local",
                num_cpus=cores() + SPARE_CPUS if address is None else None,
                include_dashboard=False if address is None else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except ConnectionError as error:  # "auto" where no cluster is, a port that something else answers at
            raise _no_cluster(f"{address}: {str(error).splitlines()[0]}") from None
    try:
        yield
    finally:
        ray.shutdown()


def check_machine(rules: Rules) -> None:
    """Refuse a gang that would wait for ever for resources that this machine does not have."""
    need = bundles(rules.gang)
    cpus, gpus = sum(b["CPU"] for b in need), sum(b.get("GPU", 0) for b in need)
    has_gpus = _gpus() if gpus else 0
    if cpus + TRAINABLE_CPUS > cores() + SPARE_CPUS or gpus > has_gpus:
        raise UserError(
            f"a gang of the profile '{rules.name}' fits on one machine: {cpus:g} CPUs, {gpus:g} GPUs",
            f"this machine: {cores()} CPUs, {has_gpus} GPUs",
            "take a smaller round, or a cluster: --ray-address ADDRESS or `pgolf submit`",
        )


def check_address(address: str) -> None:
    """Knock before Ray does: it would wait for minutes for an address at which nobody is.

    Raises:
        UserError: if it is no address, or nothing answers there.
    """
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise _no_cluster(address)
    try:
        socket.create_connection((host.strip("[]"), int(port)), KNOCK_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(f"{address}: {error}") from None


def _no_cluster(given: str) -> UserError:
    remedy = "HOST:PORT of a head started by `ray start --head` (port 6379), ray://HOST:10001, or auto"
    return UserError("--ray-address is that of a Ray cluster that answers", given, remedy)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpus() -> int:
    import torch  # only where a gang asks for GPUs

    return torch.cuda.device_count()
