"""Value embedding: one table for a few layers; the published count; the network against hooks on a plain one."""

import pytest
import torch
from pydantic import ValidationError

from pgolf.model.attention import Attention
from pgolf.model.gpt import GptConfig
from pgolf.model.ln_scale import LnScale
from pgolf.model.mlp import Mlp
from pgolf.model.recurrence import Recurrence
from pgolf.model.rope import Rope
from pgolf.model.skip_gate import SkipGate
from pgolf.model.u_net import UNet
from pgolf.model.value_embedding import ValueEmbedding
from pgolf.model.xsa import Xsa
from tests.conformance.in_network import InNetworkContract
from tests.conformance.technique import TechniqueContract
from tests.nets import VOCAB, network, randomized, small, stream, tokens_of

SMALL = ValueEmbedding(rank=3, layers=(0, 2))


class TestValueEmbedding(TechniqueContract):
    def build(self):
        return SMALL.build(VOCAB, 2, 4)

    def apply(self, module, x, starts):
        return torch.cat(list(module(tokens_of(x), x.dtype).values()), dim=2).flatten(2)


class TestInNetwork(InNetworkContract):
    def on(self):
        return small(value_embedding=SMALL)

    def off(self):
        return small()


class TestInNetworkWithRecurrence(InNetworkContract):
    """A layer adds it in every pass."""

    def on(self):
        return small(layers=4, value_embedding=SMALL, recurrence=Recurrence(first=1, last=2, passes=2))

    def off(self):
        return small(layers=4, recurrence=Recurrence(first=1, last=2, passes=2))


def test_worked_example():
    module = randomized(ValueEmbedding(rank=2, layers=(4, 7)).build(5, 1, 2), seed=0)
    with torch.no_grad():
        module.table.copy_(torch.arange(10.0).view(5, 2))
        module.project.weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
        module.scale.fill_(0.1)
        module.layer_scales.copy_(torch.tensor([1.0, -2.0]))
        got = module(torch.tensor([[3]]), torch.float32)
    assert got.keys() == {4, 7}
    assert got[4].flatten().tolist() == pytest.approx([0.6, 1.3])  # T[3] = (6, 7)
    assert got[7].flatten().tolist() == pytest.approx([-1.2, -2.6])


def test_pr_1218_has_the_published_number_of_parameters():
    config = GptConfig(
        layers=11, width=512, attention=Attention(heads=8, kv_heads=4, qk_gain=4.0, xsa=Xsa(last_layers=11)),
        rope=Rope(dims=16), mlp=Mlp(mult=4.0, negative_slope=0.5), u_net=UNet(gate=SkipGate()),
        ln_scale=LnScale(), value_embedding=ValueEmbedding(),
    )  # fmt: skip
    with torch.device("meta"):
        built = config.build(4096)
    assert built.params == 34_401_371
    assert built.value_embedding.table.numel() + built.value_embedding.project.weight.numel() == 557_056


def test_the_network_is_the_plain_one_with_its_values_changed():
    """With XSA, which must see the changed values."""
    attention = Attention(heads=4, kv_heads=2, xsa=Xsa())
    added = network(small(value_embedding=SMALL, attention=attention))
    plain = network(small(attention=attention))
    plain.load_state_dict({k: v for k, v in added.state_dict().items() if "value_embedding" not in k})
    tokens = stream(5, 10, 2)
    ve = added.value_embedding
    for i, layer in enumerate((0, 2)):
        row = ve.layer_scales[i] * ve.scale * (ve.table @ ve.project.weight.T)
        plain.blocks[layer].attention.v.register_forward_hook(lambda _, __, out, row=row: out + row[tokens])
    with torch.no_grad():
        assert torch.allclose(added(tokens, tokens == 1), plain(tokens, tokens == 1), atol=1e-5)


@pytest.mark.parametrize("zero", [False, True])
def test_it_begins_small_or_silent(zero):
    built = small(value_embedding=SMALL.but(zero=zero)).build(VOCAB).reset(seed=1)
    values = built.value_embedding(torch.arange(VOCAB).view(1, -1), torch.float32)
    size = max(float(v.detach().abs().max()) for v in values.values())
    assert size == 0.0 if zero else 0.0 < size < 0.02
    assert built.value_embedding.scale.item() == pytest.approx(0.1)
    assert built.value_embedding.layer_scales.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("layers", [(), (2, 1), (1, 1), (-1, 2)])
def test_layers_that_are_no_rising_list_are_refused(layers):
    with pytest.raises(ValidationError, match="in rising order"):
        ValueEmbedding(layers=layers)


def test_a_layer_beyond_the_model_is_refused():
    with pytest.raises(ValidationError, match=r"value_embedding\.layers are layers of the model"):
        small(layers=3, value_embedding=ValueEmbedding(layers=(1, 3)))
