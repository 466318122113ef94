"""Ternary and binary training: what is trained is what is deployed, from the first step to the stored bytes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pgolf.errors import ConfigError
from pgolf.formats.checkpoint import Checkpoint
from pgolf.formats.grouped import applied, binary, ternary
from pgolf.formats.quantized import GroupedMatrix, QuantizedModel
from pgolf.model.linear import Linear
from pgolf.model.roles import Role
from pgolf.optim.optimizer import Optim
from pgolf.quantize import binary as binary_codes
from pgolf.quantize import ternary as ternary_codes
from pgolf.quantize.grouped import GROUPED
from pgolf.quantize.stage import quantize_stage
from pgolf.recipes import laptop_late, tiny
from pgolf.run import with_settings
from pgolf.runtime import Runtime
from pgolf.stage import Artifact, Store
from pgolf.train import loop
from pgolf.train.budget import Steps
from pgolf.train.grouped_qat import Binary, Ternary
from pgolf.train.late_qat import Quantization
from pgolf.train.loop import Train
from tests.nets import EVERYTHING, VOCAB, everything, network, small
from tests.train.elsewhere import compiled_with_the_real_compiler

CPU = torch.device("cpu")
MATRICES = 6  # of a block
FORMS = [Ternary(group=24), Binary(group=24)]
CODERS = {"ternary": ternary, "binary": binary}
QUANTIZERS = {"ternary": ternary_codes.Ternary, "binary": binary_codes.Binary}
either = pytest.mark.parametrize("form", FORMS, ids=lambda f: f.kind)


def bits_of(w: torch.Tensor) -> list[int]:
    return w.detach().contiguous().view(torch.int32).flatten().tolist()


@either
@given(seed=st.integers(0, 2**31 - 1), group=st.integers(1, 70))
def test_a_matrix_applies_the_stored_weights_to_the_last_bit_and_learns_straight_through(form, seed, group):
    m = Linear(13, 7, Role.MLP)
    m.reset(torch.Generator().manual_seed(seed))
    m.rounding = form.but(group=group).rounding(0, CPU)
    codes, alpha = CODERS[form.kind](m.weight, group)
    stored = GroupedMatrix(codes.short(), alpha, group).dequantize()
    assert bits_of(m.applied(torch.float32)) == bits_of(stored)
    upstream = torch.randn(7, 13, generator=torch.Generator().manual_seed(seed + 1))
    (m.applied(torch.float32) * upstream).sum().backward()
    assert torch.equal(m.weight.grad, upstream)


@either
def test_output_projections_that_begin_at_zero_begin_so_and_learn(form):
    """A zero group has no magnitude to divide by."""
    m = Linear(16, 4, Role.MLP, zero=True)
    m.reset(torch.Generator().manual_seed(0))
    m.rounding = form.rounding(0, CPU)
    x = torch.randn(3, 16, generator=torch.Generator().manual_seed(1))
    assert torch.equal(m(x), torch.zeros(3, 4))
    m(x).sum().backward()
    assert torch.allclose(m.weight.grad, x.sum(0).expand(4, 16))


@pytest.mark.parametrize("kind", EVERYTHING)
def test_what_is_deployed_in_groups_is_what_was_trained_in_groups(kind):
    """Small projections, tables, gates and adapters are trained in float and stay out."""
    net = network(everything(kind))
    Quantization(Ternary(), net).set(0.0, 0)
    trained = {f"{n}.weight" for n, m in net.named_modules() if isinstance(m, Linear) and m.rounding}
    assert trained == {name for name, role in net.roles.items() if role in GROUPED}


def run(tokens, out, form, probe=lambda _: 2.0, layers=2):
    out.mkdir()
    loop.train(
        tokens, out=out, runtime=Runtime(), seed=0, model=small(layers=layers),
        optim=Optim(), vocab_size=VOCAB, probe=probe,
        train=Train(budget=Steps(steps=6), batch_tokens=64, context=16, late_qat=form),
    )  # fmt: skip
    return Checkpoint.read(out).weights


def blocks(weights):
    return {n: w for n, w in weights.items() if n.startswith("blocks.") and w.dim() == 2 and min(w.shape) > 4}


@either
def test_the_checkpoint_is_the_network_that_was_trained_and_the_quantizer_loses_nothing(
    tokens, tmp_path, form
):
    weights = blocks(run(tokens, tmp_path / "trained", form))
    assert len(weights) == 2 * MATRICES
    coder = CODERS[form.kind]
    for w in weights.values():
        assert torch.equal(applied(w, form.group, coder), w), "rounded already"
    given_ = Artifact(tmp_path / "trained", "trained")
    stage = quantize_stage(lambda model: 0)
    quantizer = QUANTIZERS[form.kind](group=form.group)
    made = stage(Store(tmp_path / "store"), given_, runtime=Runtime(), quantize=quantizer)
    deployed = QuantizedModel.read(made.path).weights()
    for name, w in weights.items():
        assert bits_of(deployed[name]) == bits_of(w)
    assert made.metrics["relative_error_mlp"] == made.metrics["relative_error_attention"] == 0.0


@either
def test_probes_score_the_rounded_network_which_is_what_the_gate_compares(tokens, tmp_path, form):
    seen = []

    def probe(net) -> float:
        seen.append(
            [m.rounding is not None for b in net.blocks for m in b.modules() if isinstance(m, Linear)]
        )
        return 2.0

    run(tokens, tmp_path / "early", form, probe)
    assert [all(on) for on in seen] == [True, True, True]
    seen.clear()
    run(tokens, tmp_path / "late", form.but(from_fraction=0.3), probe)
    assert [any(on) for on in seen] == [False, True, True], "where it is not on yet, the network is plain"


@either
def test_off_early_and_late_are_three_runs(tokens, tmp_path, form):
    off = run(tokens, tmp_path / "off", None)
    early = run(tokens, tmp_path / "early", form)
    late = run(tokens, tmp_path / "late", form.but(from_fraction=0.5))
    for a, b in ((off, early), (off, late), (early, late)):
        assert any(not torch.equal(a[n], b[n]) for n in a if n not in blocks(a)), "beyond the last rounding"
    assert all(torch.isfinite(w).all() for run_ in (off, early, late) for w in run_.values())


def test_a_group_of_one_is_the_float_network_nearly():
    """Each weight its own magnitude: what is applied is the weight in float16."""
    m = Linear(9, 5, Role.MLP)
    m.reset(torch.Generator().manual_seed(3))
    m.rounding = Ternary(group=1).rounding(0, CPU)
    assert torch.equal(m.applied(torch.float32), m.weight.half().float())


@pytest.mark.parametrize(("settings", "said"), [
    (["quantize={kind: ternary}"], r"trained with ternary weights(.|\n)*late_qat=null(.|\n)*late_qat.kind=ternary"),
    (["quantize={kind: binary}", "train.late_qat={kind: ternary}"], r"with binary(.|\n)*late_qat.kind=ternary"),
    (["quantize={kind: ternary}", "train.late_qat={kind: straight_through}"], r"kind=straight_through"),
    (["quantize={kind: ternary, group: 64}", "train.late_qat={kind: ternary}"],
     r"grouped in training as(.|\n)*group=128, quantize.group=64(.|\n)*train.late_qat.group=64"),
])  # fmt: skip
def test_codes_that_nothing_was_trained_for_are_refused_with_the_way_out(settings, said):
    with pytest.raises(ConfigError, match=said):
        with_settings(tiny(), settings)


def test_the_way_out_is_one():
    both = ["quantize={kind: ternary, group: 64}", "train.late_qat={kind: ternary, group: 64}"]
    assert with_settings(tiny(), both).quantize.kind == "ternary"
    assert with_settings(laptop_late(), ["train.late_qat={kind: ternary}"]).quantize.kind == "gptq"


@pytest.fixture(scope="module")
def plain(unchecked, tokens, tmp_path_factory):
    """The compiled run that rounds nothing."""
    return unchecked(compiled_with_the_real_compiler, tokens, tmp_path_factory.mktemp("plain") / "off", None)


@pytest.mark.heavy
@pytest.mark.xdist_group("grouped-qat")
@pytest.mark.parametrize(
    "form", [Ternary(group=24), Binary(group=24), Ternary(group=24, from_fraction=0.5)],
    ids=["ternary", "binary", "late ternary"],
)  # fmt: skip
def test_the_real_compiler_rounds_in_its_graph_and_learns_what_eager_code_learns(
    unchecked, tokens, tmp_path, form, plain
):
    on = unchecked(compiled_with_the_real_compiler, tokens, tmp_path / "on", form)
    assert not any(plain.compared), "each rounding of a group compares with zero, nothing else does"
    if form.from_fraction:
        assert [n >= MATRICES for n in on.compared] == [False, True], "a graph before the switch, one after"
    else:
        assert all(n >= MATRICES for n in on.compared)
    eager = run(tokens, tmp_path / "eager", form, layers=1)
    assert all(torch.allclose(eager[n], on.weights[n], atol=2e-3) for n in eager)
    assert (on.weights["embedding.weight"] - plain.weights["embedding.weight"]).abs().max() > 1e-3
    for w in blocks(on.weights).values():
        assert torch.equal(applied(w, form.group, CODERS[form.kind]), w)
