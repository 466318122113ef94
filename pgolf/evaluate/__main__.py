"""The fresh process that scores an artifact: it has the artifact and the scored shard, nothing else.

    python -m pgolf.evaluate artifact.bin --tokens validation_000000.bin --bytes validation_bytes_000000.bin \\
        --evaluate '{"kind": "sliding", "context": 1024, "stride": 64}' --out DIR

With --tokenizer in place of --bytes, bytes are counted by the tokenizer's look-up tables. Opening any other file
below a --sealed directory, or a network connection, is refused by an audit hook. Several ranks, each a process,
meet at the file --meet. What memories proposed, and what came, goes to memory_events.npz beside the scores.
"""

import argparse
import json
import sys
from functools import cache
from pathlib import Path
from typing import cast

import torch
import torch.distributed as dist
from pydantic import TypeAdapter

from pgolf.data.tokenizer import Tokenizer
from pgolf.errors import InfeasibleTrial
from pgolf.evaluate.breakdown import breakdown
from pgolf.evaluate.deployed import deployed, shards
from pgolf.evaluate.evaluation import Evaluation
from pgolf.evaluate.memory.remembering import Log, arrays_of
from pgolf.evaluate.predictor import Predictor
from pgolf.evaluate.ranks import Ranks
from pgolf.evaluate.scorer import Noted
from pgolf.formats.arrays import write_arrays
from pgolf.formats.ledger import write_ledger
from pgolf.formats.shards import Tokens
from pgolf.fresh import leave, seal
from pgolf.model.gpt import GptConfig

SCORES, MEMORY_EVENTS = "scores.json", "memory_events.npz"
OUTCOME = "infeasible.json"  # instead of scores, where adaptation diverged


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m pgolf.evaluate", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--tokens", type=Path, nargs="+", required=True)
    denominator = parser.add_mutually_exclusive_group(required=True)
    denominator.add_argument("--bytes", type=Path, nargs="+")
    denominator.add_argument("--tokenizer", type=Path)
    parser.add_argument("--evaluate", type=TypeAdapter(Evaluation).validate_json, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--attention", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--meet", type=Path)
    parser.add_argument("--sealed", type=Path, action="append", default=[])
    parser.add_argument("--out", type=Path, required=True)
    a = parser.parse_args(argv)
    torch.set_num_threads(a.threads)
    ranks = Ranks(a.rank, a.ranks)
    if ranks.size > 1:
        backend = "cpu:gloo,cuda:nccl" if a.device == "cuda" else "gloo"
        dist.init_process_group(backend, init_method=f"file://{a.meet}", rank=a.rank, world_size=a.ranks)
    counted = a.bytes or [a.tokenizer]
    meeting = [a.meet] if a.meet else []
    seal(a.sealed, allowed=[a.artifact, *a.tokens, *counted, a.out, *meeting])

    @cache
    def read() -> tuple[Tokens, Tokens]:
        ids = shards(a.tokens)
        return ids, shards(a.bytes) if a.bytes else Tokenizer.load(a.tokenizer).byte_counts(ids)

    progress, notes = _Progress() if a.rank == 0 else None, _Notes()
    remembers = a.evaluate.memory is not None
    try:
        scores, metrics = deployed(
            a.artifact, read, GptConfig.model_validate, a.evaluate, a.device, a.attention, ranks, progress,
            notes if remembers else None,
        )  # fmt: skip
    except InfeasibleTrial as stopped:  # on all ranks
        (a.out / OUTCOME).write_text(json.dumps(stopped.outcome.plain()))
        return 0
    if remembers:
        logs = arrays_of(cast(list[list[Log]], ranks.gather(notes.predictor.events())))
        if a.rank == 0:
            write_arrays(a.out / MEMORY_EVENTS, logs)
    if a.rank == 0:
        write_ledger(a.out, scores.events, scores.nll)
        tables = breakdown(scores.nll, read()[1], scores.extent)
        (a.out / SCORES).write_text(json.dumps({**metrics, "breakdown": tables}, sort_keys=True))
    if ranks.size > 1:
        dist.destroy_process_group()
    return 0


class _Notes:
    """Has the memories' log kept, and knows where it is."""

    def __call__(self, predictor: Predictor) -> Noted:
        self.predictor = predictor
        return predictor.noted


class _Progress:
    """A line for every hundredth, for whoever started this process."""

    def __init__(self) -> None:
        self.said = 0

    def __call__(self, done: int, total: int) -> None:
        if (now := 100 * done // max(total, 1)) > self.said:
            self.said = now
            print(f"progress {done} {total}", file=sys.stdout, flush=True)


if __name__ == "__main__":
    leave(main)
