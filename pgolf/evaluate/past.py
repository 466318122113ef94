"""Rows of documents whose known positions are not computed again.

What `until` executions made of a row's positions is kept: their keys and values, and where the forward stands
(pgolf.model.cache, pgolf.model.midway). A further ask lets its new positions alone through these executions, then
the whole window through the others. That is exact while a window begins where the one before did. Where it has
moved on, the positions that fell out of it are forgotten, and those that stay keep what they were made of, which
includes some that fell out: new positions attend to their own window alone, as ever, but through older states.
So they see more of their document's past than a forward of the window by itself would show them, and nothing else.

Nothing here is changed in place: whoever asks decides which past goes on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pgolf.evaluate.predictor import Ask
from pgolf.model.adapter import Adapters, Factors
from pgolf.model.cache import Cache
from pgolf.model.gpt import Gpt
from pgolf.model.midway import Midway

FactorsOf = Mapping[str, Factors]  # of one execution, by the name of the matrix


@dataclass(frozen=True)
class Past:
    """Of documents that have got equally far."""

    slots: tuple[int, ...]
    first: int  # where in its document a row begins
    cache: Cache
    midway: Midway

    @property
    def end(self) -> int:
        return self.first + self.cache.known

    def of(self, slots: Sequence[int], first: int) -> "Past":
        """Of some of the documents, from a later position on."""
        cache, midway = self.cache.copy(), self.midway
        if tuple(slots) != self.slots:
            rows = torch.tensor([self.slots.index(slot) for slot in slots], device=midway.x.device)
            cache.select(rows)
            midway = midway.select(rows)
        if first > self.first:
            cache.forget(first - self.first)
            midway = midway.since(first - self.first)
        return Past(tuple(slots), first, cache, midway)


def advanced(
    network: Gpt, pasts: Sequence[Past], ask: Ask, origins: Sequence[int], until: int,
    adapters: Sequence[FactorsOf] = (),
) -> tuple[Float[Tensor, "targets d"], list[Past]]:  # fmt: skip
    """The last states that an ask's distributions are made of, and the pasts that include it.

    The first `until` executions take no gradient.

    Args:
        origins: where each row's document begins in the stream.
        adapters: of every execution, for the ask's rows.
    """
    parts: dict[tuple[int, int], list[int]] = {}
    for row, (slot, origin) in enumerate(zip(ask.slots, origins, strict=True)):
        first = int(ask.windows[row, 0]) - origin
        end = first + ask.lengths[row]
        known = (n for n, p in enumerate(pasts) if slot in p.slots and p.first <= first < p.end < end)
        parts.setdefault((next(known, -1), first), []).append(row)
    states: list[Tensor] = [torch.empty(0)] * len(ask.windows)
    found: list[Past] = []
    for (number, first), rows in parts.items():
        part = ask if len(rows) == len(states) else ask.rows(rows)
        own = adapters if part is ask else [{n: f.rows(rows) for n, f in each.items()} for each in adapters]
        past = pasts[number].of(part.slots, first) if number >= 0 else None
        hidden, past = _through(network, past, part, first, until, own)
        found.append(past)
        for row, state in zip(rows, part.asked(hidden).split(part.wanted), strict=True):
            states[row] = state
    return torch.cat(states), found


def _through(
    network: Gpt, past: Past | None, ask: Ask, first: int, until: int, adapters: Sequence[Adapters]
) -> tuple[Float[Tensor, "rows time d"], Past]:
    cache = Cache() if past is None else past.cache
    tokens, starts = ask.tokens.to(network.device), ask.starts.to(network.device)
    with torch.no_grad():
        midway = network.lower(tokens, starts, until, cache, adapters)
    midway = midway if past is None else past.midway.then(midway)
    above = [{} if step < until else own for step, own in enumerate(adapters)]
    hidden = network.upper(midway, network.layout(starts), above)
    made, lengths = Past(ask.slots, first, cache, midway), ask.lengths
    whole = [slot for slot, n in zip(ask.slots, lengths, strict=True) if n == max(lengths)]
    return hidden, made.of(whole, first)  # shorter rows end here, or stand still: their padding is no past
