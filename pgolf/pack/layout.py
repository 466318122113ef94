"""A free order: hidden units of an MLP sorted so that what is stored of them is smooth.

Exchanging two hidden units (rows of Wup with columns of Wdown) leaves the function as it is, so no permutation has
to be stored. Sorted by the step of their row of Wup, the step codes of that matrix become a rising line whose
differences cost next to nothing, and the columns of Wdown that belong to large units lie together.

What else is free is not worth its code: heads may be exchanged inside their group and groups with one another,
8 of them in the records, a few bits a layer. Where a unit's place means something else too it stays: adapters of
shared layers, and low-rank factors whose scales run across columns.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from pgolf.formats.quantized import LowRankMatrix, Matrix, QuantizedMatrix, QuantizedModel
from pgolf.model.adapter import LowRank
from pgolf.model.gpt import GptConfig
from pgolf.model.mlp import MlpModule


def sorted_hidden(model: QuantizedModel) -> QuantizedModel:
    """The same network with the hidden units of every MLP that allows it in order."""
    matrices = dict(model.matrices)
    for up, down in _pairs(model):
        a, b = matrices.get(up), matrices.get(down)
        if a is None or b is None or not (_rows_free(a) and _columns_free(b)):
            continue
        order = _order(a)
        matrices[up], matrices[down] = _rows(a, order), _columns(b, order)
    return replace(model, matrices=matrices)


def _pairs(model: QuantizedModel) -> Iterator[tuple[str, str]]:
    with torch.device("meta"):
        network = GptConfig.model_validate(model.model).build(model.vocab_size)
    if any(isinstance(module, LowRank) for module in network.modules()):
        return
    for name, module in network.named_modules():
        if isinstance(module, MlpModule):
            yield f"{name}.up.weight", f"{name}.down.weight"


def _rows_free(m: Matrix) -> bool:
    return isinstance(m, QuantizedMatrix) or (isinstance(m, LowRankMatrix) and m.a.shape[1] == m.shape[0])


def _columns_free(m: Matrix) -> bool:
    return isinstance(m, QuantizedMatrix) or (isinstance(m, LowRankMatrix) and m.b.shape[1] == m.shape[1])


def _order(m: Matrix) -> Tensor:
    base = m.base if isinstance(m, LowRankMatrix) else m
    assert isinstance(base, QuantizedMatrix)
    power = base.q.double().square().sum(1)  # of equal steps, the smaller row first
    by_power = power.argsort(stable=True)
    return by_power[base.row[by_power].argsort(stable=True)]


def _rows(m: Matrix, order: Tensor) -> Matrix:
    if isinstance(m, LowRankMatrix):
        base, a = _rows(m.base, order), _columns(m.a, order)
        assert isinstance(base, QuantizedMatrix) and isinstance(a, QuantizedMatrix)
        return LowRankMatrix(base, a, m.b)
    assert isinstance(m, QuantizedMatrix)
    return QuantizedMatrix(m.q[order], m.row[order], m.col)


def _columns(m: Matrix, order: Tensor) -> Matrix:
    if isinstance(m, LowRankMatrix):
        base, b = _columns(m.base, order), _columns(m.b, order)
        assert isinstance(base, QuantizedMatrix) and isinstance(b, QuantizedMatrix)
        return LowRankMatrix(base, m.a, b)
    assert isinstance(m, QuantizedMatrix)
    return QuantizedMatrix(m.q[:, order].contiguous(), m.row, None if m.col is None else m.col[order])
