"""The training loop: deterministic, accountable to its listener, honest about divergence."""

import math

import pytest
import torch

from pgolf.data.loader import Windows
from pgolf.errors import Infeasible, InfeasibleTrial
from pgolf.formats.checkpoint import Checkpoint
from pgolf.optim.adam import Adam
from pgolf.optim.ema import Ema
from pgolf.optim.muon import Muon
from pgolf.optim.optimizer import Optim
from pgolf.optim.schedule import Schedule
from pgolf.runtime import Runtime
from pgolf.stage import Artifact, Store, sha256_of
from pgolf.train import loop
from pgolf.train.budget import Seconds, Steps
from pgolf.train.loop import Train
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


@pytest.mark.parametrize("rows_at_once", [1, 3, 8])
def test_accumulated_gradients_are_those_of_the_whole_batch(tokens, rows_at_once):
    batch = next(iter(Windows(tokens, 16, 8, seed=0)))
    whole, parts = network(), network()
    loss = loop.loss_nats(whole, batch)
    loss.backward()
    got = loop._accumulate(parts, batch, rows_at_once, Runtime())
    assert got == pytest.approx(float(loss.detach()), rel=1e-6)
    for (name, a), b in zip(whole.named_parameters(), parts.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-4, atol=1e-6), name


def test_the_loss_counts_every_target_once(tokens):
    batch = next(iter(Windows(tokens, 16, 4, seed=0)))
    built = network()
    with torch.no_grad():
        p = built(batch.tokens, batch.starts).double().softmax(2)
    expected = -p.gather(2, batch.targets.unsqueeze(2)).log().mean()
    assert float(loop.loss_nats(built, batch).detach()) == pytest.approx(float(expected), rel=1e-5)


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


def test_a_real_budget_in_seconds_is_kept(tokens, tmp_path):
    budget = Seconds(seconds=0.5, reserve_seconds=0.1)
    metrics, _ = run(tokens, tmp_path / "out", train=SHORT.but(budget=budget))
    assert 0.4 <= metrics["train_seconds"] < 3.0
    assert metrics["tokens_per_second"] == pytest.approx(metrics["train_tokens"] / metrics["train_seconds"])


def test_a_batch_that_windows_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="batch_tokens is a multiple of context"):
        Train(batch_tokens=100, context=64)
