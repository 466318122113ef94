"""The evaluate stages: an artifact and one split go to a fresh process, and its scores come back.

`prequant` runs the same scorer on the float checkpoint, in this process: it is what quantization is
measured against, not a deployed number.
"""

import json
from pathlib import Path

import numpy as np

from pgolf.errors import Infeasible, InfeasibleTrial
from pgolf.evaluate.__main__ import OUTCOME, SCORES
from pgolf.evaluate.blocks import Blocks
from pgolf.evaluate.mode import ROWS, Mode
from pgolf.evaluate.neural import Neural
from pgolf.evaluate.scorer import score
from pgolf.formats.blob import ARTIFACT
from pgolf.formats.checkpoint import Checkpoint
from pgolf.formats.shards import read_split, shards_of, sidecar_of
from pgolf.fresh import run_fresh
from pgolf.model.gpt import Gpt, assemble
from pgolf.runtime import Runtime
from pgolf.stage import Metrics, Stage

PROBE_BYTES = 36_000  # of text, whatever the tokenizer makes of it
PROGRESS = "eval_progress"  # report(-1, {PROGRESS: share})


def probe(network: Gpt, tokens: Path, evaluate: Mode) -> float:
    """Bits per byte of the select split's beginning, in disjoint blocks: for live curves and gates."""
    ids, counts = read_split(tokens, "select")
    end = int(np.searchsorted(counts.cumsum(dtype=np.int64), PROBE_BYTES, side="right"))
    return score(Neural(network), ids[:end], counts[:end], Blocks(context=evaluate.context)).bpb


def _prequant(checkpoint: Path, tokens: Path, *, out: Path, runtime: Runtime, evaluate: Mode) -> Metrics:
    trained = Checkpoint.read(checkpoint)
    network = assemble(trained.model, trained.vocab_size, trained.weights, runtime.device)
    network.choose_attention(ROWS, evaluate.context, name=runtime.attention)
    scores = score(evaluate.predictor(network), *read_split(tokens, "select"), evaluate)
    scores.verify(bool(evaluate.outside_rules))
    np.save(out / "nll.npy", scores.nll)
    return dict(scores.metrics())


def evaluate_stage(split: str) -> Stage:
    """The stage that scores an artifact on a split. Inputs: the packed and the token directory.

    All ranks of a gang take part, each with a fresh process of its own on its own device.
    """

    def run(packed: Path, tokens: Path, *, out: Path, runtime: Runtime, evaluate: Mode) -> Metrics:
        shards = shards_of(tokens, split)
        arguments = [str(packed / ARTIFACT), "--tokens", *map(str, shards), "--bytes"]
        arguments += [str(sidecar_of(shard, split)) for shard in shards]
        arguments += ["--evaluate", json.dumps(evaluate.plain())]
        arguments += ["--device", runtime.device, "--threads", str(runtime.threads)]
        arguments += ["--attention", runtime.attention]
        arguments += ["--rank", str(runtime.rank), "--ranks", str(runtime.world_size)]
        if runtime.world_size > 1:
            arguments += ["--meet", str(runtime.agree(str(out / "meeting")))]
        for store in {packed.parent.parent, tokens.parent.parent}:
            arguments += ["--sealed", str(store)]
        arguments += ["--out", str(out)]

        def heard(line: str) -> None:
            match line.split():
                case ["progress", done, total] if runtime.leads:
                    runtime.report(-1, {PROGRESS: int(done) / int(total)})

        seconds = run_fresh("pgolf.evaluate", arguments, runtime.threads, heard)
        outcome = out / OUTCOME
        if (ended := runtime.agree(outcome.read_text() if outcome.exists() else None)) is not None:
            raise InfeasibleTrial(Infeasible.model_validate_json(str(ended)))
        if not runtime.leads:
            return {}
        (out / "meeting").unlink(missing_ok=True)
        metrics: Metrics = json.loads((out / SCORES).read_text())
        numbers = {name: value for name, value in metrics.items() if name != "breakdown"}
        return {**numbers, "eval_seconds_strict": seconds}

    return Stage(f"evaluate_{split}", 4, run, collective=True)


PREQUANT = Stage("prequant", 2, _prequant)
EVALUATE = evaluate_stage("select")
VALIDATE = evaluate_stage("validation")
