"""Value residual: three forms by hand, the network against hooks on a plain one, and what it does not go with."""

import math

import pytest
import torch
from pydantic import ValidationError

from pgolf.kernels.attention import prepare
from pgolf.model.attention import Attention
from pgolf.model.layer_sharing import LayerSharing
from pgolf.model.parallel_residual import ParallelResidual
from pgolf.model.reads import Reads
from pgolf.model.recurrence import Recurrence
from pgolf.model.two_lane import TwoLane
from pgolf.model.value_embedding import ValueEmbedding
from pgolf.model.value_residual import ValueResidual
from pgolf.model.xsa import Xsa
from tests.conformance.in_network import InNetworkContract
from tests.conformance.technique import TechniqueContract
from tests.nets import network, small, stream

HEADS = {"heads": 4, "kv_heads": 2}


class TestValueResidual(TechniqueContract):
    form = "sigmoid"

    def build(self):
        return ValueResidual(form=self.form).build(layer=1)

    def apply(self, module, x, starts):
        heads = x.unflatten(2, (2, 8))
        reads = Reads(x, prepare(starts), first_value=heads.cos())
        return module(heads, reads).flatten(2)


class TestAdditive(TestValueResidual):
    form = "additive"


class TestConvex(TestValueResidual):
    form = "convex"


class TestInNetwork(InNetworkContract):
    form = "sigmoid"

    def on(self):
        return small(attention=Attention(**HEADS, value_residual=ValueResidual(form=self.form)))

    def off(self):
        return small()


class TestAdditiveInNetwork(TestInNetwork):
    form = "additive"


class TestConvexInNetwork(TestInNetwork):
    form = "convex"


@pytest.mark.parametrize(("form", "expected"), [
    ("sigmoid", 3.0 + 10 / (1 + math.exp(-0.4))), ("additive", 3.0 + 4.0), ("convex", 0.6 * 3.0 + 4.0),
])  # fmt: skip
def test_worked_example(form, expected):
    """v = 3, v_0 = 10, a = 0.4."""
    module = ValueResidual(form=form, initial=0.4).build(layer=2)
    module.reset(torch.Generator())
    x = torch.zeros(1, 1, 1)
    reads = Reads(x, prepare(torch.ones(1, 1, dtype=torch.bool)), first_value=torch.full((1, 1, 1, 1), 10.0))
    assert module(torch.full((1, 1, 1, 1), 3.0), reads).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("form", "share"), [("sigmoid", (1, 0.5)), ("additive", (1, 0)), ("convex", (0.5, 0.5))]
)
def test_where_it_begins(form, share):
    module = ValueResidual(form=form).build(layer=1)
    module.reset(torch.Generator())
    v, first = torch.randn(2, 1, 3, 2, 4, generator=torch.Generator().manual_seed(0)).unbind()
    reads = Reads(v[..., 0], prepare(torch.ones(1, 3, dtype=torch.bool)), first_value=first)
    assert torch.allclose(module(v, reads), share[0] * v + share[1] * first)


@pytest.mark.parametrize("form", ["sigmoid", "additive", "convex"])
def test_the_network_is_the_plain_one_with_its_values_changed(form):
    """The plain network's value projections are intercepted and changed as the equation says; with XSA, which
    must see the changed values."""
    attention = Attention(**HEADS, xsa=Xsa(), value_residual=ValueResidual(form=form))
    mixed, plain = (
        network(small(attention=attention)),
        network(small(attention=Attention(**HEADS, xsa=Xsa()))),
    )
    plain.load_state_dict({k: v for k, v in mixed.state_dict().items() if "value_residual" not in k})
    seen = {}

    def change(layer, out):
        seen.setdefault("first", out)
        if layer == 0:
            return out
        a = mixed.blocks[layer].attention.value_residual.a
        if form == "convex":
            return (1 - a) * out + a * seen["first"]
        return out + (a.sigmoid() if form == "sigmoid" else a) * seen["first"]

    for layer, block in enumerate(plain.blocks):
        block.attention.v.register_forward_hook(lambda _, __, out, layer=layer: change(layer, out))
    tokens = stream(5, 10, 2)
    with torch.no_grad():
        assert torch.allclose(mixed(tokens, tokens == 1), plain(tokens, tokens == 1), atol=1e-5)


def test_the_first_layer_has_no_parameter_and_leaves_its_values():
    built = network(small(attention=Attention(**HEADS, value_residual=ValueResidual())))
    assert [n for n in built.roles if "value_residual" in n] == [
        f"blocks.{layer}.attention.value_residual.a" for layer in (1, 2)
    ]


@pytest.mark.parametrize("other", [
    {"recurrence": Recurrence(first=1, last=1, passes=2)},
    {"sharing": LayerSharing(stored=2)},
    {"value_embedding": ValueEmbedding(layers=(1, 2))},
    {"parallel": TwoLane(from_layer=2)},
    {"parallel": ParallelResidual(from_layer=2)},
])  # fmt: skip
def test_what_it_does_harm_with_is_refused(other):
    small(**other)
    with pytest.raises(ValidationError, match="a value residual goes with no"):
        small(attention=Attention(**HEADS, value_residual=ValueResidual()), **other)
