"""BigramHash: exact integers, the reserved bucket at documents, nothing at the start and yet alive."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pgolf.model.bigram_hash import BigramHash
from pgolf.model.rms_norm import rms_norm
from pgolf.model.smear_gate import SmearGate
from tests.conformance.in_network import InNetworkContract
from tests.conformance.technique import TechniqueContract
from tests.nets import network, randomized, small, stream, tokens_of

PAIRS, TRIPLES = BigramHash(buckets=31, rank=4), BigramHash(buckets=31, rank=4, trigram=True)


class TestBigramHash(TechniqueContract):
    def build(self):
        return TRIPLES.build(self.width)

    def apply(self, module, x, starts):
        return module(tokens_of(x), starts, x.dtype)


class TestPairsInNetwork(InNetworkContract):
    def on(self):
        return small(ngrams=PAIRS)

    def off(self):
        return small()


class TestTriplesInNetwork(InNetworkContract):
    def on(self):
        return small(ngrams=TRIPLES)

    def off(self):
        return small(ngrams=PAIRS)


def slow(tokens: list[int], buckets: int, trigram: bool) -> list[list[int]]:
    """Rows looked up, by Python's unbounded integers, one document after another; BOS is 1."""
    out: list[list[int]] = []
    begin = 0
    for i, token in enumerate(tokens):
        begin = i if token == 1 else begin
        before = tokens[begin:i][::-1]
        pair = (36313 * token) ^ (27191 * before[0]) if before else None
        rows = [buckets - 1 if pair is None else pair % (buckets - 1)]
        if trigram:
            far = len(before) >= 2
            rows.append(((pair or 0) ^ (51497 * before[1])) % (buckets - 1) if far else buckets - 1)
        out.append(rows)
    return out


def test_worked_example():
    """36313 * 3 = 108939, 27191 * 2 = 54382; 108939 XOR 54382 = 97765; mod 10 = 5; 10 is reserved."""
    module = randomized(BigramHash(buckets=11, rank=2).build(3), seed=0)
    tokens = torch.tensor([[1, 2, 3, 1, 3]])
    [rows] = module.buckets(tokens, tokens == 1)
    assert rows[0, 2] == 97765 % 10 == 5
    assert rows[0, 0] == rows[0, 3] == 10
    with torch.no_grad():
        expected = module.scale * module.project.weight @ module.table[5]
        assert torch.allclose(module(tokens, tokens == 1, torch.float32)[0, 2], expected, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.lists(st.one_of(st.just(1), st.integers(0, 2**16 - 1)), min_size=1, max_size=9),
    buckets=st.sampled_from([2, 3, 1536, 3072, 10240]),
    trigram=st.booleans(),
)
@example(tokens=[65535, 65534, 65533, 65532], buckets=3072, trigram=True)
def test_rows_are_those_of_unbounded_integers(tokens, buckets, trigram):
    module = BigramHash(buckets=buckets, rank=1, trigram=trigram).build(2)
    row = torch.tensor([tokens])
    got = torch.stack(module.buckets(row, row == 1), dim=2)
    assert got[0].tolist() == slow(tokens, buckets, trigram)


def test_rows_are_the_historic_ones_where_32_bits_suffice():
    t = torch.randint(2, 41_702, (1, 4096), generator=torch.Generator().manual_seed(0))
    t[0, :2] = 41_701
    narrow, buckets = t.int(), 3072
    pairs = torch.bitwise_xor(36313 * narrow[:, 1:], 27191 * narrow[:, :-1]) % (buckets - 1)
    triples = (36313 * narrow[:, 2:] ^ 27191 * narrow[:, 1:-1] ^ 51497 * narrow[:, :-2]) % (buckets - 1)
    got = BigramHash(buckets=buckets, rank=1, trigram=True).build(2).buckets(t, t == 1)
    assert torch.equal(got[0][:, 1:], pairs.long())
    assert torch.equal(got[1][:, 2:], triples.long())


def test_a_row_has_nothing_before_it_whether_it_is_told_so_or_not():
    module, tokens = TRIPLES.build(4), torch.tensor([[5, 6, 7]])
    told = torch.tensor([[True, False, False]])
    for one, other in zip(
        module.buckets(tokens, told), module.buckets(tokens, torch.zeros_like(told)), strict=True
    ):
        assert torch.equal(one, other)


def test_it_begins_as_nothing_and_both_factors_learn():
    module = PAIRS.build(16)
    for part in module.modules():
        if callable(reset := getattr(part, "reset", None)):
            reset(torch.Generator().manual_seed(0))
    tokens = stream(0, 12, 2)
    out = module(tokens, tokens == 1, torch.float32)
    assert not out.any()
    assert module.scale.item() == pytest.approx(0.05)
    (out * torch.arange(16)).sum().backward()
    assert module.table.grad is not None and module.table.grad.any(), "through P, which is not zero"
    with torch.no_grad():
        module.table -= module.table.grad
    module(tokens, tokens == 1, torch.float32).square().sum().backward()
    assert module.project.weight.grad is not None and module.project.weight.grad.any()


def test_it_is_added_before_the_norm_and_before_the_smear():
    built, tokens = network(small(ngrams=PAIRS, smear=SmearGate(window=4))), stream(3, 10, 2)
    starts = tokens == 1
    with torch.no_grad():
        e = built.embedding.weight[tokens] + built.ngrams(tokens, starts, torch.float32)
        assert torch.allclose(built._embedded(tokens, starts), rms_norm(built.smear(e, starts)), atol=1e-6)
