"""A continuous cache (Grave, Joulin and Usunier 2017; kNN-LM within one document): what came where the state was alike.

    p'(y) = (1 - lambda) p(y) + lambda sum over scored i of [y came at i] softmax_i(sharpness cos(h, h_i))

over the last states h of the document's scored positions, the latest `window` of them. lambda is `mix` times the
share of the kernel's own maximum that the nearest neighbour reaches, exp(sharpness (cos - 1)) to the power of `care`:
far from everything that was seen the network is left alone. States are the adapting network's, as they were when
scored.
"""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from pgolf.evaluate.memory.grams import Array
from pgolf.evaluate.memory.remembering import Hints, MemorySection
from pgolf.evaluate.memory.trust import Balance, Trust, Trusting
from pgolf.evaluate.predictor import Ask, Predictor

NEAR = (0.05, 0.2, 0.5)  # shares of the kernel's own maximum where buckets end


class Knn(MemorySection):
    kind: Literal["knn"] = "knn"
    mix: float = Field(0.25, gt=0, lt=1)
    sharpness: float = Field(80.0, gt=0)
    care: float = Field(0.3, ge=0)
    window: int = Field(4096, ge=1)  # states of a document that are kept
    gate: Trust | None = Trust()

    @model_validator(mode="after")
    def _is_of_documents(self) -> "Knn":
        self.of_documents_alone("states (of other ranks' documents they are never told)")
        return self

    def over(self, base: Predictor) -> "KnnPredictor":
        return KnnPredictor(self, base)


class KnnPredictor(Trusting):
    def __init__(self, section: Knn, base: Predictor) -> None:
        super().__init__(section, base)
        self.most, self.sharpness, self.care = section.mix, section.sharpness, section.care
        self.window = section.window
        self.balance = Balance.of(section.gate, len(NEAR) + 1)

    def forget(self) -> None:
        super().forget()
        self.opened()

    def opened(self) -> None:
        super().opened()
        self.keys: dict[int, Tensor] = {}  # slot -> [seen, d] states of length one
        self.tokens: dict[int, Tensor] = {}
        self.places: dict[int, Tensor] = {}  # in the stream

    def believed(self, ask: Ask, below: Float[Tensor, "targets vocab"]) -> Float[Tensor, "targets vocab"]:
        states = torch.nn.functional.normalize(self.base.states().double(), dim=1)
        self.queries, parts = states, []
        self.caches: list[tuple[int, Tensor, Tensor]] = []  # first target, its distributions, nearest places
        self.near = np.full(ask.targets, -1)
        first = 0
        slots = ask.slots or (-1,) * len(ask.windows)
        for slot, p, h in zip(slots, below.split(ask.wanted), states.split(ask.wanted), strict=True):
            first += len(p)
            if slot not in self.keys:
                parts.append(p)
                continue
            alike = h @ self.keys[slot].T
            share = (self.sharpness * alike).softmax(1)
            nearest = alike.max(1)
            mix = self.most * (self.sharpness * self.care * (nearest.values - 1)).exp().unsqueeze(1)
            came, which = self.tokens[slot].unique(return_inverse=True)
            cache = torch.zeros_like(p)
            ones = torch.nn.functional.one_hot(which).to(share.dtype)
            cache[:, came] = share @ ones  # the same sum every time
            reached = (self.sharpness * (nearest.values - 1)).exp().cpu().numpy()
            self.near[first - len(p) : first] = np.searchsorted(NEAR, reached)
            self.caches.append((first - len(p), cache, self.places[slot][nearest.indices]))
            parts.append(((1 - mix) * p.exp() + mix * cache).log())
        return torch.cat(parts)

    def tell(self, ask: Ask, targets: Int[Tensor, " targets"]) -> None:
        super().tell(ask, targets)
        places = torch.from_numpy(ask.positions()).to(self.queries.device)
        told = (self.queries, targets.to(self.queries.device), places)
        for row, news in enumerate(zip(*(x.split(ask.wanted) for x in told), strict=True)):
            slot = ask.slots[row]
            for kept, new in zip((self.keys, self.tokens, self.places), news, strict=True):
                kept[slot] = (torch.cat([kept[slot], new]) if slot in kept else new)[-self.window :]

    def sureness(self, ask: Ask) -> Array:
        """How near the nearest neighbour is."""
        return self.near

    def shown(self) -> Hints:
        """The likeliest token of each cache; last seen is where the state was nearest."""
        parts = []
        for first, cache, places in self.caches:
            conf, token = (x.cpu().numpy() for x in cache.max(1))
            rows = first + np.arange(len(cache))
            one = np.ones(len(rows), dtype=np.int64)
            parts.append(Hints(rows, token, conf, 0 * one, one, one, places.cpu().numpy()))
        return Hints.joined(parts)
