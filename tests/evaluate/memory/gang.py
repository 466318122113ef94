"""One rank of a gang: `torchrun ... -m tests.evaluate.memory.gang OUT` scores with every memory that shares."""

import json
import sys
from pathlib import Path

import numpy as np

from pgolf.evaluate.document_chunks import DocumentChunks
from pgolf.evaluate.memories import Memory
from pgolf.evaluate.memory.backoff import Backoff
from pgolf.evaluate.memory.context_mixing import ContextMixing
from pgolf.evaluate.memory.gate import Odds
from pgolf.evaluate.memory.knn import Knn
from pgolf.evaluate.memory.match_model import MatchModel
from pgolf.evaluate.memory.ppm import Ppm
from pgolf.evaluate.memory.remembering import arrays_of
from pgolf.evaluate.memory.token_tilt import TokenTilt
from pgolf.evaluate.memory.trust import Trust
from pgolf.evaluate.memory.unigram_cache import UnigramCache
from pgolf.evaluate.mode import Mode
from pgolf.evaluate.ranks import Ranks
from pgolf.evaluate.scorer import score
from pgolf.evaluate.sliding import Sliding
from pgolf.rules import Gang
from pgolf.runtime import Runtime
from tests.evaluate.memory.laws import CHEAP, text

SHARED = {"share_documents": True, "round_tokens": 100}
MEMORIES: dict[str, Memory] = {
    "token_tilt": TokenTilt(orders=(1, 2, 4), hints=2, **SHARED),
    "odds": TokenTilt(orders=(2, 3), gate=Odds(), document=False, **SHARED),
    "match_model": MatchModel(lengths=(2, 3, 5), **SHARED),
    "backoff": Backoff(orders=(1, 3), discount=0.2, **SHARED),
    "ppm": Ppm(orders=(2, 4), **SHARED),
    "trust": Backoff(orders=(1, 2), alpha=0.5, document=False, gate=Trust(share_rate=0.05), **SHARED),
    "context_mixing": ContextMixing(orders=(1, 2), **SHARED),
    "unigram_cache": UnigramCache(strength=0.1, rate=0.05, **SHARED),
    "chain": TokenTilt(orders=(3,), base=Knn(), **SHARED),
}
MODES: dict[str, Mode] = {
    "documents": DocumentChunks(context=40, chunk=6, rows=3),
    "windows": Sliding(context=24, stride=7),
}


def work(ranks: Ranks) -> dict[str, dict[str, object]]:
    """By memory and mode: the scores, the ledger's order, and the log."""
    out: dict[str, dict[str, object]] = {}
    ids = text(8, 340).astype(np.uint16)
    for name, memory in MEMORIES.items():
        for where, mode in MODES.items():
            if where == "windows" and any(m.needs_documents for m in memory.chain):
                continue
            predictor = memory.build(CHEAP)
            made = score(predictor, ids, np.ones_like(ids), mode, ranks, noted=predictor.noted)
            logs = arrays_of(ranks.gather(predictor.events()))  # type: ignore[arg-type]
            made.verify()
            out[f"{name} {where}"] = {
                "nll": made.nll.tolist(), "order": made.audit().order, "rounds": made.audit().rounds,
                "pos": logs["pos"].tolist(), "gated": logs["gated"].tolist(), "beta": logs["beta"].tolist(),
                "dloss": logs["total_dloss"].tolist(),
            }  # fmt: skip
    return out


def main(out: Path) -> None:
    runtime = Runtime.local(Gang(ranks=2))
    with runtime.joined():
        made = work(Ranks(runtime.rank, 2))
    (out / f"{runtime.rank}.json").write_text(json.dumps(made))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
