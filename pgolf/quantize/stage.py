"""The quantize stage: every matrix by the chosen quantizer, everything else to float16.

A quantizer that solves for bytes is handed what measures them, and then the packer, the code's size and the cap are
part of what decides the result. All ranks of the gang take part.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from pgolf.formats.checkpoint import Checkpoint
from pgolf.formats.quantized import Matrix, QuantizedModel
from pgolf.model.gpt import assemble
from pgolf.model.roles import Role
from pgolf.quantize.binary import Binary
from pgolf.quantize.gptq import Gptq
from pgolf.quantize.lqer import Lqer
from pgolf.quantize.problem import Matrices, Problem, QuantizerSection
from pgolf.quantize.pruned import Pruned
from pgolf.quantize.rate_distortion import RateDistortion
from pgolf.quantize.rtn import Rtn
from pgolf.quantize.statistics import Statistics, predicted_loss
from pgolf.quantize.ternary import Ternary
from pgolf.runtime import Runtime
from pgolf.section import Section
from pgolf.stage import Metrics, Stage

Quantizer = Annotated[
    Rtn | Gptq | RateDistortion | Lqer | Pruned | Ternary | Binary, Field(discriminator="kind")
]
Measure = Callable[[QuantizedModel], int]  # bytes of the packed artifact, its code not counted


class ByteTarget(Section):
    """What a quantizer that solves for bytes is given."""

    artifact_bytes: int = Field(ge=0)  # code and model together
    code_bytes: int = Field(ge=0)


UNLIMITED = ByteTarget(artifact_bytes=2**40, code_bytes=0)


def quantize_stage(measure: Measure) -> Stage:
    """The stage for a packer that makes as many bytes as `measure` says."""

    def run(
        checkpoint: Path, *statistics: Path, out: Path, runtime: Runtime, quantize: QuantizerSection,
        target: ByteTarget = UNLIMITED, pack: Section | None = None,
    ) -> Metrics:  # fmt: skip
        trained = Checkpoint.read(checkpoint)
        roles = assemble(trained.model, trained.vocab_size, trained.weights, "cpu").roles
        candidates = {n: w for n, w in trained.weights.items() if roles[n].is_matrix or roles[n] is Role.GATE}
        for name, w in candidates.items():
            if not w.isfinite().all():
                raise ValueError(
                    f"weights are numbers, and {name} holds NaN or infinity: the checkpoint is broken"
                )
        known = Statistics.read(statistics[0]) if statistics else Statistics()

        def built(matrices: Mapping[str, Matrix]) -> QuantizedModel:
            kept = {name: roles[name].value for name in matrices}
            left = matrices if matrices else candidates  # nothing quantized: what everything else costs
            rest = {name: w.half() for name, w in trained.weights.items() if name not in left}
            return QuantizedModel(trained.model, trained.vocab_size, matrices, kept, rest)

        def bytes_of(matrices: Matrices) -> int:
            size = runtime.agree(measure(built(matrices)) + target.code_bytes if runtime.leads else None)
            assert isinstance(size, int)
            return size

        problem = Problem(candidates, roles, known, bytes_of, target.artifact_bytes, runtime)
        matrices = quantize.quantize_all(problem)
        if runtime.leads:
            built(matrices).write(out)
            (out / REPORT).write_text(json.dumps(_report(matrices, problem), indent=1))
        return _errors(matrices, trained.weights, roles)

    return Stage("quantize", 2, run, collective=True)


REPORT = "report.json"


def _errors(
    matrices: Mapping[str, Matrix], weights: Mapping[str, Tensor], roles: Mapping[str, Role]
) -> Metrics:
    """Squared error relative to the weights' own power, by role."""
    squared: dict[str, float] = defaultdict(float)
    power: dict[str, float] = defaultdict(float)
    for name, m in matrices.items():
        w, kind = weights[name], roles[name].value
        squared[kind] += float((m.dequantize() - w).square().sum(dtype=torch.float64))
        power[kind] += float(w.square().sum(dtype=torch.float64))
    return {f"relative_error_{k}": e / power[k] if power[k] else 0.0 for k, e in squared.items()}


def _report(matrices: Mapping[str, Matrix], problem: Problem) -> dict[str, dict[str, float]]:
    """What the statistics predict every matrix's rounding to cost, in nats a token (pgolf.quantize.statistics)."""
    return {
        name: {"predicted_loss_nats": loss}
        for name, m in matrices.items()
        if (loss := predicted_loss(name, m.dequantize() - problem.weights[name], problem.statistics))
        is not None
    }
