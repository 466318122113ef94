"""The quantize stage: every matrix by its role's grid, gates where asked, everything else to float16.

Tables that tokens or hashes index are rounded to their grid whatever solves the others: a table has no inputs to
take a Hessian from. Every other matrix has been seen at work, and one without a Hessian is a bug.
"""

from collections import defaultdict
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field

from pgolf.formats.checkpoint import Checkpoint
from pgolf.formats.quantized import QuantizedModel
from pgolf.model.gpt import assemble
from pgolf.model.roles import Role
from pgolf.quantize.calibrate import read_hessians
from pgolf.quantize.gptq import Gptq
from pgolf.quantize.rtn import Rtn
from pgolf.runtime import Runtime
from pgolf.stage import Metrics, Stage

Quantizer = Annotated[Rtn | Gptq, Field(discriminator="kind")]


def _quantize(
    checkpoint: Path, *hessians: Path, out: Path, runtime: Runtime, quantize: Rtn | Gptq
) -> Metrics:
    trained = Checkpoint.read(checkpoint)
    roles = assemble(trained.model, trained.vocab_size, trained.weights, "cpu").roles
    statistics = read_hessians(hessians[0]) if hessians else {}
    matrices, rest, metrics = {}, {}, {}
    squared: dict[str, float] = defaultdict(float)
    power: dict[str, float] = defaultdict(float)
    for name, w in trained.weights.items():
        role = roles[name]
        if role is Role.GATE and quantize.grids.gate is not None:
            matrices[name] = quantize.grids.gate.quantize(w)
        elif role is Role.TABLE:
            matrices[name] = Rtn(grids=quantize.grids).quantize(w, quantize.grids.of(role))
        elif role.is_matrix:
            matrices[name] = quantize.quantize(w, quantize.grids.of(role), statistics.get(name))
        else:
            rest[name] = w.half()
            continue
        squared[role.value] += float((matrices[name].dequantize() - w).square().sum(dtype=torch.float64))
        power[role.value] += float(w.square().sum(dtype=torch.float64))
    kept = {name: roles[name].value for name in matrices}
    QuantizedModel(trained.model, trained.vocab_size, matrices, kept, rest).write(out)
    for kind, error in squared.items():
        metrics[f"relative_error_{kind}"] = error / power[kind] if power[kind] else 0.0
    return metrics


QUANTIZE = Stage("quantize", 1, _quantize)
