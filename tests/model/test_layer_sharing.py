"""Layer sharing: the network with its blocks written out, dense instead of low-rank; and adapters of rows."""

import pytest
import torch
from pydantic import ValidationError

from pgolf.model.adapter import MATRICES, LowRank
from pgolf.model.attention import Attention
from pgolf.model.gpt import Gpt
from pgolf.model.headwise_gate import HeadwiseGate
from pgolf.model.layer_sharing import LayerSharing
from pgolf.model.ln_scale import LnScale
from pgolf.model.mlp import Mlp
from pgolf.model.parallel_residual import ParallelResidual
from pgolf.model.recurrence import Recurrence
from pgolf.model.two_lane import TwoLane
from pgolf.model.xsa import Xsa
from tests.conformance.in_network import InNetworkContract
from tests.nets import VOCAB, network, randomized, small, stream

ADAPTED = LayerSharing(stored=2, lora_rank=3, lora_alpha=6.0)


class TestInNetwork(InNetworkContract):
    def on(self):
        return small(layers=4, sharing=ADAPTED)

    def off(self):
        return small(layers=4, sharing=LayerSharing(stored=2))


class TestWithoutAdapters(InNetworkContract):
    def on(self):
        return small(layers=4, sharing=LayerSharing(stored=2))

    def off(self):
        return small(layers=4)


class TestWithRecurrenceAndLanes(InNetworkContract):
    def on(self):
        return small(
            layers=6, sharing=ADAPTED.but(stored=3), recurrence=Recurrence(first=1, last=2, passes=2),
            parallel=TwoLane(from_layer=4), attention=Attention(heads=4, kv_heads=2, gate=HeadwiseGate()),
        )  # fmt: skip

    def off(self):
        return self.on().but(sharing=LayerSharing(stored=3))


def written_out(shared: Gpt, layers: int) -> Gpt:
    """A network of `layers` blocks of its own whose weights are W + scale B A."""
    plain = network(shared.config.but(sharing=None))
    weights = dict(shared.state_dict())
    for name in plain.state_dict():
        parts = name.split(".")
        if parts[0] != "blocks":
            continue
        layer = int(parts[1])
        stored = shared.uses[layer]
        w = shared.state_dict()[".".join(["blocks", str(stored), *parts[2:]])]
        matrix = parts[-2]
        if matrix in MATRICES and parts[-1] == "weight":
            adapter = shared.sharing.of(layer)[matrix]
            w = w + adapter.scale * adapter.b.detach() @ adapter.a.detach()
        weights[name] = w
    plain.load_state_dict({n: weights[n] for n in plain.state_dict()})
    assert len(plain.blocks) == layers
    return plain


@pytest.mark.parametrize("uses", [None, (0, 1, 1, 0, 1)])
def test_it_is_the_network_with_its_layers_written_out(uses):
    sharing = ADAPTED.but(uses=uses)
    shared = network(small(layers=5, sharing=sharing, mlp=Mlp(mult=1.5, negative_slope=0.5)))
    tokens = stream(4, 10, 2)
    assert len(shared.blocks) == 2
    assert shared.uses == (uses or (0, 1, 0, 1, 0))
    with torch.no_grad():
        got, expected = shared(tokens, tokens == 1), written_out(shared, 5)(tokens, tokens == 1)
    assert torch.allclose(got, expected, atol=1e-4)


def test_every_layer_begins_as_its_block():
    """B = 0; A is Gaussian with variance 1 / rank."""
    tokens = stream(1, 9, 1)
    adapted = small(layers=4, width=64, sharing=ADAPTED).build(VOCAB).reset(seed=3)
    plain = small(layers=4, width=64, sharing=LayerSharing(stored=2)).build(VOCAB)
    plain.load_state_dict({n: w for n, w in adapted.state_dict().items() if not n.startswith("sharing")})
    with torch.no_grad():
        assert torch.equal(adapted(tokens, tokens == 1), plain(tokens, tokens == 1))
    a = torch.cat([m.a.detach().flatten() for m in adapted.modules() if isinstance(m, LowRank)])
    assert float(a.std()) == pytest.approx(3**-0.5, rel=0.05)
    assert abs(float(a.mean())) < 0.02


def test_parameters_are_counted_by_hand():
    """Two blocks instead of four, and for each of four layers rank x (in + out) of six matrices."""
    shared = small(layers=4, sharing=ADAPTED).build(VOCAB).params
    plain = small(layers=4, sharing=LayerSharing(stored=2)).build(VOCAB).params
    both = [(16, 16), (16, 8), (16, 8), (16, 16), (16, 32), (32, 16)]
    assert shared - plain == 4 * 3 * sum(i + o for i, o in both)
    block = small(layers=1).build_block(0)
    assert small(layers=4).build(VOCAB).params - plain == 2 * sum(p.numel() for p in block.parameters())


def test_what_goes_by_number_goes_by_the_stored_block():
    config = small(
        layers=4, sharing=LayerSharing(stored=2), ln_scale=LnScale(), mlp=Mlp(layer_mults=(1.0, 2.0)),
        attention=Attention(heads=4, kv_heads=2, xsa=Xsa(last_layers=1)),
    )  # fmt: skip
    built = config.build(VOCAB)
    assert [b.norm_scale for b in built.blocks] == [1.0, 2**-0.5]
    assert [b.mlp.up.weight.shape[0] for b in built.blocks] == [16, 32]
    assert [b.attention.xsa is not None for b in built.blocks] == [False, True]


def test_a_universal_transformer_is_one_block_or_a_recurrence():
    shared = network(small(layers=4, sharing=LayerSharing(stored=1)))
    looped = network(small(layers=1, recurrence=Recurrence(first=0, last=0, passes=4, from_fraction=0.0)))
    looped.load_state_dict(shared.state_dict())
    tokens = stream(0, 9, 1)
    with torch.no_grad():
        assert torch.equal(shared(tokens, tokens == 1), looped(tokens, tokens == 1))


def test_factors_are_observed_with_their_own_inputs():
    built, tokens, seen = network(small(layers=4, sharing=ADAPTED)), stream(0, 8, 1), {}
    with torch.no_grad(), built.observed(lambda name, x: seen.setdefault(name, []).append(x)):
        built(tokens, tokens == 1)
    assert seen.keys() == {n for n, role in built.roles.items() if role.is_matrix}
    at = "sharing.layers.3.up"
    [into], [narrow] = seen[f"{at}.a"], seen[f"{at}.b"]
    assert torch.allclose(narrow, into @ built.sharing.of(3)["up"].a.T, atol=1e-5)
    assert torch.equal(into, seen["blocks.1.mlp.up.weight"][1]), "block 1 serves layers 1 and 3"


def rows_of_adapters(built: Gpt, rows: int) -> list[dict[str, LowRank]]:
    """For every execution and matrix an adapter whose rows differ."""
    made = []
    for step, layer in enumerate(built.order):
        block = built.blocks[built.uses[layer]]
        shapes = {n: getattr(block.attention if n in "qkvo" else block.mlp, n).weight.shape for n in MATRICES}
        made.append({
            n: randomized(LowRank(i, o, rank=2, alpha=3.0, rows=rows), seed=step * 10 + k, std=0.3)
            for k, (n, (o, i)) in enumerate(shapes.items())
        })  # fmt: skip
    return made


@pytest.mark.parametrize("sharing", [None, ADAPTED])
def test_every_row_of_a_batch_may_have_adapters_of_its_own(sharing):
    """The door of test-time adaptation: a batch whose rows are adapted differently says, row by row, what a
    network says whose weights were changed so; every execution of a recurrent layer is adapted by itself."""
    config = small(layers=4, sharing=sharing, recurrence=Recurrence(first=1, last=2, passes=2))
    built = network(config, std=0.4)
    tokens = torch.cat([stream(s, 8, 1) for s in range(3)])
    adapters = rows_of_adapters(built, 3)
    with torch.no_grad():
        together = built(tokens, tokens == 1, adapters=adapters)
        for row in range(3):
            own = [{n: picked(a, row) for n, a in step.items()} for step in adapters]
            alone = built(tokens[row : row + 1], tokens[row : row + 1] == 1, adapters=own)
            assert torch.allclose(together[row], alone[0], atol=1e-4)
        assert not torch.allclose(together, built(tokens, tokens == 1), atol=1e-2)


def picked(adapter: LowRank, row: int) -> LowRank:
    out = LowRank(adapter.a.shape[2], adapter.b.shape[1], rank=2, alpha=3.0)
    out.load_state_dict({"a": adapter.a[row], "b": adapter.b[row]})
    return out


def test_rowless_adapters_are_a_change_of_the_weights_of_one_execution():
    """A recurrent layer is adapted in each pass by itself: the unrolled network with each block changed so."""
    looped = network(small(layers=4, recurrence=Recurrence(first=1, last=2, passes=2)), std=0.4)
    tokens, unrolled = stream(0, 8, 1), network(small(layers=6))
    adapters = [{n: picked(a, 0) for n, a in step.items()} for step in rows_of_adapters(looped, 1)]
    weights = looped.state_dict()
    with torch.no_grad():
        for name, p in unrolled.named_parameters():
            parts = name.split(".")
            if parts[0] == "blocks":
                parts[1] = str(looped.order[int(parts[1])])
            p.copy_(weights[".".join(parts)])
        for block, own in zip(unrolled.blocks, adapters, strict=True):
            for name, adapter in own.items():
                matrix = getattr(block.attention if name in "qkvo" else block.mlp, name)
                matrix.weight += 1.5 * adapter.b @ adapter.a
        adapted = looped(tokens, tokens == 1, adapters=adapters)
        assert torch.allclose(unrolled(tokens, tokens == 1), adapted, atol=1e-4)


def test_adapters_for_some_executions_only_are_a_bug():
    looped = network(small(layers=4, recurrence=Recurrence(first=1, last=2, passes=2)))
    tokens = stream(0, 8, 1)
    with pytest.raises(AssertionError, match="for every execution"):
        looped(tokens, tokens == 1, adapters=[{}] * 4)


@pytest.mark.parametrize(("layers", "change", "message"), [
    (4, {"stored": 5}, r"stored is at most layers"),
    (4, {"stored": 2, "uses": (0, 1, 0)}, r"an entry for every layer"),
    (4, {"stored": 3, "uses": (0, 1, 0, 1)}, r"names every stored block"),
    (4, {"stored": 2, "uses": (0, 1, 2, 0)}, r"names every stored block"),
    (4, {"stored": 2, "lora_alpha": 1.0}, r"lora_alpha scales adapters"),
])  # fmt: skip
def test_what_cannot_be_is_refused(layers, change, message):
    with pytest.raises(ValidationError, match=message):
        small(layers=layers, sharing=change)


def test_a_block_that_were_parallel_for_one_layer_and_not_for_another_is_refused():
    with pytest.raises(ValidationError, match="not sequential for one layer and parallel for another"):
        small(layers=4, sharing=LayerSharing(stored=2), parallel=ParallelResidual(from_layer=2))
