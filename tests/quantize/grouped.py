"""What every quantizer with a magnitude a group must do: subclass, say which, inherit the tests."""

from typing import ClassVar

import pytest
import torch

from pgolf.formats.grouped import Coder
from pgolf.formats.quantized import GroupedMatrix, QuantizedMatrix
from pgolf.model.roles import Role
from pgolf.quantize.grouped import GroupedQuantizer
from pgolf.quantize.problem import Problem
from pgolf.quantize.quant_gate import QuantGate
from pgolf.quantize.rtn import Rtn
from pgolf.quantize.sd_clip import SdClip
from pgolf.quantize.statistics import Statistics
from tests.nets import everything, network


def problem_of(kind: str = "shared") -> Problem:
    net = network(everything(kind))
    weights = {
        n: p.detach()
        for n, p in net.named_parameters()
        if net.roles[n].is_matrix or net.roles[n] is Role.GATE
    }
    return Problem(weights, net.roles, Statistics(), lambda _: 0, 0)


class GroupedContract:
    QUANTIZER: ClassVar[type[GroupedQuantizer]]
    CODER: ClassVar[Coder]
    CODES: ClassVar[set[int]]  # all of them, in a matrix of this size
    BITS: ClassVar[float]  # expected of a weight of a block

    @pytest.mark.parametrize(("kind", "has"), [("shared", Role.PROJECTION), ("plain", Role.GATE)])
    def test_every_role_gets_its_form(self, kind, has):
        problem = problem_of(kind)
        grid = SdClip(bits=5, clip_sigmas=4.0)
        found = self.QUANTIZER(group=24, embedding=grid, gate=QuantGate(bits=4)).quantize_all(problem)
        assert list(found) == list(problem.weights), "all of them, in the network's order"
        roles = {problem.roles[name] for name in found}
        assert {Role.ATTENTION, Role.MLP, Role.EMBEDDING, Role.TABLE, has} <= roles
        for name, m in found.items():
            w, role = problem.weights[name], problem.roles[name]
            if role in (Role.ATTENTION, Role.MLP):
                codes, alpha = self.CODER(w, 24)
                assert isinstance(m, GroupedMatrix)
                assert m.group == 24
                assert torch.equal(m.q, codes.short())
                assert torch.equal(m.alpha, alpha)
                assert set(m.q.unique().tolist()) == self.CODES
                continue
            assert isinstance(m, QuantizedMatrix)
            expected = QuantGate(bits=4).quantize(w) if role is Role.GATE else Rtn().quantize(w, grid)
            assert torch.equal(m.q, expected.q)
            assert torch.equal(m.row, expected.row)

    def test_what_has_no_grid_stays_in_float16(self):
        problem = problem_of()
        found = self.QUANTIZER(embedding=None).quantize_all(problem)
        assert {problem.roles[name] for name in found} == {Role.ATTENTION, Role.MLP}
        assert set(found) == {n for n, r in problem.roles.items() if r in (Role.ATTENTION, Role.MLP)}

    def test_an_outer_quantizer_is_handed_the_answer(self):
        problem, seen = problem_of(), []

        def finish(matrices, price):
            seen.append((list(matrices), price))
            return {}

        assert self.QUANTIZER().quantize_all(problem, finish) == {}
        assert seen == [(list(self.QUANTIZER().quantize_all(problem)), None)]

    def test_nothing_is_measured_for_it(self):
        assert self.QUANTIZER().needs == frozenset()
        assert not self.QUANTIZER().solves_for_bytes

    @pytest.mark.parametrize(("role", "gate", "embedding", "bits"), [
        (Role.MLP, None, None, None), (Role.ATTENTION, QuantGate(), None, None),
        (Role.GATE, None, None, 16 * 300), (Role.GATE, QuantGate(bits=4), None, 4 * 300 + 2.5 * 10),
        (Role.EMBEDDING, None, None, 16 * 300), (Role.PROJECTION, None, None, 16 * 300),
        (Role.TABLE, None, SdClip(), SdClip().entropy_bits * 300 + 2.5 * 10),
    ])  # fmt: skip
    def test_expected_bits(self, role, gate, embedding, bits):
        """Ten rows of thirty: three groups of 128, the last one short."""
        section = self.QUANTIZER(gate=gate, embedding=embedding)
        bits = self.BITS * 300 + 3 * 16 if bits is None else bits
        assert section.expected_bits(role, 10, 30) == pytest.approx(bits)
