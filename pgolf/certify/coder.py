"""A predictor as a compressor: a range coder driven by its answers, one token at a time.

Encoder and decoder share one sequential path: the same `Pass` that scores drives the predictor, adaptation and
memory included, and the distribution of a token is asked for when all before it are known and none after. What the
decoder does not have it cannot use, so a predictor that peeks does not decode; and the coded length is the
predictor's own bits up to the coder's rounding: no token costs it more than 24 bits.

Both sides are deterministic on one kind of machine with one number of threads. On another, float sums may differ in
their last bits, and then nothing decodes; digests tell (pgolf.certify.container).
"""

from collections.abc import Callable, Sequence

import constriction
import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from pgolf.evaluate.drive import Pass, Progress, extent_of, one_by_one
from pgolf.evaluate.mode import Mode
from pgolf.evaluate.predictor import Ask, Predictor
from pgolf.formats.shards import BOS

COSTLIEST_BITS = 24  # the coder's probabilities are multiples of 2^-24, and none is less
Words = NDArray[np.uint32]
Coder = Callable[[int, Float[np.ndarray, " vocab"]], int]  # target's place, probabilities -> the target


def encode(
    predictor: Predictor, mode: Mode, documents: Sequence[Sequence[int]], progress: Progress | None = None
) -> Words:
    """The coded tokens of documents (BOS not included)."""
    encoder = constriction.stream.queue.RangeEncoder()
    whole = [token for document in documents for token in (BOS, *document)]

    def code(place: int, probabilities: Float[np.ndarray, " vocab"]) -> int:
        encoder.encode(whole[place], constriction.stream.model.Categorical(probabilities, perfect=False))
        return whole[place]

    _walk(predictor, mode, [len(d) for d in documents], code, progress)
    return np.asarray(encoder.get_compressed(), dtype=np.uint32)


def decode(
    predictor: Predictor, mode: Mode, lengths: Sequence[int], words: Words, progress: Progress | None = None
) -> list[list[int]]:
    """The documents of `encode`, from the number of tokens of each (BOS not included)."""
    decoder = constriction.stream.queue.RangeDecoder(words)

    def code(place: int, probabilities: Float[np.ndarray, " vocab"]) -> int:
        return int(decoder.decode(constriction.stream.model.Categorical(probabilities, perfect=False)))

    stream = _walk(predictor, mode, lengths, code, progress)
    ends = np.cumsum([1 + n for n in lengths]).tolist()
    return [stream[end - n : end].tolist() for n, end in zip(lengths, ends, strict=True)]


def _walk(
    predictor: Predictor, mode: Mode, lengths: Sequence[int], code: Coder, progress: Progress | None
) -> Int[Tensor, " tokens"]:
    """Let `code` fill in a stream of documents, target by target. It is not given what is still unknown."""
    sizes = np.array([1 + n for n in lengths], dtype=np.int64)
    starts = np.cumsum(sizes) - sizes
    stream = torch.zeros(int(sizes.sum()), dtype=torch.int64)
    if len(stream) < 2:
        stream[starts] = BOS
        return stream
    extent, rounds = extent_of(starts, len(stream), predictor, mode, ranks=1)
    stream[0] = BOS
    stream[starts[1:]] = BOS  # that documents begin there is known, and it is coded all the same
    made = Pass(predictor, extent, rounds, progress=progress)

    def visit(ask: Ask) -> Ask:
        for part in one_by_one(ask, stream):
            with torch.no_grad():
                chances = predictor.log_probs(part).exp().cpu().numpy()
            for place, row in zip(part.positions().tolist(), chances, strict=True):
                stream[place] = code(place, row)
        whole = Ask.of(stream, ask.windows, ask.slots, ask.ends)
        if made.observes(whole):
            predictor.log_probs(whole)
        return whole

    made.run(stream, visit)
    return stream
