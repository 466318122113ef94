"""Run the benchmarks and write what they measured, with hardware and commit, to benchmarks/results/.

make bench                     all of them
make bench ARGS=packing        those whose name contains a word
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks import data
from benchmarks import training_step as step
from benchmarks.coding import full_size
from benchmarks.evaluation import evaluation as evaluations
from benchmarks.kernels import kernels
from benchmarks.memory import memories
from benchmarks.solvers import solvers as solver_ratios
from pgolf.formats.quantized import QuantizedModel
from pgolf.kernels.attention import attend, attend_reference, prepare
from pgolf.optim.muon import orthogonalize
from pgolf.pack.stage import code_artifact
from pgolf.pipeline import run_trial
from pgolf.recipes import laptop_late, recipe, tiny
from pgolf.run import RunConfig, with_settings
from pgolf.runtime import Runtime, provenance
from pgolf.stage import Store

RESULTS = Path(__file__).parent / "results"
Rows = dict[str, float]


def attention(store: Store) -> Rows:
    """The fused masked attention against the definition written out (float64, one query at a time)."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 128, heads, 32) for heads in (4, 2, 2))
    starts = torch.rand(2, 128) < 0.05
    starts[:, 0] = True
    fused = _seconds(lambda: attend(q, k, v, prepare(starts)), 20)
    plain = _seconds(lambda: attend_reference(q, k, v, starts), 1)
    return {"reference_over_fused": plain / fused}


def muon_batched(store: Store) -> Rows:
    """Newton-Schulz over a stack of equal matrices against a loop over them."""
    stack = torch.randn(12, 128, 128)
    loop = _seconds(lambda: [orthogonalize(m.unsqueeze(0), 5) for m in stack], 20)
    return {"loop_over_batched": loop / _seconds(lambda: orthogonalize(stack, 5), 20)}


def solvers(store: Store) -> Rows:
    """Error-feedback solvers against GPTQ as published."""
    return solver_ratios()


def trained(store: Store) -> Rows:
    """On a trained laptop_late: GPTQ against RTN on equal grids, and packers against the codes' entropy."""
    config = laptop_late()
    rows: Rows = {}
    runs = {
        "gptq": config,
        "rtn": config.but(quantize={"kind": "rtn", "grids": config.quantize.grids}),
        "ans": config.but(pack={"kind": "ans"}),
        "lzma": config.but(pack={"kind": "lzma"}),
        "transposed": config.but(pack={"kind": "brotli", "transpose": True}),
    }
    results = {name: _trial(run, store) for name, run in runs.items()}
    for name in ("gptq", "rtn"):
        rows[f"{name}_gap_bpb"] = results[name].quantized_bpb - results[name].prequant_bpb
    rows["rtn_gap_over_gptq_gap"] = rows["rtn_gap_bpb"] / rows["gptq_gap_bpb"]
    ideal = _ideal_bytes(results["gptq"].stages["quantize"].key, store)
    for name, packer in {
        "gptq": "brotli",
        "ans": "ans",
        "lzma": "lzma",
        "transposed": "brotli_transposed",
    }.items():
        rows[f"{packer}_bytes_over_entropy"] = results[name].model_bytes / ideal
    return rows


def coding(store: Store) -> Rows:
    """The entropy coder at the newest record's size: seconds, memory, coded over ideal bytes."""
    return full_size()


def bundle(store: Store) -> Rows:
    """Bytes of the one file that scores a recipe, by the packer that it unpacks."""
    rows: Rows = {}
    for name in ("laptop_late", "laptop_adapted", "pr1019", "pr1855"):
        for packer in ("ans", "brotli"):
            config = with_settings(recipe(name), [f"pack={{kind: {packer}}}"])
            made = code_artifact(
                store, Runtime(), model=config.model, evaluate=config.evaluate, pack=config.pack
            )
            rows[f"{name}_{packer}_bytes"] = made.metrics["code_bytes"]
    return rows


def stage_cache(store: Store) -> Rows:
    """A trial done for the first time against the same trial found in the store."""
    with tempfile.TemporaryDirectory() as fresh:
        place = Store(fresh)
        began = time.perf_counter()
        _trial(tiny(), place)
        first = time.perf_counter() - began
        again = _seconds(lambda: _trial(tiny(), place), 3)
    return {"first_over_cached": first / again}


def memory(store: Store) -> Rows:
    """Eval-time memory over networks of several qualities: gains, and seconds for a million targets."""
    return memories(store)


def training_step(store: Store) -> Rows:
    """The training loop against a minimal plain-PyTorch loop of the same network."""
    return step.training_step()


def tokenization(store: Store) -> Rows:
    """Megabytes a second and core."""
    return data.tokenization()


def evaluation(store: Store) -> Rows:
    """Adaptation in batches, lower states that are kept, windows in batches, and ranks of equal work."""
    return evaluations()


def loaders(store: Store) -> Rows:
    """Batches against a naive loader's."""
    return data.loaders()


BENCHMARKS: dict[str, Callable[[Store], Rows]] = {
    f.__name__: f
    for f in (
        attention, kernels, training_step, tokenization, loaders, evaluation, muon_batched, solvers, trained, memory,
        coding, bundle, stage_cache,
    )
}  # fmt: skip


def _trial(config: RunConfig, store: Store):  # type: ignore[no-untyped-def]
    runtime = Runtime()
    with runtime.joined():
        return run_trial(config, store, runtime)


def _ideal_bytes(key: str, store: Store) -> float:
    """Zero-order entropy of each matrix's codes and of what its step codes differ by, and two bytes a float16."""
    found = store.find("quantize", key)
    assert found is not None
    model = QuantizedModel.read(found.path)
    total = sum(2.0 * t.numel() for t in model.rest.values())
    for _, _, array in model.arrays():
        if array.dtype == torch.int16:
            a = array.numpy() if array.ndim == 2 else np.diff(array.numpy(), prepend=np.int16(0))
            share = np.unique(a, return_counts=True)[1] / a.size
            total += a.size * float(-(share * np.log2(share)).sum()) / 8
        else:
            total += 2.0 * array.numel()
    return total


def _seconds(work: Callable[[], object], times: int) -> float:
    """The least wall seconds of one call."""
    best = float("inf")
    for _ in range(times):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return best


def main(words: list[str]) -> int:
    chosen = {n: f for n, f in BENCHMARKS.items() if not words or any(w in n for w in words)}
    if not chosen:
        print(f"no benchmark is called that; there are: {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    report: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as directory:
        for name, bench in chosen.items():
            report[name] = rows = bench(Store(directory))
            for row, value in rows.items():
                print(f"{name + '.' + row:<48} {value:.4g}", flush=True)
    on_gpu = torch.cuda.is_available()
    made = provenance(Runtime(device="cuda" if on_gpu else "cpu"))
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / ("gpu.json" if on_gpu else "cpu.json")
    before = json.loads(file.read_text())["benchmarks"] if file.exists() else {}
    made.pop("command")
    file.write_text(json.dumps({"benchmarks": {**before, **report}, "provenance": made}, indent=1) + "\n")
    print(f"written to {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
