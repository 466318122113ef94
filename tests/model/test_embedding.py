"""The tied table: one matrix, two uses."""

import torch

from pgolf.model.embedding import Embedding
from tests.conformance.technique import TechniqueContract


class TestEmbedding(TechniqueContract):
    """As the output matrix; as the input it sees one token at a time by construction."""

    def build(self):
        return Embedding().build(12, self.width)

    def apply(self, module, x, starts):
        return module.logits(x)


def test_the_same_row_embeds_a_token_and_scores_it():
    module = Embedding().build(5, 3)
    module.reset(torch.Generator().manual_seed(0))
    x = module(torch.tensor([[4, 2]]), torch.float32)
    assert torch.equal(x[0], module.weight[[4, 2]])
    assert torch.allclose(module.logits(x)[0], module.weight[[4, 2]] @ module.weight.T)


def test_its_initial_scale_is_the_setting():
    module = Embedding(init_std=0.02).build(1000, 64)
    module.reset(torch.Generator().manual_seed(0))
    assert abs(float(module.weight.detach().std()) / 0.02 - 1) < 0.02
    assert abs(float(module.weight.detach().mean())) < 0.001
