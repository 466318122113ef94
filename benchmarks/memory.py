"""What eval-time memory gains, and what it costs: on networks of several qualities, over the embedded corpus.

One network, trained for a quarter, the whole and four times the steps of `laptop_late`; the first of the select
split, documents in chunks. Every memory over the middle network, and the gates against each other; the learned gate
over all three: what a memory gains falls with what the network knows (PR 1642), and here is how fast. The text is
Python's own source, which repeats itself far more than web text does: gains are of this corpus alone.
"""

from functools import partial

import torch

from pgolf.evaluate.document_chunks import DocumentChunks
from pgolf.evaluate.memories import Memory
from pgolf.evaluate.memory.backoff import Backoff
from pgolf.evaluate.memory.context_mixing import ContextMixing
from pgolf.evaluate.memory.gate import Confidence, Learned, Odds
from pgolf.evaluate.memory.knn import Knn
from pgolf.evaluate.memory.match_model import MatchModel
from pgolf.evaluate.memory.ppm import Ppm
from pgolf.evaluate.memory.token_tilt import TokenTilt
from pgolf.evaluate.memory.unigram_cache import UnigramCache
from pgolf.evaluate.scorer import score
from pgolf.evaluate.stage import probe
from pgolf.formats.checkpoint import Checkpoint
from pgolf.formats.shards import Tokens, read_split
from pgolf.model.gpt import Gpt, assemble
from pgolf.recipes import laptop_late
from pgolf.runtime import Runtime
from pgolf.stage import Store
from pgolf.train.budget import Steps
from pgolf.train.stage import train_stage

TOKENS = 40_000
MODE = DocumentChunks(context=256, chunk=48, rows=32)
STEPS = {"quarter": 0.25, "whole": 1.0, "fourfold": 4.0}
SHARED = {"share_documents": True, "round_tokens": 8192}
MEMORIES: dict[str, Memory] = {
    "tilt_confidence": TokenTilt(gate=Confidence()),
    "tilt_odds": TokenTilt(gate=Odds()),
    "tilt_learned": TokenTilt(gate=Learned()),
    "tilt_learned_two_hints": TokenTilt(hints=2),
    "tilt_learned_shared": TokenTilt(**SHARED),
    "tilt_records": TokenTilt(orders=(16,), gate=Confidence(), **SHARED),
    "match_model": MatchModel(),
    "backoff": Backoff(),
    "ppm": Ppm(),
    "context_mixing": ContextMixing(),
    "unigram_cache": UnigramCache(),
    "knn": Knn(),
    "backoff_always_believed": Backoff(gate=None),
    "ppm_always_believed": Ppm(gate=None),
    "unigram_cache_always_believed": UnigramCache(gate=None),
    "knn_always_believed": Knn(gate=None),
    "tilt_over_unigram_cache": TokenTilt(base=UnigramCache()),
}


def memories(store: Store) -> dict[str, float]:
    """Bits per byte, gains, and seconds in memories for a million targets."""
    rows: dict[str, float] = {}
    for name, share in STEPS.items():
        network, ids, counts = _trained(store, share)
        plain = score(MODE.predictor(network), ids, counts, MODE).verify().bpb
        rows[f"{name}_bpb"] = plain
        for kind, memory in MEMORIES.items():
            if name == "whole" or kind == "tilt_learned":
                predictor = memory.build(MODE.predictor(network))
                made = score(predictor, ids, counts, MODE).verify()
                rows[f"{name}_{kind}_gain_bpb"] = plain - made.bpb
                rows[f"{name}_{kind}_seconds_a_million"] = (
                    predictor.clocks()["memory_seconds"] / made.tokens * 1e6
                )
    return rows


def _trained(store: Store, share: float) -> tuple[Gpt, Tokens, Tokens]:
    config, runtime = laptop_late(), Runtime()
    budget = config.train.budget
    assert isinstance(budget, Steps)
    train = config.train.but(budget=Steps(steps=round(share * budget.steps)))
    tokens = config.data.build(store, runtime)[-1][1]
    stage = train_stage(int(tokens.metrics["vocab_size"]), partial(probe, evaluate=config.evaluate))
    sections = {"model": config.model, "optim": config.optim, "train": train}
    made = stage(store, tokens, runtime=runtime, seed=config.seed, **sections)
    trained = Checkpoint.read(made.path)
    ids, counts = read_split(tokens.path, "select")
    torch.set_num_threads(1)
    network = assemble(trained.model, trained.vocab_size, trained.weights, "cpu")
    return network, ids[:TOKENS], counts[:TOKENS]
