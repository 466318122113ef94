"""The newest merged record on one GPU: its speed in both phases, where the time goes, a real training run.

python -m benchmarks.gpu speed                         tokens/s before and after the recurrence switches on
python -m benchmarks.gpu profile                       the kernels of a looped step by GPU time
python -m benchmarks.gpu train --data DIR --minutes 5  train, quantize, pack and score on real shards

The published run on 8xH100 makes 8.17 M tokens/s before and 5.59 M after: 1.02 M and 0.70 M per GPU. `DIR`
holds shards, a validation split and a tokenizer, as `pgolf data fetch` and `pgolf data build` leave them. What is
measured goes to benchmarks/results/gpu_record.json, the curve of `train` to gpu_record.png.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from pgolf.data.source import Shards
from pgolf.errors import ConfigError
from pgolf.formats.shards import BOS, shard_name, write_shard
from pgolf.model.recurrence import Recurrence
from pgolf.pipeline import run_trial
from pgolf.recipes import recipe
from pgolf.rules import H100_GANG
from pgolf.run import RunConfig
from pgolf.runtime import Report, Runtime, provenance, silent
from pgolf.stage import Store
from pgolf.train.budget import Seconds, Steps
from pgolf.train.loop import train

RESULTS = Path(__file__).parent / "results"
VOCAB, DOCUMENT = 8192, 800  # tokens of a mean document
SPAN = 786_432 + 8  # tokens of a packed batch of eight rows, each with its last target
PUBLISHED = {"unlooped": 8.17e6 / 8, "looped": 5.59e6 / 8}  # tokens/s per GPU


def record(name: str, steps: int) -> RunConfig:
    """pr1855 on one GPU, the recurrence off or on from the first step.

    The batch is the published one in eight parts, so that a token bears as much of the optimizer as it does in
    the published run, whose ranks share it.
    """
    base = recipe("pr1855")
    band = base.model.recurrence
    assert isinstance(band, Recurrence)
    at = 0.0 if name == "looped" else 0.999  # the last step begins before it
    return base.but(
        model=base.model.but(recurrence=band.but(from_fraction=at)),
        train=base.train.but(budget=Steps(steps=steps)),
        rules=base.rules.but(gang=H100_GANG.but(ranks=1)),
    )


def random_shards(directory: Path, steps: int) -> Path:
    """Uniform tokens in documents of about the real length: speed does not depend on what they say."""
    generator = np.random.default_rng(0)
    tokens = generator.integers(8, VOCAB, size=SPAN * min(steps, 8) + 4 * DOCUMENT).astype(np.uint16)
    tokens[
        np.cumsum(generator.integers(DOCUMENT // 4, 2 * DOCUMENT, size=len(tokens) // DOCUMENT)) % len(tokens)
    ] = BOS
    tokens[0] = BOS
    write_shard(directory / shard_name("train"), tokens)
    return directory


def step_run(name: str, steps: int, device: str, report: Report = silent) -> Mapping[str, float]:
    """Train on random tokens; the train stage's metrics."""
    config, runtime = record(name, steps), Runtime(device=device, threads=4, report=report)
    with tempfile.TemporaryDirectory() as work, runtime.joined():
        out = Path(work) / "out"
        out.mkdir()
        return train(
            random_shards(Path(work), steps), out=out, runtime=runtime, seed=0, model=config.model,
            optim=config.optim, train=config.train, vocab_size=VOCAB, probe=lambda _: 0.0, probes=(),
        )  # fmt: skip


def speed(given: argparse.Namespace) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, published in PUBLISHED.items():
        metrics = step_run(name, given.steps, given.device)
        found[f"{name}_tokens_per_second"] = metrics["tokens_per_second"]
        found[f"{name}_over_published"] = metrics["tokens_per_second"] / published
        found[f"{name}_peak_memory_bytes"] = metrics["peak_memory_bytes"]
    return found


def profile(given: argparse.Namespace) -> dict[str, float]:
    """Kernel times over about a second of the looped phase, as shares of all."""
    profiler = torch.profiler.profile()
    heard: list[int] = []

    def listen(step: int, metrics: Mapping[str, float]) -> None:
        heard.append(step)
        if len(heard) == 2:
            profiler.start()
        elif len(heard) == 3:
            profiler.stop()

    step_run("looped", given.steps, given.device, listen)
    if len(heard) < 3:
        raise ConfigError("a profile needs a run of at least three reports, one a second",
                          f"--steps {given.steps}", "more steps")  # fmt: skip
    events = profiler.key_averages()
    print(events.table(sort_by="self_cuda_time_total", row_limit=30))
    total = sum(e.self_device_time_total for e in events) or 1.0
    top = sorted(events, key=lambda e: -e.self_device_time_total)[:20]
    return {e.key: e.self_device_time_total / total for e in top}


def real_run(given: argparse.Namespace) -> dict[str, float]:
    """The whole trial on one GPU: a curve over seconds, and the deployed tuple."""
    if given.data is None:
        raise ConfigError("a real run trains on real shards", "no --data", "--data DIR")
    base, at = record("looped", 1), given.data
    data = Shards(train=f"{at}/*train*.bin", validation=f"{at}/*val*.bin", tokenizer=f"{at}/tokenizer.model")
    recurrence = recipe("pr1855").model.recurrence
    config = base.but(
        name="gpu_record",
        data=data,
        model=base.model.but(recurrence=recurrence),
        train=base.train.but(budget=Seconds(seconds=60.0 * given.minutes)),
        rules=base.rules.but(train_seconds=60.0 * given.minutes + 60.0),
    )
    curve: list[tuple[float, float]] = []

    def listen(step: int, metrics: Mapping[str, float]) -> None:
        if "train_loss" in metrics:
            curve.append((metrics["train_seconds"], metrics["train_loss"]))

    runtime = Runtime(device=given.device, threads=4, report=listen)
    with runtime.joined():
        result = run_trial(config, Store(given.store), runtime)
    assert result is not None
    _draw(curve)
    kept = ("bpb", "prequant_bpb", "artifact_bytes", "eval_seconds", "train_seconds", "steps", "train_tokens",
            "tokens_per_second", "peak_memory_bytes")  # fmt: skip
    return {name: value for name in kept if (value := getattr(result, name)) is not None}


def _draw(curve: list[tuple[float, float]]) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 5))
    axes.plot(*zip(*curve, strict=True), color="#1f618d", linewidth=0.9)
    axes.set(xlabel="training seconds", ylabel="training loss (nats per token)", yscale="log")
    axes.set_title(f"pr1855 on one {torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU'}")
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(RESULTS / "gpu_record.png", dpi=130)


WORK = {"speed": speed, "profile": profile, "train": real_run}


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.gpu", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("what", choices=WORK)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--data", help="directory of shards, for `train`")
    parser.add_argument("--store", default="store", help="where `train` keeps its stages")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    given = parser.parse_args(words)
    if given.device == "cuda" and not torch.cuda.is_available():
        print("this machine shows no NVIDIA GPU; nothing was measured", file=sys.stderr)
        return 2
    found = WORK[given.what](given)
    for name, value in found.items():
        print(f"{name:<48} {value:,.4g}")
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / "gpu_record.json"
    before = json.loads(file.read_text())["measured"] if file.exists() else {}
    made = provenance(Runtime(device=given.device))
    made.pop("command")
    file.write_text(
        json.dumps({"measured": {**before, given.what: found}, "provenance": made}, indent=1) + "\n"
    )
    print(f"written to {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
