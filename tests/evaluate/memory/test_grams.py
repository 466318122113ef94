"""Counts of contexts against counting with tuples."""

from collections import Counter, defaultdict

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from pgolf.data.starts import document_starts
from pgolf.evaluate.memory.grams import Grams, Index, Text
from pgolf.evaluate.predictor import Ask
from tests.nets import BOS

KEYS = st.lists(st.integers(0, 2**62), max_size=60)


@given(parts=st.lists(KEYS, max_size=5), asked=KEYS)
def test_an_index_numbers_keys_as_they_arrive(parts, asked):
    index, known = Index(), {}
    for part in parts:
        got = index.add(np.array(part, dtype=np.int64))
        for key in sorted(set(part) - known.keys()):
            known[key] = len(known)
        assert got.tolist() == [known[key] for key in part]
    assert index.find(np.array(asked, dtype=np.int64)).tolist() == [known.get(key, -1) for key in asked]


def test_an_index_grows():
    keys = np.random.default_rng(0).permutation(1 << 14).astype(np.int64) << 40
    index = Index()
    for part in np.split(keys, 16):
        index.add(part)
    assert index.count == len(keys)
    assert (index.keys[index.find(keys)] == keys).all()
    assert (index.find(keys + 1) == -1).all()


def test_keys_that_want_one_slot_are_told_apart():
    """As many as have one hash in a small table."""
    index = Index()
    homes = index._home(np.arange(1 << 16, dtype=np.int64))
    crowd = np.flatnonzero(homes == homes[0]).astype(np.int64)[:40]
    assert len(crowd) == 40
    assert index.add(crowd).tolist() == list(range(40))
    assert index.find(crowd).tolist() == list(range(40))
    rest = np.flatnonzero(homes == homes[0]).astype(np.int64)[40:]
    assert (index.find(rest) == -1).all()


def slow(
    pieces: list[tuple[int, list[int]]], order: int
) -> dict[tuple[int, ...], dict[int, tuple[int, int]]]:
    """For every context the tokens that followed it: how often, and where last. `pieces`: (place, tokens)."""
    counts: dict = defaultdict(Counter)
    last: dict = {}
    for begin, tokens in pieces:
        for at in range(1, len(tokens)):
            context = tuple(tokens[max(at - order, 0) : at])
            crosses = BOS in context[1:]  # a document begins inside the context
            if at >= order and not crosses:
                counts[context][tokens[at]] += 1
                last[context, tokens[at]] = max(last.get((context, tokens[at]), -1), begin + at)
    return {c: {t: (n, last[c, t]) for t, n in of.items()} for c, of in counts.items()}


TOKENS = st.lists(st.integers(1, 4), min_size=2, max_size=60)


@given(pieces=st.lists(TOKENS, min_size=1, max_size=4), orders=st.sets(st.integers(1, 9), min_size=1, max_size=4),
       asked=TOKENS)  # fmt: skip
def test_counts_are_those_of_counting(pieces, orders, asked):
    grams, at, placed = Grams(orders), 0, []
    for tokens in pieces:
        piece = torch.tensor(tokens)
        grams.add(Text.of_piece(piece), piece[1:].numpy(), np.arange(at + 1, at + len(tokens)))
        placed.append((at, tokens))
        at += len(tokens)
    text = torch.tensor(asked)
    for order, names in grams.contexts(Text.of_piece(text)).items():
        found, expected = grams.followers(order, names), slow(placed, order)
        got = defaultdict(dict)
        for row, token, count, last in zip(found.rows, found.tokens, found.counts, found.last, strict=True):
            assert token not in got[row]
            got[row][token] = (count, last)
        for row in range(len(asked) - 1):
            context = tuple(asked[max(row + 1 - order, 0) : row + 1])
            fits = row + 1 >= order and BOS not in context[1:]
            assert got[row] == (expected.get(context, {}) if fits else {})


@given(data=st.data(), longest=st.integers(1, 7))
def test_rows_of_a_block_have_the_contexts_of_their_documents(data, longest):
    """However rows differ in length and in what is asked of them; and each owner has contexts of its own."""
    stream = torch.tensor([1, *data.draw(st.lists(st.integers(1, 4), min_size=12, max_size=30))])
    rows = []
    for _ in range(data.draw(st.integers(1, 3))):
        begin = data.draw(st.integers(1, len(stream) - 1))
        context = data.draw(st.integers(0, begin - 1))
        rows.append((context, begin, data.draw(st.integers(begin + 1, len(stream)))))
    ask = Ask.of(stream, np.array(rows), slots=tuple(range(len(rows))))
    grams = Grams([longest])
    names = grams.contexts(Text.of(ask, longest, owners=True), new=True)[longest]
    expected = []
    for owner, (context, begin, end) in enumerate(rows):
        inputs = stream[context : end - 1]
        starts = document_starts(inputs)
        for target in range(begin, end):
            first = target - longest - context
            inside = first >= 0 and not starts[first + 1 : target - context].any()
            expected.append((owner, *inputs[first : target - context].tolist()) if inside else None)
    for a, (name, context) in enumerate(zip(names, expected, strict=True)):
        assert (name < 0) == (context is None)
        for b in range(a):
            if context is not None and expected[b] is not None:
                assert (names[b] == name) == (expected[b] == context)


def test_owners_of_the_same_text_have_contexts_of_their_own():
    stream = torch.tensor([1, 2, 3, 2, 3, 4])
    ask = Ask.of(stream, np.array([[0, 3, 6], [0, 3, 6]]), slots=(0, 1))
    grams = Grams([0, 1, 2])
    grams.add(Text.of(ask, 2, owners=True), np.array([2, 3, 4, 2, 3, 3]), np.array([3, 4, 5] * 2))
    names = grams.contexts(Text.of(ask, 2, owners=True))
    for order, came in ((0, {2, 3, 4}), (1, {2, 4}), (2, {2, 4})):
        assert not set(names[order][:3]) & set(names[order][3:])
        found = grams.followers(order, names[order][2:3])
        assert set(found.tokens.tolist()) == came
        assert found.counts.tolist() == [1] * len(came)
