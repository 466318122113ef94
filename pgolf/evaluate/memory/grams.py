"""Exact counts of what followed a context, for contexts of several lengths.

A context's name is made of the names of its parts (Karp, Miller and Rosenberg 1972): contexts of n tokens are named by
the pair of names of their first and last k tokens, k the largest power of two below n, which overlap or touch. A pair
of names is one 63-bit integer and gets the next number in a hash table that compares whole keys. So equal names mean
equal contexts, by induction over n: nothing is hashed away and nothing has to be verified afterwards. A context of 16
takes five look-ups where a trie takes sixteen, and all positions of a block are looked up together, at about a
million positions a second for each length.

What followed a context is a list through the pairs (context, token): the pair seen first is at its end. A second
table would be needed to sort them; blocks ask for some thousand contexts, whose lists are walked together.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from pgolf.data.starts import document_starts, positions_in_segment
from pgolf.evaluate.predictor import Ask

Array = NDArray[np.int64]
TOKEN_BITS, NAME_BITS = 16, 31
MIX = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio
FIRST_SLOTS = 256


class Index:
    """Numbers 0, 1, ... for int64 keys: open addressing, at most half full, numbers in the order of arrival.

    Keys that arrive together are numbered in ascending order.
    """

    def __init__(self) -> None:
        self.count = 0
        self.keys = np.zeros(FIRST_SLOTS, dtype=np.int64)  # by number
        self._slots = np.full(2 * FIRST_SLOTS, -1, dtype=np.int64)  # numbers, or -1

    def find(self, keys: Array) -> Array:
        """The keys' numbers, -1 for those that never came."""
        found = np.full(len(keys), -1, dtype=np.int64)
        todo, at = np.arange(len(keys)), self._home(keys)
        while len(todo):
            numbers = self._slots[at]
            equal = (numbers >= 0) & (self.keys[numbers] == keys)
            found[todo[equal]] = numbers[equal]
            on = (numbers >= 0) & ~equal
            todo, keys, at = todo[on], keys[on], self._next(at[on])
        return found

    def add(self, keys: Array) -> Array:
        """The keys' numbers, new ones where there were none."""
        unique, inverse = np.unique(keys, return_inverse=True)
        numbers = self.find(unique)
        new = numbers < 0
        numbers[new] = self.count + np.arange(new.sum())
        self.keys = grown(self.keys, self.count + int(new.sum()), 0)
        self.keys[self.count : self.count + new.sum()] = unique[new]
        self.count += int(new.sum())
        if 2 * self.count > len(self._slots):
            self._slots = np.full(4 * len(self.keys), -1, dtype=np.int64)
            self._place(np.arange(self.count))
        else:
            self._place(numbers[new])
        return numbers[inverse]

    def _place(self, numbers: Array) -> None:
        at = self._home(self.keys[numbers])
        while len(numbers):
            free = self._slots[at] < 0
            self._slots[at[free]] = numbers[free]  # of those that want one slot the last has it
            lost = self._slots[at] != numbers
            at, numbers = self._next(at[lost]), numbers[lost]

    def _home(self, keys: Array) -> Array:
        bits = np.uint64(64 - (len(self._slots).bit_length() - 1))
        return ((keys.astype(np.uint64) * MIX) >> bits).astype(np.int64)

    def _next(self, at: Array) -> Array:
        return (at + 1) & (len(self._slots) - 1)


def grown(array: Array, length: int, fill: int) -> Array:
    """The array, or one of twice to four times the length that begins like it."""
    if length <= len(array):
        return array
    more = np.full(1 << (2 * length - 1).bit_length(), fill, dtype=array.dtype)
    more[: len(array)] = array
    return more


@dataclass(frozen=True)
class Followers:
    """What followed some contexts: one entry for every context (by its row) and token."""

    rows: Array
    tokens: Array
    counts: Array
    last: Array  # place in the stream where the token did so last

    @staticmethod
    def joined(parts: Sequence["Followers"]) -> "Followers":
        """Counts of several tables added up."""
        if len(parts) == 1:
            return parts[0]
        key = np.concatenate([p.rows << TOKEN_BITS | p.tokens for p in parts])
        unique, inverse = np.unique(key, return_inverse=True)
        counts, last = np.zeros(len(unique), dtype=np.int64), np.full(len(unique), -1, dtype=np.int64)
        np.add.at(counts, inverse, np.concatenate([p.counts for p in parts]))
        np.maximum.at(last, inverse, np.concatenate([p.last for p in parts]))
        return Followers(unique >> TOKEN_BITS, unique & ((1 << TOKEN_BITS) - 1), counts, last)

    def of(self, rows: NDArray[np.bool_]) -> "Followers":
        """Those of some rows."""
        kept = rows[self.rows]
        return Followers(self.rows[kept], self.tokens[kept], self.counts[kept], self.last[kept])

    def totals(self, rows: int) -> Array:
        """How often each of so many rows' contexts was seen."""
        return np.bincount(self.rows, self.counts, rows).astype(np.int64)

    def kinds(self, rows: int) -> Array:
        """How many tokens followed each."""
        return np.bincount(self.rows, minlength=rows)


class Counts:
    """Of contexts of one length, by name."""

    def __init__(self) -> None:
        self.pairs = Index()
        self._count, self._last, self._next, self._head = (np.zeros(0, dtype=np.int64) for _ in range(4))

    def add(self, contexts: Array, tokens: Array, places: Array) -> None:
        """Tokens that followed contexts at places in the stream."""
        before = self.pairs.count
        numbers = self.pairs.add(contexts << TOKEN_BITS | tokens)
        now = self.pairs.count
        self._count, self._last = grown(self._count, now, 0), grown(self._last, now, -1)
        np.add.at(self._count, numbers, 1)
        np.maximum.at(self._last, numbers, places)
        self._next = grown(self._next, now, -1)
        self._head = grown(self._head, int(contexts.max(initial=-1)) + 1, -1)
        new = self.pairs.keys[before:now] >> TOKEN_BITS  # ascending, since new pairs are numbered so
        first = np.diff(new, prepend=-1) != 0
        self._next[before:now] = np.where(first, self._head[new], np.arange(before - 1, now - 1))
        end = np.diff(new, append=-1) != 0
        self._head[new[end]] = np.arange(before, now)[end]

    def followers(self, contexts: Array) -> Followers:
        """Of contexts by name, -1 for one that has none."""
        rows = np.flatnonzero((contexts >= 0) & (contexts < len(self._head)))
        at = self._head[contexts[rows]] if len(rows) else rows
        found: list[tuple[Array, Array]] = []
        while len(rows := rows[at >= 0]):
            at = at[at >= 0]
            found.append((rows, at))
            at = self._next[at]
        rows = np.concatenate([r for r, _ in found]) if found else np.zeros(0, dtype=np.int64)
        numbers = np.concatenate([n for _, n in found]) if found else rows
        tokens = self.pairs.keys[numbers] & ((1 << TOKEN_BITS) - 1)
        return Followers(rows, tokens, self._count[numbers], self._last[numbers])


@dataclass(frozen=True)
class Text:
    """Rows of inputs on the right of a block, and which of their places have a next token to be asked for or told."""

    tokens: Array  # [rows, width]
    depth: Array  # [rows, width] inputs since the document's start, itself included; 0: there is no input
    owner: Array  # [rows] whose text it is: contexts of different owners differ
    asked: NDArray[np.bool_]  # [rows, width]

    @staticmethod
    def of(ask: Ask, longest: int, owners: bool) -> "Text":
        """As much of each row as contexts of up to `longest` tokens need."""
        lengths, wanted = np.array(ask.lengths), np.array(ask.wanted)
        width = int(wanted.max()) + longest - 1
        at = lengths[:, None] - width + np.arange(width)  # ends of rows go to the right
        inside, at = at >= 0, np.maximum(at, 0)
        tokens = np.take_along_axis(ask.tokens.numpy(), at, 1)
        depth = np.take_along_axis(positions_in_segment(ask.starts).numpy() + 1, at, 1)
        owner = np.array(ask.slots if owners else np.zeros(len(lengths)), dtype=np.int64)
        asked = np.arange(width) >= width - wanted[:, None]
        return Text(tokens, np.where(inside, depth, 0), owner, asked)

    @staticmethod
    def of_piece(piece: Int[Tensor, " tokens"]) -> "Text":
        """All of a stretch of the stream but its last token, which nothing follows."""
        inputs = piece[:-1].unsqueeze(0)
        depth = positions_in_segment(document_starts(inputs)) + 1
        asked = np.ones((1, inputs.shape[1]), dtype=bool)
        return Text(inputs.numpy(), depth.numpy(), np.zeros(1, dtype=np.int64), asked)


class Grams:
    """Counts for contexts of several lengths, none of which crosses the start of a document.

    The context of no tokens is everything that its owner was told.
    """

    def __init__(self, orders: Iterable[int]) -> None:
        self.orders = tuple(sorted(orders))
        parts = set(self.orders[:1])
        for order in self.orders:
            while order > 1:
                parts |= {order, _half(order)}
                order = _half(order)
        self._names = {length: Index() for length in sorted(parts)}
        self._counts = {order: Counts() for order in self.orders}

    def contexts(self, text: Text, new: bool = False) -> dict[int, Array]:
        """For every order the names of the contexts that are asked for, row after row; -1 for what has none."""
        names: dict[int, Array] = {}
        for length, index in self._names.items():
            if length < 2:
                known = text.depth > 0
                keys = text.owner[:, None] << TOKEN_BITS | text.tokens * length
            else:
                back = length - _half(length)
                late = names[_half(length)]
                early = np.full_like(late, -1)
                early[:, back:] = late[:, :-back]
                known = (text.depth >= length) & (early >= 0) & (late >= 0)
                keys = early << NAME_BITS | late
            found = np.full(text.tokens.shape, -1, dtype=np.int64)
            found[known] = (index.add if new else index.find)(keys[known])
            names[length] = found
        return {order: names[order][text.asked] for order in self.orders}

    def add(self, text: Text, tokens: Array, places: Array) -> None:
        """The tokens that followed, with their places in the stream."""
        for order, contexts in self.contexts(text, new=True).items():
            known = contexts >= 0
            self._counts[order].add(contexts[known], tokens[known], places[known])

    def followers(self, order: int, contexts: Array) -> Followers:
        return self._counts[order].followers(contexts)


def _half(length: int) -> int:
    """The largest power of two below a length."""
    return int(1 << ((length - 1).bit_length() - 1))


def told(ask: Ask, targets: Int[Tensor, " targets"]) -> tuple[Array, Array]:
    """Targets and their places in the stream."""
    return targets.cpu().numpy().astype(np.int64), ask.positions()


def tensor(array: Any, like: Tensor) -> Tensor:
    """An array where a tensor is."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(like.device)
