"""Research, outside the rules: byte-level PPM-D mixed with a token's probability spread over its bytes (issue 1872).

As it was submitted: of a token of n bytes and probability P each byte is given P^(1/n), and byte j costs

    -ln(lambda P^(1/n) + (1 - lambda) ppm(byte j | the bytes before it))

where lambda is `sure` if PPM is confident, its likeliest byte having `confident` or more, else `unsure`. P^(1/n) is
a number of the token that came and no distribution over bytes, so neither bytes nor tokens sum to one, and what is
answered here are scores, not log-probabilities: they are what they are, and the scorer's check of sums says by how
much they are wrong.

PPM-D of order 5 without exclusion: share (2 c - 1) / 2 n, escape u / 2 n, at last 1 / 256. It is told what is
observed.
"""

from collections import Counter, defaultdict
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from pgolf.evaluate.memory.grams import tensor
from pgolf.evaluate.memory.remembering import Hints, MemorySection, Remembering
from pgolf.evaluate.predictor import Ask, Predictor


class BytePpm(MemorySection):
    OUTSIDE_RULES: ClassVar[str | None] = (
        "C2: a score of the realized bytes is no normalized distribution (issue 1872)"
    )
    kind: Literal["byte_ppm"] = "byte_ppm"
    research: Literal[True]  # has to be said
    pieces: tuple[str, ...]  # every token's bytes in hex; "" for those without
    order: int = Field(5, ge=1, le=8)  # bytes of a context
    confident: float = Field(0.8, gt=0, lt=1)
    sure: float = Field(0.05, ge=0, le=1)  # the network's part where PPM is confident
    unsure: float = Field(0.9, ge=0, le=1)

    @model_validator(mode="after")
    def _is_of_documents(self) -> "BytePpm":
        self.of_documents_alone("bytes")
        return self

    def over(self, base: Predictor) -> "BytePpmPredictor":
        return BytePpmPredictor(self, base)


class BytePpmPredictor(Remembering):
    def __init__(self, section: BytePpm, base: Predictor) -> None:
        super().__init__(section, base)
        self.pieces = [bytes.fromhex(piece) for piece in section.pieces]
        self.order, self.confident = section.order, section.confident
        self.sure, self.unsure = section.sure, section.unsure

    def forget(self) -> None:
        self.opened()

    def opened(self) -> None:
        self.seen: dict[int, dict[bytes, Counter[int]]] = defaultdict(lambda: defaultdict(Counter))  # by slot

    def mix(self, ask: Ask, below: Float[Tensor, "targets vocab"]) -> Float[Tensor, "targets vocab"]:
        rows: list[np.ndarray] = []
        for row, wanted in enumerate(ask.wanted):
            slot = ask.slots[row] if ask.slots else -1
            for end in range(ask.lengths[row] - wanted, ask.lengths[row]):
                text = self._bytes(ask, row, end + 1)
                rows.append(self._scores(self.seen[slot], text, below[len(rows)].cpu().numpy()))
        return tensor(np.stack(rows), below)

    def _bytes(self, ask: Ask, row: int, end: int) -> bytes:
        """The last bytes of a row's inputs, of their document alone."""
        begin = int(ask.starts[row, :end].nonzero()[-1])
        tail = ask.tokens[row, max(begin, end - self.order) : end].tolist()
        return b"".join(self.pieces[token] for token in tail)[-self.order :]

    def _scores(self, seen: dict[bytes, Counter[int]], text: bytes, log_p: np.ndarray) -> np.ndarray:
        """Of every token after `text`: not normalized."""
        out = log_p.copy()
        for token, piece in enumerate(self.pieces):
            if piece:
                spread, total = float(np.exp(log_p[token] / len(piece))), 0.0
                for at, byte in enumerate(piece):
                    chance, most = self._chance(seen, (text + piece[:at])[-self.order :], byte)
                    part = self.sure if most >= self.confident else self.unsure
                    total += float(np.log(part * spread + (1 - part) * chance))
                out[token] = total
        return out

    def _chance(self, seen: dict[bytes, Counter[int]], context: bytes, byte: int) -> tuple[float, float]:
        """PPM's probability of a byte, and the largest share that its longest context gives."""
        chance, left, most = 0.0, 1.0, 0.0
        for at in range(len(context) + 1):
            counts = seen.get(context[at:])
            if not counts:
                continue
            total = sum(counts.values())
            most = most or (2 * max(counts.values()) - 1) / (2 * total)
            chance += left * max(2 * counts[byte] - 1, 0) / (2 * total)
            left *= len(counts) / (2 * total)
        return chance + left / 256, most

    def tell(self, ask: Ask, targets: Int[Tensor, " targets"]) -> None:
        for row, came in enumerate(targets.split(ask.wanted)):
            text = self._bytes(ask, row, ask.lengths[row] - ask.wanted[row] + 1)
            for byte in b"".join(self.pieces[token] for token in came.tolist()):
                for at in range(len(text) + 1):
                    self.seen[ask.slots[row]][text[at:]][byte] += 1
                text = (text + bytes([byte]))[-self.order :]

    def shown(self) -> Hints:
        return Hints.none()
