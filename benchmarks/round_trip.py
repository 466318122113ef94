"""Held-out text through a trained artifact and back in another process, beside the compressors people have.

    python -m benchmarks.round_trip --train prose.jsonl.xz --held-out news.jsonl --store store

Documents are JSON lines or text files, or token shards with --shards-model. A model of 0.8 M parameters is trained
on the first 40 MB of the training text for about a quarter of an hour on one core (`--set train.budget.steps=...`
changes that), quantized and packed; then the held-out documents' first --bytes go through `pgolf compress` and
`pgolf decompress`, each a process of its own, with adaptation and memory on and without, and have to come back
byte for byte. Where pages are unlike the training text, expect more bits.
"""

import argparse
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

import brotli
import pyppmd
import torch
import zstandard

from benchmarks.models import STORE
from pgolf.data.build import Build, build
from pgolf.data.documents import Tally, documents, text_files
from pgolf.data.source import Shards
from pgolf.data.spill import Split
from pgolf.data.tokenizer import SpBpe, Tokenizer
from pgolf.evaluate.document_chunks import DocumentChunks
from pgolf.evaluate.drive import starts_of
from pgolf.formats.shards import read_shard
from pgolf.model.attention import Attention
from pgolf.model.gpt import GptConfig
from pgolf.model.mlp import Mlp
from pgolf.model.rope import Rope
from pgolf.optim.ema import Ema
from pgolf.optim.schedule import Schedule
from pgolf.pipeline import run_trial
from pgolf.quantize.gptq import Gptq
from pgolf.recipes import laptop_solved
from pgolf.run import RunConfig, with_settings
from pgolf.runtime import Runtime
from pgolf.stage import Store
from pgolf.train.budget import Steps

RESULTS = Path(__file__).parent / "results"
TRAIN_BYTES, HELD_OUT_BYTES = 40_000_000, 1 << 18
STEPS, BATCH_TOKENS = 2400, 2048


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
        evaluate=DocumentChunks(context=256, chunk=32),
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
    shards = place / "prose-shards"
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


def trip(artifact: Path, tokenizer: Path, config: Path, text: bytes, work: Path) -> dict[str, float]:
    """Compress and decompress in processes of their own; what it took. Raises if a byte differs."""
    source, coded, again = work / "text", work / "coded", work / "again"
    source.write_bytes(text)
    command = [sys.executable, "-m", "pgolf"]
    beside = ["--tokenizer", str(tokenizer)]
    seconds = []
    for verb in (
        [
            "compress",
            str(artifact),
            str(source),
            "-o",
            str(coded),
            "--config",
            str(config),
            "--separator",
            r"\n",
        ],
        ["decompress", str(artifact), str(coded), "-o", str(again)],
    ):
        began = time.perf_counter()
        subprocess.run([*command, *verb, *beside], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        seconds.append(time.perf_counter() - began)
        source.unlink(missing_ok=True)  # the second process is given the coded bytes alone
    assert again.read_bytes() == text, "the text came back changed"
    return {
        "file_bytes": coded.stat().st_size,
        "compress_seconds": seconds[0],
        "decompress_seconds": seconds[1],
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.round_trip", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--train", type=Path, nargs="+", required=True)
    parser.add_argument("--held-out", type=Path, nargs="+", required=True)
    parser.add_argument("--shards-model", type=Path, help="The tokenizer of inputs that are token shards.")
    parser.add_argument("--bytes", type=int, default=HELD_OUT_BYTES)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--store", type=Path, default=Path(STORE))
    parser.add_argument("--train-only", action="store_true")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    given.store.mkdir(exist_ok=True)
    shards, _ = prepared(given.train, given.held_out, given.shards_model, given.bytes, given.store)
    config = with_settings(prose(shards), given.settings)
    store, runtime = Store(given.store), Runtime()
    with runtime.joined():
        result = run_trial(config, store, runtime)
    assert result is not None
    print(f"{result.params:,} parameters, {result.train_tokens:,} tokens in {result.train_seconds:.0f} s of one core, "
          f"{result.artifact_bytes:,} bytes; select {result.bpb:.4f} bits per byte", flush=True)  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
