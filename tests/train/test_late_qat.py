"""Late rounding: exact grids, gradients as written, alive in compiled graphs, and off outside its phase."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pgolf.errors import ConfigError
from pgolf.formats.checkpoint import Checkpoint
from pgolf.formats.quantized import COARSEST, FINEST, steps_of
from pgolf.model.linear import Linear
from pgolf.model.recurrence import Recurrence
from pgolf.model.roles import Role
from pgolf.optim.optimizer import Optim
from pgolf.quantize.quant_gate import QuantGate
from pgolf.quantize.rtn import Rtn
from pgolf.quantize.sd_clip import SdClip
from pgolf.recipes import tiny
from pgolf.run import with_settings
from pgolf.runtime import Runtime
from pgolf.train import loop
from pgolf.train.budget import Steps
from pgolf.train.late_qat import Noisy, Quantization, SoftRound, StraightThrough, exact, hashed_uniform
from pgolf.train.loop import Train
from tests.nets import VOCAB, network, small, stream
from tests.train.elsewhere import compiled_with_the_real_compiler, rounded

FORMS = [StraightThrough(bits=4), SoftRound(bits=4), Noisy(bits=4)]
every_form = pytest.mark.parametrize("form", FORMS, ids=lambda f: f.kind)
CPU = torch.device("cpu")
UP = "blocks.0.mlp.up.weight"


def matrix(weight: list[list[float]]) -> Linear:
    made = Linear(len(weight[0]), len(weight), Role.MLP)
    with torch.no_grad():
        made.weight.copy_(torch.tensor(weight))
    return made


def test_straight_through_worked_example():
    """Three bits, row maximum 3: the step is 1. The second row's is 0.5."""
    m = matrix([[3.0, 1.4, -1.6, 0.4], [0.7, -1.5, 0.2, 0.3]])
    m.rounding = StraightThrough(bits=3).rounding(0, CPU)
    expected = torch.tensor([[3.0, 1.0, -2.0, 0.0], [0.5, -1.5, 0.0, 0.5]])
    assert torch.allclose(m.applied(torch.float32), expected)
    assert torch.allclose(m(torch.eye(4)), expected.T)


def test_a_grid_in_sigmas_clips():
    """A row of std 1 (its values are 7 of 0 and one of sqrt(8) about the mean) at 3 bits and 1.5 sigmas."""
    w = torch.tensor([[-2.0, 2.0, 0, 0, 0, 0, 0, 0]])
    assert w.std(correction=0) == 1.0
    rounder = StraightThrough(bits=3, clip_sigmas=1.5).rounding(0, CPU)
    assert rounder(w).tolist() == [[-1.5, 1.5, 0, 0, 0, 0, 0, 0]]


@given(seed=st.integers(0, 2**31 - 1), bits=st.integers(2, 8))
def test_the_gradient_goes_straight_through(seed, bits):
    w = torch.randn(5, 9, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    upstream = torch.randn(5, 9, generator=torch.Generator().manual_seed(seed + 1))
    (StraightThrough(bits=bits, clip_sigmas=1.0).rounding(0, CPU)(w) * upstream).sum().backward()
    assert torch.equal(w.grad, upstream), "clipped weights too"


def test_soft_rounding_has_its_true_gradient_and_grows_sharp():
    soft = SoftRound(bits=4, from_fraction=0.5, sharpness_start=2.0, sharpness_end=64.0)
    rounder = soft.rounding(0, CPU)
    w = torch.tensor([[7.0, 2.25, -3.4]], requires_grad=True)  # the step is 1
    rounder.turn(0.5, step=0)
    assert rounder.sharpness.item() == 2.0
    got = rounder(w)
    assert got[0, 1].item() == pytest.approx(2 + torch.tensor(2.0 * -0.25).sigmoid().item())
    assert got[0, 2].item() == pytest.approx(-4 + torch.tensor(2.0 * 0.1).sigmoid().item())
    got.sum().backward()
    s = torch.tensor(2.0 * -0.25).sigmoid().item()
    assert w.grad[0, 1].item() == pytest.approx(2.0 * s * (1 - s), rel=1e-5)
    rounder.turn(0.75, step=9)
    assert rounder.sharpness.item() == 33.0
    rounder.turn(1.0, step=99)
    assert torch.allclose(rounder(w)[0, 1:], torch.tensor([2.0, -3.0]), atol=2e-3), "nearly rounding"


def test_noise_is_uniform_within_half_a_step_and_new_at_every_step_and_matrix():
    w = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    first, second, third = (Noisy(bits=4).rounding(number, CPU) for number in (0, 1, 2))
    noise = []
    for rounder, step in ((first, 1), (first, 2), (second, 1), (first, 1), (first, 3), (third, 1)):
        rounder.turn(0.9, step)
        noise.append((rounder(w) - w) / Noisy(bits=4).steps(w))
    assert torch.equal(noise[0], noise[3]), "ranks need the same"
    for a, b in ((0, 1), (0, 2), (0, 4), (0, 5)):
        assert abs(torch.corrcoef(torch.stack([noise[a].flatten(), noise[b].flatten()]))[0, 1]) < 0.06
    for u in noise:
        assert u.abs().max() <= 0.5 + 1e-4
        assert abs(u.mean()) < 0.02
        assert u.var().item() == pytest.approx(1 / 12, rel=0.05)
        assert abs(torch.corrcoef(torch.stack([u.flatten()[1:], u.flatten()[:-1]]))[0, 1]) < 0.06
    w.requires_grad_()
    first(w).sum().backward()
    assert torch.equal(w.grad, torch.ones_like(w))


def test_hashed_numbers_fill_the_interval():
    u = hashed_uniform(torch.zeros(100, 1000), torch.tensor(12345))
    assert len(u.unique()) > 90_000
    counts = torch.histc(u, bins=20, min=-0.5, max=0.5)
    assert counts.min() > 4700
    assert counts.max() < 5300


@every_form
def test_it_is_on_from_its_fraction_and_off_before_and_after(form):
    net = network()
    tokens = stream(0, 12, 2)
    starts = tokens == 1
    quantization = Quantization(form.but(from_fraction=0.6), net)
    assert quantization.switches() == (0.6,)
    with torch.no_grad():
        plain = net(tokens, starts)
        quantization.set(0.59, 3)
        assert torch.equal(net(tokens, starts), plain)
        quantization.set(0.6, 4)
        assert (net(tokens, starts) - plain).abs().max() > 1e-3
        quantization.off()
        assert torch.equal(net(tokens, starts), plain)


@every_form
def test_every_block_matrix_is_rounded_and_nothing_else(form):
    net = network()
    Quantization(form.but(from_fraction=0.0), net).set(0.0, 0)
    rounded = {name for name, m in net.named_modules() if isinstance(m, Linear) and m.rounding is not None}
    per_block = ("attention.q", "attention.k", "attention.v", "attention.o", "mlp.up", "mlp.down")
    assert rounded == {f"blocks.{i}.{name}" for i in range(3) for name in per_block}
    assert net.state_dict().keys() == network().state_dict().keys(), "rounding is no parameter"


def test_noise_may_be_the_recurrent_bands_alone():
    net = network(small(recurrence=Recurrence(first=1, last=1, passes=2)))
    Quantization(Noisy(recurrent_only=True, from_fraction=0.0), net).set(0.0, 0)
    rounded = {n for n, m in net.named_modules() if isinstance(m, Linear) and m.rounding is not None}
    assert rounded
    assert all(name.startswith("blocks.1.") for name in rounded)


def test_a_band_that_is_not_there_is_refused_and_not_taken_for_the_whole_network():
    with pytest.raises(ConfigError, match="recurrent_only=true"):
        with_settings(tiny(), ["train.late_qat.kind=noisy", "train.late_qat.recurrent_only=true"])


@pytest.mark.heavy
@every_form
def test_a_compiled_network_with_it_differs_from_one_without(unchecked, form):
    """In PR 315 to 549 the flag was folded away at the first trace and the branch never existed."""
    found = unchecked(rounded, form.but(from_fraction=0.5))
    for eager, compiled in zip(found["eager"], found["compiled"], strict=True):
        assert torch.allclose(eager, compiled, atol=1e-4)
    for eager, compiled in zip(found["eager_grad"], found["compiled_grad"], strict=True):
        assert torch.allclose(eager, compiled, rtol=1e-3, atol=1e-5)
    off, on, off_again, _ = found["compiled"]
    assert torch.equal(off, off_again)
    assert (off - on).abs().max() > 1e-3
    assert not torch.allclose(found["compiled_grad"][0], found["compiled_grad"][1], rtol=1e-2)


@every_form
def test_it_reaches_the_trained_weights_and_leaves_the_network_plain(tokens, tmp_path, form):
    probed = []

    def probe(net) -> float:
        probed.append(any(isinstance(m, Linear) and m.rounding is not None for m in net.modules()))
        return 2.0

    weights = []
    for name, late in (("plain", None), ("late", form.but(from_fraction=0.5, bits=3))):
        (tmp_path / name).mkdir()
        loop.train(
            tokens, out=tmp_path / name, runtime=Runtime(), seed=0, model=small(layers=2), optim=Optim(),
            train=Train(budget=Steps(steps=6), batch_tokens=64, context=16, late_qat=late), vocab_size=VOCAB,
            probe=probe,
        )  # fmt: skip
        weights.append(Checkpoint.read(tmp_path / name).weights)
    assert any(not torch.equal(weights[0][n], weights[1][n]) for n in weights[0])
    assert not any(probed), "probes measure the network as it is"


# ------------------------------------------------------------------------------ the grid that is deployed


def test_steps_in_torch_operations_are_the_stored_steps_all_of_them():
    codes = torch.arange(FINEST, COARSEST + 1).short()
    assert torch.equal(exact(codes).squeeze(1), steps_of(codes))


@given(
    seed=st.integers(0, 2**31 - 1), bits=st.integers(2, 8), clip=st.floats(0.5, 25.0),
    scale=st.sampled_from([0.0, 1e-9, 1e-3, 1.0, 1e4]),
)  # fmt: skip
def test_training_rounds_to_what_rounding_to_nearest_deploys_bit_for_bit(seed, bits, clip, scale):
    """In PR 315 training and export were a level apart."""
    w = torch.randn(6, 50, generator=torch.Generator().manual_seed(seed)) * scale
    trained = StraightThrough(bits=bits, clip_sigmas=clip).rounding(0, CPU)(w)
    deployed = Rtn().quantize(w, SdClip(bits=bits, clip_sigmas=clip))
    assert torch.equal(trained, deployed.dequantize())
    assert torch.equal((trained / deployed.step).round(), deployed.q.float()), "the same codes"


@given(seed=st.integers(0, 2**31 - 1), bits=st.integers(2, 8), scale=st.sampled_from([0.0, 1e-3, 1.0, 1e4]))
def test_the_row_maximum_is_on_the_grid_of_quantized_gates(seed, bits, scale):
    w = torch.randn(6, 50, generator=torch.Generator().manual_seed(seed)) * scale
    trained = StraightThrough(bits=bits).rounding(0, CPU)(w)
    assert torch.equal(trained, QuantGate(bits=bits).quantize(w).dequantize())


@every_form
def test_all_forms_share_the_deployed_step(form):
    w = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    steps = form.but(clip_sigmas=3.0).steps(w)
    assert torch.equal(steps, Rtn().quantize(w, SdClip(bits=4, clip_sigmas=3.0)).step)


def test_what_is_kept_are_the_weights_before_rounding(tokens, tmp_path):
    """Calibration and GPTQ start from them."""
    late = StraightThrough(from_fraction=0.0, bits=2)
    loop.train(
        tokens, out=tmp_path, runtime=Runtime(), seed=0, model=small(layers=2), optim=Optim(),
        train=Train(budget=Steps(steps=6), batch_tokens=64, context=16, late_qat=late), vocab_size=VOCAB,
        probe=lambda _: 2.0,
    )  # fmt: skip
    w = Checkpoint.read(tmp_path).weights[UP]
    assert len(w[0].unique()) > 3


@pytest.mark.heavy
def test_the_real_compiler_rounds_in_the_graph_after_the_switch_and_the_run_differs(
    unchecked, tokens, tmp_path
):
    """Late and early rounding against none, each trained by machine code: the switch is no dead code."""
    made = {
        name: unchecked(compiled_with_the_real_compiler, tokens, tmp_path / name, late)
        for name, late in (
            ("off", None),
            ("late", StraightThrough(bits=3, clip_sigmas=2.0, from_fraction=0.5)),
            ("early", StraightThrough(bits=3, clip_sigmas=2.0, from_fraction=0.0)),
        )
    }
    matrices = 6  # of the one block
    assert sum(made["off"].rounds) == 0
    before, after = made["late"].rounds
    assert (before, after >= matrices) == (0, True)
    assert all(n >= matrices for n in made["early"].rounds)
    for a, b in (("off", "late"), ("off", "early"), ("late", "early")):
        moved = (made[a].weights[name] - made[b].weights[name] for name in ("embedding.weight", UP))
        assert all(w.abs().max() > 1e-3 for w in moved)
