"""What holds of every kind of adaptation: it scores first, and says in which order it learned."""

import numpy as np
import pytest
import torch

from pgolf.errors import InfeasibleTrial
from pgolf.evaluate.memory.knn import Knn
from pgolf.evaluate.memory.token_tilt import TokenTilt
from pgolf.evaluate.predictor import Extent
from pgolf.evaluate.scorer import score
from pgolf.formats.ledger import Kind, of_kind
from tests.evaluate.ttt.cases import (
    COUNTS,
    LORA,
    MODES,
    PHASED,
    STARTS,
    TOKENS,
    chunks,
    grown,
    net,
    scored,
    usual,
)

ORDERS = {
    "lora": "document_independent",
    "lora-everywhere": "document_independent",
    "lora-cosine": "document_independent",
    "lora-lower": "document_independent",
    "lora-warm": "reordered_carry",
    "phased": "stream",
    "phased-longest": "reordered_carry",
    "phased-alone": "stream",
    "stream": "stream",
    "stream-fine": "stream",
    "stream-adamw": "stream",
    "stream-rmsprop": "stream",
    "stream-muon": "stream",
    "stream-documents": "stream",
}
INDEPENDENT = [name for name, order in ORDERS.items() if order == "document_independent"]


@pytest.mark.parametrize("name", MODES)
def test_the_ledger_shows_updates_and_their_order(name):
    """And that nothing was told before it was scored: `usual` verified that."""
    found = usual(name).audit()
    assert found.order == ORDERS[name]
    assert found.updates > 0


@pytest.mark.parametrize("name", MODES)
def test_adaptation_changes_scores_of_what_comes_after_an_update_alone(name):
    """The first chunk of every document that is scored from the artifact's state is as without adaptation."""
    got, plain = usual(name), scored(MODES[name].plain_mode)
    assert abs(got.nats_per_token - plain.nats_per_token) > 0.005
    first = of_kind(got.events, Kind.SCORE)
    untouched = first[first[:, 8] == 0] if name.startswith(("stream", "phased-alone")) else first[:1]
    assert len(untouched)
    for begin, end in untouched[:, 6:8]:
        assert np.allclose(got.nll[begin:end], plain.nll[begin:end], atol=1e-5)


@pytest.mark.parametrize("name", ["lora-everywhere", "lora-lower", "phased", "stream"])
def test_a_block_asked_position_by_position_is_the_block(name):
    tokens = TOKENS[:60]
    assert np.allclose(grown(MODES[name], tokens), scored(MODES[name], tokens).nll, atol=1e-5)


@pytest.mark.parametrize("name", ["lora", "lora-lower"])
def test_memories_see_the_states_that_scores_were_made_of(name):
    """However they were asked for: a memory of states over adapters is the same block by block and one by one."""
    mode, tokens = MODES[name].but(memory=Knn(mix=0.5, sharpness=5.0)), TOKENS[:60]
    whole = scored(mode, tokens).nll
    assert np.allclose(grown(mode, tokens), whole, atol=1e-5)
    assert np.abs(whole - usual(name).nll[:60]).max() > 1e-3


@pytest.mark.parametrize("name", MODES)
def test_it_begins_from_the_artifact_every_time(name):
    predictor = MODES[name].predictor(net())
    score(predictor, TOKENS[:70], COUNTS[:70], MODES[name])
    assert np.array_equal(score(predictor, TOKENS, COUNTS, MODES[name]).nll, usual(name).nll)


@pytest.mark.parametrize("at", [8, 60])
@pytest.mark.parametrize("name", INDEPENDENT)
def test_a_token_changes_scores_of_its_document_from_itself_on(name, at):
    changed = TOKENS.copy()
    changed[at] = changed[at] % 20 + 2
    assert (TOKENS[at] == 1) == (changed[at] == 1) and changed[at] != TOKENS[at], "documents stay as they are"
    before, after = usual(name).nll, scored(MODES[name], changed).nll
    document = int(np.searchsorted(STARTS, at, side="right"))
    end = STARTS[document] if document < len(STARTS) else len(TOKENS) - 1
    same = np.r_[0:at, end + 1 : len(TOKENS)]
    assert np.abs(before - after)[same].max() < 1e-6
    assert np.abs(before - after)[at : end + 1].min() > 0


@pytest.mark.parametrize("at", [8, 60])
@pytest.mark.parametrize("name", [name for name, order in ORDERS.items() if order == "stream"])
def test_a_token_changes_no_score_before_it(name, at):
    changed = TOKENS.copy()
    changed[at] = changed[at] % 20 + 2
    before, after = usual(name).nll, scored(MODES[name], changed).nll
    assert np.abs(before - after)[:at].max() < 1e-6
    assert np.abs(before - after)[at] > 0


@pytest.mark.parametrize("name", INDEPENDENT)
def test_the_order_of_documents_does_not_matter(name):
    ends = [*STARTS[1:], len(TOKENS) - 1]
    places = np.random.default_rng(0).permutation(len(STARTS))
    moved = np.concatenate([*(TOKENS[STARTS[d] : ends[d]] for d in places), TOKENS[:1]])
    tokens = np.append(TOKENS[:-1], np.uint16(1))  # the last document ends as the others do
    before, after = scored(MODES[name], tokens).nll, scored(MODES[name], moved).nll
    expected = np.concatenate([before[STARTS[d] + 1 : ends[d] + 1] for d in places])
    assert np.abs(after[1:] - expected).max() < 2e-5


def test_rounds_that_others_want_change_nothing_of_a_schedule():
    mode, plain = MODES["phased"], usual("phased")
    predictor = mode.predictor(net())
    own = predictor.boundaries

    def boundaries(extent: Extent) -> list[int]:
        return [*own(extent), 30]

    predictor.boundaries = boundaries
    more = score(predictor, TOKENS, COUNTS, mode).verify()
    assert more.audit().rounds > plain.audit().rounds
    assert np.allclose(more.nll, plain.nll, atol=1e-5)


@pytest.mark.parametrize(("name", "changes"), [
    ("stream", {"lr": 1e30}), ("phased", {"lr": 1e30}), ("lora", {"lr": 1e30}),
])  # fmt: skip
def test_a_divergence_is_an_outcome_and_no_score(name, changes):
    mode = MODES[name]
    with pytest.raises(InfeasibleTrial, match="diverged"):
        scored(mode.but(ttt=mode.ttt.but(**changes)))


def test_phases_end_where_documents_do_and_the_last_round_is_not_learned_from():
    mode = chunks(PHASED.but(prefix_documents=10_000, phases=4))
    assert scored(mode).audit().rounds == 4, "the fourth phase would leave nobody to be scored"
    assert scored(chunks(PHASED.but(prefix_documents=1, phases=1))).audit().rounds == 2


@pytest.mark.parametrize("name", ["lora", "phased", "stream"])
def test_the_network_that_was_given_is_left_as_it_was(name):
    """Else whoever evaluates it next would begin from what this text taught it."""
    built = net()
    before = {key: p.detach().clone() for key, p in built.named_parameters()}
    scored(MODES[name], built=built)
    for key, p in built.named_parameters():
        assert torch.equal(p, before[key]) and p.grad is None
    assert torch.is_grad_enabled()


BY_LENGTHS = {
    "lora-everywhere": ["short_chunks"],
    "lora-cosine": ["ttt.cosine"],
    "lora-warm": ["ttt.warm_a"],
    "phased-longest": ["order"],
}


@pytest.mark.parametrize("name", ["lora", "lora-lower", "phased", "phased-alone", *BY_LENGTHS])
def test_a_mode_says_what_goes_by_the_lengths_of_documents(name):
    """The second document, of 23 tokens, goes on over the next three: its scores so far change with that or not."""
    mode, end, joined = MODES[name].but(context=128, rows=1), STARTS[2], TOKENS.copy()
    joined[STARTS[2:5]] = 2
    moved = np.abs(scored(mode, joined).nll[:end] - scored(mode).nll[:end]).max()
    assert mode.by_lengths == BY_LENGTHS.get(name, [])
    assert (moved > 1e-4) == (name in BY_LENGTHS)


@pytest.mark.parametrize("name", ["lora", "phased", "stream", "stream-documents"])
def test_a_mode_says_what_goes_by_the_length_of_the_stream(name):
    """It goes on with as many documents again: scores before them change with that or not."""
    tokens, mode = np.tile(TOKENS, 2), MODES[name]
    many = len(tokens) - mode.context
    moved = np.abs(scored(mode, np.tile(TOKENS, 4)).nll[:many] - scored(mode, tokens).nll[:many]).max()
    assert mode.by_lengths == (["ttt.lr"] if name.startswith("stream") else [])
    assert (moved > 1e-4) == name.startswith("stream")


def test_what_adapters_read_of_lengths_is_said_by_phases_and_an_order_that_nothing_follows_is_not():
    assert chunks(PHASED.but(lora=PHASED.lora.but(cosine=True))).by_lengths == ["ttt.lora.cosine"]
    assert chunks(order="longest").by_lengths == []


def test_the_order_of_documents_that_know_nothing_of_one_another_changes_nothing():
    for memory in (None, TokenTilt(orders=(1,))):
        mode = chunks(LORA).but(order="longest", memory=memory)
        assert mode.by_lengths == [] and not mode.carries
        assert np.abs(scored(mode).nll - scored(mode.but(order="stream")).nll).max() < 1e-6
    for carrying in (chunks(LORA.but(warm_a=True)), chunks(memory=TokenTilt(share_documents=True))):
        assert carrying.but(order="longest").by_lengths[0] == "order"
