"""Engram: four hashes with tables of their own, one projection, a gate per channel."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.model.engram import Engram
from tests.conformance.in_network import InNetworkContract
from tests.conformance.technique import TechniqueContract
from tests.nets import randomized, small, stream, tokens_of

SMALL = Engram(buckets=13, rank=3)


class TestEngram(TechniqueContract):
    def build(self):
        return SMALL.build(self.width)

    def apply(self, module, x, starts):
        return module(tokens_of(x), starts, x.dtype)


class TestEngramInNetwork(InNetworkContract):
    def on(self):
        return small(ngrams=SMALL)

    def off(self):
        return small()


def slow(tokens: list[int], buckets: int) -> list[list[int]]:
    """Rows of the joint table, by Python's unbounded integers; BOS is 1."""
    out: list[list[int]] = []
    begin = 0
    for i, c in enumerate(tokens):
        begin = i if c == 1 else begin
        p, pp = ([*tokens[begin:i][::-1], 0, 0])[:2]
        hashes = [
            1009 * p + c,
            (2719 * p + 314159) ^ (3137 * c),
            (36313 * pp) ^ (27191 * p) ^ (4903 * c),
            (7919 * pp) ^ (4391 * p) ^ (6151 * c),
        ]
        out.append([h % buckets + n * buckets for n, h in enumerate(hashes)])
    return out


def test_worked_example():
    """Tokens 2, 3, 5 in one document, 100 buckets: the last position's four rows."""
    tokens = torch.tensor([[2, 3, 5]])
    rows = Engram(buckets=100, rank=1).build(2).rows(tokens, torch.tensor([[True, False, False]]))
    assert rows[0, 2].tolist() == [
        1009 * 3 + 5 - 3000,  # 3032: 32
        100 + (322316 ^ 15685) % 100,
        200 + (72626 ^ 81573 ^ 24515) % 100,
        300 + (15838 ^ 13173 ^ 30755) % 100,
    ]
    assert rows[0, 0].tolist() == [2, 100 + (314159 ^ 6274) % 100, 200 + 9806 % 100, 300 + 12302 % 100]


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.lists(st.one_of(st.just(1), st.integers(0, 2**16 - 1)), min_size=1, max_size=9),
    buckets=st.sampled_from([1, 7, 4096, 8192]),
)
def test_rows_are_those_of_unbounded_integers(tokens, buckets):
    row = torch.tensor([tokens])
    assert Engram(buckets=buckets, rank=1).build(2).rows(row, row == 1)[0].tolist() == slow(tokens, buckets)


def test_the_contribution_written_out():
    module, tokens = randomized(SMALL.build(5), seed=2), stream(1, 8, 2)
    with torch.no_grad():
        got = module(tokens, tokens == 1, torch.float32)
        for t, rows in enumerate(slow(tokens[0].tolist(), 13)):
            joined = torch.cat([module.table[row] for row in rows])
            expected = torch.sigmoid(module.gate) * (module.project.weight @ joined)
            assert torch.allclose(got[0, t], expected, atol=1e-5)


def test_it_begins_as_nothing_with_a_half_open_gate():
    module = SMALL.build(16)
    for part in module.modules():
        if callable(reset := getattr(part, "reset", None)):
            reset(torch.Generator().manual_seed(0))
    tokens = stream(0, 12, 2)
    out = module(tokens, tokens == 1, torch.float32)
    assert not out.any() and not module.gate.any()
    assert 0.005 < module.table.std() < 0.015
    (out * torch.arange(16)).sum().backward()
    assert module.project.weight.grad is not None and module.project.weight.grad.any()
