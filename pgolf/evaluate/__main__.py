"""The fresh process that scores an artifact: it has the artifact and the scored shard, nothing else.

    python -m pgolf.evaluate artifact.bin --tokens validation_000000.bin --bytes validation_bytes_000000.bin \\
        --context 1024 --stride 64 --out DIR

Opening any other file below a --sealed directory, or a network connection, is refused by an audit hook.
Two clocks: `eval_seconds` is scoring alone; loading and decoding are timed beside it.
"""

import argparse
import json
from pathlib import Path

import torch

from pgolf.evaluate.deployed import deployed
from pgolf.evaluate.windows import Sliding
from pgolf.formats.ledger import write_ledger
from pgolf.fresh import leave, seal
from pgolf.model.gpt import GptConfig


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
    plan = Sliding(context=a.context, stride=a.stride)
    scores, metrics = deployed(
        a.artifact, a.tokens, a.bytes, GptConfig.model_validate, plan, a.device, a.attention
    )
    write_ledger(a.out, scores.windows, scores.nll)
    (a.out / "scores.json").write_text(json.dumps(metrics, sort_keys=True))
    return 0


if __name__ == "__main__":
    leave(main)
