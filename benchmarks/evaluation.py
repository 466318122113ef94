"""Evaluation: what batching, kept states and balanced schedules save, as ratios within one run."""

import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pgolf.evaluate.document_chunks import DocumentChunks
from pgolf.evaluate.mode import Mode
from pgolf.evaluate.predictor import Extent, Windows
from pgolf.evaluate.schedule import OVERHEAD_POSITIONS, Batch, Step, grouped, shares
from pgolf.evaluate.scorer import score
from pgolf.evaluate.sliding import Sliding
from pgolf.evaluate.ttt.document_lora import DocumentLora
from pgolf.formats.shards import BOS
from pgolf.model.attention import Attention
from pgolf.model.gpt import Gpt, GptConfig

VOCAB = 512
LORA = DocumentLora(rank=8, alpha=16.0)

# What is told of the 50,000 validation documents and of how records went through them (PR 1855)
TOKENS, DOCUMENTS, LONGEST = 47_850_000, 50_000, 64
KNOTS = [(1, 97_114), (LONGEST, 30_339), (463, 8_000), (1_296, 3_800), (2_960, 2_550)]  # of rank and length
MIDDLE, LAST = 20_000, (DOCUMENTS, 90)
ROUNDS = [0, 1_296, 2_128, 2_960, DOCUMENTS]  # documents by then, longest first
RANKS, CHUNK, CONTEXT, ROWS = 8, 48, 2048, 64


def evaluation() -> dict[str, float]:
    return {
        "one_document_over_batched_lora": _alone_over_batched(),
        "recomputed_over_kept_lower": _recomputed_over_kept(),
        **_windows(),
        **scheduling(),
    }


def scheduling() -> dict[str, float]:
    """Simulated on eight ranks, in rounds of the longest documents first: full batches of 64, which ranks take
    when they are free, as records did, against batches of even cost, whose ranks are known beforehand."""
    lengths, rows = document_lengths(), {}
    for name, edges in (("in_rounds", ROUNDS), ("at_once", [0, DOCUMENTS])):
        spans = list(pairwise(edges))
        records = [max(_taken(_full(lengths[a:b]))) for a, b in spans]
        loads = [_balanced(lengths[a:b]) for a, b in spans]
        ours = [max(load) for load in loads]
        rows[f"records_over_balanced_makespan_{name}"] = sum(records) / sum(ours)
        rows[f"balanced_makespan_over_mean_{name}"] = sum(ours) / sum(float(np.mean(load)) for load in loads)
        if name == "in_rounds":
            rows["records_share_of_longest_6_percent"] = sum(records[:3]) / sum(records)
            rows["balanced_share_of_longest_6_percent"] = sum(ours[:3]) / sum(ours)
            rows["work_share_of_longest_6_percent"] = sum(_cost(lengths[a:b]) for a, b in spans[:3]) / sum(
                _cost(lengths[a:b]) for a, b in spans
            )
    return rows


def document_lengths() -> NDArray[np.int64]:
    """Longest first. Log-linear between what is known of the length by its rank: the extremes of the longest 64
    (30,339 .. 97,114 tokens), about 5.2k tokens for the shortest 833 of the longest 1,296, about 3.1k down to
    2,960 (9.4M tokens in the 2,500 that the last phase learned from), about a hundred for the shortest batches;
    and, at rank 20,000, what makes all of them 47.85M tokens."""
    low, high = 90.0, 2_500.0
    for _ in range(50):
        middle = (low + high) / 2
        if _curve(middle).sum() < TOKENS:
            low = middle
        else:
            high = middle
    return _curve(low)


def _curve(middle: float) -> NDArray[np.int64]:
    ranks, lengths = np.log(np.array([*KNOTS, (MIDDLE, middle), LAST], dtype=np.float64)).T
    found: NDArray[np.int64] = (
        np.exp(np.interp(np.log(np.arange(1, DOCUMENTS + 1)), ranks, lengths)).round().astype(np.int64)
    )
    return found


def _cost(lengths: NDArray[np.int64]) -> float:
    """Of a batch, step by step: so many positions as rows that go on see, and the overhead."""
    steps = np.sort(-(-lengths // CHUNK))
    number = np.arange(1, steps[-1] + 1)
    going = len(steps) - np.searchsorted(steps, number, side="left")
    return float((OVERHEAD_POSITIONS + going * np.minimum(number * CHUNK, CONTEXT)).sum())


def _full(lengths: NDArray[np.int64]) -> list[float]:
    return [_cost(lengths[at : at + ROWS]) for at in range(0, len(lengths), ROWS)]


def _taken(costs: list[float]) -> list[float]:
    """Each batch goes to the rank that is free first."""
    load = [0.0] * RANKS
    for cost in costs:
        load[int(np.argmin(load))] += cost
    return load


def _balanced(lengths: NDArray[np.int64]) -> list[float]:
    steps = -(-lengths // CHUNK)
    positions = np.minimum(np.arange(1, steps.max() + 1) * CHUNK, CONTEXT).cumsum()[steps - 1].tolist()
    made = grouped(list(range(len(lengths))), steps.tolist(), positions, ROWS, RANKS)
    own = shares([cost for _, cost in made], RANKS)
    return [sum(_cost(lengths[made[i][0]]) for i in part) for part in own]


def _alone_over_batched() -> float:
    """48 documents of 60 to 120 tokens, a rank 8 adapter on every layer."""
    tokens = _documents(np.random.default_rng(0).integers(60, 120, 48))
    mode = DocumentChunks(context=128, chunk=16, rows=48, ttt=LORA)
    return _ratio(lambda: _scored(mode.but(rows=1), tokens), lambda: _scored(mode, tokens))


def _recomputed_over_kept() -> float:
    """Adapters on the last of six layers and the head, documents of 768 tokens in chunks of 16."""
    tokens = _documents(np.full(8, 768))
    mode = DocumentChunks(context=768, chunk=16, rows=8, ttt=LORA.but(upper=1))
    kept = mode.but(ttt=LORA.but(upper=1, cache_lower=True))
    return _ratio(lambda: _scored(mode, tokens), lambda: _scored(kept, tokens))


class _Single(Sliding):
    """The same windows, each by itself."""

    def rounds(self, extent: Extent, wanted: object, ranks: int = 1) -> list[list[Batch]]:
        return [_singly(self.plan(extent.tokens))]


class _Naive(Sliding):
    """A forward for each target: all that it may see is computed again."""

    def rounds(self, extent: Extent, wanted: object, ranks: int = 1) -> list[list[Batch]]:
        ends = np.arange(1, extent.tokens)
        return [_singly(np.stack([np.maximum(ends - self.context, 0), ends, ends + 1], axis=1))]


def _singly(windows: Windows) -> list[Batch]:
    return [Batch((), [Step(windows[at : at + 1])], 1.0) for at in range(len(windows))]


def _windows() -> dict[str, float]:
    """Windows of 64, stride 16, over 8 documents of 250 tokens: as they are scored, in batches; one by one; and
    naively, where each of the 1,999 targets has a forward of its own over the up to 64 inputs before it."""
    tokens, windows = _documents(np.full(8, 250)), {"context": 64, "stride": 16}
    runs = [[_scored(mode(**windows), tokens) for mode in (_Naive, _Single, Sliding)] for _ in range(2)]
    naive, single, batched = (min(seconds) for seconds in zip(*runs, strict=True))
    return {
        "forward_a_target_over_batched_sliding": naive / batched,
        "one_window_over_batched_sliding": single / batched,
    }


def _documents(lengths: NDArray[np.int64]) -> NDArray[np.uint16]:
    tokens = np.random.default_rng(1).integers(2, VOCAB, int(lengths.sum())).astype(np.uint16)
    tokens[lengths.cumsum() - lengths] = BOS
    return tokens


def _network() -> Gpt:
    return (
        GptConfig(layers=6, width=96, attention=Attention(heads=4, kv_heads=2)).build(VOCAB).reset(0).eval()
    )


def _scored(mode: Mode, tokens: NDArray[np.uint16]) -> float:
    """Seconds of scoring and adapting."""
    network = _network()
    predictor = mode.predictor(network)
    began = time.perf_counter()
    score(predictor, tokens, np.ones_like(tokens), mode)
    return time.perf_counter() - began


def _ratio(slow: Callable[[], float], fast: Callable[[], float]) -> float:
    """Of the least seconds of two runs each."""
    pairs = [(slow(), fast()) for _ in range(2)]
    return min(pair[0] for pair in pairs) / min(pair[1] for pair in pairs)
