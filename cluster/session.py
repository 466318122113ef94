"""The Ray cluster a search runs on: the one it was given, the one it is a job of, or this machine.

Ray is kept quiet. Its workers' output, Tune's tables and the usage ping would bury the few lines that a
search says itself; what a trial printed stays in Ray's own log files.
"""

import logging
import os
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
SPARE_CPUS = 1  # for Trainables, which only wait: the ranks get the machine's cores


@contextmanager
def session(address: str | None, rules: Rules) -> Iterator[None]:
    """Connected to Ray for the block. A connection that exists already is used and left as it is.

    Raises:
        UserError: if this machine, asked to be the cluster, cannot hold one gang.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if ray.is_initialized():
        yield
        return
    if address is None and any(name in os.environ for name in IN_A_JOB):
        address = "auto"
    if address is None:
        check_machine(rules)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own deprecations are not the user's business
        ray.init(
            address=address or "local",
            num_cpus=cores() + SPARE_CPUS if address is None else None,
            include_dashboard=False if address is None else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
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


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpus() -> int:
    import torch  # only where a gang asks for GPUs

    return torch.cuda.device_count()
