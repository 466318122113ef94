"""Sorting hidden units: the same function, a smoother file, and hands off where a unit's place means more."""

import pytest
import torch

from pgolf.formats.quantized import LowRankMatrix, QuantizedMatrix, QuantizedModel
from pgolf.model.gpt import GptConfig, assemble
from pgolf.pack.layout import sorted_hidden

SHAPE = {
    "layers": 2,
    "width": 16,
    "attention": {"heads": 2, "kv_heads": 1},
    "rope": {"dims": 4},
    "mlp": {"mult": 3.0},
}


def quantized(matrix=None, **changes) -> QuantizedModel:
    """Random codes for a whole small network, built by `matrix` where a name ends in up or down."""
    config = GptConfig.model_validate({**SHAPE, **changes})
    network = config.build(50).reset(0)
    g = torch.Generator().manual_seed(1)
    matrices, rest = {}, {}
    for name, p in network.named_parameters():
        if not network.roles[name].is_matrix:
            rest[name] = torch.rand(p.shape, generator=g).half()
            continue
        q = (torch.randn(p.shape, generator=g) * 4).round().short()
        col = torch.randint(-3, 4, (p.shape[1],), generator=g).short()
        base = QuantizedMatrix(q, torch.randint(-60, -40, (p.shape[0],), generator=g).short(), col)
        matrices[name] = matrix(base) if matrix and ".mlp." in name else base
    roles = {n: network.roles[n].value for n in matrices}
    return QuantizedModel(config.plain(), 50, matrices, roles, rest)


def corrected(b_rows: int):
    """A correction of rank 2 whose second factor is stored in rows of a part of the columns."""

    def build(base: QuantizedMatrix) -> LowRankMatrix:
        rows, cols = base.shape
        g = torch.Generator().manual_seed(2)
        a = torch.randint(-2, 2, (2, rows), generator=g).short()
        b = torch.randint(-8, 8, (2 * b_rows, cols // b_rows), generator=g).short()
        flat = [torch.full((len(m),), -40).short() for m in (a, b)]
        return LowRankMatrix(base, QuantizedMatrix(a, flat[0]), QuantizedMatrix(b, flat[1]))

    return build


def logits(model: QuantizedModel) -> torch.Tensor:
    network = assemble(model.model, model.vocab_size, model.weights(), "cpu")
    tokens = torch.arange(24).view(2, 12) % 50
    with torch.no_grad():
        return network.double()(tokens, tokens == 0)


@pytest.mark.parametrize("matrix", [None, corrected(1)], ids=["plain", "corrected"])
def test_the_function_is_the_same_and_the_steps_rise(matrix):
    model = quantized(matrix)
    got = sorted_hidden(model)
    torch.testing.assert_close(logits(got), logits(model), rtol=0, atol=1e-4)
    for layer in range(2):
        up = got.matrices[f"blocks.{layer}.mlp.up.weight"]
        row = (up.base if isinstance(up, LowRankMatrix) else up).row.tolist()
        assert row == sorted(row)
        assert (
            row
            != (lambda m: m.base if isinstance(m, LowRankMatrix) else m)(
                model.matrices[f"blocks.{layer}.mlp.up.weight"]
            ).row.tolist()
        )


def test_of_equal_steps_the_weaker_unit_comes_first():
    model = quantized()
    name = "blocks.0.mlp.up.weight"
    flat = QuantizedMatrix(model.matrices[name].q, torch.zeros_like(model.matrices[name].row))
    power = (
        sorted_hidden(
            QuantizedModel(model.model, 50, {**model.matrices, name: flat}, model.roles, model.rest)
        )
        .matrices[name]
        .q.double()
        .square()
        .sum(1)
    )
    assert (power.diff() >= 0).all()


def test_everything_else_is_left_alone():
    model = quantized()
    got = sorted_hidden(model)
    for name, m in model.matrices.items():
        if ".mlp." not in name:
            assert got.matrices[name] is m
    assert list(got.matrices) == list(model.matrices)
    assert got.rest is model.rest


def test_factors_with_scales_across_columns_keep_their_units_in_place():
    model = quantized(corrected(2))
    assert sorted_hidden(model).matrices == model.matrices


def test_adapters_of_shared_layers_keep_their_units_in_place():
    model = quantized(sharing={"stored": 1, "lora_rank": 2}, u_net=None)
    assert sorted_hidden(model).matrices == model.matrices


def test_an_order_once_found_stays():
    once = sorted_hidden(quantized())
    again = sorted_hidden(once)
    assert all(torch.equal(again.matrices[n].q, m.q) for n, m in once.matrices.items())
