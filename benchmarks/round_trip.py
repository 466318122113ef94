"""Held-out text through a trained artifact and back in another process, beside the compressors people have.

    python -m benchmarks.round_trip --train prose.jsonl.xz --held-out news.jsonl --store store

Documents are JSON lines or text files, or token shards with --shards-model. A model of 0.8 M parameters is trained
on the first 40 MB of the training text for about a quarter of an hour on one core (`--set train.budget.steps=...`
changes that), quantized and packed; then the held-out documents' first --bytes go through `pgolf compress` and
`pgolf decompress`, each a process of its own, with adaptation and memory on and without, and have to come back
byte for byte. Where pages are unlike the training text, expect more bits.
"""

import argparse
import hashlib
import json
import lzma
import os
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import brotli
import numpy as np
import pyppmd
import torch
import zstandard

from benchmarks.models import STORE
from pgolf.certify.trip import scored_bytes
from pgolf.data.build import Build, build
from pgolf.data.documents import Tally, documents, text_files
from pgolf.data.source import TOKENIZER, Shards
from pgolf.data.spill import Split
from pgolf.data.tokenizer import SpBpe, Tokenizer
from pgolf.evaluate.document_chunks import DocumentChunks
from pgolf.evaluate.drive import starts_of
from pgolf.evaluate.memory.context_mixing import ContextMixing
from pgolf.evaluate.memory.token_tilt import TokenTilt
from pgolf.evaluate.ttt.document_lora import DocumentLora
from pgolf.formats.blob import ARTIFACT, read_artifact
from pgolf.formats.shards import BOS, read_shard
from pgolf.model.attention import Attention
from pgolf.model.gpt import GptConfig, assemble
from pgolf.model.mlp import Mlp
from pgolf.model.rope import Rope
from pgolf.optim.ema import Ema
from pgolf.optim.schedule import Schedule
from pgolf.pipeline import packed_trial
from pgolf.quantize.gptq import Gptq
from pgolf.recipes import laptop_solved
from pgolf.run import RunConfig, to_yaml, with_settings
from pgolf.runtime import Runtime, provenance
from pgolf.stage import Store
from pgolf.train.budget import Steps

RESULTS = Path(__file__).parent / "results"
TRAIN_BYTES, HELD_OUT_BYTES = 40_000_000, 1 << 18
STEPS, BATCH_TOKENS = 2400, 2048
PLAIN = DocumentChunks(context=256, chunk=32)
LORA = DocumentLora(rank=8, alpha=16.0, lr=3e-3)
MODES = {
    "adapters and tilt": PLAIN.but(ttt=LORA, memory=TokenTilt()),
    "plain": PLAIN,
    "adapters and mixing": PLAIN.but(ttt=LORA, memory=ContextMixing()),
}


def prose(data: Path) -> RunConfig:
    """Four layers of 128: what a quarter of an hour of one core trains best, of what was tried."""
    base = laptop_solved()
    shards = Shards(
        train=str(data / "train_*.bin"), validation=str(data / "validation_*.bin"),
        tokenizer=str(data / "tokenizer.model"), vocab_size=1024,
    )  # fmt: skip
    return base.but(
        name="prose",
        data=shards,
        model=GptConfig(
            layers=4, width=128, mlp=Mlp(mult=4.0, negative_slope=0.5), rope=Rope(dims=32),
            attention=Attention(heads=4, kv_heads=2, qk_gain=3.0),
        ),
        optim=base.optim.but(
            muon=base.optim.muon.but(lr=0.02, momentum=0.9),
            schedule=Schedule(warmdown_fraction=0.6, min_lr=0.05), ema=Ema(window_fraction=0.02),
        ),
        train=base.train.but(batch_tokens=BATCH_TOKENS, budget=Steps(steps=STEPS)),
        quantize=Gptq(),
        evaluate=PLAIN,
        rules=base.rules.but(name="bench", artifact_bytes=16_000_000, train_seconds=1e6, eval_seconds=1e6),
    )  # fmt: skip


def texts(files: list[Path], model: Path | None) -> Iterator[str]:
    """Documents, as the challenge's normalization leaves text: NFKC, one space where there was any."""
    for file in files:
        if file.suffix == ".bin":
            assert model is not None, "--shards-model says what the tokens of a shard are"
            tokenizer, ids = Tokenizer.load(model), read_shard(file)
            bounds = [*starts_of(ids).tolist(), len(ids)]
            found = (tokenizer.decode(ids[b:e].tolist()) for b, e in pairwise(bounds))
        else:
            found = documents(text_files([file], Tally()), Tally())
        for document in found:
            if text := " ".join(unicodedata.normalize("NFKC", document.decode("utf-8", "replace")).split()):
                yield text


def prepared(
    train: list[Path], held_out: list[Path], model: Path | None, size: int, place: Path
) -> tuple[Path, bytes]:
    """Shards to train on, whose validation split is the held-out documents, and those as a file of lines."""
    chosen: list[str] = []
    for text in texts(held_out, model):
        if sum(len(t.encode()) + 1 for t in chosen) >= size:
            break
        chosen.append(text)
    lines = "".join(text + "\n" for text in chosen).encode()
    of = json.dumps([*(str(f.resolve()) for f in (*train, *held_out)), str(model), size])
    # other texts are other shards
    shards = place / f"prose-shards-{hashlib.sha256(of.encode()).hexdigest()[:8]}"
    if not shards.exists():
        left = TRAIN_BYTES
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl", dir=place) as file:
            for text in chosen:
                file.write(json.dumps({"text": text}) + "\n")
            for text in texts(train, model):
                file.write(json.dumps({"text": text}) + "\n")
                left -= len(text.encode())
                if left <= 0:
                    break
            file.flush()
            split = Split(validation_documents=len(chosen), order="given")
            build(Build([Path(file.name)], SpBpe(vocab_size=1024), split, tokenizer_bytes=20_000_000), shards)
    return shards, lines


def others(text: bytes) -> dict[str, int]:
    """Bytes that other compressors make of the same text."""
    sizes = {
        "xz -9e": len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)),
        "zstd -19 --long": len(zstandard.ZstdCompressor(
            compression_params=zstandard.ZstdCompressionParameters.from_level(19, enable_ldm=True, window_log=27)
        ).compress(text)),
        "brotli -11": len(brotli.compress(text, quality=11, lgwin=24)),
    }  # fmt: skip
    orders = {order: len(pyppmd.compress(text, max_order=order, mem_size=1 << 28)) for order in range(3, 17)}
    best = min(orders, key=orders.__getitem__)
    return {**sizes, f"PPMd, order {best} (the best)": orders[best], "PPMd, order 6 (the default)": orders[6]}


def trip(artifact: Path, tokenizer: Path, config: RunConfig, text: bytes, place: Path) -> dict[str, float]:
    """Compress and decompress in processes of their own; what it took. Raises if a byte differs."""
    with tempfile.TemporaryDirectory(dir=place) as folder:
        work = Path(folder)
        source, coded, again, settings = work / "text", work / "coded", work / "again", work / "config.yaml"
        source.write_bytes(text)
        settings.write_text(to_yaml(config))
        seconds, said = [], []
        for verb in (
            [
                "compress",
                str(artifact),
                str(source),
                "-o",
                str(coded),
                "--config",
                str(settings),
                "--separator",
                r"\n",
            ],
            ["decompress", str(artifact), str(coded), "-o", str(again)],
        ):
            began = time.perf_counter()
            command = [sys.executable, "-m", "pgolf", *verb, "--tokenizer", str(tokenizer), "--json"]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
            said.append(json.loads(done.stdout))
            seconds.append(time.perf_counter() - began)
            source.unlink(missing_ok=True)  # the second process is given the coded bytes alone
        assert again.read_bytes() == text, "the text came back changed"
    return {
        "file_bytes": said[0]["file_bytes"], "coded_bytes": said[0]["coded_bytes"],
        "scored_bytes": scored(artifact, tokenizer, config, text),
        "compress_seconds": seconds[0], "decompress_seconds": seconds[1],
    }  # fmt: skip


def scored(artifact: Path, tokenizer: Path, config: RunConfig, text: bytes) -> float:
    """What the same documents take by the scorer."""
    packed, model = read_artifact(artifact), Tokenizer.load(tokenizer)
    documents = [model.exact_ids(line) for line in text.splitlines(keepends=True)]
    ids = np.array([token for ids in documents for token in (BOS, *ids)], dtype=np.uint16)
    network = assemble(packed.model, packed.vocab_size, packed.weights(), "cpu")
    return scored_bytes(config.evaluate.predictor(network), config.evaluate, ids)


def table(rows: dict[str, Any]) -> str:
    """Bytes and bits per byte, smallest first."""
    size = rows["text_bytes"]
    named = {f"pgolf, {name}": row["file_bytes"] for name, row in rows["pgolf"].items()} | rows["others"]
    lines = [f"| {size:,} bytes of held-out text | bytes | bits per byte |", "|---|---|---|"]
    for name, count in sorted(named.items(), key=lambda item: item[1]):
        lines.append(f"| {name} | {count:,} | {8 * count / size:.3f} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.round_trip", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--train", type=Path, nargs="+", required=True)
    parser.add_argument("--held-out", type=Path, nargs="+", required=True)
    parser.add_argument("--shards-model", type=Path, help="The tokenizer of inputs that are token shards.")
    parser.add_argument("--bytes", type=int, default=HELD_OUT_BYTES)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--store", type=Path, default=Path(STORE))
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    given.store.mkdir(exist_ok=True)
    shards, text = prepared(given.train, given.held_out, given.shards_model, given.bytes, given.store)
    config = with_settings(prose(shards), given.settings)
    store, runtime = Store(given.store), Runtime(command="python -m benchmarks.round_trip")
    began = time.process_time()
    with runtime.joined():
        made = packed_trial(config, store, runtime)
    seconds = None if made["train"].cached else time.process_time() - began
    trained, artifact = made["train"].metrics, made["pack"].path / ARTIFACT
    rows: dict[str, Any] = {
        "params": trained["params"], "train_tokens": trained["train_tokens"],
        "train_to_pack_cpu_seconds": seconds,  # null: it lay in the store
        "artifact_bytes": artifact.stat().st_size, "text_bytes": len(text), "others": others(text),
    }  # fmt: skip
    print(json.dumps(rows, indent=1), flush=True)
    rows["pgolf"], origin = {}, provenance(runtime)
    tokenizer = made["shards"].path / TOKENIZER
    for name, mode in MODES.items():
        rows["pgolf"][name] = trip(artifact, tokenizer, config.but(evaluate=mode), text, given.store)
        print(name, json.dumps(rows["pgolf"][name], indent=1), flush=True)
        content = {"benchmarks": {"round_trip": rows}, "provenance": origin}
        (RESULTS / "round_trip.json").write_text(json.dumps(content, indent=1) + "\n")
        (RESULTS / "round_trip.md").write_text(table(rows))
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
