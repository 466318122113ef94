"""The fresh process that scores an artifact: it has the artifact and the scored shard, nothing else.

    python -m pgolf.evaluate artifact.bin --tokens validation_000000.bin --bytes validation_bytes_000000.bin \\
        --context 1024 --stride 64 --out DIR

Opening any other file below a --sealed directory, or a network connection, is refused by an audit hook.
Two clocks: `eval_seconds` is scoring alone; loading and decoding are timed beside it.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from pgolf.evaluate.scorer import ROWS, score
from pgolf.evaluate.windows import Sliding
from pgolf.formats.blob import read_artifact
from pgolf.formats.ledger import write_ledger
from pgolf.formats.shards import read_shard
from pgolf.fresh import leave, seal
from pgolf.model.gpt import assemble
from pgolf.runtime import Clock


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m pgolf.evaluate", description=__doc__)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--tokens", type=Path, nargs="+", required=True)
    parser.add_argument("--bytes", type=Path, nargs="+", required=True)
    parser.add_argument("--context", type=int, required=True)
    parser.add_argument("--stride", type=int, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--attention", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sealed", type=Path, action="append", default=[])
    parser.add_argument("--out", type=Path, required=True)
    a = parser.parse_args(argv)
    torch.set_num_threads(a.threads)
    seal(a.sealed, allowed=[a.artifact, *a.tokens, *a.bytes, a.out])
    load, scoring = Clock(), Clock()
    with load:
        artifact = read_artifact(a.artifact)
        network = assemble(artifact.model, artifact.vocab_size, artifact.weights(), a.device)
        tokens = np.concatenate([np.asarray(read_shard(f)) for f in a.tokens])
        counts = np.concatenate([np.asarray(read_shard(f)) for f in a.bytes])
        network.choose_attention(ROWS, a.context, name=a.attention)
    with scoring:
        scores = score(network, tokens, counts, Sliding(context=a.context, stride=a.stride), a.device)
    write_ledger(a.out, scores.windows, scores.nll)
    metrics = {**scores.metrics(), "eval_seconds": scoring.seconds, "load_seconds": load.seconds}
    (a.out / "scores.json").write_text(json.dumps(metrics, sort_keys=True))
    return 0


if __name__ == "__main__":
    leave(main)
