"""Evaluation of the newest merged record's shape on one GPU: what a step costs, and what the whole split would.

    python -m benchmarks.gpu_evaluation

Weights are drawn and tokens are random: the clock does not depend on what they say. A step scores a chunk of 48 of
every document of a batch in windows of 2,048, with adapters learning (the records' own evaluation) and without.
`split_seconds` puts the measured steps into the schedule of the 50,000 validation documents on eight ranks
(benchmarks.evaluation). Results go to benchmarks/results/gpu_evaluation.json.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.evaluation import CHUNK, CONTEXT, RANKS, ROWS, document_lengths
from pgolf.evaluate.document_chunks import DocumentChunks
from pgolf.evaluate.drive import targets_of
from pgolf.evaluate.predictor import Ask, Extent
from pgolf.evaluate.schedule import grouped, makespan
from pgolf.evaluate.ttt.document_lora import DocumentLora
from pgolf.formats.shards import BOS
from pgolf.model.gpt import Gpt
from pgolf.recipes import recipe
from pgolf.runtime import Runtime, provenance

RESULTS = Path(__file__).parent / "results"
VOCAB = 8192
MANY = 32  # documents whose steps and one document's say what a position costs
MODES = {"plain": None, "lora": DocumentLora()}
SHAPES = ((1, 2048), (8, 2048), (ROWS, 512), (MANY, 2048))  # documents of a batch, positions of a window
STEPS, WARM = 4, 2


def network() -> Gpt:
    made = recipe("pr1855").model.build(VOCAB).reset(0)
    for p in made.parameters():
        torch.nn.init.normal_(p, std=0.02)
    return made.on("cuda").eval()


def step_seconds(net: Gpt, lora: DocumentLora | None, rows: int, window: int) -> float:
    """Mean seconds of a step, scores, gradient and update, at this window."""
    mode = DocumentChunks(context=window, chunk=CHUNK, rows=rows, ttt=lora)
    length = window + CHUNK * (STEPS + WARM + 1)
    stream = torch.randint(2, VOCAB, (rows * length,), generator=torch.Generator().manual_seed(0))
    stream[::length] = BOS
    starts = np.arange(rows, dtype=np.int64) * length
    predictor = mode.predictor(net)
    predictor.begin(Extent(len(stream), starts))
    predictor.open(range(rows))
    seconds = []
    for number in range(STEPS + WARM):
        begin = starts + window + CHUNK * number
        windows = np.stack([begin + CHUNK - 1 - window, begin, begin + CHUNK], axis=1)
        torch.cuda.synchronize()
        began = time.perf_counter()
        ask = Ask.of(stream, windows, range(rows), [False] * rows)
        answers = predictor.log_probs(ask)
        targets = targets_of(stream, ask)
        answers.gather(1, targets.to(answers.device).unsqueeze(1)).sum().item()
        if predictor.adapts:
            predictor.observe(ask, targets)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return float(np.mean(seconds[WARM:]))


def of_the_split(name: str, found: dict[str, float]) -> dict[str, float]:
    """What measured steps come to: a step's cost beside its positions, in positions
    (schedule.OVERHEAD_POSITIONS), and the seconds of 50,000 documents on eight GPUs."""
    small, large = (found[f"{name}_step_{rows}x{CONTEXT}_ms"] / 1000 for rows in (1, MANY))
    a_position = (large - small) / ((MANY - 1) * CONTEXT)
    overhead = max(small / a_position - CONTEXT, 0.0)
    lengths = document_lengths().tolist()
    ends = [np.minimum(np.arange(CHUNK, n + CHUNK, CHUNK), n) for n in lengths]  # of each document's windows
    steps, positions = [len(e) for e in ends], [int(np.minimum(e, CONTEXT).sum()) for e in ends]
    costs = [
        overhead * max(steps[m] for m in members) + sum(positions[m] for m in members)
        for members, _ in grouped(range(len(lengths)), steps, positions, ROWS, RANKS)
    ]
    return {
        f"{name}_overhead_positions": overhead,
        f"{name}_split_seconds_8_gpus": a_position * makespan(costs, RANKS),
        f"{name}_split_seconds_evenly": a_position * sum(costs) / RANKS,
    }


def main(arguments: list[str]) -> int:
    argparse.ArgumentParser(prog="python -m benchmarks.gpu_evaluation", description=__doc__,
                            formatter_class=argparse.RawDescriptionHelpFormatter).parse_args(arguments)  # fmt: skip
    net = network()
    runtime = Runtime(device="cuda", command="python -m benchmarks.gpu_evaluation")
    net.choose_attention(ROWS, CONTEXT, name="sdpa_documents")
    found: dict[str, float] = {}
    for name, lora in MODES.items():
        for rows, window in SHAPES:
            torch.cuda.reset_peak_memory_stats()
            found[f"{name}_step_{rows}x{window}_ms"] = 1000 * step_seconds(net, lora, rows, window)
            found[f"{name}_step_{rows}x{window}_gb"] = torch.cuda.max_memory_allocated() / 1e9
            print(name, rows, window, found[f"{name}_step_{rows}x{window}_ms"], flush=True)
        found |= of_the_split(name, found)
    print(json.dumps(found, indent=1))
    content = {"benchmarks": {"evaluation": found}, "provenance": provenance(runtime)}
    (RESULTS / "gpu_evaluation.json").write_text(json.dumps(content, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
