"""The evaluate stages: an artifact and one split go to a fresh process, and its scores come back.

`prequant` runs the same scorer on the float checkpoint, in this process: it is what quantization is
measured against, not a deployed number.
"""

import json
from pathlib import Path

import numpy as np

from pgolf.evaluate.scorer import ROWS, Predictor, Scores, score
from pgolf.evaluate.windows import Sliding
from pgolf.formats.blob import ARTIFACT
from pgolf.formats.checkpoint import Checkpoint
from pgolf.formats.shards import read_split, shards_of, sidecar_of
from pgolf.fresh import run_fresh
from pgolf.model.gpt import assemble
from pgolf.runtime import Runtime
from pgolf.stage import Metrics, Stage

PROBE_BYTES = 36_000  # of text, whatever the tokenizer makes of it


def probe(predictor: Predictor, tokens: Path, evaluate: Sliding, device: str) -> float:
    """Bits per byte of the select split's beginning, in disjoint blocks: for live curves and gates."""
    ids, counts = read_split(tokens, "select")
    end = int(np.searchsorted(counts.cumsum(dtype=np.int64), PROBE_BYTES, side="right"))
    blocks = evaluate.but(stride=evaluate.context)
    return score(predictor, ids[:end], counts[:end], blocks, device).bpb


def _prequant(checkpoint: Path, tokens: Path, *, out: Path, runtime: Runtime, evaluate: Sliding) -> Metrics:
    trained = Checkpoint.read(checkpoint)
    network = assemble(trained.model, trained.vocab_size, trained.weights, runtime.device)
    network.choose_attention(ROWS, evaluate.context, name=runtime.attention)
    scores: Scores = score(network, *read_split(tokens, "select"), evaluate, runtime.device)
    np.save(out / "nll.npy", scores.nll)
    return dict(scores.metrics())


def evaluate_stage(split: str) -> Stage:
    """The stage that scores an artifact on a split. Inputs: the packed and the token directory."""

    def run(packed: Path, tokens: Path, *, out: Path, runtime: Runtime, evaluate: Sliding) -> Metrics:
        shards = shards_of(tokens, split)
        arguments = [str(packed / ARTIFACT), "--tokens", *map(str, shards), "--bytes"]
        arguments += [str(sidecar_of(shard, split)) for shard in shards]
        arguments += ["--context", str(evaluate.context), "--stride", str(evaluate.stride)]
        arguments += ["--device", runtime.device, "--threads", str(runtime.threads)]
        arguments += ["--attention", runtime.attention]
        for store in {packed.parent.parent, tokens.parent.parent}:
            arguments += ["--sealed", str(store)]
        arguments += ["--out", str(out)]
        seconds = run_fresh("pgolf.evaluate", arguments, runtime.threads)
        metrics: Metrics = json.loads((out / "scores.json").read_text())
        return {**metrics, "eval_seconds_strict": seconds}

    return Stage(f"evaluate_{split}", 1, run)


PREQUANT = Stage("prequant", 1, _prequant)
EVALUATE = evaluate_stage("select")
VALIDATE = evaluate_stage("validation")
