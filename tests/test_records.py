"""The record stacks against what their training logs say, setting by setting."""

import pytest

from pgolf.optim.orthogonalizer import PolarExpress
from pgolf.quantize.lqer import Asymmetric, Lqer, Symmetric
from pgolf.quantize.protected_columns import ProtectedColumns
from pgolf.recipes import recipe
from pgolf.run import RunConfig
from pgolf.train.budget import Seconds

NAMES = ("naive_baseline", "pr198", "pr315", "pr549", "pr1019", "pr1218", "pr1394", "pr1493", "pr1530", "pr1626",
         "pr1736", "pr1787", "pr1855")  # fmt: skip
LOGS: dict[str, tuple[object, ...]] = {  # a value for each of NAMES
    "layers": (9, *12 * [11]),
    "mlp": (2, 3, 3, 3, 3, *8 * [4]),
    "slope": (0, 0, 0, *10 * [0.5]),
    "tokens": (524_288, *12 * [786_432]),
    "context": (1024, *12 * [2048]),
    "loader": (*5 * ["sequential"], "coprime_stride", *2 * ["shuffled_windows"], *5 * ["packed"]),
    "rope_dims": (64, 64, *11 * [16]),
    "rope_base": (1e4, 20_452, 22_082, 22_082, 22_082, *8 * [1e4]),
    "qk_gain": (*5 * [1.5], 4.0, 4.0, 5.25, *5 * [5.0]),
    "xsa": (None, None, 4, 4, *9 * [11]),
    "ln_scale": (False, False, *11 * [True]),
    "skip_gate": (*5 * [False], *8 * [True]),
    "values": (*3 * [None], *3 * [(9, 10)], *7 * [None]),
    "ngrams": (None, (2048, 128), (2048, 128), (1536, 128), (3072, 112), *8 * [None]),
    "smear": (None, *4 * ["smear_blend"], *7 * [None], "smear_gate"),
    "band": (*6 * [None], (4, 5, 3, 0.5), *6 * [(3, 5, 3, 0.35)]),
    "parallel": (*7 * [None], ("parallel_residual", 7), *5 * [("two_lane", 8)]),
    "gate": (*10 * [None], "dense_gate", "sparse_gate", "sparse_gate"),
    "lr": (0.04, *4 * [0.025], 0.02, 0.02, 0.022, 0.022, *4 * [0.026]),
    "embedding_lr": (0.05, *4 * [0.035], *8 * [0.03]),
    "control_lr": (0.04, *4 * [0.025], *8 * [0.02]),
    "betas": (*12 * [(0.9, 0.95)], (0.9, 0.99)),
    "momentum": ((0.85, 0.95), *7 * [(0.92, 0.99)], *5 * [(0.92, 0.97)]),
    "polar": (*11 * [False], True, True),
    "row_normalize": (*6 * [False], *7 * [True]),
    "decay": ((0, 0, 0), *4 * [(0.04, 0.04, 0.04)], *2 * [(0.085, 0.085, 0.02)], *6 * [(0.095, 0.085, 0.02)]),
    "taper": 13 * (None,),
    "clip": (None, *12 * [0.3]),
    "banks": (*3 * [False], True, True, *3 * [False], *5 * [True]),
    "min_lr": (*11 * [0.0], 0.1, 0.1),
    "ema": (None, None, *5 * [0.997], *6 * [0.9965]),
    "warmdown": (None, None, None, None, None, 0.667, 0.667, 0.72, 0.72, 0.75, 0.75, 0.75, 0.85),
    "reserve": (*5 * [0.5], 10, 12, 12, 13, 4, 4, 0.5, 0.5),
    "softcap": 13 * (30.0,),
    "embedding_std": 13 * (0.005,),
}
WARMDOWN_STEPS = {"naive_baseline": (1200, 13_780), "pr198": (3000, 7412), "pr315": (3000, 7051),
                  "pr549": (3500, 7185), "pr1019": (4000, 6922)}  # fmt: skip


def settings(config: RunConfig) -> dict[str, object]:
    m, o, t = config.model, config.optim, config.train
    a, muon, adam, band, hashed = m.attention, o.muon, o.adam, m.recurrence, m.ngrams
    base = m.rope.scaling.scaled_base(m.rope.dims, m.rope.base) if m.rope.scaling else m.rope.base
    assert isinstance(t.budget, Seconds)
    assert t.budget.seconds == 600
    assert (m.width, a.heads, a.kv_heads) == (512, 8, 4)
    return {
        "layers": m.layers, "mlp": m.mlp.mult, "slope": m.mlp.negative_slope, "tokens": t.batch_tokens,
        "context": t.context, "loader": t.loader.kind, "rope_dims": m.rope.dims,
        "rope_base": pytest.approx(base, abs=1.0), "qk_gain": a.qk_gain,
        "xsa": a.xsa.last_layers if a.xsa else None, "ln_scale": m.ln_scale is not None,
        "skip_gate": m.u_net.gate is not None,
        "values": m.value_embedding.layers if m.value_embedding else None,
        "ngrams": (hashed.buckets, hashed.rank) if hashed else None, "smear": m.smear.kind if m.smear else None,
        "band": (band.first, band.last, band.passes, band.from_fraction) if band else None,
        "parallel": (m.parallel.kind, m.parallel.from_layer) if m.parallel else None,
        "gate": a.gate.kind if a.gate else None, "lr": muon.lr, "embedding_lr": adam.embedding_lr,
        "control_lr": adam.control_lr, "betas": (adam.beta1, adam.beta2),
        "momentum": (muon.momentum_start, muon.momentum), "polar": muon.orthogonalizer == PolarExpress(),
        "row_normalize": muon.row_normalize,
        "decay": (muon.weight_decay, adam.embedding_weight_decay, adam.control_weight_decay),
        "taper": muon.decay_taper, "clip": o.grad_clip, "min_lr": o.schedule.min_lr,
        "banks": (muon.momentum_dtype, o.grad_clip_scope) == ("bfloat16", "local"),
        "ema": o.ema.decay if o.ema else None, "warmdown": o.schedule.warmdown_fraction,
        "reserve": t.budget.reserve_seconds, "softcap": m.softcap.cap, "embedding_std": m.embedding.init_std,
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_record_is_trained_as_its_log_says(name):
    at = NAMES.index(name)
    logged = {key: values[at] for key, values in LOGS.items()}
    if name in WARMDOWN_STEPS:
        fall, steps = WARMDOWN_STEPS[name]
        logged["warmdown"] = fall / steps
    assert settings(recipe(name)) == logged


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("pr1626", "pr1736", "pr1787", "pr1855")])
def test_momentum_warms_up_over_the_published_steps(name):
    steps = {"naive_baseline": 13_780, "pr198": 7412, "pr315": 7051, "pr549": 7185, "pr1019": 6922, "pr1218": 5967,
             "pr1394": 4988, "pr1493": 4550, "pr1530": 4867}[name]  # fmt: skip
    fall = 500 if name == "naive_baseline" else 1500
    assert recipe(name).optim.muon.momentum_warmup_fraction == pytest.approx(fall / steps)


def test_gates_and_averages_that_only_some_have():
    assert recipe("pr1736").model.attention.gate.init_std == 0.005
    assert [recipe(n).model.attention.gate.scale for n in ("pr1787", "pr1855")] == [1.0, 0.5]
    assert recipe("pr198").optim.swa.below_scale == 0.5
    assert all(recipe(n).optim.swa is None for n in NAMES if n != "pr198")
    assert all(n == "pr1736" or recipe(n).quantize.grids.gate is None for n in NAMES[: NAMES.index("pr1787")])


def test_the_last_records_correct_errors_as_they_were_computed():
    """Three matrices by the norm of their error, four components, one scale for all of A, B fitted to no codes."""
    published = Asymmetric(group=64, scales="tensor", otherwise=Symmetric(bits=4))
    assert not any(isinstance(recipe(n).quantize, Lqer) for n in NAMES if n != "pr1855")
    for name in ("pr1855", "pr2014", "pr2071"):
        got = recipe(name).quantize
        told = (got.rank, got.top_k, got.whiten, got.refit, got.select, got.packing)
        assert told == (4, 3, False, False, "frobenius", published), name
    grids = recipe("pr1855").quantize.base.grids
    assert [(g.bits, g.clip_sigmas) for g in (grids.embedding, grids.attention, grids.mlp)] == [
        (7, 14.0), (6, 13.0), (6, 11.5)
    ]  # fmt: skip
    assert grids.gate.bits == 8


def test_only_the_last_protects_columns_and_one_group_of_all():
    protected = {n: recipe(n).quantize.base.protect for n in ("pr1855", "pr2014", "pr2071")}
    only = ProtectedColumns(group=64, top_k=1, bits=8, scope="global")
    assert protected == {"pr1855": None, "pr2014": only, "pr2071": None}
