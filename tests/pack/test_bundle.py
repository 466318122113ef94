"""The bundle does what pgolf does, bit for bit, with nothing of pgolf at hand, and holds no more than it needs."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pgolf.evaluate.deployed import deployed
from pgolf.evaluate.windows import Sliding
from pgolf.formats.blob import ARTIFACT
from pgolf.formats.checkpoint import Checkpoint
from pgolf.formats.shards import write_shard
from pgolf.model.attention import Attention
from pgolf.model.dense_gate import DenseGate
from pgolf.model.elementwise_gate import ElementwiseGate
from pgolf.model.gpt import GptConfig
from pgolf.model.layer_sharing import LayerSharing
from pgolf.model.mimetic import Mimetic
from pgolf.model.output_gate import OutputGate
from pgolf.model.parallel_residual import ParallelResidual
from pgolf.model.recur_alpha import RecurAlpha
from pgolf.model.recurrence import Recurrence
from pgolf.model.residual import Residual
from pgolf.model.softcap import Softcap
from pgolf.model.two_lane import TwoLane
from pgolf.model.value_residual import ValueResidual
from pgolf.model.xsa import Xsa
from pgolf.pack.brotli_packer import BrotliPacker
from pgolf.pack.bundle import BUNDLE, INSTALLED, bundle, source, unneeded
from pgolf.pack.stage import PACK
from pgolf.quantize.rtn import Rtn
from pgolf.quantize.stage import QUANTIZE
from pgolf.recipes import RECIPES
from pgolf.runtime import Runtime
from pgolf.stage import Artifact, Store
from tests.nets import EVERYTHING, everything, network, small, stream
from tests.pack import alone

ROOT = Path(__file__).resolve().parents[2]
HEADS = {"heads": 4, "kv_heads": 2}
BLOCKS = Sliding(context=8, stride=8)
LONG_ROWS = Sliding(context=300, stride=150)  # longer than the rows for which the CPU writes a mask out


def text(name: str) -> str:
    """The program in the bundle of one of NETWORKS, from the cache where it was made before."""
    return source(*NETWORKS[name], frozenset())


def at_width(recipe: str, width: int) -> GptConfig:
    return RECIPES[recipe]().model.but(width=width)


NETWORKS = {
    **{f"everything-{kind}": (everything(kind), Sliding(context=16, stride=5)) for kind in EVERYTHING},
    "plain": (small(), Sliding(context=16, stride=16)),
    "documents": (small(), LONG_ROWS),
    "bare": (small(u_net=None, softcap=None, residual=Residual(mix=False, scales=False)), BLOCKS),
    "elementwise": (small(attention=Attention(**HEADS, gate=ElementwiseGate(), xsa=Xsa())), BLOCKS),
    "query-gate": (small(attention=Attention(**HEADS, gate=OutputGate(source="query"))), BLOCKS),
    "dense": (small(attention=Attention(**HEADS, gate=DenseGate())), BLOCKS),
    "convex": (small(attention=Attention(**HEADS, value_residual=ValueResidual(form="convex"))), LONG_ROWS),
    "parallel": (small(parallel=ParallelResidual(from_layer=1)), BLOCKS),
    "lanes": (small(layers=4, parallel=TwoLane(from_layer=2, merge="mlp")), BLOCKS),
    "shared": (small(sharing=LayerSharing(stored=1), output_init=Mimetic()), BLOCKS),
    "first-pass": (small(softcap=Softcap(cap=5.0), recurrence=Recurrence(
        first=0, last=1, passes=3, carry=RecurAlpha(kept="first"))), BLOCKS),
    "pr1855": (at_width("pr1855", 128), Sliding(context=64, stride=64)),
    "pr1019": (at_width("pr1019", 128), Sliding(context=64, stride=64)),
}  # fmt: skip


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> tuple[Path, Path]:
    """320 tokens in documents of every length, and their bytes."""
    home = tmp_path_factory.mktemp("shards")
    ids = stream(0, 320, 9)[0].numpy().astype(np.uint16)
    write_shard(home / "tokens.bin", ids)
    write_shard(home / "bytes.bin", np.where(ids == 1, 0, ids % 5 + 1).astype(np.uint16))
    return home / "tokens.bin", home / "bytes.bin"


def packed(config: GptConfig, home: Path) -> Path:
    """An artifact of a random network, the same every time."""
    (home / "trained").mkdir(parents=True)
    built = network(config, std=0.3)
    Checkpoint(config.plain(), built.vocab_size, {n: p.detach() for n, p in built.named_parameters()}).write(
        home / "trained"
    )
    here, store = Runtime(), Store(home / "store")
    quantized = QUANTIZE(store, Artifact.of(home / "trained"), runtime=here, quantize=Rtn())
    (home / "code").mkdir()
    (home / "code" / BUNDLE).write_text("not scored with")
    made = PACK(store, quantized, Artifact.of(home / "code"), runtime=here, pack=BrotliPacker(quality=1))
    return made.path / ARTIFACT


@pytest.fixture(scope="module")
def alone_results(shards, tmp_path_factory) -> dict[str, tuple[dict, list[str]]]:
    """Of every network the scores of its bundle, and what its modules gave: all in one process without pgolf."""
    home, jobs = tmp_path_factory.mktemp("bundles"), []
    for name, (config, plan) in NETWORKS.items():
        place = home / name
        artifact = packed(config, place)
        (place / BUNDLE).write_bytes(bundle(config, plan))
        arguments = [
            "--artifact",
            artifact,
            "--tokens",
            shards[0],
            "--bytes",
            shards[1],
            "--out",
            place / "scores.json",
        ]
        jobs.append(
            {
                "file": str(place / BUNDLE),
                "arguments": list(map(str, arguments)),
                "out": str(place / "digests"),
            }
        )
    (home / "jobs.json").write_text(json.dumps(jobs))
    done = run_alone(home / "jobs.json")
    assert done.returncode == 0, done.stderr[-3000:]
    return {name: tuple(json.loads((home / name / file).read_text()) for file in ("scores.json", "digests"))
            for name in NETWORKS}  # fmt: skip


def run_alone(jobs: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", alone.__file__, str(jobs)]
    return subprocess.run(command, cwd=jobs.parent, env={"OMP_NUM_THREADS": "1", "PATH": os.environ["PATH"]},
                          capture_output=True, text=True)  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_every_module_gives_the_same_tensors_and_the_score_is_the_same(name, alone_results, shards, tmp_path):
    config, plan = NETWORKS[name]
    scores, digests = alone_results[name]
    witness = alone.Witness()
    hook = torch.nn.modules.module.register_module_forward_hook(witness)
    artifact = packed(config, tmp_path)
    _, here = deployed(artifact, shards[:1], shards[1:], GptConfig.model_validate, plan, "cpu", "auto")
    hook.remove()
    assert len(digests) > 10
    assert digests == witness.digests
    for metric in ("bpb", "nats_per_token", "val_tokens", "val_bytes"):
        assert scores[metric] == here[metric]


def test_the_record_stacks_bundle_is_a_fraction_of_what_records_ship():
    config = RECIPES["pr1855"]()
    size = len(bundle(config.model, config.evaluate, unneeded(config.pack.kind)))
    print(f"bundle of pr1855: {size} bytes")
    assert size < 15_000


def test_it_is_the_same_file_in_every_process():
    make = (
        "import sys; from pgolf.pack.bundle import bundle; from pgolf.recipes import tiny; c = tiny();"
        "sys.stdout.buffer.write(bundle(c.model, c.evaluate))"
    )
    config = RECIPES["tiny"]()
    here = bundle(config.model, config.evaluate)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "PYTHONHASHSEED": "7"}
    assert (
        subprocess.run([sys.executable, "-c", make], env=env, capture_output=True, check=True).stdout == here
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_only_what_is_installed_is_imported(name):
    tree = ast.parse(text(name))
    roots = {
        alias.name.partition(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names
    }
    roots |= {n.module.partition(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert roots <= INSTALLED - {"sentencepiece", "constriction"}


MARKS = {  # words of one technique alone, as its module writes them
    "rho": "two_lane", ".lam": "smear_gate", ".gamma": "smear_blend", "clamp_min": "xsa", "trigram": "bigram_hash",
    "36313": "n-gram hashes", "visits": "carry", "layer_scales": "value_embedding", "turns": "yarn",
    "narrowed": "adapters", "convex": "value_residual", "contiguous()": "window gates", "decoder_position": "u_net",
    "positive": "softcap sides",
}  # fmt: skip


@pytest.mark.parametrize(("name", "used"), [
    ("bare", ""),
    ("plain", "decoder_position"),
    ("lanes", "decoder_position rho"),
    ("query-gate", "decoder_position contiguous()"),
    ("pr1855", "decoder_position rho .lam clamp_min contiguous()"),
])  # fmt: skip
def test_techniques_that_are_off_are_left_out(name, used):
    assert {mark for mark in MARKS if mark in text(name)} == set(used.split())


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_is_left_of_training_and_of_checks(name):
    text = source(*NETWORKS[name])
    for word in (
        "triton",
        "register_fake",
        "normal_(",
        "orthogonal",
        "svd",
        "ROLES",
        "assert",
        "model_validat",
        "divides",
    ):
        assert word not in text, word
