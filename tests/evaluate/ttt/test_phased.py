"""Phases against a twin: rounds scored from weights that plain descent left behind."""

import math

import numpy as np
import pytest
import torch

from pgolf.evaluate.document_chunks import DocumentChunks
from pgolf.evaluate.predictor import Extent
from pgolf.evaluate.scorer import score
from pgolf.evaluate.ttt.phased import Phased
from pgolf.formats.ledger import Kind, of_kind
from tests.evaluate.ttt.cases import (
    ADAMW,
    LENGTHS,
    LORA,
    MUON,
    PHASED,
    STARTS,
    TOKENS,
    chunks,
    net,
    scored,
    usual,
)
from tests.evaluate.ttt.slow_optimizers import optimizer
from tests.evaluate.ttt.test_stream_sgd import descend


def slow(section: Phased, plain: DocumentChunks) -> np.ndarray:
    """In stream order: each phase's documents scored alone, with adapters, from the weights as they then are."""
    built, nll = net(), np.zeros(len(TOKENS))
    ends = [phase * section.prefix_documents // section.phases for phase in range(1, section.phases + 1)]
    done, width = 0, section.sequence_tokens
    for end in [*ends, len(STARTS)]:
        weights = {name: p.detach().clone() for name, p in built.named_parameters()}
        begun, until = STARTS[done], STARTS[end] if end < len(STARTS) else len(TOKENS) - 1
        part = TOKENS[begun : until + 1]
        mode = plain.but(ttt=section.lora)
        counts = np.ones(len(part), dtype=np.uint16)
        nll[begun + 1 : until + 1] = score(mode.predictor(built), part, counts, mode).nll[1:]
        assert all(torch.equal(p, weights[name]) for name, p in built.named_parameters())
        if end == len(STARTS):
            return nll
        built.requires_grad_(True)
        names = dict(built.named_parameters())
        matrices = [p for name, p in names.items() if name.endswith("weight") and name.startswith("blocks.")]
        steps = optimizer(section.optimizer, names.values(), 1.0, matrices)
        sequences = -(-until // width)
        together = section.chunk_tokens // width
        count = -(-sequences // together)
        for chunk in range(count):
            lr = section.lr * (1 + math.cos(math.pi * chunk / max(count - 1, 1))) / 2
            inputs = range(chunk * together * width, min((chunk + 1) * together * width, until))
            descend(built, section, steps, inputs, lr)
        done = end
    return nll


@pytest.mark.parametrize("changes", [
    {}, {"lora": None, "epochs": 2}, {"phases": 1, "chunk_tokens": 10_000},
    {"optimizer": ADAMW, "lr": 0.01}, {"optimizer": MUON, "lr": 0.02},
], ids=["usual", "alone", "one", "adamw", "muon"])  # fmt: skip
def test_it_is_the_twin(changes):
    section = PHASED.but(**changes)
    got, expected = scored(chunks(section)).nll, slow(section, chunks())
    assert np.abs(got - expected).max() < 1e-3
    assert np.abs(got - expected).mean() < 2e-5
    assert np.abs(got - scored(chunks(section.lora)).nll)[STARTS[5] + 1 :].min() > 0


def test_documents_are_learned_from_after_their_round_and_longest_ones_first_if_so_ordered():
    events = usual("phased-longest").events
    learned = of_kind(events, Kind.LEARN)
    longest = np.argsort(-LENGTHS, kind="stable")
    for number, documents in ((0, longest[:2]), (1, longest[2:5])):
        rows = learned[learned[:, 0] == number]
        told = {t for begin, end in rows[:, 6:8] for t in range(begin, end)}
        assert told == {t for d in documents for t in range(STARTS[d] + 1, STARTS[d] + 1 + LENGTHS[d])}
    assert set(learned[:, 0].tolist()) == {0, 1}


def test_where_phases_end():
    extent = Extent(101, np.array([0, 10, 30, 60]))  # documents of 10, 20, 30 and 40 targets
    assert Phased(prefix_documents=3, phases=3).ends(extent) == [10, 30, 60]
    assert Phased(prefix_documents=3, phases=2).ends(extent) == [10, 60]
    assert Phased(prefix_documents=1, phases=3).ends(extent) == [10], "a third of a document is none"
    assert Phased(prefix_tokens=50, phases=2).ends(extent) == [25, 50], (
        "rounds end where documents do from there"
    )
    longest = Extent(101, extent.starts, order=np.array([3, 2, 1, 0]))
    assert Phased(prefix_documents=3, phases=3).ends(longest) == [40, 70, 90]


def test_adapters_begin_anew_after_a_phase():
    mode = chunks(PHASED.but(lora=LORA.but(warm_a=True)))
    predictor = mode.predictor(net())
    seen = []
    learn = predictor.base.learn

    def watched(told: object) -> None:
        learn(told)
        seen.append(len(predictor.base.values))

    predictor.base.learn = watched
    score(predictor, TOKENS, np.ones(len(TOKENS), dtype=np.uint16), mode).verify()
    assert seen == [0, 0], "no slot keeps an A"
