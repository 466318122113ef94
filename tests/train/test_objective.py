"""The objective: plain cross-entropy unless something is on, each part as written, no bias from division."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.data.batch import Batch
from pgolf.data.loader import Windows
from pgolf.data.starts import document_starts
from pgolf.data.stream import Stream
from pgolf.train.focal import Focal
from pgolf.train.gradients import Gradients
from pgolf.train.label_smoothing import LabelSmoothing
from pgolf.train.mtp import Mtp
from pgolf.train.objective import Objective, loss, loss_nats
from pgolf.train.token_weighting import TailEmphasis
from pgolf.train.z_loss import ZLoss
from tests.nets import VOCAB, network, small, stream

ALL = Objective(
    z_loss=ZLoss(coefficient=0.01), label_smoothing=LabelSmoothing(epsilon=0.1), focal=Focal(gamma=1.5),
    token_weighting=TailEmphasis(from_fraction=0.25, weight=3.0), mtp=Mtp(heads=2, weight=0.3),
)  # fmt: skip


@pytest.fixture
def batch() -> Batch:
    """Four rows of several documents each."""
    rows = torch.cat([stream(seed, 17, 4) for seed in range(4)])
    tokens = rows[:, :-1].contiguous()
    return Batch(tokens, document_starts(tokens), rows[:, 1:].contiguous())


def weighed(batch: Batch, seed: int = 0) -> Batch:
    weights = torch.rand(batch.tokens.shape, generator=torch.Generator().manual_seed(seed)) + 0.5
    return Batch(batch.tokens, batch.starts, batch.targets, weights)


def heads_of(objective: Objective, net):
    heads = objective.heads(net)
    for p in heads.parameters() if heads else ():
        torch.nn.init.normal_(p, std=0.3, generator=torch.Generator().manual_seed(7))
    return heads


def test_without_an_objective_it_is_cross_entropy_and_counts_every_target_once(batch):
    built = network()
    with torch.no_grad():
        p = built(batch.tokens, batch.starts).double().softmax(2)
    expected = -p.gather(2, batch.targets.unsqueeze(2)).log().mean()
    got = loss(built, None, batch, None)
    assert float(got.total.detach()) == float(got.nats) == float(loss_nats(built, batch).detach())
    assert float(got.total.detach()) == pytest.approx(float(expected), rel=1e-5)
    assert got.total.requires_grad
    assert not got.nats.requires_grad


@pytest.mark.parametrize("on", [n for k in (1, 2, 5) for n in itertools.combinations(sorted(dict(ALL)), k)])
def test_every_combination_is_the_sum_of_its_parts_written_out(batch, on):
    """The slow twin: token by token, from probabilities; and its gradient."""
    objective = Objective(**{name: getattr(ALL, name) for name in on})
    net = network()
    heads = heads_of(objective, net)
    b = weighed(batch) if "token_weighting" in on else batch
    got = loss(net, heads, b, objective)
    hidden = net.hidden(b.tokens, b.starts)
    z = net(b.tokens, b.starts).double()
    further = [net.softcapped(head(hidden).float()).double() for head in heads.heads] if heads else []
    total, count = 0.0, b.tokens.numel()
    for r, t in itertools.product(range(b.tokens.shape[0]), range(b.tokens.shape[1])):
        log_p = z[r, t].log_softmax(0)
        ce = -log_p[b.targets[r, t]]
        token = ce
        if "label_smoothing" in on:
            token = 0.9 * ce + 0.1 * -log_p.mean()
        if "focal" in on:
            token = token * (1 - ce.neg().exp()) ** 1.5
        if "token_weighting" in on:
            token = token * b.weights[r, t]
        if "z_loss" in on:
            token = token + 0.01 * z[r, t].exp().sum().log() ** 2
        for k, logits in enumerate(further, start=1):
            ahead = b.targets[r, t : t + k + 1]
            if len(ahead) == k + 1 and not (ahead == 1).any():
                token = token + 0.3 / 2 * -logits[r, t].log_softmax(0)[ahead[k]]
        total += token / count
    assert float(got.total.detach()) == pytest.approx(float(total.detach()), rel=1e-5)
    up = net.blocks[0].mlp.up.weight
    grads = [torch.autograd.grad(t, up, retain_graph=True)[0] for t in (got.total, total)]
    assert torch.allclose(*grads, rtol=1e-3, atol=1e-6)
    assert float(got.nats) == pytest.approx(float(loss_nats(net, b).detach()), rel=1e-6)


@settings(max_examples=12)
@given(on=st.sets(st.sampled_from(sorted(dict(ALL))), min_size=1), rows_at_once=st.integers(1, 5))
def test_how_a_batch_is_divided_decides_nothing(tokens, on, rows_at_once):
    """Unequal parts, documents of all lengths: no mean of means, no weights normalized within a part."""
    batch = next(iter(Windows(tokens, 16, 5, seed=3)))
    objective = Objective(**{name: getattr(ALL, name) for name in on})
    found = []
    for rows in (5, rows_at_once):
        net = network()
        heads = heads_of(objective, net)
        weigher = TailEmphasis(from_fraction=0.25, weight=3.0).weigher(Stream(tokens), VOCAB, 16, "cpu")
        nats = Gradients(net, heads, objective, weigher, "cpu", rows).add(batch, 16)
        params = [*net.parameters(), *(heads.parameters() if heads else ())]
        found.append((float(nats), [p.grad.clone() for p in params]))
    (a, whole), (b, parts) = found
    assert a == pytest.approx(b, rel=1e-6)
    for x, y in zip(whole, parts, strict=True):
        assert torch.allclose(x, y, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", sorted(dict(ALL)))
def test_every_part_changes_the_gradient(batch, name):
    """A switch that moves nothing is dead."""
    grads = []
    for objective in (None, Objective(**{name: getattr(ALL, name)})):
        net = network()
        heads = heads_of(objective, net) if objective else None
        loss(net, heads, weighed(batch) if name == "token_weighting" else batch, objective).total.backward()
        grads.append(net.blocks[0].mlp.up.weight.grad)
    assert not torch.allclose(*grads, rtol=1e-3)


def test_the_network_may_have_learned_sides_of_its_softcap(batch):
    """Then there is no constant cap, and the one place that caps is asked."""
    net = network(small(softcap={"cap": 10.0, "sides": {}}))
    got = loss(net, heads_of(ALL, net), weighed(batch), ALL)
    assert torch.isfinite(got.total)
    assert float(got.nats) == pytest.approx(float(loss_nats(net, batch).detach()), rel=1e-6)


def test_an_objective_without_a_technique_is_plain():
    assert Objective().is_plain
    assert not any(Objective(**{name: getattr(ALL, name)}).is_plain for name in dict(ALL))
