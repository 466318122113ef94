"""Scoring from an artifact's bytes: what the fresh process and the exported file have in common.

The exported file (`pgolf.pack.bundle`) ends with a call of `main`. It holds its network and its evaluation as
values, and needs no config of the trial:

    python train_gpt.py --artifact artifact.bin --tokens select_000000.bin --bytes select_bytes_000000.bin

Clocks: `eval_seconds` is scoring and adapting (`score_seconds`, `adapt_seconds`); loading and decoding are timed
beside it, and so is what of scoring and adapting went into memories (`memory_seconds`).
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from pgolf.errors import DataError
from pgolf.evaluate.drive import Progress
from pgolf.evaluate.evaluation import Evaluation
from pgolf.evaluate.mode import ROWS, Mode
from pgolf.evaluate.predictor import Predictor
from pgolf.evaluate.ranks import ALONE, Ranks
from pgolf.evaluate.scorer import Noted, Scores, score
from pgolf.formats.blob import read_artifact
from pgolf.formats.shards import Tokens, read_shard
from pgolf.model.gpt import GptConfig, assembled
from pgolf.runtime import Clock
from pgolf.section import digest_of

ModelOf = Callable[[dict[str, object]], GptConfig]
Read = Callable[[], tuple[Tokens, Tokens]]  # a stream's tokens, and the bytes each stands for


def main(config: GptConfig, evaluate: Evaluation, mark: str) -> None:
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
    _, metrics = deployed(
        a.artifact, lambda: (shards(a.tokens), shards(a.bytes)), model_of, evaluate, a.device, a.attention
    )
    text = json.dumps(metrics, sort_keys=True)
    print(text)
    if a.out:
        a.out.write_text(text)


def deployed(
    file: Path, read: Read, model_of: ModelOf, evaluate: Mode, device: str, attention: str, ranks: Ranks = ALONE,
    progress: Progress | None = None, noting: Callable[[Predictor], Noted] | None = None,
) -> tuple[Scores, dict[str, float]]:  # fmt: skip
    """An artifact's scores on token shards, and what they come to.

    Args:
        model_of: the network's config, from what of it the artifact carries.
        noting: given the predictor, who takes notes of its blocks.

    Raises:
        UnlawfulScore: if the ledger breaks a rule, or a distribution does not sum to one.
        InfeasibleTrial: if adaptation diverged.
    """
    load, whole = Clock(), Clock()
    with load:
        artifact = read_artifact(file)
        network = assembled(model_of(artifact.model), artifact.vocab_size, artifact.weights(), device)
        ids, counts = read()
        network.choose_attention(ROWS, evaluate.context, name=attention)
    with whole:
        predictor = evaluate.predictor(network)
        noted = None if noting is None else noting(predictor)
        scores = score(predictor, ids, counts, evaluate, ranks, progress, noted)
    scores.verify(bool(evaluate.outside_rules))
    clocks = {
        "score_seconds": scores.score_seconds,
        "adapt_seconds": scores.adapt_seconds,
        **predictor.clocks(),
    }
    return scores, {
        **scores.metrics(), **clocks, "eval_seconds": whole.seconds, "load_seconds": load.seconds,
    }  # fmt: skip


def shards(files: Sequence[Path]) -> Tokens:
    """The values of shard files, one after the other."""
    return np.concatenate([np.asarray(read_shard(file)) for file in files])
