"""Multi-token prediction: targets inside the document, heads that learn, a trunk that hears of it."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from pgolf.data.loader import Windows
from pgolf.formats.checkpoint import Checkpoint
from pgolf.model.roles import Role, roles_of
from pgolf.optim.adam import Adam
from pgolf.optim.optimizer import Optim, Optimizer
from pgolf.runtime import Runtime
from pgolf.train import loop
from pgolf.train.budget import Steps
from pgolf.train.loop import Train
from pgolf.train.mtp import Mtp, MtpHeads, same_document
from pgolf.train.objective import Objective, loss
from tests.nets import VOCAB, network, small

MTP = Objective(mtp=Mtp(heads=2, weight=0.5))


def test_which_positions_count_in_a_worked_example():
    """Tokens 5 6 | 1 7 8 9, and 1 after them: position 2 may predict 8 and 9 further on, not the next BOS."""
    targets = torch.tensor([[6, 1, 7, 8, 9, 1]])
    assert same_document(targets, 1).tolist() == [[False, False, True, True, False]]
    assert same_document(targets, 2).tolist() == [[False, False, True, False]]


@given(row=st.lists(st.sampled_from([1, 2, 3]), min_size=5, max_size=12), ahead=st.integers(1, 3))
def test_a_position_counts_if_its_target_is_of_its_own_document(row, ahead):
    """The twin counts documents: BOS is the first token of one."""
    document = np.cumsum(np.array(row) == 1)
    time = len(row) - 1
    expected = [document[t] == document[t + 1 + ahead] for t in range(time - ahead)]
    assert same_document(torch.tensor([row[1:]]), ahead)[0].tolist() == expected


def test_heads_begin_at_zero_and_have_their_own_role():
    heads = Mtp(heads=3).build(16, VOCAB)
    assert roles_of(heads).keys() == dict(heads.named_parameters()).keys()
    assert set(roles_of(heads).values()) == {Role.HEAD}
    assert [p.shape for p in heads.parameters()] == [(VOCAB, 16)] * 3
    assert not any(p.any() for p in heads.parameters())


def test_more_heads_than_a_row_has_tokens_predict_nothing():
    heads = MtpHeads(3, 4, 9)
    got = heads(torch.randn(1, 1, 4), torch.tensor([[5]]), lambda z, _: z.sum(2))
    assert float(got) == 0.0


def trunk_gradients(net, heads, batch) -> list[torch.Tensor]:
    """What the heads alone add to the trunk's gradients."""
    grads = []
    for objective in (MTP, None):
        loss(net, heads, batch, objective).total.backward()
        grads.append([p.grad.clone() for p in net.parameters()])
        for p in [*net.parameters(), *heads.parameters()]:
            p.grad = None
    return [a - b for a, b in zip(*grads, strict=True)]


def test_the_trunk_hears_of_it_from_the_second_step_on(tokens):
    batches = iter(Windows(tokens, 16, 8, seed=0))
    net = network()
    heads = MTP.heads(net)
    optimizer = Optimizer(Optim(adam=Adam(head_lr=0.01)), net, Runtime(), heads)
    assert max(g.abs().max() for g in trunk_gradients(net, heads, next(batches))) < 1e-6
    for _ in range(2):
        loss(net, heads, next(batches), MTP).total.backward()
        optimizer.step(0.0, 0.1)
    assert all(p.any() for p in heads.parameters()), "the optimizer holds the heads"
    heard = [float(g.abs().max()) for g in trunk_gradients(net, heads, next(batches))]
    assert sum(h > 1e-5 for h in heard) > 0.9 * len(heard)


def test_heads_predict_further_ahead_than_the_network(tokens, tmp_path):
    """On a stream whose next token is nearly known the heads learn theirs: their own loss falls."""
    batches = iter(Windows(tokens, 16, 16, seed=0))
    net = small().build(VOCAB).reset(0)
    heads = MTP.heads(net)
    optimizer = Optimizer(Optim(), net, Runtime(), heads)
    curve = []
    for _ in range(60):
        batch = next(batches)
        made = loss(net, heads, batch, MTP)
        curve.append(float(made.total.detach() - made.nats))
        made.total.backward()
        optimizer.step(0.0, 0.01)
    assert np.mean(curve[-5:]) < 0.75 * np.mean(curve[:5])


def test_a_run_trains_the_heads_and_never_saves_them(tokens, tmp_path):
    """The first step is the plain run's, then the trunk hears of what lies further ahead."""
    plain = small().build(VOCAB)
    differ = []
    for steps in (1, 4):
        weights = []
        for objective in (Objective(), MTP):
            out = tmp_path / f"{steps}{objective.is_plain}"
            out.mkdir()
            made = loop.train(
                tokens, out=out, runtime=Runtime(), seed=0, model=small(), optim=Optim(), vocab_size=VOCAB,
                train=Train(budget=Steps(steps=steps), batch_tokens=64, context=16, objective=objective),
                probe=lambda _: 2.0,
            )  # fmt: skip
            saved = Checkpoint.read(out).weights
            assert saved.keys() == dict(plain.named_parameters()).keys()
            assert made["params"] == plain.params
            weights.append(saved)
        differ.append(max(float((weights[0][n] - weights[1][n]).abs().max()) for n in weights[0]))
    assert differ[0] < 1e-5 < differ[1]
