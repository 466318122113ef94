"""Adapters of documents against a twin that takes one document at a time, with dense matrices and torch.optim."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from pgolf.data.starts import document_starts
from pgolf.errors import ConfigError
from pgolf.evaluate.document_chunks import DocumentChunks
from pgolf.evaluate.scorer import score
from pgolf.evaluate.sliding import Sliding
from pgolf.evaluate.ttt.document_lora import AdapterSet, DocumentLora
from pgolf.evaluate.ttt.phased import Phased
from pgolf.evaluate.ttt.row_optimizer import Momentum, RmsProp, RowMuon
from pgolf.model.gpt import Gpt
from tests.evaluate.ttt.cases import EVERYWHERE, LENGTHS, LORA, STARTS, TOKENS, chunks, looped, net, scored
from tests.evaluate.ttt.slow_optimizers import optimizer
from tests.nets import VOCAB, everything, small


class Headed(nn.Module):
    """A network whose raw logits get something more."""

    def __init__(self, inner: Gpt) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, tokens: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
        hidden = self.inner.hidden(tokens, document_starts(tokens))
        return self.inner.softcapped(self.inner.raw_logits(hidden) + hidden @ head.T)


def unrolled(built: Gpt) -> Gpt:
    """The same network without a recurrence: a stored block for every execution."""
    flat = small(layers=len(built.order)).build(VOCAB).eval()
    weights = dict(built.named_parameters())
    for name, p in flat.named_parameters():
        if name.startswith("blocks."):
            _, number, rest = name.split(".", 2)
            name = f"blocks.{built.order[int(number)]}.{rest}"
        p.data.copy_(weights[name].data)
    return flat


def slow(
    built: Gpt, section: DocumentLora, mode: DocumentChunks, batches: Sequence[Sequence[int]] | None = None
) -> np.ndarray:
    """Nats by target: each document alone, every chunk from a whole new forward.

    With `batches`, a document begins with the A that the last one in its place of a batch left behind.
    """
    flat, nll, initial = unrolled(built), np.zeros(len(TOKENS)), AdapterSet(built, section)
    first = initial.initial().unsqueeze(0)
    names = [
        name
        if name == "head"
        else f"inner.blocks.{step}.{'mlp' if name in ('up', 'down') else 'attention'}.{name}.weight"
        for step, name in initial.places
    ]
    headed = Headed(flat)
    base = dict(headed.named_parameters())
    left = {}  # of a place in a batch the A
    order = [[d] for d in range(len(STARTS))] if batches is None else batches
    for place, document in (pair for batch in order for pair in enumerate(batch)):
        start, end = STARTS[document], STARTS[document] + LENGTHS[document]
        a = [part.of(first)[0].clone().requires_grad_() for part in initial.a]
        if batches is not None:
            a = left.setdefault(place, a)
        b = [part.of(first)[0].clone().requires_grad_() for part in initial.b]
        steps = optimizer(section.optimizer, [*a, *b], section.lr * section.local_lr_mult, [*a, *b])
        chunk = mode.chunk_of(int(end - start))
        for begin in range(start, end, chunk):  # inputs begin .. until - 1
            until = min(begin + chunk, end)
            context = max(start, until - mode.context)
            tokens = torch.from_numpy(TOKENS[context : until + 1].astype(np.int64)).unsqueeze(0)

            def loss(a=a, b=b, tokens=tokens, count=until - begin) -> torch.Tensor:
                scale = section.alpha / section.rank
                added = {n: scale * y @ x for n, x, y in zip(names, a, b, strict=True)}
                head = added.pop("head", torch.zeros(VOCAB, 16))
                weights = {n: w + added[n] if n in added else w for n, w in base.items()}
                logits = functional_call(headed, weights, (tokens[:, :-1], head))[0]
                return F.cross_entropy(logits, tokens[0, 1:], reduction="none")[-count:]

            nll[begin + 1 : until + 1] = loss().detach().numpy()
            share = (begin - start) / (end - start)
            for group in steps.param_groups if section.cosine else ():
                group["lr"] = section.lr * section.local_lr_mult * (1 + np.cos(np.pi * share)) / 2
            for _ in range(section.grad_steps if until < end else 0):
                steps.zero_grad()
                loss().mean().backward()
                steps.step()
    return nll


SECTIONS = {
    "adamw": LORA,
    "momenta": LORA.but(optimizer=LORA.optimizer.but(beta1=0.8, weight_decay=2.0), local_lr_mult=0.75),
    "everywhere": EVERYWHERE.but(optimizer=RmsProp(eps=1e-6)),
    "sgd": LORA.but(optimizer=Momentum(momentum=0.5), targets=("v", "head")),
    "cosine": LORA.but(cosine=True),
    "steps": LORA.but(grad_steps=2),
    "head": LORA.but(targets=("head",)),
    "upper": LORA.but(upper=2, targets=("k", "up", "head")),
    "queries": LORA.but(targets=("q",), optimizer=RmsProp(eps=1e-6)),
    "muon": EVERYWHERE.but(optimizer=RowMuon(momentum=0.5, weight_decay=1.0), lr=0.02),
    "muon-steps": LORA.but(optimizer=RowMuon(newton_schulz_steps=3), lr=0.02, grad_steps=2, cosine=True),
}


@pytest.mark.parametrize("name", SECTIONS)
def test_it_is_the_twin_that_takes_one_document_at_a_time(name):
    """Seven documents of two to fifty tokens, two of them longer than the context."""
    mode = chunks(SECTIONS[name], context=24, short_chunks=((9, 3),))
    got, expected = scored(mode).nll, slow(net(), SECTIONS[name], mode)
    assert np.abs(got - expected).max() < 2e-4
    assert abs(got - expected).mean() < 1e-5
    assert np.abs(got - scored(mode.plain_mode).nll).max() > 0.01


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("given", [LORA.optimizer, RowMuon()], ids=["adamw", "muon"])
def test_a_warm_a_is_the_twin_that_follows_the_batches(given, rows):
    """Longest documents first, `rows` together: each goes on from the A that its place was left with."""
    section = LORA.but(warm_a=True, optimizer=given)
    order = np.argsort(-LENGTHS, kind="stable").tolist()
    batches = [order[at : at + rows] for at in range(0, len(order), rows)]
    mode = chunks(section, context=24, rows=rows)
    got, expected = scored(mode), slow(net(), section, mode, batches)
    assert np.abs(got.nll - expected).max() < 2e-4
    assert np.abs(got.nll - expected).mean() < 1e-5
    cold = scored(mode.but(ttt=section.but(warm_a=False)))
    first = order[:rows]
    moved = {d for d in order if not np.allclose(*(n[span(d)] for n in (got.nll, cold.nll)), atol=1e-5)}
    assert moved == {d for d in order if d not in first and LENGTHS[d] > mode.chunk}, (
        "a first chunk sees no A"
    )
    assert (got.audit().order, cold.audit().order) == ("reordered_carry", "document_independent")


def span(document: int) -> slice:
    """Where its scores are."""
    return slice(STARTS[document] + 1, STARTS[document] + LENGTHS[document] + 1)


def test_a_batch_is_its_documents_one_at_a_time():
    together, alone = (scored(chunks(EVERYWHERE, rows=rows)).nll for rows in (64, 1))
    assert np.abs(together - alone).max() < 1e-5


@pytest.mark.parametrize("kind", ["shared", "looped", "plain"])
def test_whatever_a_network_is_made_of(kind):
    """One forward, so every technique takes part: a batch is its documents alone, and they learn something."""
    built = net(everything(kind))
    tokens = TOKENS[:45]
    together, alone = (scored(chunks(EVERYWHERE, rows=rows), tokens, built).nll for rows in (64, 1))
    assert np.abs(together - alone).max() < 1e-4
    assert np.abs(together - scored(chunks(), tokens, built).nll).max() > 1e-3


def test_every_execution_has_adapters_of_its_own():
    built = net(looped())
    assert [step for step, name in AdapterSet(built, EVERYWHERE).places if name == "q"] == [0, 1, 2, 3]
    assert len(built.blocks) == 3


def test_a_warm_a_stays_in_its_slot_and_all_else_begins_anew():
    mode = chunks(LORA.but(warm_a=True), rows=1)
    predictor = mode.predictor(net())
    score(predictor, TOKENS[:45], np.ones(45, dtype=np.uint16), mode)
    a = predictor.values[0, : predictor.set.a_weights].clone()
    assert not torch.equal(a, predictor.initial[: predictor.set.a_weights])
    predictor.open([0, 1])
    assert torch.equal(predictor.values[0, : predictor.set.a_weights], a)
    assert torch.equal(predictor.values[1], predictor.initial), "the second slot is new"
    assert not predictor.values[:, predictor.set.a_weights :].any()
    predictor.open([2])
    predictor.open([3, 4])
    assert len(predictor.values) == 2


KEPT = [
    LORA.but(upper=2),
    LORA.but(upper=0, targets=("head",)),
    LORA.but(upper=3, targets=("v", "down"), grad_steps=2),
]


@pytest.mark.parametrize("section", KEPT, ids=["two", "head", "three"])
def test_what_lies_below_may_be_kept_while_a_document_fits_the_context(section):
    """Documents of up to 50 tokens in a context of 56: the cached states are those of a whole forward."""
    fits = chunks(section, context=56)
    got = scored(fits.but(ttt=section.but(cache_lower=True))).nll
    assert np.abs(got - scored(fits).nll).max() < 1e-5


def test_kept_states_saw_what_has_fallen_out_of_the_window():
    """A token 33 positions back, where a window is 16 and the states of three executions reach no further than
    48: it is seen through states that were made when it was near. A whole forward of the window never saw it."""
    near, far = 33, 66
    changed = TOKENS.copy()
    changed[near] = changed[near] % 20 + 2
    still = LORA.but(targets=("head",), lr=1e-12)
    for section, sees in ((still, False), (still.but(cache_lower=True), True)):
        before, after = (scored(chunks(section), tokens).nll for tokens in (TOKENS, changed))
        assert (np.abs(before - after)[far] > 1e-6) == sees
        assert not np.abs(before - after)[:near].any()


def test_states_are_computed_once_a_position():
    """Of the lower executions; the upper ones see the window every time."""
    mode, seen = chunks(LORA.but(upper=1, cache_lower=True), rows=64), []
    predictor = mode.predictor(net())
    blocks = predictor.network.blocks
    for number in (0, 2):
        blocks[number].register_forward_hook(
            lambda m, i, o, n=number: seen.append((n, o.shape[0] * o.shape[1]))
        )
    score(predictor, TOKENS, np.ones(len(TOKENS), dtype=np.uint16), mode)
    lower, upper = (sum(n for which, n in seen if which == number) for number in (0, 2))
    assert lower < 1.5 * len(TOKENS), "padding of short documents included"
    assert upper > 2 * lower


def test_more_layers_than_there_are_cannot_adapt():
    with pytest.raises(ConfigError, match="upper=4 at most"):
        chunks(LORA.but(upper=5)).predictor(net())
    for targets in (("k",), LORA.targets):
        with pytest.raises(ValidationError, match="the head alone"):
            LORA.but(upper=0, targets=targets)
    with pytest.raises(ValidationError, match="for the head alone none has"):
        LORA.but(upper=2, targets=("head",))
    with pytest.raises(ValidationError, match="below the adapters"):
        LORA.but(cache_lower=True)


def test_targets_are_a_set():
    assert DocumentLora(targets=("head", "k")) == DocumentLora(targets=("k", "head"))
    with pytest.raises(ValidationError, match="set"):
        DocumentLora(targets=("k", "k"))
    with pytest.raises(ValidationError, match="targets"):
        DocumentLora(targets=())


@pytest.mark.parametrize("ttt", [LORA, Phased(lora=LORA)])
def test_it_is_for_documents(ttt):
    with pytest.raises(ValidationError, match="does not open documents"):
        Sliding(context=8, stride=4, ttt=ttt)
    Sliding(context=8, stride=4, ttt=Phased(lora=None))
