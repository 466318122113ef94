"""Factored embedding: the product of its factors, at both ends."""

import pytest
import torch
from pydantic import ValidationError

from pgolf.model.embedding import Embedding
from pgolf.model.factored_embedding import FactoredEmbedding
from pgolf.model.roles import Role
from tests.conformance.in_network import InNetworkContract
from tests.conformance.technique import TechniqueContract
from tests.nets import VOCAB, network, randomized, small, stream

NARROW = Embedding(factored=FactoredEmbedding(rank=5))


class TestFactoredEmbedding(TechniqueContract):
    """As the output matrix; as the input it sees one token at a time by construction."""

    def build(self):
        return NARROW.build(12, self.width)

    def apply(self, module, x, starts):
        return module.logits(x)


class TestInNetwork(InNetworkContract):
    def on(self):
        return small(embedding=NARROW)

    def off(self):
        return small()


def test_it_is_a_whole_table_of_low_rank_at_either_end():
    module = randomized(NARROW.build(7, 16), seed=0)
    tokens = torch.tensor([[3, 0, 6]])
    x = torch.randn(1, 3, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        entering, leaving = module.weight @ module.into.weight.T, module.weight @ module.out.weight
        assert torch.allclose(module(tokens, torch.float32), entering[tokens], atol=1e-5)
        assert torch.allclose(module.logits(x), x @ leaving.T, atol=1e-4)


def test_its_parts_and_their_roles():
    built = small(embedding=NARROW).build(VOCAB)
    found = {
        n: (tuple(p.shape), built.roles[n]) for n, p in built.embedding.named_parameters(prefix="embedding")
    }
    assert found == {
        "embedding.weight": ((VOCAB, 5), Role.EMBEDDING),
        "embedding.into.weight": ((16, 5), Role.PROJECTION),
        "embedding.out.weight": ((5, 16), Role.PROJECTION),
    }
    assert built.vocab_size == VOCAB


def test_what_the_table_is_seen_to_multiply():
    built, tokens, seen = network(small(embedding=NARROW)), stream(0, 8, 1), {}
    with torch.no_grad(), built.observed(lambda name, x: seen.__setitem__(name, x)):
        hidden = built.hidden(tokens, tokens == 1)
        raw = built.raw_logits(hidden)
        assert torch.allclose(seen["embedding.weight"] @ built.embedding.weight.T, raw, atol=1e-5)
    assert seen.keys() == {n for n, role in built.roles.items() if role.is_matrix}


def test_a_table_as_wide_as_the_stream_is_refused():
    with pytest.raises(ValidationError, match="below the width"):
        small(width=16, embedding=Embedding(factored=FactoredEmbedding(rank=16)))
