"""A search without training: an invented deployed tuple, to try study policies on in milliseconds.

The landscape keeps what makes the real one hard and nothing else: capacity helps with diminishing returns
and costs bytes and seconds, so the best legal point lies *on* the byte cap; fewer bits buy capacity at a
price in distortion; adaptation at evaluation helps, costs eval seconds, and brings a parameter that exists
only beside it; a learning rate has an optimum and diverges beyond it; a seed moves the result a little.

    bpb = 1.05 + 0.55 (params / 1e6)^-0.4 + 0.9 * 2^-bits + 0.04 ln(lr / lr*)^2 - adaptation + noise

The constants are made up. Policies may be compared on it; no number it gives means anything elsewhere.
"""

import math
import random
from typing import Any

from optuna.storages import InMemoryStorage
from optuna.trial import BaseTrial

from pgolf.errors import Infeasible
from pgolf.formats.result import DeployedTuple, Result
from pgolf.rules import Rules
from pgolf.section import Section, digest_of
from search_spaces.round import Round
from search_spaces.study import Study

RULES = Rules(name="simulated", artifact_bytes=4_000_000, train_seconds=600, eval_seconds=600)
BEST_LR = 0.02
DIVERGES_AT = 0.2  # learning rate
NOISE_BPB = 0.0005  # one standard deviation between seeds
CODE_BYTES = 60_000


class SimulatedConfig(Section):
    """What a simulated trial is made of; it answers to the same names as a real config."""

    name: str = "simulated"
    seed: int = 0
    layers: int = 6
    width: int = 256
    bits: int = 6
    lr: float = BEST_LR
    adapt_lr: float | None = None  # None: no adaptation at evaluation
    rules: Rules = RULES

    @property
    def digest(self) -> str:
        return digest_of({k: v for k, v in self.plain().items() if k not in ("name", "seed")})

    @property
    def label(self) -> str:
        return f"{self.name}-{self.digest[:8]}"


def space(trial: BaseTrial) -> SimulatedConfig:
    adapt = trial.suggest_categorical("adapt.on", [False, True])
    return SimulatedConfig(
        layers=trial.suggest_int("layers", 2, 16),
        width=trial.suggest_int("width", 64, 768, step=32),
        bits=trial.suggest_int("bits", 3, 8),
        lr=trial.suggest_float("lr", 1e-3, 0.4, log=True),
        adapt_lr=trial.suggest_float("adapt.lr", 1e-5, 1e-1, log=True) if adapt else None,
    )


ROUND = Round(
    name="simulated",
    space=space,  # type: ignore[arg-type]  # answers to the names that a study reads
    rules=RULES,
    trials=60,
    max_concurrent=1,
    warm_starts={"baseline": {"adapt.on": False, "layers": 4, "width": 192, "bits": 8, "lr": 0.005}},
)


def run(config: SimulatedConfig) -> Result:
    """The invented result of a config: the same for the same config and seed."""
    params = 12 * config.layers * config.width**2 + 1024 * config.width
    artifact_bytes = CODE_BYTES + int(params * config.bits * 0.9 / 8)
    train_seconds = 20 + params / 40_000
    eval_seconds = 10 + params / 60_000 * (3 if config.adapt_lr else 1)
    if config.lr > DIVERGES_AT:
        broken = [Infeasible(reason="diverged", measured=None, limit=0.0)]
        return _result(config, broken, train_seconds=train_seconds)
    bpb = (
        1.05
        + 0.55 * (params / 1e6) ** -0.4
        + 0.9 * 2.0**-config.bits
        + 0.04 * math.log(config.lr / BEST_LR) ** 2
    )
    if config.adapt_lr:
        bpb -= 0.02 - 0.004 * math.log10(config.adapt_lr / 3e-3) ** 2
    bpb += random.Random(f"{config.digest}/{config.seed}").gauss(0, NOISE_BPB)
    measured: dict[str, Any] = {
        "artifact_bytes": artifact_bytes,
        "train_seconds": train_seconds,
        "eval_seconds": eval_seconds,
    }
    return _result(config, config.rules.broken_by(**measured), bpb=bpb, **measured)


def play(round_: Round, trials: int) -> Study:
    """A whole study in memory, one trial after the other."""
    study = Study.open(round_, InMemoryStorage())
    while study.issued < trials:
        proposal = study.ask()
        study.tell(proposal.number, run(proposal.config))  # type: ignore[arg-type]
    return study


def _result(config: SimulatedConfig, broken: list[Infeasible], **measured: float | None) -> Result:
    deployed = {name: measured.get(name) for name in DeployedTuple.model_fields}
    return Result.model_validate({
        "name": config.label, "config": config.plain(), "config_digest": config.digest, "seed": config.seed,
        "status": "infeasible" if broken else "ok", "infeasible": broken, "tuple": deployed, **measured,
    })  # fmt: skip
