"""Evaluations that adapt, small ones: a network, a stream of documents, and a mode for every kind."""

from functools import cache

import numpy as np
import torch

from pgolf.evaluate.document_chunks import DocumentChunks
from pgolf.evaluate.drive import Pass, extent_of, starts_of
from pgolf.evaluate.mode import Mode
from pgolf.evaluate.predictor import Ask
from pgolf.evaluate.scorer import Scores, score
from pgolf.evaluate.sliding import Sliding
from pgolf.evaluate.ttt.document_lora import DocumentLora
from pgolf.evaluate.ttt.phased import Phased
from pgolf.evaluate.ttt.row_optimizer import AdamW, RmsProp, RowMuon
from pgolf.evaluate.ttt.stream_sgd import StreamSgd
from pgolf.model.gpt import Gpt, GptConfig
from pgolf.model.recurrence import Recurrence
from tests.nets import network, small, stream

TOKENS = stream(2, 120, 6)[0].numpy().astype(np.uint16)
COUNTS = np.where(TOKENS == 1, 0, TOKENS % 5 + 1).astype(np.uint16)
STARTS = starts_of(TOKENS)
LENGTHS = np.diff([*STARTS, len(TOKENS) - 1])

SGD = {"sequence_tokens": 12, "rows": 2, "lr": 0.05}
LORA = DocumentLora(rank=3, alpha=4.0, lr=0.01)
EVERYWHERE = LORA.but(targets=("q", "k", "v", "o", "up", "down", "head"), optimizer=RmsProp(), lr=0.003)


def chunks(ttt: object = None, **changes: object) -> DocumentChunks:
    return DocumentChunks.model_validate({"context": 16, "chunk": 6, "rows": 3, "ttt": ttt} | changes)


def fine(**changes: object) -> Sliding:
    """Windows of the stream in so many batches that two ranks have some each."""
    return Sliding(context=16, stride=2, ttt=StreamSgd.model_validate(SGD | {"chunk_tokens": 40} | changes))


ADAMW = AdamW(beta1=0.8, beta2=0.95, eps=1e-3, weight_decay=1.0)
MUON = RowMuon(momentum=0.8, newton_schulz_steps=3, weight_decay=0.5)
PHASED = Phased(**SGD, chunk_tokens=24, phases=2, prefix_documents=5, lora=LORA)
MODES: dict[str, Mode] = {
    "lora": chunks(LORA),
    "lora-everywhere": chunks(EVERYWHERE, short_chunks=((30, 4),)),
    "lora-cosine": chunks(LORA.but(cosine=True, grad_steps=2)),
    "lora-lower": chunks(LORA.but(upper=2, cache_lower=True)),
    "lora-warm": chunks(LORA.but(warm_a=True)),
    "phased": chunks(PHASED),
    "phased-longest": chunks(PHASED, order="longest"),
    "phased-alone": chunks(PHASED.but(lora=None, prefix_tokens=60, epochs=2)),
    "stream": Sliding(context=16, stride=4, ttt=StreamSgd(**SGD, chunk_tokens=40)),
    "stream-fine": fine(),
    "stream-adamw": fine(optimizer=ADAMW, lr=0.01),
    "stream-rmsprop": fine(optimizer=RmsProp(beta2=0.9, eps=1e-3, weight_decay=0.5), lr=0.003),
    "stream-muon": fine(optimizer=MUON, lr=0.02),
    "stream-documents": chunks(
        StreamSgd(**SGD, chunk_tokens=40, freeze_first=1, parameters="no_embedding", clip_norm=99.0)
    ),
}


def looped() -> GptConfig:
    """Layer 1 is executed twice."""
    return small(recurrence=Recurrence(first=1, last=1, passes=2))


def net(config: GptConfig | None = None) -> Gpt:
    return network(config or looped(), std=0.3)


@cache
def usual(name: str) -> Scores:
    """Of the mode of this name, once."""
    return scored(MODES[name])


def scored(mode: Mode, tokens: np.ndarray = TOKENS, built: Gpt | None = None) -> Scores:
    """Raises unless it is lawful."""
    counts = np.ones(len(tokens), dtype=np.uint16)
    return score(mode.predictor(built or net()), tokens, counts, mode).verify()


def grown(mode: Mode, tokens: np.ndarray = TOKENS) -> np.ndarray:
    """Nats by target, asked one position at a time as a coder does."""
    predictor, nll = mode.predictor(net()), np.zeros(len(tokens))
    stream_ = torch.from_numpy(tokens.astype(np.int64))

    def visit(ask: Ask) -> Ask:
        for ahead in range(1, max(ask.wanted) + 1):
            windows = np.stack([[c, b, b + ahead] for c, b, e in ask.windows.tolist() if b + ahead <= e])
            rows = [row for row, n in enumerate(ask.wanted) if n >= ahead]
            slots, ends = ([part[row] for row in rows] if part else () for part in (ask.slots, ask.ends))
            part = Ask.of(stream_, windows, slots, ends, growing=True)
            answers = predictor.log_probs(part).split(part.wanted)
            for (_, _, end), answer in zip(windows.tolist(), answers, strict=True):
                nll[end - 1] = -answer[-1, stream_[end - 1]]
        predictor.log_probs(ask)
        return ask

    extent, rounds = extent_of(starts_of(tokens), len(tokens), predictor, mode, 1)
    Pass(predictor, extent, rounds).run(stream_, visit)
    return nll
