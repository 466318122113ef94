"""The training loop: deterministic, accountable to its listener, honest about divergence."""

import math
import threading
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.data.coprime_stride import CoprimeStride
from pgolf.data.packed import Packed
from pgolf.data.sequential import Sequential
from pgolf.data.shuffled_windows import ShuffledWindows
from pgolf.errors import Infeasible, InfeasibleTrial
from pgolf.formats.checkpoint import Checkpoint
from pgolf.model.linear import Linear
from pgolf.model.recurrence import Recurrence
from pgolf.optim.adam import Adam
from pgolf.optim.ema import Ema
from pgolf.optim.muon import Muon
from pgolf.optim.optimizer import Optim
from pgolf.optim.ranks import Ranks
from pgolf.optim.schedule import Schedule
from pgolf.runtime import Runtime
from pgolf.stage import Artifact, Store, sha256_of
from pgolf.train import loop
from pgolf.train.budget import Seconds, Steps
from pgolf.train.loop import Train
from pgolf.train.objective import Objective
from pgolf.train.stage import train_stage
from tests.nets import VOCAB, network, small

SHORT = Train(budget=Steps(steps=6), batch_tokens=64, context=16)
LONG = Train(budget=Steps(steps=60), batch_tokens=256, context=16)


def run(
    tokens, out, *, seed=0, train=SHORT, optim=None, report=None, probe=lambda _: 2.5, probes=loop.PROBES
):
    """Train and return (metrics, SHA-256 of the weights)."""
    out.mkdir()
    runtime = Runtime(report=report) if report else Runtime()
    metrics = loop.train(
        tokens, out=out, runtime=runtime, seed=seed, model=small(layers=2), optim=optim or Optim(), train=train,
        vocab_size=VOCAB, probe=probe, probes=probes,
    )  # fmt: skip
    return metrics, sha256_of(out / "weights.npz")


def test_the_seed_decides_every_byte(tokens, tmp_path):
    first, again, other = (run(tokens, tmp_path / n, seed=s)[1] for n, s in (("a", 7), ("b", 7), ("c", 8)))
    assert first == again
    assert first != other


def test_it_begins_at_the_network_of_its_seed(tokens, tmp_path):
    """With rates of next to nothing the weights stay where the seed put them."""
    still = Optim(muon=Muon(lr=1e-12), adam=Adam(embedding_lr=1e-12, control_lr=1e-12))
    run(tokens, tmp_path / "out", seed=9, optim=still)
    begun = small(layers=2).build(VOCAB).reset(9).state_dict()
    for name, w in Checkpoint.read(tmp_path / "out").weights.items():
        assert torch.allclose(w, begun[name], atol=1e-6), name


def test_it_learns_what_there_is_to_learn(tokens, tmp_path):
    metrics, _ = run(tokens, tmp_path / "out", train=LONG)
    assert metrics["final_train_loss"] < 0.7 * math.log(VOCAB)
    assert metrics["steps"] == 60
    assert metrics["train_tokens"] == 60 * 256
    assert metrics["params"] == network(small(layers=2)).params
    weights = Checkpoint.read(tmp_path / "out").weights
    assert all(torch.isfinite(w).all() for w in weights.values())


@pytest.mark.parametrize("change", [
    {"ema": Ema(window_fraction=0.3)},
    {"grad_clip": 0.05},
    {"schedule": Schedule(warmup_fraction=0.3, warmdown_fraction=0.5, min_lr=0.05)},
    {"muon": Muon(row_normalize=True, weight_decay=0.1)},
])  # fmt: skip
def test_every_option_of_the_optimizer_reaches_the_weights(tokens, tmp_path, change):
    plain, changed = run(tokens, tmp_path / "plain"), run(tokens, tmp_path / "changed", optim=Optim(**change))
    assert plain[1] != changed[1]
    assert math.isfinite(changed[0]["final_train_loss"])


def test_a_loss_that_is_not_finite_is_an_outcome(tokens, tmp_path):
    with pytest.raises(InfeasibleTrial) as stopped:
        run(tokens, tmp_path / "out", optim=Optim(muon=Muon(lr=1e38)), train=SHORT)
    assert stopped.value.outcome == Infeasible(reason="diverged", measured=None, limit=math.log(VOCAB))
    assert not list((tmp_path / "out").iterdir())


def test_a_last_update_that_breaks_another_ranks_loss_ends_this_one_too(tokens, tmp_path, monkeypatch):
    """Ranks look at rows of their own; if one left alone, the others would publish what it found broken."""
    asked = []

    def total(ranks, x):
        asked.append(x)
        return x if len(asked) == 1 else x + math.inf

    monkeypatch.setattr(Ranks, "total", total)
    with pytest.raises(InfeasibleTrial) as stopped:
        run(tokens, tmp_path / "out")
    assert stopped.value.outcome.reason == "diverged"
    assert [x.shape for x in asked] == [(1,), (1,)], "at the start of the clock, and at the end"


def test_what_is_reported_is_the_contract(tokens, tmp_path):
    heard = []
    run(tokens, tmp_path / "out", report=lambda step, m: heard.append((step, dict(m))))
    assert all(m.keys() - {"val_bpb"} == {"train_loss", "train_seconds", "progress"} for _, m in heard)
    probes = {step: m["val_bpb"] for step, m in heard if "val_bpb" in m}
    assert probes == {2: 2.5, 3: 2.5, 5: 2.5}, "of six steps, the first at or after each quarter"
    assert heard[-1][0] == 6
    assert heard[-1][1]["progress"] == 1.0
    assert [s for s, _ in heard] == sorted(s for s, _ in heard)


def test_probes_do_not_touch_the_training(tokens, tmp_path):
    quiet = run(tokens, tmp_path / "a", probes=())
    probed = run(tokens, tmp_path / "b", probe=lambda m: float(m.params))
    assert quiet[1] == probed[1]


def test_a_gate_stops_training_at_once_and_publishes_nothing(tokens, tmp_path):
    seen = []

    def gate(step, metrics):
        seen.append(step)
        if "val_bpb" in metrics:
            raise InfeasibleTrial(Infeasible(reason="gate", measured=metrics["val_bpb"], limit=2.0))

    store = Store(tmp_path / "store")
    with pytest.raises(InfeasibleTrial) as stopped:
        train_stage(VOCAB, lambda model, directory: 2.5)(
            store, Artifact(tokens, "tokens"), runtime=Runtime(report=gate), seed=0, model=small(), optim=Optim(),
            train=SHORT,
        )  # fmt: skip
    assert stopped.value.outcome.measured == 2.5
    assert seen[-1] == 2, "nothing was trained after the gate"
    assert not list((tmp_path / "store").rglob("*"))


def threads() -> int:
    return sum(t.name == "prefetch" for t in threading.enumerate())


@pytest.mark.parametrize("end", ["done", "gate", "diverged", "bug"])
def test_however_a_run_ends_its_thread_ends_with_it(tokens, tmp_path, end):
    def report(step, metrics):
        if end == "gate":
            raise InfeasibleTrial(Infeasible(reason="gate", measured=2.0, limit=1.0))
        if end == "bug":
            raise ZeroDivisionError

    optim = Optim(muon=Muon(lr=1e38)) if end == "diverged" else None
    expected = {"done": (), "bug": (ZeroDivisionError,)}.get(end, (InfeasibleTrial,))
    try:
        run(tokens, tmp_path / "out", report=report, optim=optim)
    except expected:
        pass
    else:
        assert end == "done"
    assert threads() == 0


def test_what_switches_on_switches_on_at_its_fraction(tokens, tmp_path):
    """Probes at a quarter, a half and three quarters see the passes of their time."""
    orders = []
    band = Recurrence(first=1, last=1, passes=3, from_fraction=0.4, stagger_fraction=0.3)
    (tmp_path / "out").mkdir()
    loop.train(
        tokens, out=tmp_path / "out", runtime=Runtime(), seed=0, model=small(layers=2, recurrence=band),
        optim=Optim(), train=SHORT.but(budget=Steps(steps=8)), vocab_size=VOCAB,
        probe=lambda net: float(orders.append(net.order) or 2.0),
    )  # fmt: skip
    assert orders == [(0, 1), (0, 1), (0, 1, 1)], "the last step before each probe began at 1/8, 3/8 and 5/8"


def test_the_last_loss_is_that_of_the_network_as_deployed(tokens, tmp_path, monkeypatch):
    """However early the last step began: everything on, nothing rounded."""
    seen = []
    original = loop.loss_nats

    def watched(network, batch, layout=None):
        rounded = [m for m in network.modules() if isinstance(m, Linear) and m.rounding is not None]
        seen.append((network.order, rounded))
        return original(network, batch, layout)

    monkeypatch.setattr(loop, "loss_nats", watched)
    (tmp_path / "out").mkdir()
    band = Recurrence(first=1, last=1, passes=2, from_fraction=0.6)
    train = SHORT.but(budget=Steps(steps=2), late_qat={"kind": "straight_through", "from_fraction": 0.2})
    loop.train(
        tokens, out=tmp_path / "out", runtime=Runtime(), seed=0, model=small(layers=2, recurrence=band), optim=Optim(),
        train=train, vocab_size=VOCAB, probe=lambda _: 2.0,
    )  # fmt: skip
    assert seen == [((0, 1, 1), [])]


def test_a_change_of_context_cuts_segments_and_warms_the_rate_up_again(tokens, tmp_path, monkeypatch):
    seen = []

    class Recorded(loop.Optimizer):
        def step(self, progress, progress_made, ride=None, lr_factor=1.0):
            seen.append(lr_factor)
            return super().step(progress, progress_made, ride, lr_factor)

    class Cut(loop.Gradients):
        def add(self, batch, context):
            seen.append(context)
            return super().add(batch, context)

    monkeypatch.setattr(loop, "Optimizer", Recorded)
    monkeypatch.setattr(loop, "Gradients", Cut)
    staged = {"stages": [{"context": 4, "until_fraction": 0.5}, {"context": 16, "until_fraction": 1.0}]}
    train = SHORT.but(progressive_context=staged | {"rewarmup_steps": 2})
    run(tokens, tmp_path / "out", train=train)
    assert seen == [4, 1.0, 4, 1.0, 4, 1.0, 4, 1.0, 16, 0.5, 16, 1.0]


@pytest.mark.parametrize(
    "loader", [Sequential(), CoprimeStride(), Packed(tokens_per_row=32)], ids=lambda x: x.kind
)
def test_every_loader_trains_and_makes_other_weights(tokens, tmp_path, loader):
    train = SHORT.but(batch_tokens=128)
    usual, other = (
        run(tokens, tmp_path / "a", train=train),
        run(tokens, tmp_path / "b", train=train.but(loader=loader)),
    )
    assert usual[1] != other[1]
    assert other[0]["train_tokens"] == 6 * 128


def test_the_weights_of_tokens_are_on_the_clock_and_reach_the_training(tokens, tmp_path):
    weighted = SHORT.but(objective={"token_weighting": {"kind": "complementary"}})
    assert run(tokens, tmp_path / "a", train=SHORT)[1] != run(tokens, tmp_path / "b", train=weighted)[1]


@pytest.mark.parametrize("change", [
    {}, {"loader": ShuffledWindows()}, {"loader": {"kind": "shuffled_windows"}, "objective": Objective()},
])  # fmt: skip
def test_what_is_as_it_always_was_leaves_no_trace(change):
    """Old identities hold."""
    assert SHORT.but(**change).plain() == {
        "budget": {"kind": "steps", "steps": 6}, "batch_tokens": 64, "context": 16, "rows_at_once": 64,
    }  # fmt: skip


def test_what_is_new_is_in_the_identity():
    train = SHORT.but(loader=Packed(tokens_per_row=32), compile=True, warmup={"steps": 3})
    assert train.plain().keys() - SHORT.plain().keys() == {"loader", "compile", "warmup"}
    assert Train.model_validate(train.plain()) == train


def test_a_long_row_counts_as_the_contexts_it_holds():
    long = Train(batch_tokens=786_432, context=2048, loader=Packed())
    assert (long.rows, long.forward_rows) == (8, 1)
    assert Train(batch_tokens=786_432, context=2048, loader=Packed(tokens_per_row=24_576)).forward_rows == 5
    assert Train(batch_tokens=65_536, context=1024, rows_at_once=16).forward_rows == 16


def test_a_packed_row_shorter_than_the_context_is_refused():
    with pytest.raises(ValueError, match="at least one context"):
        Train(batch_tokens=1024, context=64, loader=Packed(tokens_per_row=32))


class FakeClock:
    """Every step takes a tenth of a second, and nothing else takes any."""

    def __init__(self):
        self.seconds = 0.0

    def __enter__(self):
        self.seconds += 0.1
        return self

    def __exit__(self, *_):
        pass

    def read(self):
        return self.seconds


def test_a_budget_in_seconds_ends_when_its_clock_does(tokens, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "Clock", FakeClock)
    budget = Seconds(seconds=1.5, reserve_seconds=0.52)
    metrics, _ = run(tokens, tmp_path / "out", train=SHORT.but(budget=budget))
    assert metrics["steps"] == 10, "ten tenths exceed the 0.98 s that are not kept back"


class ScriptedClock:
    """Step k takes lengths[k]. `ahead` is a host that has launched a step long before a GPU has done it."""

    lengths: ClassVar[list[float]] = []
    ahead: ClassVar[bool] = False

    def __init__(self):
        self.seconds, self.steps = 0.0, 0

    def __enter__(self):
        self.length = self.lengths[self.steps % len(self.lengths)]
        return self

    def __exit__(self, *_):
        self.seconds += self.length
        self.steps += 1

    def read(self):
        return self.seconds if self.ahead else self.seconds + self.length


@pytest.mark.parametrize("ahead", [False, True])
@settings(max_examples=8)
@given(lengths=st.lists(st.floats(0.1, 0.4), min_size=1, max_size=7), seconds=st.floats(0.5, 1.5))
def test_a_budget_in_seconds_ends_within_a_step_of_it(tokens, tmp_path_factory, ahead, lengths, seconds):
    """Where the clock can be read when a step is done; where it has to be foretold, within what steps vary."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptedClock, "lengths", lengths)
        patch.setattr(ScriptedClock, "ahead", ahead)
        patch.setattr(loop, "Clock", ScriptedClock)
        budget = Seconds(seconds=seconds + 0.5, reserve_seconds=0.5)
        train = SHORT.but(budget=budget, batch_tokens=16)
        metrics, _ = run(tokens, tmp_path_factory.mktemp("work") / "out", train=train)
    trained = sum(lengths[k % len(lengths)] for k in range(metrics["steps"]))
    unforeseen = max(lengths) - min(lengths) if ahead else 0.0
    assert seconds - max(lengths) <= trained <= seconds + max(lengths) + unforeseen


def test_one_slow_step_is_not_taken_for_the_end_of_the_run(tokens, tmp_path, monkeypatch):
    monkeypatch.setattr(ScriptedClock, "lengths", [0.1] * 9 + [5.0] + [0.1] * 90)
    monkeypatch.setattr(ScriptedClock, "ahead", True)
    monkeypatch.setattr(loop, "Clock", ScriptedClock)
    metrics, _ = run(
        tokens, tmp_path / "out", train=SHORT.but(budget=Seconds(seconds=8.0, reserve_seconds=0.05))
    )
    assert metrics["steps"] == pytest.approx(1 + 29, abs=1)


def test_a_real_budget_in_seconds_is_kept(tokens, tmp_path):
    budget = Seconds(seconds=0.5, reserve_seconds=0.1)
    metrics, _ = run(tokens, tmp_path / "out", train=SHORT.but(budget=budget))
    assert 0.4 <= metrics["train_seconds"] < 3.0
    assert metrics["tokens_per_second"] == pytest.approx(metrics["train_tokens"] / metrics["train_seconds"])


def test_a_batch_that_windows_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="batch_tokens is a multiple of context"):
        Train(batch_tokens=100, context=64)
