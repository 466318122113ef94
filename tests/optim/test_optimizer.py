"""One optimizer a run: each parameter in exactly one group, one clock for all, and a way back."""

import math

import optuna
import pytest
import torch
from pydantic import ValidationError

from pgolf.model.roles import Role
from pgolf.optim.adam import Adam
from pgolf.optim.ema import Ema
from pgolf.optim.muon import Muon
from pgolf.optim.nor_muon import NorMuon
from pgolf.optim.optimizer import Optim, Optimizer
from pgolf.optim.orthogonalizer import PolarExpress
from pgolf.optim.schedule import Schedule
from pgolf.optim.swa import Swa
from pgolf.runtime import Runtime
from search_spaces.optim.optimizer import optim
from search_spaces.replay import replay
from tests.nets import network
from tests.optim.toy import Heads, Toy, gradient, named

PR1855 = Optim(
    muon=Muon(
        lr=0.026, momentum=0.97, momentum_start=0.92, momentum_warmup_fraction=0.3, orthogonalizer=PolarExpress(),
        row_normalize=True, weight_decay=0.095,
    ),
    adam=Adam(
        embedding_lr=0.03, control_lr=0.02, beta2=0.99, embedding_weight_decay=0.085, control_weight_decay=0.02
    ),
    schedule=Schedule(warmdown_fraction=0.85, min_lr=0.1),
    ema=Ema(window_fraction=0.058),
    grad_clip=0.3,
    grad_clip_scope="local",
)  # fmt: skip
AVERAGED = Optim(
    muon=Muon(nor_muon=NorMuon(), weight_decay=0.1),
    ema=Ema(window_fraction=0.5),
    swa=Swa(every_fraction=0.01),
    blend=0.3,
)


def with_gradients(seed: int = 0, scale: float = 1.0):
    built = network(seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for p in built.parameters():
        p.grad = torch.randn(p.shape, generator=generator) * scale
    return built


def toy_steps(optimizer, toy, heads, steps, first=0):
    for step in range(first, first + steps):
        for name, p in named(toy, heads):
            p.grad = gradient(name, p, step, range(6))
        optimizer.step(step / 40, 1 / 40)


def values(toy, heads):
    return [p.detach().clone() for _, p in named(toy, heads)]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_every_parameter_is_in_exactly_one_group():
    toy, heads = Toy(), Heads()
    optimizer = Optimizer(Optim(), toy, Runtime(), heads)
    matrices = [p for bank in optimizer.muon.banks for p in bank.params]
    grouped = [id(p) for p in [*matrices, *optimizer.adam.params]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(p) for _, p in named(toy, heads)}
    names = {id(p): n for n, p in toy.named_parameters()}
    assert {toy.roles[names[id(p)]] for p in matrices} == {Role.ATTENTION, Role.MLP, Role.PROJECTION}
    assert optimizer.adam.groups[2].params == [heads.weight]


def test_a_head_that_is_the_models_own_parameter_is_refused():
    toy = Toy()
    heads = torch.nn.Module()
    heads.weight = toy.embedding
    with pytest.raises(AssertionError, match="exactly one group"):
        Optimizer(Optim(), toy, Runtime(), heads)


def test_a_step_moves_every_parameter_and_clears_the_gradients():
    built = with_gradients()
    before = {n: p.detach().clone() for n, p in built.named_parameters()}
    assert Optimizer(Optim(), built, Runtime()).step(progress=0.2, progress_made=0.01) is None
    for name, p in built.named_parameters():
        assert not torch.equal(p, before[name]), name
        assert p.grad is None


def test_heads_are_trained():
    """Where they belonged to no group they stayed zero, and sent nothing into the trunk."""
    toy, heads = Toy(), Heads()
    heads.weight.grad = torch.ones_like(heads.weight)
    Optimizer(Optim(), toy, Runtime(), heads).step(0.0, 0.1)
    assert torch.allclose(heads.weight, torch.full_like(heads.weight, 0.5 - 0.008))


def test_the_schedule_scales_every_rate():
    """At the end of a warmdown to zero nothing moves, decay included."""
    built = with_gradients()
    before = {n: p.detach().clone() for n, p in built.named_parameters()}
    section = Optim(
        muon=Muon(weight_decay=0.5), adam=Adam(embedding_weight_decay=0.5), schedule=Schedule(min_lr=0.0)
    )
    Optimizer(section, built, Runtime()).step(progress=1.0, progress_made=0.01)
    assert all(torch.equal(p, before[n]) for n, p in built.named_parameters())


def test_a_factor_scales_every_rate_on_top_of_the_schedule():
    section = Optim(
        muon=Muon(weight_decay=0.5), adam=Adam(embedding_weight_decay=0.5, control_weight_decay=0.3)
    )
    ends = []
    for factor, progress in ((0.5, 0.0), (1.0, 0.75)):
        toy, heads = Toy(), Heads()
        for _, p in named(toy, heads):
            p.grad = torch.ones_like(p)
        scaled = section.but(
            schedule=Schedule(warmdown_fraction=0.5), muon=section.muon.but(momentum_warmup_fraction=0.0)
        )
        Optimizer(scaled, toy, Runtime(), heads).step(progress, 0.01, lr_factor=factor)
        ends.append(values(toy, heads))
    assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(*ends, strict=True))


def test_clipping_bounds_the_global_norm():
    """Clipped gradients of any size are equal; Adam's second step would tell them apart by eps alone."""
    section = Optim(grad_clip=1.0, adam=Adam(eps=0.1))
    ends = []
    for scale in (100.0, 10_000.0):
        built = with_gradients(scale=scale)
        Optimizer(section, built, Runtime()).step(0.0, 0.01)
        ends.append({n: p.detach() for n, p in built.named_parameters()})
    assert all(torch.allclose(ends[0][n], ends[1][n], atol=1e-5) for n in ends[0])
    free = with_gradients(scale=100.0)
    Optimizer(section.but(grad_clip=None), free, Runtime()).step(0.0, 0.01)
    assert not torch.allclose(free.embedding.weight, ends[0]["embedding.weight"], atol=1e-5)


def test_what_rides_along_comes_back():
    ride = torch.tensor([2.5, 0.0])
    told = Optimizer(Optim(), with_gradients(), Runtime()).step(0.0, 0.1, ride)
    assert torch.equal(told, ride)


@pytest.mark.parametrize(("ema", "swa", "blend"), [
    (None, None, None), (Ema(window_fraction=0.5), None, None), (None, Swa(every_fraction=1e-3), None),
    (Ema(decay=0.9), Swa(every_fraction=1e-3), 0.25), (Ema(decay=0.9), Swa(every_fraction=1e-3), 1.0),
])  # fmt: skip
def test_finishing_puts_what_was_averaged_in_place(ema, swa, blend):
    """From explicit sums over the weights after each step; heads, which nobody deploys, are left alone."""
    toy, heads, steps = Toy(), Heads(), 8
    section = Optim(schedule=Schedule(warmdown_fraction=1.0), ema=ema, swa=swa, blend=blend)
    optimizer, seen, head = Optimizer(section, toy, Runtime(), heads), [], None
    for step in range(steps):
        for name, p in named(toy, heads):
            p.grad = gradient(name, p, 12 + step, range(6))
        optimizer.step(step / steps, 1 / steps)
        seen.append([p.detach().clone() for p in toy.parameters()])
        head = heads.weight.detach().clone()
    optimizer.finish()
    decay = 0.9 if blend else math.exp(-1 / steps / 0.5)
    moving = [decay ** (steps - 1 - k) for k in range(steps)]
    flat = [float(1 - k / steps < 0.5) for k in range(steps)]
    for i, p in enumerate(toy.parameters()):
        mean = [sum(w * s[i] for w, s in zip(ws, seen, strict=True)) / sum(ws) for ws in (moving, flat)]
        share = {(True, True): blend, (True, False): 0.0, (False, True): 1.0}.get(
            (ema is not None, swa is not None)
        )
        expected = seen[-1][i] if share is None else (1 - share) * mean[0] + share * mean[1]
        assert torch.allclose(p, expected, rtol=1e-9, atol=1e-12)
    assert torch.equal(heads.weight, head)


def test_a_snapshot_is_a_way_back_to_the_last_bit():
    """Warmup steps for the compiler leave no trace: weights, moments, counters, both averages."""
    toy, heads = Toy(), Heads()
    optimizer = Optimizer(AVERAGED, toy, Runtime(), heads)
    toy_steps(optimizer, toy, heads, 4, first=28)
    snapshot, at = optimizer.snapshot(), values(toy, heads)
    toy_steps(optimizer, toy, heads, 5, first=32)
    optimizer.finish()
    once = values(toy, heads)
    for p in toy.parameters():
        p.grad = torch.ones_like(p)
    optimizer.restore(snapshot)
    assert same(values(toy, heads), at)
    assert all(p.grad is None for p in toy.parameters())
    toy_steps(optimizer, toy, heads, 5, first=32)
    optimizer.finish()
    assert same(values(toy, heads), once)


def test_momentum_may_survive_what_nothing_else_does():
    """The historic quirk: after the warmup steps Muon's momentum is warm, Adam begins anew."""
    toy, heads = Toy(), Heads()
    optimizer = Optimizer(AVERAGED, toy, Runtime(), heads)
    fresh, at = optimizer.snapshot(), values(toy, heads)
    toy_steps(optimizer, toy, heads, 3)
    warm = [m.clone() for m in optimizer.muon.momenta]
    optimizer.restore(fresh, keep_momentum=True)
    assert same(values(toy, heads), at)
    assert same(optimizer.muon.momenta, warm)
    assert any(m.any() for m in warm)
    assert optimizer.adam.steps == 0
    assert optimizer.ema.weight == 0
    assert optimizer.swa.count == 0
    assert not any(m.any() for m in optimizer.adam.first)
    optimizer.restore(fresh)
    assert not any(m.any() for m in optimizer.muon.momenta)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("section", [PR1855, AVERAGED])
def test_on_a_gpu_ten_steps_are_those_of_a_cpu_to_bfloat16(section):
    """Muon orthogonalizes in bfloat16 there; everything else is the same arithmetic."""
    ends = []
    for device in ("cpu", "cuda"):
        toy, heads = Toy(dtype=torch.float32), Heads(torch.float32)
        reference = values(toy, heads)
        optimizer = Optimizer(section, toy.to(device), Runtime(device=device), heads.to(device))
        for step in range(10):
            for (name, p), fixed in zip(named(toy, heads), reference, strict=True):
                g = gradient(name, fixed, step, range(6))
                p.grad = None if g is None else g.to(device)
            optimizer.step(step / 10, 0.1)
        optimizer.finish()
        ends.append([w.cpu() for w in values(toy, heads)])
    for cpu, gpu in zip(*ends, strict=True):
        assert float((cpu - gpu).norm() / cpu.norm()) < 0.02


@pytest.mark.parametrize(("given", "rule"), [
    ({"schedule": {"min_lr": 0.06}}, "has averaging behind it"),
    ({"ema": {"decay": 0.9}, "swa": {}}, "blend is given where"),
    ({"ema": {"decay": 0.9}, "blend": 0.5}, "blend is given where"),
    ({"swa": {"below_scale": 0.1}, "schedule": {"min_lr": 0.1}}, "above the floor"),
    ({"grad_clip_scope": "local"}, "how grad_clip is taken"),
])  # fmt: skip
def test_settings_that_contradict_one_another_are_refused(given, rule):
    with pytest.raises(ValidationError, match=rule):
        Optim.model_validate(given)


@pytest.mark.parametrize("given", [
    {"schedule": {"min_lr": 0.05}}, {"schedule": {"min_lr": 0.15}, "swa": {}},
    {"schedule": {"min_lr": 0.15}, "ema": {"window_fraction": 0.06}},
])  # fmt: skip
def test_a_floor_stands_low_or_averaged(given):
    assert Optim.model_validate(given)


def test_new_settings_left_off_leave_no_trace():
    """What was trained before they existed is found again."""
    known = {
        "muon": {"lr", "momentum", "momentum_start", "momentum_warmup_fraction", "newton_schulz_steps",
                 "row_normalize", "weight_decay"},
        "adam": {"embedding_lr", "control_lr", "beta1", "beta2", "eps", "embedding_weight_decay",
                 "control_weight_decay"},
        "schedule": {"warmup_fraction", "warmdown_fraction", "min_lr"},
    }  # fmt: skip
    assert {k: set(v) for k, v in Optim().plain().items()} == known


def walked(seed, trials=60):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return (study.ask() for _ in range(trials))


@pytest.mark.parametrize("switches", [False, True])
@pytest.mark.parametrize("heads", [False, True])
def test_the_space_makes_valid_sections_whose_parameters_are_their_paths(switches, heads):
    def space(trial):
        return optim(trial, "optim", switches, heads)

    for trial in walked(0):
        section = space(trial)
        assert Optim.model_validate(section.plain()) == section
        assert replay(space, trial.params) == section
        for path, value in trial.params.items():
            _, *parents, last = path.split(".")
            at = section
            for part in parents[: -1 if last == "on" else None]:
                at = getattr(at, part)
            assert value == (getattr(at, parents[-1]) is not None if last == "on" else getattr(at, last)), (
                path
            )


def test_the_space_reaches_every_arm():
    """Each optional setting is met on and off, every kind and form at least once."""
    seen: dict[str, set] = {}
    for trial in walked(1, 300):
        for path, value in trial.params.items() if optim(trial, "optim", switches=True) else ():
            if isinstance(value, bool | str | None):
                seen.setdefault(path, set()).add(value)
    both = [p for p in seen if p.endswith(".on")]
    assert len(both) == 9
    assert all(seen[p] == {False, True} for p in both)
    assert seen["optim.muon.orthogonalizer.kind"] == {"polar_express", "turbo"}
    assert seen["optim.schedule.warmdown_form"] == {None, "one_minus_sqrt", "cosine"}
    assert seen["optim.grad_clip_scope"] == {None, "local"}


@pytest.mark.parametrize("section", [PR1855, PR1855.but(ema=Ema(decay=0.9965))])
def test_the_newest_record_is_a_point_of_the_space_of_full_length_runs(section):
    asked = {}

    class Answering(optuna.trial.FixedTrial):
        def answer(self, name, *_, **__):
            _, *parents, last = name.split(".")
            at = section
            for part in parents[: -1 if last == "on" else None]:
                at = getattr(at, part)
            asked[name] = getattr(at, parents[-1]) is not None if last == "on" else getattr(at, last)
            return asked[name]

        suggest_float = suggest_int = suggest_categorical = answer

    optim(Answering({}), "optim", switches=True)
    assert replay(lambda trial: optim(trial, "optim", switches=True), asked) == section
