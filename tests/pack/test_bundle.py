"""The bundle does what pgolf does, bit for bit, with nothing of pgolf at hand, and holds no more than it needs."""

import ast
import hashlib
import json
import os
import random
import runpy
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import brotli
import numpy as np
import pytest
import torch

from pgolf.evaluate.deployed import deployed
from pgolf.evaluate.deployed import shards as joined
from pgolf.evaluate.sliding import Sliding
from pgolf.formats.blob import ARTIFACT, encode
from pgolf.formats.checkpoint import Checkpoint
from pgolf.formats.quantized import LowRankMatrix, QuantizedMatrix, QuantizedModel
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
from pgolf.pack.ans_packer import AnsPacker
from pgolf.pack.brotli_packer import BrotliPacker
from pgolf.pack.bundle import BUNDLE, INSTALLED, bundle, self_extracting, source, unneeded
from pgolf.pack.layout import sorted_hidden
from pgolf.pack.lzma_packer import LzmaPacker
from pgolf.pack.stage import packed_bytes
from pgolf.quantize.rtn import Rtn
from pgolf.quantize.stage import quantize_stage
from pgolf.quantize.ternary import Ternary
from pgolf.recipes import RECIPES
from pgolf.runtime import Runtime
from pgolf.section import Section
from pgolf.stage import Artifact, Store
from tests.nets import EVERYTHING, everything, network, small, stream
from tests.pack import alone

pytestmark = pytest.mark.xdist_group("bundles")  # they share what was made and run once
ROOT = Path(__file__).resolve().parents[2]
HEADS = {"heads": 4, "kv_heads": 2}
BLOCKS = Sliding(context=8, stride=8)
LONG_ROWS = Sliding(context=300, stride=150)  # longer than the rows for which the CPU writes a mask out


def at_width(recipe: str, width: int) -> GptConfig:
    return RECIPES[recipe]().model.but(width=width)


class Case(NamedTuple):
    """A network, the windows it is scored in, and what its artifact is made with."""

    model: GptConfig
    evaluate: Sliding = BLOCKS
    quantize: Section = Rtn()
    pack: Section = AnsPacker()
    low_rank: bool = False  # every matrix gets a correction

    def program(self) -> str:
        """What is inside the bundle, from the cache where it was made before."""
        return source(self.model, self.evaluate, unneeded(self.pack.kind))

    def bundle(self) -> bytes:
        return bundle(self.model, self.evaluate, unneeded(self.pack.kind))


CASES = {
    **{f"everything-{kind}": Case(everything(kind), Sliding(context=16, stride=5)) for kind in EVERYTHING},
    "plain": Case(small(), Sliding(context=16, stride=16), pack=BrotliPacker()),
    "documents": Case(small(), LONG_ROWS, pack=LzmaPacker(transpose=True)),
    "bare": Case(small(u_net=None, softcap=None, residual=Residual(mix=False, scales=False)), quantize=Ternary()),
    "elementwise": Case(small(attention=Attention(**HEADS, gate=ElementwiseGate(), xsa=Xsa())), low_rank=True),
    "query-gate": Case(small(attention=Attention(**HEADS, gate=OutputGate(source="query"))), pack=BrotliPacker()),
    "dense": Case(small(attention=Attention(**HEADS, gate=DenseGate()))),
    "convex": Case(small(attention=Attention(**HEADS, value_residual=ValueResidual(form="convex"))), LONG_ROWS),
    "parallel": Case(small(parallel=ParallelResidual(from_layer=1))),
    "lanes": Case(small(layers=4, parallel=TwoLane(from_layer=2, merge="mlp"))),
    "shared": Case(small(sharing=LayerSharing(stored=1), output_init=Mimetic())),
    "first-pass": Case(small(softcap=Softcap(cap=5.0), recurrence=Recurrence(
        first=0, last=1, passes=3, carry=RecurAlpha(kept="first")))),
    "pr1855": Case(at_width("pr1855", 128), Sliding(context=64, stride=64)),
    "pr1019": Case(at_width("pr1019", 128), Sliding(context=64, stride=64)),
}  # fmt: skip


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> tuple[Path, Path]:
    """320 tokens in documents of every length, and their bytes."""
    home = tmp_path_factory.mktemp("shards")
    ids = stream(0, 320, 9)[0].numpy().astype(np.uint16)
    write_shard(home / "tokens.bin", ids)
    write_shard(home / "bytes.bin", np.where(ids == 1, 0, ids % 5 + 1).astype(np.uint16))
    return home / "tokens.bin", home / "bytes.bin"


def packed(case: Case, home: Path) -> Path:
    """An artifact of a random network, the same every time."""
    (home / "trained").mkdir(parents=True)
    built, here, store = network(case.model, std=0.3), Runtime(), Store(home / "store")
    weights = {name: p.detach() for name, p in built.named_parameters()}
    Checkpoint(case.model.plain(), built.vocab_size, weights).write(home / "trained")
    stage = quantize_stage(partial(packed_bytes, pack=case.pack))
    made = stage(store, Artifact.of(home / "trained"), runtime=here, quantize=case.quantize)
    model = QuantizedModel.read(made.path)
    if case.low_rank:
        model = replace(model, matrices={name: corrected(m) for name, m in model.matrices.items()})
    (home / ARTIFACT).write_bytes(encode(sorted_hidden(model), case.pack.codec()))
    return home / ARTIFACT


def corrected(base: QuantizedMatrix) -> LowRankMatrix:
    """With two directions more."""
    drawn = torch.Generator().manual_seed(0)
    a, b = (torch.randint(-9, 9, (2, n), generator=drawn).short() for n in base.shape)
    steps = torch.full((2,), -40, dtype=torch.int16)
    return LowRankMatrix(base, QuantizedMatrix(a, steps), QuantizedMatrix(b, steps))


@pytest.fixture(scope="module")
def alone_results(shards, tmp_path_factory) -> dict[str, tuple[dict, list[str]]]:
    """Of every case the scores of its bundle, and what its modules gave: all in one process without pgolf."""
    home = tmp_path_factory.mktemp("bundles")
    done = run_alone([job(case, home / name, shards) for name, case in CASES.items()], home)
    assert done.returncode == 0, done.stderr[-3000:]
    return {name: tuple(json.loads((home / name / file).read_text()) for file in ("scores.json", "digests"))
            for name in CASES}  # fmt: skip


def job(case: Case, home: Path, shards: tuple[Path, Path]) -> dict:
    """What `alone` is to run: the bundle of a case on its artifact."""
    artifact = packed(case, home)
    (home / BUNDLE).write_bytes(case.bundle())
    arguments = [
        "--artifact",
        artifact,
        "--tokens",
        shards[0],
        "--bytes",
        shards[1],
        "--out",
        home / "scores.json",
    ]
    return {"file": str(home / BUNDLE), "arguments": list(map(str, arguments)), "out": str(home / "digests")}


def run_alone(jobs: list[dict], home: Path) -> subprocess.CompletedProcess[str]:
    (home / "jobs.json").write_text(json.dumps(jobs))
    command = [sys.executable, "-I", alone.__file__, str(home / "jobs.json")]
    return subprocess.run(command, cwd=home, env={"OMP_NUM_THREADS": "1", "PATH": os.environ["PATH"]},
                          capture_output=True, text=True)  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_every_module_gives_the_same_tensors_and_the_score_is_the_same(name, alone_results, shards, tmp_path):
    case, (scores, digests) = CASES[name], alone_results[name]
    witness = alone.Witness()
    hook = torch.nn.modules.module.register_module_forward_hook(witness)
    artifact = packed(case, tmp_path)
    _, here = deployed(
        artifact,
        lambda: (joined(shards[:1]), joined(shards[1:])),
        GptConfig.model_validate,
        case.evaluate,
        "cpu",
        "auto",
    )
    hook.remove()
    assert len(digests) > 10
    assert digests == witness.digests
    for metric in ("bpb", "nats_per_token", "val_tokens", "val_bytes"):
        assert scores[metric] == here[metric]


def test_a_bundle_scores_no_artifact_of_another_network(shards, tmp_path):
    """Its weights would fit: the two differ in a constant."""
    own = CASES["plain"]
    mixed = job(own, tmp_path / "own", shards)
    other = packed(own._replace(model=small(softcap=Softcap(cap=5.0))), tmp_path / "other")
    mixed["arguments"][mixed["arguments"].index("--artifact") + 1] = str(other)
    done = run_alone([mixed], tmp_path)
    assert done.returncode == 1
    assert "artifacts of its own network" in done.stderr


def test_the_record_stacks_bundle_is_a_fraction_of_what_records_ship():
    config = RECIPES["pr1855"]()
    size = len(bundle(config.model, config.evaluate, unneeded(config.pack.kind)))
    print(f"bundle of pr1855: {size} bytes")
    assert size < 20_000


@pytest.mark.parametrize("text", ["", "x = 1", "x = '" + "\u00e9\u2713" * 40 + "'", *(
    f"x = {random.Random(seed).randbytes(50 + 7 * seed)!r}" for seed in range(20)
)], ids=range(23))  # fmt: skip
def test_a_self_extracting_file_runs_its_text(text, tmp_path):
    file = tmp_path / BUNDLE
    file.write_bytes(self_extracting(text))
    assert file.read_bytes().count(b"\n") == 5
    assert not {0, 13} & set(file.read_bytes())
    expected: dict[str, object] = {}
    exec(text, expected)
    assert runpy.run_path(str(file)).get("x") == expected.get("x")


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_every_python_that_pgolf_supports_reads_the_file(version, tmp_path):
    """The other versions here lack the packages: a stand-in for brotli shows the payload's digest."""
    python = shutil.which(f"python{version}")
    if python is None or subprocess.run([python, "-c", "0"], capture_output=True).returncode:
        pytest.skip(f"no Python {version} here")
    case = CASES["plain"]
    (tmp_path / BUNDLE).write_bytes(case.bundle())
    (tmp_path / "brotli.py").write_text(
        "import hashlib\ndef decompress(data): return f'print({hashlib.sha256(data).hexdigest()!r})'"
    )
    done = subprocess.run([python, BUNDLE], cwd=tmp_path, capture_output=True, text=True)
    packed = min(
        (brotli.compress(case.program().encode(), quality=11, lgwin=w) for w in (16, 18, 22)), key=len
    )
    assert done.stdout.strip() == hashlib.sha256(packed).hexdigest(), done.stderr


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


@pytest.mark.parametrize("name", CASES)
def test_only_what_is_installed_is_imported(name):
    """Inside functions there may be more: Zstandard, which artifacts of its codec alone ask for."""
    tree = ast.parse(CASES[name].program())
    assert imported(tree.body) <= INSTALLED - {"sentencepiece"}
    assert imported(ast.walk(tree)) <= INSTALLED | {"zstandard"}


def imported(nodes) -> set[str]:
    nodes = list(nodes)
    whole = {a.name.partition(".")[0] for n in nodes if isinstance(n, ast.Import) for a in n.names}
    return whole | {n.module.partition(".")[0] for n in nodes if isinstance(n, ast.ImportFrom)}


MARKS = {  # words of one technique alone, as its module writes them
    "rho": "two_lane", ".lam": "smear_gate", ".gamma": "smear_blend", ".norm(dim=-1": "xsa", "trigram": "bigram_hash",
    "36313": "n-gram hashes", "previous": "recur_alpha", ".detach()": "cross_carry", ".ratio": "yarn",
    "layer_scales": "value_embedding", "narrowed": "adapters", "convex": "value_residual", ".pop()": "u_net",
    "contiguous()": "window gates", "positive": "softcap sides",
}  # fmt: skip


@pytest.mark.parametrize(("name", "used"), [
    ("bare", ""),
    ("plain", ".pop()"),
    ("lanes", ".pop() rho"),
    ("query-gate", ".pop() contiguous()"),
    ("first-pass", ".pop() previous"),
    ("everything-shared", ".pop() rho .lam .norm(dim=-1 36313 .detach() layer_scales .ratio narrowed positive"),
    ("pr1855", ".pop() rho .lam .norm(dim=-1 contiguous()"),
])  # fmt: skip
def test_techniques_that_are_off_are_left_out(name, used):
    assert {mark for mark in MARKS if mark in CASES[name].program()} == set(used.split())


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_left_of_training_and_of_checks(name):
    text = CASES[name].program()
    for word in (
        "triton",
        "register_fake",
        "normal_(",
        "orthogonal",
        "ROLES",
        "assert",
        "model_validat",
        "divides",
    ):
        assert word not in text, word
