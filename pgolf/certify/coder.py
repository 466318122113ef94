"""A predictor as a compressor: a range coder driven by its answers, one token at a time.

Encoder and decoder share one sequential path: the same `Pass` that scores drives the predictor, adaptation and
memory included, and the distribution of a token is asked for when all before it are known and none after. What the
decoder does not have it cannot use, so a predictor that peeks does not decode; and the coded length is the
predictor's own bits up to the coder's rounding, which is to multiples of 2^-24. Tokens that are rarer than 2^-18 are
coded in steps: first that it is one of them, then which, by their chances among themselves, so that these too cost
what they were given, and all others some millionths of a bit.

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

from pgolf.errors import DataError
from pgolf.evaluate.drive import Pass, Progress, extent_of, one_by_one
from pgolf.evaluate.mode import Mode
from pgolf.evaluate.predictor import Ask, Predictor
from pgolf.formats.shards import BOS

RARE = 2.0**-18  # what is less likely is coded in steps
Words = NDArray[np.uint32]
Coder = Callable[[int, Float[np.ndarray, " vocab"]], int]  # target's place, probabilities -> the target


def encode(
    predictor: Predictor, mode: Mode, documents: Sequence[Sequence[int]], progress: Progress | None = None
) -> Words:
    """The coded tokens of documents (BOS not included)."""
    encoder = constriction.stream.queue.RangeEncoder()
    whole = [token for document in documents for token in (BOS, *document)]

    def code(place: int, probabilities: Float[np.ndarray, " vocab"]) -> int:
        step = _Step.first(probabilities)
        while (symbol := step.symbol_of(whole[place])) == step.escape:
            encoder.encode(symbol, step.model)
            step = step.next()
        encoder.encode(symbol, step.model)
        return whole[place]

    _walk(predictor, mode, [len(d) for d in documents], code, progress)
    return np.asarray(encoder.get_compressed(), dtype=np.uint32)


def decode(
    predictor: Predictor, mode: Mode, lengths: Sequence[int], words: Words, progress: Progress | None = None
) -> list[list[int]]:
    """The documents of `encode`, from the number of tokens of each (BOS not included).

    Other words, or another predictor, come to other documents.

    Raises:
        DataError: if they come to what nobody encodes.
    """
    decoder = constriction.stream.queue.RangeDecoder(words)

    def code(place: int, probabilities: Float[np.ndarray, " vocab"]) -> int:
        step = _Step.first(probabilities)
        while (symbol := decoder.decode(step.model)) == step.escape:
            step = step.next()
        return step.token_of(symbol)

    stream = _walk(predictor, mode, lengths, code, progress)
    ends = np.cumsum([1 + n for n in lengths]).tolist()
    return [stream[end - n : end].tolist() for n, end in zip(lengths, ends, strict=True)]


class _Step:
    """One choice of the coder: a likely token, that it is a rare one (`escape`), or what is left, which is nothing."""

    def __init__(self, tokens: NDArray[np.int64], chances: Float[np.ndarray, " tokens"]) -> None:
        """Chances of so many tokens, one at most together."""
        likely = chances >= RARE
        self.tokens, self.rare, self.chances = tokens[likely], tokens[~likely], chances[~likely]
        self.escape = len(self.tokens)
        self.sum = max(float(self.chances.sum()), RARE)
        left = max(1.0 - float(chances[likely].sum()) - self.sum, 0.0)
        weights = np.concatenate([chances[likely], [self.sum, left]])
        self.model = constriction.stream.model.Categorical(weights, perfect=False)

    @staticmethod
    def first(probabilities: Float[np.ndarray, " vocab"]) -> "_Step":
        return _Step(np.arange(len(probabilities)), probabilities.astype(np.float64))

    def next(self) -> "_Step":
        """Among the rare ones. Raises DataError if there is none."""
        if not self.chances.any():
            raise DataError("a token that is coded has a probability above zero", f"{len(self.rare)} have none",
                            "answer with a distribution over the whole vocabulary")  # fmt: skip
        return _Step(self.rare, self.chances / self.sum)

    def symbol_of(self, token: int) -> int:
        at = int(self.tokens.searchsorted(token))
        return at if at < self.escape and self.tokens[at] == token else self.escape

    def token_of(self, symbol: int) -> int:
        """Raises DataError if the symbol stands for nothing."""
        if symbol > self.escape:
            raise DataError("coded words are those of this predictor", "they come to no token",
                            "decode with the artifact and on the kind of machine that encoded")  # fmt: skip
        return int(self.tokens[symbol])


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
        if made.asks_whole(whole):
            predictor.log_probs(whole)
        return whole

    made.run(stream, visit)
    return stream
