"""Warm-up: every state and every size is run, and nothing of it stays."""

from itertools import islice

import pytest
import torch

from pgolf.data.loader import Batches
from pgolf.data.packed import Packed
from pgolf.kernels.documents import cu_seqlens
from pgolf.kernels.varlen import Packed as Boundaries
from pgolf.model.recurrence import Recurrence
from pgolf.optim.ema import Ema
from pgolf.optim.muon import Muon
from pgolf.optim.optimizer import Optim
from pgolf.optim.swa import Swa
from pgolf.runtime import Runtime
from pgolf.stage import sha256_of
from pgolf.train import loop
from pgolf.train.budget import Steps
from pgolf.train.gradients import Gradients
from pgolf.train.late_qat import SoftRound
from pgolf.train.loop import Train
from pgolf.train.mtp import Mtp
from pgolf.train.objective import Objective
from pgolf.train.switches import Switches
from pgolf.train.warmup import Warmup, shapes, sizes, spread, warm_up
from tests.nets import VOCAB, network, small

EVERYTHING = Optim(
    muon=Muon(weight_decay=0.1), ema=Ema(window_fraction=0.3), swa=Swa(below_scale=0.9, every_fraction=0.2),
    blend=0.5, grad_clip=1.0,
)  # fmt: skip
RUN = Train(
    budget=Steps(steps=6), batch_tokens=128, context=16, rows_at_once=3, late_qat=SoftRound(from_fraction=0.6),
    objective=Objective(mtp=Mtp()),
)  # fmt: skip


def ended(tokens, out, train: Train) -> tuple[dict[str, float], str, list[int]]:
    """Metrics, SHA-256 of the weights, and the steps that were reported."""
    out.mkdir()
    heard = []
    made = loop.train(
        tokens, out=out, runtime=Runtime(report=lambda step, _: heard.append(step)), seed=4, optim=EVERYTHING,
        model=small(layers=2, recurrence=Recurrence(first=1, last=1, passes=2, from_fraction=0.4)), train=train,
        vocab_size=VOCAB, probe=lambda _: 2.0,
    )  # fmt: skip
    return made, sha256_of(out / "weights.npz"), heard


def test_nothing_of_it_stays(tokens, tmp_path):
    """Weights, momenta, moments, averages, data and what of the network is on: byte for byte."""
    cold, warm = (
        ended(tokens, tmp_path / n, RUN.but(warmup=w)) for n, w in (("a", None), ("b", Warmup(steps=3)))
    )
    assert cold[1] == warm[1]
    assert cold[0]["final_train_loss"] == warm[0]["final_train_loss"]
    assert cold[0]["steps"] == warm[0]["steps"] == 6
    assert cold[0]["train_tokens"] == warm[0]["train_tokens"]
    assert cold[2] == warm[2], "warm-up steps are not reported"


def test_momentum_stays_on_request(tokens, tmp_path):
    cold, warm = (
        ended(tokens, tmp_path / n, RUN.but(warmup=w))
        for n, w in (("a", None), ("b", Warmup(steps=3, keep_momentum=True)))
    )
    assert cold[1] != warm[1]


def test_every_state_takes_its_steps_and_none_of_it_is_on_the_clock(tokens, tmp_path, monkeypatch):
    seen, on_clock = [], []
    clock = loop.Clock

    class Watched(clock):
        def __enter__(self):
            on_clock.append(self)
            return super().__enter__()

    class Recorded(loop.Optimizer):
        def step(self, progress, progress_made, ride=None, lr_factor=1.0):
            if not on_clock:
                seen.append(progress)
            return super().step(progress, progress_made, ride, lr_factor)

    monkeypatch.setattr(loop, "Clock", Watched)
    monkeypatch.setattr(loop, "Optimizer", Recorded)
    ended(tokens, tmp_path / "out", RUN.but(warmup=Warmup(steps=2), objective=Objective()))
    assert seen == [0.0, 0.0, 0.4, 0.4, 0.6, 0.6]


def boundaries(longest: int):
    """The layout of a varlen kernel, whose size depends on how many documents there are."""

    def layout(starts, given):
        return Boundaries(cu_seqlens(starts, longest), longest, "flash2")

    return layout


@pytest.mark.parametrize("contexts", [(8,), (4, 16)])
def test_every_size_of_layout_that_the_data_has_is_run_once(tokens, contexts):
    """Rows of 1024 tokens with a document in fifty, cut at up to 16: some 70 to 260 segments a row."""
    batches = Batches(tokens, Packed(tokens_per_row=1024), contexts[-1], 3, seed=0)
    net = network()
    net.layout = boundaries(max(contexts))
    gradients = Gradients(net, None, Objective(), None, "cpu", rows_at_once=2)
    seen = list(islice(batches, 4))
    made = {}
    for batch in sizes(seen, gradients, contexts):
        parts = list(gradients.parts(batch, max(contexts)))
        assert len(parts) == 1, "fits at once"
        key = (len(batch.tokens), shapes(parts[0][1]))
        assert key not in made
        made[key] = batch
    needed = {
        (len(part.tokens), shapes(layout))
        for batch in islice(batches, 8)
        for context in contexts
        for part, layout in gradients.parts(batch, context)
    }
    assert needed <= made.keys()
    assert {rows for rows, _ in made} == {1, 2}


@pytest.mark.parametrize("every_size", [False, True])
def test_a_compiled_run_warms_every_size_up_in_every_state(tokens, every_size):
    seen = []

    class Recorded(Gradients):
        def add(self, batch, context):
            state = (net.order, net.blocks[0].mlp.up.rounding is not None)
            seen.extend(
                (state, len(part.tokens), shapes(layout)) for part, layout in self.parts(batch, context)
            )
            return torch.zeros(())

    net = network(small(recurrence=Recurrence(first=1, last=1, passes=2, from_fraction=0.4)))
    net.layout = boundaries(8)
    gradients = Recorded(net, None, Objective(), None, "cpu", rows_at_once=2)
    switches = Switches(net, SoftRound(from_fraction=0.6))
    batches = Batches(tokens, Packed(tokens_per_row=1024), 8, 3, seed=0)
    warm_up(
        Warmup(steps=1),
        gradients,
        loop.Optimizer(EVERYTHING, net, Runtime()),
        switches,
        batches,
        (8,),
        every_size,
    )
    sized = {
        (len(b.tokens), shapes(next(gradients.parts(b, 8))[1]))
        for b in sizes(list(islice(batches, 32)), gradients, (8,))
    }
    states = {state for state, *_ in seen}
    assert len(states) == 3
    assert ({(s, *size) for s in states for size in sized} <= set(seen)) is every_size


def test_a_layout_of_one_size_is_run_once(tokens):
    gradients = Gradients(network(), None, Objective(), None, "cpu", rows_at_once=4)
    batches = Batches(tokens, Packed(tokens_per_row=64), 16, 4, seed=0)
    assert len(list(sizes(list(islice(batches, 3)), gradients, (16,)))) == 1


@pytest.mark.parametrize(("rows", "time", "documents"), [(1, 100, 1), (1, 100, 63), (3, 40, 17), (2, 8, 16)])
def test_documents_are_spread_evenly(rows, time, documents):
    starts = spread(rows, time, documents)
    assert starts[:, 0].all()
    assert int(starts.sum()) == documents
    for row in starts:
        gaps = torch.cat([row.nonzero().flatten(), torch.tensor([time])]).diff()
        assert gaps.max() <= -(-time // (documents // rows))
