"""One trial, whole: config -> data -> train -> calibrate -> quantize -> pack -> evaluate -> result.

Stages are found in the store or made. What is predicted to miss a limit by far is refused before anything
is made (`pgolf.estimate`). What makes a trial infeasible is recorded with its measurement and
stops it where going on would be paid for nothing: a candidate over the byte cap is not scored. The
search ranks on the select split; `validate` scores an artifact once on validation and certifies it.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pgolf.certify.dossier import MAKING, History, Opening
from pgolf.certify.report import read_report
from pgolf.certify.stage import CERTIFICATE, CERTIFY, READABLE
from pgolf.data.source import TOKENIZER
from pgolf.errors import DataError, Infeasible, InfeasibleTrial, StoreError
from pgolf.estimate import impossible
from pgolf.evaluate.stage import EVALUATE, PREQUANT, PROGRESS, VALIDATE, probe
from pgolf.formats.blob import ARTIFACT, read_artifact
from pgolf.formats.result import DeployedTuple, Result, StageResult
from pgolf.pack.bundle import BUNDLE
from pgolf.pack.stage import BUNDLED, PACK, code_artifact, packed_bytes
from pgolf.quantize.calibrate import CALIBRATE
from pgolf.quantize.stage import ByteTarget, quantize_stage
from pgolf.run import RunConfig, parse_config
from pgolf.runtime import Runtime, provenance
from pgolf.section import Section
from pgolf.stage import Artifact, Store, link_or_copy, sha256_of
from pgolf.train.budget import Hardware
from pgolf.train.stage import train_stage

REMAKE = "`pgolf reproduce` makes it again; then ask for that result"
GRACE, GRACE_SECONDS = 1.25, 30.0  # of an evaluation's clock, before it is stopped: starting and loading
STAGE_DONE = "stage_done/"  # report(-1, {STAGE_DONE + name: seconds})


class _Trial:
    """The artifacts and measurements of a trial under way."""

    def __init__(self, config: RunConfig, runtime: Runtime) -> None:
        self.config, self.runtime = config, runtime
        self.made: dict[str, Artifact] = {}
        self.infeasible: list[Infeasible] = []

    def add(self, name: str, artifact: Artifact) -> Artifact:
        self.made[name] = artifact
        if self.runtime.leads:
            self.runtime.report(-1, {STAGE_DONE + name: artifact.seconds})
        return artifact

    @property
    def tokens(self) -> Artifact:
        """The token directory."""
        return self.made.get("tokenize") or self.made["shards"]

    def metric(self, stage: str, name: str) -> float | int | None:
        return self.made[stage].metrics.get(name) if stage in self.made else None

    def judge(self) -> bool:
        """Note the broken budgets so far; whether the trial still is feasible."""
        broken = self.config.rules.broken_by(
            artifact_bytes=_whole(self.metric("pack", "artifact_bytes")),
            train_seconds=self.train_seconds,
            eval_seconds=self.deployed("eval_seconds"),
        )
        self.infeasible += [b for b in broken if b.reason not in {i.reason for i in self.infeasible}]
        return not self.infeasible

    def deployed(self, name: str) -> float | int | None:
        """A metric of the evaluation as deployed: the adapting one, if there is one."""
        return self.metric("adapt" if "adapt" in self.made else "evaluate", name)

    @property
    def train_seconds(self) -> float | None:
        trained = self.metric("train", "train_seconds")
        return None if trained is None else trained + (self.metric("calibrate", "train_seconds") or 0.0)

    @property
    def tokenizer_bytes(self) -> int | None:
        """Of the tokenizer's model: reported beside the artifact, not counted."""
        tokens = self.made.get("tokenize") or self.made.get("shards")
        file = tokens.path / TOKENIZER if tokens else None
        return file.stat().st_size if file and file.is_file() else None

    def result(self) -> Result:
        m, made = self.metric, self.made
        artifact = made["pack"].path / ARTIFACT if "pack" in made else None
        bpb = self.deployed("bpb")
        return Result(
            name=self.config.label,
            config=self.config.plain(),
            config_digest=self.config.digest,
            seed=self.config.seed,
            status="infeasible" if self.infeasible else "ok",
            infeasible=self.infeasible,
            tuple=DeployedTuple(
                bpb=bpb,
                artifact_bytes=_whole(m("pack", "artifact_bytes")),
                eval_seconds=self.deployed("eval_seconds"),
            ),
            stages={name: _stage_result(a) for name, a in made.items()},
            artifact_sha256=sha256_of(artifact) if artifact else None,
            prequant_bpb=m("prequant", "bpb"),
            quantized_bpb=m("evaluate", "bpb"),
            adapted_bpb=m("adapt", "bpb"),
            bpb=bpb,
            val_tokens=_whole(self.deployed("val_tokens")),
            val_bytes=_whole(self.deployed("val_bytes")),
            nats_per_token=self.deployed("nats_per_token"),
            model_bytes=_whole(m("pack", "model_bytes")),
            code_bytes=_whole(m("pack", "code_bytes")),
            artifact_bytes=_whole(m("pack", "artifact_bytes")),
            tokenizer_bytes=self.tokenizer_bytes,
            params=_whole(m("train", "params")),
            steps=_whole(m("train", "steps")),
            train_tokens=_whole(m("train", "train_tokens")),
            tokens_per_second=m("train", "tokens_per_second"),
            train_seconds=self.train_seconds,
            quantize_seconds=made["quantize"].seconds if "quantize" in made else None,
            pack_seconds=made["pack"].seconds if "pack" in made else None,
            eval_seconds=self.deployed("eval_seconds"),
            eval_seconds_strict=self.deployed("eval_seconds_strict"),
            peak_memory_bytes=_whole(m("train", "peak_memory_bytes")),
            provenance={
                **provenance(self.runtime),
                "data": {
                    name: made[name].digest for name in ("corpus", "tokenize", "shards") if name in made
                },
            },
        )


def run_trial(config: RunConfig, store: Store, runtime: Runtime) -> Result | None:
    """Run one trial. Rank 0 returns its result; other ranks take part in training and return None.

    Raises:
        UserError: if the data cannot be used. Any other exception is a bug or a fault.
    """
    trial = _Trial(config, runtime)
    trial.infeasible += impossible(config)
    if trial.infeasible:
        return trial.result() if runtime.leads else None
    try:
        _train(trial, store)
        _quantize(trial, store)
        _deploy(trial, store)
    except InfeasibleTrial as stopped:
        trial.infeasible.append(stopped.outcome)
    return trial.result() if runtime.leads else None


def packed_trial(config: RunConfig, store: Store, runtime: Runtime) -> dict[str, Artifact]:
    """A trial up to its packed artifact, not scored; its stages by name. On one rank.

    Raises:
        InfeasibleTrial: if it comes to no artifact.
    """
    trial = _Trial(config, runtime)
    _train(trial, store)
    _quantize(trial, store)
    trial.add(
        "pack", PACK(store, trial.made["quantize"], trial.made["bundle"], runtime=runtime, pack=config.pack)
    )
    return trial.made


def _train(trial: _Trial, store: Store) -> None:
    config, runtime = trial.config, trial.runtime
    tokens = _tokens(trial, store)
    vocab_size = int(tokens.metrics["vocab_size"])
    measure = partial(probe, evaluate=config.evaluate)
    stage = train_stage(vocab_size, measure)
    sections: dict[str, Section] = {"model": config.model, "optim": config.optim, "train": config.train}
    if (hardware := Hardware.of(config.train.budget, runtime)) is not None:
        sections["hardware"] = hardware
    trial.add("train", stage(store, tokens, runtime=runtime, seed=config.seed, **sections))


def _tokens(trial: _Trial, store: Store) -> Artifact:
    """The token directory: made by rank 0, then found by the others."""
    if not trial.runtime.leads:
        trial.runtime.agree(None)
    made = trial.config.data.build(store, trial.runtime)
    if trial.runtime.leads:
        trial.runtime.agree(None)
    for name, artifact in made:
        trial.add(name, artifact)
    return made[-1][1]


def _quantize(trial: _Trial, store: Store) -> None:
    """Calibration and quantization, which all ranks share."""
    config, made, runtime = trial.config, trial.made, trial.runtime
    statistics = []
    if config.calibrate is not None and config.quantize.needs:
        statistics.append(trial.add("calibrate", CALIBRATE(
            store, made["train"], trial.tokens, runtime=runtime, seed=config.seed, calibrate=config.calibrate
        )))  # fmt: skip
    trial.judge()
    code_bytes = runtime.agree(_bundle(trial, store) if runtime.leads else None)
    assert isinstance(code_bytes, int)
    sections: dict[str, Section] = {"quantize": config.quantize}
    if config.quantize.solves_for_bytes:
        sections["pack"] = config.pack
        sections["target"] = ByteTarget(artifact_bytes=config.rules.artifact_bytes, code_bytes=code_bytes)
    stage = quantize_stage(partial(packed_bytes, pack=config.pack))
    trial.add("quantize", stage(store, made["train"], *statistics, runtime=runtime, seed=None, **sections))


def _bundle(trial: _Trial, store: Store) -> int:
    """The code's bytes; on the leading rank."""
    c = trial.config
    code = code_artifact(store, trial.runtime, model=c.model, evaluate=c.evaluate, pack=c.pack)
    return int(trial.add("bundle", code).metrics["code_bytes"])


def _deploy(trial: _Trial, store: Store) -> None:
    """Pack, on the leading rank; then all ranks score: first as quantized, then as it adapts, if it does."""
    config, made, runtime = trial.config, trial.made, trial.runtime
    plain, tokens = config.evaluate.plain_mode, trial.tokens
    packed = None
    if runtime.leads:
        packed = PACK(store, made["quantize"], made["bundle"], runtime=runtime, pack=config.pack)
        trial.add("pack", packed)
        trial.add("prequant", PREQUANT(store, made["train"], tokens, runtime=runtime, evaluate=plain))
    packed = _agreed(runtime, packed)
    if runtime.agree(trial.judge() if runtime.leads else None):
        modes = {"evaluate": plain, **({"adapt": config.evaluate} if config.evaluate.adaptive else {})}
        for name, mode in modes.items():
            timed = replace(runtime, report=_Deadline(config.rules.eval_seconds, runtime))
            trial.add(name, EVALUATE(store, packed, tokens, runtime=timed, evaluate=mode))
        trial.judge()
    if broken := config.evaluate.outside_rules:
        trial.infeasible.append(Infeasible(reason="rules", measured=len(broken), limit=0))


class _Deadline:
    """Reports on, and stops an evaluation that is over its clock by far: its score could not be feasible.

    Of a gang of several ranks nothing is stopped: their processes wait for one another.
    """

    def __init__(self, limit: float, runtime: Runtime) -> None:
        self.limit, self.report, self.alone = limit, runtime.report, runtime.world_size == 1
        self.began = time.monotonic()

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None:
        self.report(step, metrics)
        seconds = time.monotonic() - self.began
        if self.alone and PROGRESS in metrics and seconds > GRACE * self.limit + GRACE_SECONDS:
            raise InfeasibleTrial(Infeasible(reason="eval_seconds", measured=seconds, limit=self.limit))


def _agreed(runtime: Runtime, artifact: Artifact | None) -> Artifact:
    """The leading rank's artifact, on every rank."""
    agreed = runtime.agree(artifact)
    assert isinstance(agreed, Artifact)
    return agreed


def validate(result: Result, store: Store, runtime: Runtime) -> Result | None:
    """Score a finished trial's artifact once on the validation split, and certify it.

    All ranks score, each giving the same result in; the leading one has the answer.

    The store remembers, so asking again scores nothing twice. The evaluation budget holds for this split
    too, and the longer clock of the two stays in the tuple; over it, or with a certificate that fails,
    the trial is infeasible.

    Raises:
        StoreError: if the trial packed no artifact, or the store no longer has exactly that one.
    """
    config = parse_config(result.config)
    tokens, packed = _recorded(result, store)
    scored = VALIDATE(store, packed, tokens, runtime=runtime, evaluate=config.evaluate)
    if not runtime.leads:
        return None
    code = store.find(BUNDLED.name, result.stages["bundle"].key) if "bundle" in result.stages else None
    history = History(
        train_seconds=result.train_seconds,
        eval_seconds_strict=scored.metrics["eval_seconds_strict"],
        opened=_opened(result, store),
    )
    certificate = _certified(
        config, store, runtime, history, packed, tokens, scored, *([code] if code else [])
    )
    stages = dict(result.stages)
    for name, a in (("validate", scored), ("certify", certificate)):
        runtime.report(-1, {STAGE_DONE + name: a.seconds})
        stages[name] = _stage_result(a)
    seconds = max(scored.metrics["eval_seconds"], result.eval_seconds or 0.0)
    late = config.rules.broken_by(artifact_bytes=None, train_seconds=None, eval_seconds=seconds)
    outcomes = [i for i in result.infeasible if i.reason not in ("certificate", "eval_seconds")] + late
    if failed := certificate.metrics["failed_checks"]:
        outcomes.append(Infeasible(reason="certificate", measured=failed, limit=0))
    return result.but(
        stages=stages,
        validation_bpb=scored.metrics["bpb"],
        eval_seconds=seconds,
        tuple=result.tuple.but(eval_seconds=seconds),
        infeasible=outcomes,
        status="infeasible" if outcomes else "ok",
    )


def _opened(result: Result, store: Store) -> tuple[Opening, ...] | None:
    """The shards that were opened on the way to a result's artifact; None if a stage's record is gone."""
    found: list[Opening] = []
    for name in MAKING:
        if name in result.stages:
            shards = store.opened(name, result.stages[name].key)
            if shards is None:
                return None
            found += [Opening(file=file, stage=name) for file in shards]
    return tuple(found)


def _certified(
    config: RunConfig, store: Store, runtime: Runtime, history: History, *inputs: Artifact
) -> Artifact:
    """The certificate of an artifact, its tokens, its scores, and the bundle that was counted, if there is one."""
    return CERTIFY(store, *inputs, runtime=runtime, certify=config.certify, evaluate=config.evaluate,
                   rules=config.rules, history=history)  # fmt: skip


def _recorded(result: Result, store: Store) -> tuple[Artifact, Artifact]:
    """The token directory and the packed artifact of a result, as they were recorded."""
    tokens, packed = tokens_of(result, store), packed_of(result, store)
    if tokens is None:
        raise StoreError("the store has the trial's artifact and its tokens", f"{result.name} in {store.root}",
                         REMAKE)  # fmt: skip
    return tokens, packed


def packed_of(result: Result, store: Store) -> Artifact:
    """The packed artifact of a result, as it was recorded.

    Raises:
        StoreError: if the trial packed none, or the store no longer has exactly that one.
    """
    if "pack" not in result.stages or result.artifact_sha256 is None:
        raise StoreError("only a trial that packed an artifact can be scored, certified or exported",
                         f"{result.name}: {result.status}", "choose one with an artifact on the board")  # fmt: skip
    packed = store.find(PACK.name, result.stages["pack"].key)
    if packed is None:
        raise StoreError("the store has the trial's artifact and its tokens", f"{result.name} in {store.root}",
                         REMAKE)  # fmt: skip
    if sha256_of(packed.path / ARTIFACT) != result.artifact_sha256:
        raise StoreError(
            "the store's artifact is the one on record", f"{result.name}: another SHA-256", REMAKE
        )
    return packed


def tokens_of(result: Result, store: Store) -> Artifact | None:
    """The token directory that a result was scored on, if the store still has it."""
    data = "tokenize" if "tokenize" in result.stages else "shards"
    return store.find(data, result.stages[data].key) if data in result.stages else None


def bundle_of(result: Result, store: Store) -> Path:
    """The file that scores a result's artifact and was counted with it. Raises StoreError if it is gone."""
    counted = store.find(BUNDLED.name, result.stages["bundle"].key) if "bundle" in result.stages else None
    if counted is None:
        raise StoreError(
            "the store still has the bundle that was counted", f"{result.name} in {store.root}", REMAKE
        )
    return counted.path / BUNDLE


def certify_artifact(file: Path, config: RunConfig, store: Store, runtime: Runtime) -> dict[str, Any]:
    """Score and certify an artifact that no trial of this store made.

    Raises:
        DataError: if it is no whole artifact, or its vocabulary is not the data's.
    """
    artifact = read_artifact(file)
    tokens = config.data.build(store, runtime)[-1][1]
    if artifact.vocab_size != tokens.metrics["vocab_size"]:
        raise DataError("an artifact is scored on tokens of its own vocabulary",
                        f"{artifact.vocab_size} in {file}, {tokens.metrics['vocab_size']:.0f} in the data",
                        "give the config it was trained with: --config")  # fmt: skip
    with store.workspace() as work:
        home = Path(work) / "given" / "artifact"
        home.mkdir(parents=True)
        link_or_copy(file, home / ARTIFACT)
        packed = Artifact.of(home)
        scored = VALIDATE(store, packed, tokens, runtime=runtime, evaluate=config.evaluate)
        history = History(eval_seconds_strict=scored.metrics["eval_seconds_strict"])
        made = _certified(config, store, runtime, history, packed, tokens, scored)
    return read_report(made.path / CERTIFICATE)


def certificate_of(result: Result, store: Store) -> dict[str, Any]:
    """The certificate that `validate` made for a result."""
    return read_report(attachments(result, store)[CERTIFICATE])


def attachments(result: Result, store: Store) -> dict[str, Path]:
    """Files of a trial worth keeping with its record, by name, as far as the store still has them."""
    wanted = {
        "ledger.npz": (result.scored_stage, EVALUATE.name, "ledger.npz"),
        **{name: ("certify", CERTIFY.name, name) for name in (CERTIFICATE, READABLE)},
    }
    found = {}
    for name, (stage, directory, file) in wanted.items():
        if stage in result.stages and (a := store.find(directory, result.stages[stage].key)) is not None:
            found[name] = a.path / file
    return found


def _stage_result(a: Artifact) -> StageResult:
    return StageResult(key=a.key, cached=a.cached, seconds=a.seconds, metrics=a.metrics)


def _whole(value: float | int | None) -> int | None:
    return None if value is None else int(value)
