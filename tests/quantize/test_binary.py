"""The binary quantizer: what goes in groups, what on a grid, what stays, and what it is expected to cost."""

import pytest
import torch

from pgolf.estimate import estimate
from pgolf.formats.blob import decode, encode
from pgolf.formats.grouped import binary
from pgolf.formats.quantized import GroupedMatrix, QuantizedMatrix, QuantizedModel, same
from pgolf.model.roles import Role
from pgolf.pack.brotli_packer import BrotliPacker
from pgolf.pack.lzma_packer import LzmaPacker
from pgolf.pack.stage import packed_bytes
from pgolf.quantize.binary import Binary
from pgolf.quantize.problem import Problem
from pgolf.quantize.quant_gate import QuantGate
from pgolf.quantize.rtn import Rtn
from pgolf.quantize.sd_clip import SdClip
from pgolf.quantize.statistics import Statistics
from pgolf.recipes import laptop_binary
from tests.nets import VOCAB, everything, network


def problem_of(kind: str = "shared") -> Problem:
    net = network(everything(kind))
    weights = {
        n: p.detach()
        for n, p in net.named_parameters()
        if net.roles[n].is_matrix or net.roles[n] is Role.GATE
    }
    return Problem(weights, net.roles, Statistics(), lambda _: 0, 0)


@pytest.mark.parametrize(("kind", "has"), [("shared", Role.PROJECTION), ("plain", Role.GATE)])
def test_every_role_gets_its_form(kind, has):
    problem = problem_of(kind)
    grid = SdClip(bits=5, clip_sigmas=4.0)
    found = Binary(group=24, embedding=grid, gate=QuantGate(bits=4)).quantize_all(problem)
    assert list(found) == list(problem.weights), "all of them, in the network's order"
    roles = {problem.roles[name] for name in found}
    assert {Role.ATTENTION, Role.MLP, Role.EMBEDDING, Role.TABLE, has} <= roles
    for name, m in found.items():
        w, role = problem.weights[name], problem.roles[name]
        if role in (Role.ATTENTION, Role.MLP):
            codes, alpha = binary(w, 24)
            assert isinstance(m, GroupedMatrix)
            assert m.group == 24
            assert torch.equal(m.q, codes.short())
            assert torch.equal(m.alpha, alpha)
            assert set(m.q.unique().tolist()) == {-1, 1}
            continue
        assert isinstance(m, QuantizedMatrix)
        expected = QuantGate(bits=4).quantize(w) if role is Role.GATE else Rtn().quantize(w, grid)
        assert torch.equal(m.q, expected.q)
        assert torch.equal(m.row, expected.row)


def test_what_has_no_grid_stays_in_float16():
    problem = problem_of()
    found = Binary(embedding=None).quantize_all(problem)
    assert {problem.roles[name] for name in found} == {Role.ATTENTION, Role.MLP}
    assert set(found) == {n for n, r in problem.roles.items() if r in (Role.ATTENTION, Role.MLP)}


def test_an_outer_quantizer_is_handed_the_answer():
    problem, seen = problem_of(), []

    def finish(matrices, price):
        seen.append((list(matrices), price))
        return {}

    assert Binary().quantize_all(problem, finish) == {}
    assert seen == [(list(Binary().quantize_all(problem)), None)]


def test_nothing_is_measured_for_it():
    assert Binary().needs == frozenset()
    assert not Binary().solves_for_bytes


@pytest.mark.parametrize(("role", "gate", "embedding", "bits"), [
    (Role.MLP, None, None, 300 + 3 * 16), (Role.ATTENTION, QuantGate(), None, 300 + 3 * 16),
    (Role.GATE, None, None, 16 * 300), (Role.GATE, QuantGate(bits=4), None, 4 * 300 + 2.5 * 10),
    (Role.EMBEDDING, None, None, 16 * 300), (Role.PROJECTION, None, None, 16 * 300),
    (Role.TABLE, None, SdClip(), SdClip().entropy_bits * 300 + 2.5 * 10),
])  # fmt: skip
def test_expected_bits(role, gate, embedding, bits):
    """Ten rows of thirty: three groups of 128, the last one short."""
    section = Binary(gate=gate, embedding=embedding)
    assert section.expected_bits(role, 10, 30) == pytest.approx(bits)


@pytest.mark.parametrize("packer", [BrotliPacker(), BrotliPacker(transpose=True), LzmaPacker()])
def test_a_packed_model_comes_back_bit_for_bit_and_costs_a_bit_a_weight(packer):
    """128 x 512 Gaussian weights: 8 192 bytes of signs, 1024 of magnitudes."""
    w = torch.randn(128, 512, generator=torch.Generator().manual_seed(0)) * 0.02
    codes, alpha = binary(w, 128)
    matrices = {"w": GroupedMatrix(codes.short(), alpha, 128)}
    model = QuantizedModel({"layers": 1}, VOCAB, matrices, {"w": "mlp"}, {"g": torch.ones(3).half()})
    packed = encode(model, packer.codec())
    assert same(model, decode(packed)) is None
    assert len(packed) == packed_bytes(model, packer)
    assert len(packed) < 8_192 + 1024 + 300


def test_the_recipes_predicted_bytes_leave_room_under_the_cap():
    config = laptop_binary()
    assert estimate(config).predicted_artifact_bytes < 0.95 * config.rules.artifact_bytes
