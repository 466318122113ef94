"""Scoring from an artifact's bytes: what the fresh process and the exported file have in common.

The exported file (`pgolf.pack.bundle`) ends with a call of `main`. It holds its network and its windows as
values, and needs no config of the trial:

    python train_gpt.py --artifact artifact.bin --tokens select_000000.bin --bytes select_bytes_000000.bin

Two clocks: `eval_seconds` is scoring alone; loading and decoding are timed beside it.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from pgolf.errors import DataError
from pgolf.evaluate.scorer import ROWS, Scores, score
from pgolf.evaluate.windows import Sliding
from pgolf.formats.blob import read_artifact
from pgolf.formats.shards import read_shard
from pgolf.model.gpt import GptConfig, assembled
from pgolf.runtime import Clock
from pgolf.section import digest_of

ModelOf = Callable[[dict[str, object]], GptConfig]


def main(config: GptConfig, plan: Sliding, mark: str) -> None:
    """The exported file: score and print, for artifacts of this network alone.

    Args:
        mark: how the digest of the network's plain config begins, which artifacts carry.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--artifact", type=Path, default=Path("artifact.bin"))
    parser.add_argument("--tokens", type=Path, nargs="+", required=True)
    parser.add_argument("--bytes", type=Path, nargs="+", required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--attention", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    a = parser.parse_args()

    def model_of(plain: dict[str, object]) -> GptConfig:
        if not digest_of(plain).startswith(mark):
            raise DataError("this file scores artifacts of its own network", str(a.artifact))
        return config

    torch.set_num_threads(a.threads)
    _, metrics = deployed(a.artifact, a.tokens, a.bytes, model_of, plan, a.device, a.attention)
    text = json.dumps(metrics, sort_keys=True)
    print(text)
    if a.out:
        a.out.write_text(text)


def deployed(
    file: Path, tokens: Sequence[Path], sidecars: Sequence[Path], model_of: ModelOf, plan: Sliding,
    device: str, attention: str,
) -> tuple[Scores, dict[str, float]]:  # fmt: skip
    """An artifact's scores on token shards, and what they come to.

    Args:
        model_of: the network's config, from what of it the artifact carries.
    """
    load, scoring = Clock(), Clock()
    with load:
        artifact = read_artifact(file)
        network = assembled(model_of(artifact.model), artifact.vocab_size, artifact.weights(), device)
        ids, counts = (
            np.concatenate([np.asarray(read_shard(f)) for f in files]) for files in (tokens, sidecars)
        )
        network.choose_attention(ROWS, plan.context, name=attention)
    with scoring:
        scores = score(network, ids, counts, plan, device)
    return scores, {**scores.metrics(), "eval_seconds": scoring.seconds, "load_seconds": load.seconds}
