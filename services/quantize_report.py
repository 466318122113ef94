"""What quantization did to each tensor of a trial: what it costs in bytes, and what it costs in loss.

    predicted loss   1/2 tr(G E A E^T)                           of the statistics that calibration took
    measured loss    E[KL(p || p')],  p' with this tensor alone in its deployed form, nats a token
    sensitivity      1/2 mean(g) mean(diag A)                    predicted, per unit of squared error, were it white

To second order in E the two losses are the same number: the Fisher information is the Hessian of this very
divergence. So where their ratio is far from 1, the statistics lie (too little text, factors that are not
independent) or the error is not small, and a quantizer that trusts them spends bytes in the wrong place. KL
rather than the rise of the loss: it has no first-order part, whose noise over some thousand tokens would hide
all but the largest tensors.

Everything is read from the store as it was published, and what was not measured is absent: no Fisher, no
prediction. Activations are float32 on every device; bfloat16 would round by more than most tensors cost.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.func import functional_call

from pgolf.data.starts import document_starts
from pgolf.errors import StoreError
from pgolf.formats.blob import ARTIFACT, read_artifact
from pgolf.formats.checkpoint import Checkpoint
from pgolf.formats.quantized import GroupedMatrix, LowRankMatrix, Matrix, QuantizedModel, same
from pgolf.formats.result import Result
from pgolf.formats.shards import read_split
from pgolf.model.gpt import Gpt, assemble
from pgolf.pack.layout import sorted_hidden
from pgolf.quantize.statistics import Statistics, predicted_loss
from pgolf.run import parse_config
from pgolf.stage import Artifact, Store, sha256_of
from services.coded_sizes import CodedSizes, coded_sizes, order_0_bits
from services.wording import why

SEQUENCES = 32  # of the evaluation's context: a tenth of a typical tensor's loss as standard error
TOKENS_AT_ONCE = 4096
ALL = "all tensors, as deployed"

Watch = Callable[[str, int, int], None]  # (activity, done, total)


@dataclass(frozen=True)
class Divergence:
    """Mean KL to the float model, nats a token, and its standard error over sequences (None of one)."""

    kl_nats: float
    kl_nats_se: float | None


@dataclass(frozen=True)
class TensorReport:
    """One quantized tensor, or (`tensors` > 1) several taken together."""

    name: str
    role: str
    kind: str  # scaled, low_rank, grouped
    shape: tuple[int, ...]
    weights: int
    coded_bytes: float  # of everything it decodes from: codes, steps, corrections
    step_bytes: float  # of these, what is not codes
    ideal_bytes: float  # its codes' order-0 entropy
    squared_error: float
    power: float  # sum of squares of the float weights
    log2_step_over_deviation: float | None = None
    sensitivity: float | None = None
    predicted_loss_nats: float | None = None
    measured: Divergence | None = None
    tensors: int = 1

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.coded_bytes / self.weights

    @property
    def entropy_bits_per_weight(self) -> float:
        return 8 * self.ideal_bytes / self.weights

    @property
    def coded_over_ideal(self) -> float | None:
        """Of codes alone. Below 1 the coder knows more than one histogram: whose row is wide, whose narrow."""
        return (self.coded_bytes - self.step_bytes) / self.ideal_bytes if self.ideal_bytes else None

    @property
    def relative_squared_error(self) -> float | None:
        return self.squared_error / self.power if self.power else None

    @property
    def measured_over_predicted(self) -> float | None:
        if self.measured is None or not self.predicted_loss_nats:
            return None
        return self.measured.kl_nats / self.predicted_loss_nats

    def plain(self) -> dict[str, Any]:
        """By name with units; what is not known is not there."""
        out = {k: v for k, v in asdict(self).items() if k not in ("measured", "power")}
        derived = ("bits_per_weight", "entropy_bits_per_weight", "coded_over_ideal", "relative_squared_error",
                   "measured_over_predicted")  # fmt: skip
        out |= {name: getattr(self, name) for name in derived}
        if self.measured is not None:
            out |= {f"measured_{name}": value for name, value in asdict(self.measured).items()}
        return {name: value for name, value in out.items() if value is not None}


@dataclass(frozen=True)
class Measurement:
    """What losses were measured on."""

    sequences: int
    context: int
    device: str
    split: str = "select"


@dataclass(frozen=True)
class QuantizeReport:
    """A trial's tensors in the network's order, and all of them at once."""

    run: str
    quantizer: str
    artifact_sha256: str
    sizes: CodedSizes
    tensors: tuple[TensorReport, ...]
    measurement: Measurement | None = None
    deployed: Divergence | None = None  # of the model as deployed: all tensors and the float16 rest

    @property
    def roles(self) -> list[TensorReport]:
        """A row a role."""
        roles = dict.fromkeys(t.role for t in self.tensors)
        return [together(role, [t for t in self.tensors if t.role == role]) for role in roles]

    @property
    def whole(self) -> TensorReport:
        """The sum of all rows. Its measured loss is the sum of each tensor's alone, not `deployed`."""
        return together("all", self.tensors)

    @property
    def deployed_over_predicted(self) -> float | None:
        predicted = self.whole.predicted_loss_nats
        return self.deployed.kl_nats / predicted if self.deployed is not None and predicted else None

    def plain(self) -> dict[str, Any]:
        s = self.sizes
        out: dict[str, Any] = {
            "run": self.run, "quantizer": self.quantizer, "artifact_sha256": self.artifact_sha256,
            "codec": s.codec, "coded_bytes_are": "each tensor's own" if s.separable else SHARED,
            "model_bytes": s.header + s.codes + s.halves, "header_bytes": s.header, "codes_bytes": s.codes,
            "float16_bytes": s.halves,
            "tensors": [t.plain() for t in self.tensors],
            "roles": [t.plain() for t in self.roles],
            "whole": self.whole.plain(),
        }  # fmt: skip
        if self.measurement is not None and self.deployed is not None:
            out["measured_on"] = asdict(self.measurement)
            out["deployed"] = {f"measured_{k}": v for k, v in asdict(self.deployed).items() if v is not None}
            if self.deployed_over_predicted is not None:
                out["deployed"]["measured_over_predicted"] = self.deployed_over_predicted
        return out


SHARED = "shares of a role's stream, in proportion to order-0 entropy"


def together(name: str, rows: Iterable[TensorReport]) -> TensorReport:
    """Rows added up; a sum that lacks a part is absent. Ratios follow from the sums, means are by weight."""
    rows = list(rows)
    weights = sum(t.weights for t in rows)

    def mean(values: Iterable[float | None]) -> float | None:
        return total(
            None if v is None else v * t.weights / weights for v, t in zip(values, rows, strict=True)
        )

    losses = total(None if t.measured is None else t.measured.kl_nats for t in rows)
    kinds = dict.fromkeys(t.kind for t in rows)
    return TensorReport(
        name=name,
        role=", ".join(dict.fromkeys(t.role for t in rows)),
        kind=", ".join(kinds),
        shape=(),
        weights=weights,
        coded_bytes=math.fsum(t.coded_bytes for t in rows),
        step_bytes=math.fsum(t.step_bytes for t in rows),
        ideal_bytes=math.fsum(t.ideal_bytes for t in rows),
        squared_error=math.fsum(t.squared_error for t in rows),
        power=math.fsum(t.power for t in rows),
        log2_step_over_deviation=mean(t.log2_step_over_deviation for t in rows),
        sensitivity=mean(t.sensitivity for t in rows),
        predicted_loss_nats=total(t.predicted_loss_nats for t in rows),
        measured=None if losses is None else Divergence(losses, None),  # the errors share their text
        tensors=len(rows),
    )


def total(values: Iterable[float | None]) -> float | None:
    """A sum; of parts of which one is missing there is none."""
    parts = list(values)
    known = [v for v in parts if v is not None]
    return math.fsum(known) if len(known) == len(parts) else None


# ------------------------------------------------------------------------------- from the store


@dataclass(frozen=True)
class Trial:
    """What a report is made of."""

    result: Result
    trained: Checkpoint
    statistics: Statistics
    quantized: QuantizedModel
    sizes: CodedSizes
    tokens: Path | None  # the token directory, if losses are to be measured

    @staticmethod
    def read(result: Result, store: Store, with_text: bool) -> "Trial":
        """Raises StoreError or DataError if the trial quantized nothing, or the store has not what it made."""
        if not {"quantize", "pack"} <= result.stages.keys():
            reasons = "; ".join(why(outcome) for outcome in result.infeasible) or result.status
            raise StoreError("only a trial that quantized and packed its weights has a quantize report",
                             f"{result.name}: {reasons}", "choose one with an artifact on the board")  # fmt: skip
        file = _found(result, store, "pack").path / ARTIFACT
        packed = read_artifact(file)
        if sha256_of(file) != result.artifact_sha256:
            raise StoreError("the store's artifact is the one on record", f"{result.name}: another SHA-256",
                             _again(store))  # fmt: skip
        quantized = QuantizedModel.read(_found(result, store, "quantize").path)
        if (name := same(sorted_hidden(quantized), packed)) is not None:
            raise StoreError("the artifact holds the quantized weights of its trial",
                             f"{result.name}: another {name}", _again(store))  # fmt: skip
        statistics = Statistics()
        if "calibrate" in result.stages:
            statistics = Statistics.read(_found(result, store, "calibrate").path)
        trained = Checkpoint.read(_found(result, store, "train").path)
        data = "tokenize" if "tokenize" in result.stages else "shards"
        tokens = _found(result, store, data).path if with_text else None
        return Trial(result, trained, statistics, quantized, coded_sizes(file.read_bytes(), packed), tokens)


def _found(result: Result, store: Store, stage: str) -> Artifact:
    key = result.stages[stage].key
    found = store.find(stage, key)
    if found is None:
        raise StoreError(
            f"the store still has the trial's {stage} stage", f"{stage}/{key} in {store.root}", _again(store)
        )
    return found


def _again(store: Store) -> str:
    return f"`pgolf run` its config again with --store {store.root}: what is lost is made again under its key"


def quantize_report(
    result: Result,
    store: Store,
    sequences: int | None = SEQUENCES,
    device: str = "cpu",
    watch: Watch = lambda activity, done, total: None,
) -> QuantizeReport:
    """The report of a recorded trial.

    Args:
        sequences: of select text, each as long as the trial's evaluation context, on which losses are
            measured; None leaves that out.

    Raises:
        StoreError, DataError: if the trial has no artifact, or the store no longer has what it made.
        ConfigError: if the stored config is not one of this version of pgolf.
    """
    context = parse_config(result.config).evaluate.context
    trial = Trial.read(result, store, with_text=sequences is not None)
    rows = [_row(name, matrix, trial) for name, matrix in trial.quantized.matrices.items()]
    measurement, deployed = None, None
    if sequences is not None and trial.tokens is not None:
        text = evenly(read_split(trial.tokens, "select")[0], sequences, context)
        network = assemble(trial.trained.model, trial.trained.vocab_size, trial.trained.weights, device)
        network.dtype = torch.float32
        changes = {n: {n: m.dequantize()} for n, m in trial.quantized.matrices.items()}
        losses = divergences(network, changes | {ALL: trial.quantized.weights()}, text, watch)
        rows = [replace(row, measured=losses[row.name]) for row in rows]
        measurement, deployed = Measurement(len(text), text.shape[1], device), losses[ALL]
    return QuantizeReport(
        result.name, str(result.config["quantize"]["kind"]), str(result.artifact_sha256), trial.sizes,
        tuple(rows), measurement, deployed,
    )  # fmt: skip


def _row(name: str, matrix: Matrix, trial: Trial) -> TensorReport:
    w, s, arrays = trial.trained.weights[name].float(), trial.statistics, matrix.arrays()
    error = matrix.dequantize() - w
    codes = {part for part, array in arrays.items() if array.ndim == 2}
    coded = {part: trial.sizes.arrays[name, part] for part in arrays}
    return TensorReport(
        name=name,
        role=trial.quantized.roles[name],
        kind=str(matrix.tree()[0]),
        shape=tuple(w.shape),
        weights=w.numel(),
        coded_bytes=math.fsum(coded.values()),
        step_bytes=math.fsum(size for part, size in coded.items() if part not in codes),
        ideal_bytes=math.fsum(order_0_bits(arrays[part].numpy()) for part in codes) / 8,
        squared_error=float(error.square().sum(dtype=torch.float64)),
        power=float(w.square().sum(dtype=torch.float64)),
        log2_step_over_deviation=step_over_deviation(matrix, w),
        sensitivity=sensitivity(name, s),
        predicted_loss_nats=predicted_loss(name, error, s),
    )


def step_over_deviation(matrix: Matrix, w: Float[Tensor, "rows cols"]) -> float | None:
    """Mean log2 of step over the row's deviation; None where there is no step (ternary), or only constant rows."""
    if isinstance(matrix, GroupedMatrix):
        return None
    step = (matrix.base if isinstance(matrix, LowRankMatrix) else matrix).step.double()
    deviation = w.double().std(dim=1, correction=0)
    spread = deviation > 0
    if not spread.any():
        return None
    return float((step[spread].log2().mean(1) - deviation[spread].log2()).mean())


def sensitivity(name: str, s: Statistics) -> float | None:
    """Loss (nats a token) per unit of squared weight error, were the error white; None without the Fisher."""
    if name not in s.rows:
        return None
    a = s.inputs(name)
    return 0.5 * float(s.rows[name].double().mean()) * (1.0 if a is None else float(a.diagonal().mean()))


# ------------------------------------------------------------------------------------ measuring


def evenly(ids: np.ndarray[Any, Any], sequences: int, context: int) -> Int[Tensor, "sequences context"]:
    """So many disjoint stretches, spread over a stream; fewer where it is too short for them."""
    context = min(context, len(ids))
    places = len(ids) // context
    chosen = np.unique(np.linspace(0, places - 1, min(sequences, places)).round().astype(np.int64))
    return torch.from_numpy(
        np.stack([ids[at * context : (at + 1) * context] for at in chosen]).astype(np.int64)
    )


@torch.no_grad()
def divergences(
    network: Gpt,
    changes: Mapping[str, Mapping[str, Tensor]],
    text: Int[Tensor, "sequences context"],
    watch: Watch = lambda activity, done, total: None,
) -> dict[str, Divergence]:
    """By name of a change (parameters that take other values): how far the network's predictions move.

    Text on the outside, changes within: the float predictions of a few rows are held at a time, and no more.
    """
    rows = max(TOKENS_AT_ONCE // text.shape[1], 1)
    parts, found = text.split(rows), {name: list[float]() for name in changes}
    for at, part in enumerate(parts):
        x, starts = part.to(network.device), document_starts(part).to(network.device)
        p = _log_probabilities(network, {}, x, starts)
        for number, (name, weights) in enumerate(changes.items(), 1):
            q = _log_probabilities(network, {n: w.to(network.device) for n, w in weights.items()}, x, starts)
            found[name] += (p.exp() * (p - q)).sum(2).mean(1).tolist()
            watch("measuring", at * len(changes) + number, len(parts) * len(changes))
    return {name: _mean(values) for name, values in found.items()}


def _log_probabilities(
    network: Gpt,
    weights: Mapping[str, Tensor],
    x: Int[Tensor, "rows time"],
    starts: Bool[Tensor, "rows time"],
) -> Float[Tensor, "rows time vocab"]:
    """In float64: the divergences of small tensors are what is left of differences a thousand times as large."""
    logits: Tensor = functional_call(network, dict(weights), (x, starts))
    return logits.double().log_softmax(2)


def _mean(values: list[float]) -> Divergence:
    n = len(values)
    se = None if n < 2 else float(np.std(values, ddof=1) / math.sqrt(n))
    return Divergence(math.fsum(values) / n, se)
