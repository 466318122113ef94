"""Every technique's space makes valid sections, and the round's recipes are points of it."""

import importlib
import inspect
import json
from collections import defaultdict

import optuna
import pytest

from pgolf.errors import ConfigError
from pgolf.evaluate.document_chunks import DocumentChunks
from pgolf.evaluate.sliding import Sliding
from pgolf.evaluate.ttt.document_lora import DocumentLora
from pgolf.evaluate.ttt.phased import Phased
from pgolf.evaluate.ttt.row_optimizer import RowMuon
from pgolf.evaluate.ttt.stream_sgd import StreamSgd
from pgolf.evaluate.varlen import Varlen
from pgolf.model.recurrence import Recurrence
from pgolf.recipes import laptop_baseline, laptop_late
from pgolf.records import pr1855
from pgolf.run import RunConfig, parse_config
from pgolf.section import Section
from pgolf.train.loop import Train
from search_spaces import rounds
from search_spaces.evaluate.evaluation import evaluation
from search_spaces.replay import replay
from search_spaces.rounds import parameter_golf
from search_spaces.rounds.laptop import ROUND, space
from search_spaces.warm import params_of

TRIALS = 50
GIVEN = {  # what the round hands to a space beside the trial and its path
    "data.loader": {"rows_of": (1024, 2048)},
    "data.packed": {"rows_of": (1024, 2048)},
    "data.case_marks": {"sizes": (512, 1024)},
    "data.case_ops": {"sizes": (512, 1024)},
    "data.cross_ws": {"sizes": (512, 1024)},
    "data.sp_bpe": {"sizes": (512, 1024)},
    "data.sp_official": {"sizes": (512, 1024)},
    "data.tokenizer": {"sizes": (512, 1024), "kinds": ("sp_bpe", "sp_official", "case_ops", "case_marks")},
    "evaluate.adaptation": {"trained": 256, "documents": 900, "executions": 4, "stored": 3},
    "evaluate.blocks": {"trained": 256},
    "evaluate.document_chunks": {"trained": 256, "carries": True},
    "evaluate.evaluation": {"trained": 256, "documents": 900, "executions": 4, "stored": 1},
    "evaluate.sliding": {"trained": 256},
    "evaluate.ttt.document_lora": {"executions": 4},
    "evaluate.ttt.phased": {"trained": 256, "documents": 900, "executions": 4},
    "evaluate.ttt.stream_sgd": {"trained": 256, "stored": 3},
    "evaluate.varlen": {"trained": 256},
    "model.attention": {"heads": 4, "frontier_layers": 3},
    "model.factored_embedding": {"width": 64},
    "model.gated_xsa": {"layers": 3},
    "model.gpt": {"layers": (1, 9), "width": (32, 128, 32), "heads": 4, "vocab_size": 1024, "switches": True},
    "model.layer_sharing": {"layers": 9},
    "model.ngrams": {"vocab_size": 1024},
    "model.ntk": {"used": 256},
    "model.parallel": {"layers": 9, "recurrence": Recurrence(first=3, last=5)},
    "model.parallel_residual": {"least": 4, "layers": 9},
    "model.recurrence": {"layers": 9},
    "model.self_exclusion": {"layers": 3},
    "model.two_lane": {"least": 4, "layers": 9},
    "model.xsa": {"layers": 3},
    "model.rope": {"head_dim": 32},
    "model.rope_scaling": {"used": 256, "packed": False},
    "model.value_embedding": {"vocab_size": 1024, "layers": 9},
    "model.yarn": {"used": 256},
    "optim.schedule": {"averaged": True},
    "pack.packer": {"kinds": ("ans", "brotli", "lzma", "zpaq", "zstd")},
    "quantize.calibrate": {"context": 256, "fisher": True, "full": True},
    "quantize.quantizer": {"context": 256},
    "train.progressive_context": {"context": 96},
    "train.budget": {"base": Train(batch_tokens=1024, context=256), "tokens": 8192, "batches": (512, 1024)},
}
SPACES = [
    f"{area}.{name}"
    for area, names in {
        "data": ["coprime_stride", "loader", "packed", "sequential", "shuffled_windows", "tokenizer"],
        "evaluate": ["adaptation", "blocks", "document_chunks", "evaluation", "sliding", "varlen"],
        "evaluate.ttt": ["row_optimizer", "document_lora", "phased", "stream_sgd"],
        "model": [
            "asymmetric_softcap",
            "attention",
            "bigram_hash",
            "carry",
            "cross_carry",
            "deep_orthogonal",
            "dense_gate",
            "elementwise_gate",
            "embedding",
            "engram",
            "factored_embedding",
            "gated_xsa",
            "gpt",
            "head_gate",
            "headwise_gate",
            "layer_sharing",
            "ln_scale",
            "mimetic",
            "mlp",
            "ngrams",
            "ntk",
            "output_gate",
            "output_init",
            "overtone",
            "parallel",
            "parallel_residual",
            "phase_mix",
            "recur_alpha",
            "recurrence",
            "residual",
            "rope",
            "rope_scaling",
            "self_exclusion",
            "skip_gate",
            "smear",
            "smear_blend",
            "smear_gate",
            "softcap",
            "sparse_gate",
            "two_lane",
            "u_net",
            "value_embedding",
            "value_residual",
            "xsa",
            "yarn",
        ],
        "optim": [
            "adam",
            "centralize",
            "decay_taper",
            "ema",
            "gradient_power",
            "muon",
            "nor_muon",
            "optimizer",
            "orthogonalizer",
            "schedule",
            "swa",
        ],
        "pack": ["ans_packer", "brotli_packer", "lzma_packer", "packer", "zpaq_packer", "zstd_packer"],
        "quantize": [
            "calibrate",
            "forms",
            "gptq",
            "grids",
            "quant_gate",
            "quantizer",
            "rate_distortion",
            "rtn",
            "sd_clip",
            "self_generated",
        ],
        "train": [
            "budget",
            "focal",
            "grouped_qat",
            "label_smoothing",
            "late_qat",
            "mtp",
            "objective",
            "progressive_context",
            "token_weighting",
            "warmup",
            "z_loss",
        ],
    }.items()
    for name in names
]


def trials(seed: int = 0):
    """Random trials in memory."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return (study.ask() for _ in range(TRIALS))


@pytest.mark.parametrize("name", SPACES)
def test_a_technique_space_makes_valid_sections(name):
    module = importlib.import_module(f"search_spaces.{name}")
    function = getattr(module, "optim" if name == "optim.optimizer" else name.rpartition(".")[2])
    made = [function(trial, "at", **GIVEN.get(name, {})) for trial in trials()]
    sections = [s for m in made for s in (m if isinstance(m, tuple) else (m,)) if s is not None]
    assert sections
    for section in sections:
        assert isinstance(section, Section)
        assert type(section).model_validate(section.plain()) == section


@pytest.mark.parametrize("name", SPACES)
def test_a_technique_space_asks_below_its_path(name):
    module = importlib.import_module(f"search_spaces.{name}")
    function = getattr(module, "optim" if name == "optim.optimizer" else name.rpartition(".")[2])
    trial = next(trials())
    function(trial, "some.path", **GIVEN.get(name, {}))
    assert all(p.startswith(("some.path.", "calibrate.")) for p in trial.params)
    assert list(inspect.signature(function).parameters)[:2] == ["trial", "at"]


@pytest.mark.parametrize("name", rounds.names())
def test_a_round_makes_valid_configs(name):
    round_ = rounds.load(name)
    digests = set()
    for trial in trials():
        config = round_.space(trial)
        assert isinstance(config, RunConfig)
        assert parse_config(config.plain()) == config
        assert config.rules == round_.rules
        assert replay(round_.space, trial.params).digest == config.digest, "the parameters are the config"
        digests.add(config.digest)
    assert len(digests) > TRIALS // 2


@pytest.mark.parametrize("name", rounds.names())
def test_parameters_are_config_paths(name):
    """What is searched can be read in the config, and set with --set."""
    for trial in trials(seed=1):
        config = rounds.load(name).space(trial)
        for path, value in trial.params.items():
            *parents, last = path.split(".")
            at = config
            for part in parents[: None if last != "on" else -1]:
                at = getattr(at, part)
            found = getattr(at, last) if last != "on" else getattr(at, parents[-1]) is not None
            assert (json.dumps(found) if isinstance(found, tuple) else found) == value, path


@pytest.mark.parametrize("recipe", [laptop_baseline, laptop_late])
def test_a_warm_start_is_exactly_its_recipe(recipe):
    params = params_of(space, recipe())
    assert ROUND.warm_starts[recipe.__name__] == params
    rebuilt = replay(space, params)
    assert rebuilt.digest == recipe().digest
    assert rebuilt.but(name=recipe.__name__) == recipe()


@pytest.mark.parametrize(("executions", "stored"), [(4, 3), (1, 1)])
def test_evaluations_of_every_kind_are_offered_and_none_that_a_network_refuses(executions, stored):
    seen: dict[str, set[object]] = defaultdict(set)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(1500):
        trial = study.ask()
        mode = evaluation(trial, "evaluate", 256, 900, executions, stored)
        if mode.ttt is not None:
            mode.ttt.must_fit(executions, stored)
        for path, value in trial.params.items():
            seen[path.removeprefix("evaluate.")].add(value)
            seen[f"{mode.kind}.{path.removeprefix('evaluate.')}"].add(value)
    assert seen["kind"] == {"sliding", "blocks", "varlen", "document_chunks"}
    assert all(seen[f"{kind}.ttt.on"] == {False, True} for kind in seen["kind"])
    for kind in ("sliding", "document_chunks"):
        assert seen[f"{kind}.ttt.optimizer.kind"] == {"adamw", "rmsprop", "sgd", "muon"}
    assert seen["order"] == {"stream", "longest"}
    for at in ("ttt", "ttt.lora"):
        assert seen[f"{at}.warm_a"] == seen[f"{at}.cache_lower"] == {False, True}
        assert seen[f"{at}.upper"] == set(range(1, executions))
        assert len(seen[f"{at}.local_lr_mult"]) > 1
    assert seen["ttt.freeze_first"] == set(range(min(2, stored - 1) + 1))


PHASES = Phased(phases=1, lora=DocumentLora(local_lr_mult=0.75, warm_a=True))  # PR 2014, its targets aside
PUBLISHED = {
    "pr1413": Sliding(context=2048, stride=64, ttt=StreamSgd()),
    "pr999": Sliding(
        context=2048, stride=64, ttt=StreamSgd(lr=1e-3, optimizer=RowMuon(newton_schulz_steps=3))
    ),
    "pr2014": DocumentChunks(context=3072, short_chunks=((256, 8), (2000, 24)), order="longest", ttt=PHASES),
    "upper": DocumentChunks(context=2048, ttt=DocumentLora(upper=4, cache_lower=True)),
    "diagnostic": Varlen(context=2048),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_evaluations_are_points_of_the_competitions_space(name):
    config = pr1855().but(data=parameter_golf.DATA, evaluate=PUBLISHED[name])
    assert replay(parameter_golf.space, params_of(parameter_golf.space, config)).evaluate == PUBLISHED[name]


@pytest.mark.parametrize(("change", "where"), [
    (lambda c: c.but(model=c.model.but(embedding={"init_std": 0.9})), "model.embedding.init_std"),
    (lambda c: c.but(train=c.train.but(rows_at_once=9)), "train.rows_at_once"),
    (lambda c: c.but(model=c.model.but(layers=60)), "model.layers"),
    (lambda c: c.but(evaluate=c.evaluate.but(stride=7)), "evaluate.stride"),
])  # fmt: skip
def test_a_recipe_outside_the_space_is_refused(change, where):
    with pytest.raises(ConfigError, match=where.replace(".", r"\.")):
        params_of(space, change(laptop_baseline()))
