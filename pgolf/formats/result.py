"""`result.json`: what one trial came to. The names below are a contract with scripts and with MLflow.

Fields that were not measured are absent, never zero: a trial killed at its gate has no `bpb`.
"""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from pgolf.errors import Infeasible, StoreError
from pgolf.section import Section

METRICS = (
    "prequant_bpb", "quantized_bpb", "adapted_bpb", "bpb", "validation_bpb", "val_tokens", "val_bytes",
    "nats_per_token", "model_bytes", "code_bytes", "artifact_bytes", "tokenizer_bytes", "params",
    "steps", "train_tokens", "tokens_per_second", "train_seconds", "quantize_seconds", "pack_seconds", "eval_seconds",
    "eval_seconds_strict", "peak_memory_bytes",
)  # fmt: skip


class StageResult(Section):
    """One stage of a trial: its store key, whether it was found there, its seconds when it was run."""

    key: str
    cached: bool
    seconds: float
    metrics: dict[str, float]


class DeployedTuple(Section):
    """What a tiny model is judged by. Complete for every feasible trial."""

    bpb: float | None = None  # bits per byte of the original text, as deployed
    artifact_bytes: int | None = None  # code and model
    eval_seconds: float | None = None


class Result(Section):
    """One trial, whole. `tuple` holds the deployed tuple; the metrics stand beside it by name."""

    name: str  # recipe and short digest, e.g. laptop_baseline-1f3a9c02
    config: dict[str, Any]
    config_digest: str
    seed: int
    status: Literal["ok", "infeasible", "failed"]
    infeasible: list[Infeasible] = []
    tuple: DeployedTuple
    stages: dict[str, StageResult] = {}
    artifact_sha256: str | None = None
    error: str | None = None  # of a failed trial: the exception's last lines

    prequant_bpb: float | None = None  # the float model, after averaging
    quantized_bpb: float | None = None  # the reloaded artifact, before adaptation
    adapted_bpb: float | None = None  # the reloaded artifact with score-first adaptation
    bpb: float | None = None  # the last of these that applies, on the select split
    validation_bpb: float | None = None  # the same artifact, scored once on the validation split
    val_tokens: int | None = None  # targets scored for `bpb`
    val_bytes: int | None = None  # bytes of text they stand for
    nats_per_token: float | None = None
    model_bytes: int | None = None
    code_bytes: int | None = None
    artifact_bytes: int | None = None
    tokenizer_bytes: int | None = None  # beside the artifact: by the rules of play not counted
    params: int | None = None
    steps: int | None = None
    train_tokens: int | None = None
    tokens_per_second: float | None = None
    train_seconds: float | None = None  # ends when training data is last touched
    quantize_seconds: float | None = None
    pack_seconds: float | None = None
    eval_seconds: float | None = None  # scoring and adaptation
    eval_seconds_strict: float | None = None  # also start, load, decompress, warm-up
    peak_memory_bytes: int | None = None
    provenance: dict[str, Any] = Field(default_factory=dict)

    @property
    def scored_stage(self) -> str:
        """The stage whose score is `bpb`: the adapting evaluation, if there is one."""
        return "adapt" if "adapt" in self.stages else "evaluate"

    def metrics(self) -> dict[str, float]:
        """The measured metrics by their contract names."""
        return {name: value for name in METRICS if (value := getattr(self, name)) is not None}

    def write(self, path: Path) -> None:
        """Write `result.json`, replacing it whole."""
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(".half")
        half.write_text(json.dumps(self.plain(), indent=1, sort_keys=True) + "\n")
        half.replace(path)

    @staticmethod
    def read(path: Path) -> "Result":
        """Raises StoreError if the file is missing, cut short, or not a result."""
        try:
            return Result.model_validate_json(path.read_bytes())
        except (OSError, ValueError) as error:
            what = str(error).splitlines()[0]
            raise StoreError(
                "a trial's result is a readable result.json", f"{path}: {what}", "run the trial again"
            ) from None
