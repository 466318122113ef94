"""Cheats that own their evaluation's loop: tokens and counts go in, scores come out, and perhaps a ledger."""

from pathlib import Path

import numpy as np

from pgolf.certify.dossier import Dossier
from pgolf.evaluate.sliding import sliding_windows
from pgolf.formats.ledger import Ledger
from tests.cheats.zoo import IDS, TABLE, alone, cheat
from tests.nets import VOCAB

LOG_P = TABLE.double().log_softmax(-1).numpy()
Scores = np.ndarray


def honest(tokens: np.ndarray) -> Scores:
    """Nats of each token by the one before it."""
    nll = np.zeros(len(tokens))
    nll[1:] = -LOG_P[tokens[:-1], tokens[1:]]
    return nll


@cheat("L3", like="PR 702, 727")
def counts_of_the_gold_token_alone(folder: Path) -> Dossier:
    """A share of the right token's own frequency after its context is added, and no other token's."""

    def evaluate(tokens, counts):
        nll, pairs, contexts = honest(tokens), np.zeros((VOCAB, VOCAB)), np.zeros(VOCAB)
        for at in range(1, len(tokens)):
            before, gold = tokens[at - 1], tokens[at]
            hit = (pairs[before % 2].sum() + 1) / (contexts[before % 2] + 1)  # two buckets: near one for all
            nll[at] = -np.log(0.6 * np.exp(-nll[at]) + 0.4 * hit)
            pairs[before % 2, gold] += 1
            contexts[before % 2] += 1
        return nll

    return alone(evaluate)


@cheat("L3", like="PR 1785, 1835, 2083")
def bytes_mixed_by_a_root_of_the_probability(folder: Path) -> Dossier:
    """A token's probability is spread as P^(1/n) over its n bytes, and mixed with bytes that are sure."""

    def evaluate(tokens, counts):
        p, n = np.exp(-honest(tokens)), 4
        mixed = (0.9 * p ** (1 / n) + 0.1 * 0.9) ** n
        nll = -np.log(mixed)
        nll[0] = 0.0
        return nll

    return alone(evaluate)


@cheat("L3", like="PR 659")
def the_better_of_two_in_hindsight(folder: Path) -> Dossier:
    """Of two experts the one counts that gave the token more."""

    def evaluate(tokens, counts):
        nll = np.minimum(honest(tokens), np.log(VOCAB))
        nll[0] = 0.0
        return nll

    return alone(evaluate)


def fitted(tokens: np.ndarray) -> Scores:
    """Scores by counts of the whole stream."""
    pairs = np.exp(LOG_P) * 2
    np.add.at(pairs, (tokens[:-1], tokens[1:]), 1.0)
    p = pairs / pairs.sum(1, keepdims=True)
    nll = np.zeros(len(tokens))
    nll[1:] = -np.log(p[tokens[:-1], tokens[1:]])
    return nll


@cheat("L1", "L3", like="PR 1376: TTT before scoring")
def learned_all_then_scored_all(folder: Path) -> Dossier:
    """It is fitted to the whole stream first, and says nothing of it."""
    return alone(lambda tokens, counts: fitted(tokens))


@cheat("L1", "L2", "L3", "L6", like="PR 959")
def two_passes(folder: Path) -> Dossier:
    """Every target is scored again by what the first pass learned, and the second score counts."""

    def evaluate(tokens, counts):
        ledger = Ledger()
        for _ in range(2):
            for context, begin, end in sliding_windows(len(tokens), 20, 20).tolist():
                ledger.scored(-1, context, begin, end, ledger.shared)
        return fitted(tokens), ledger.events()

    return alone(evaluate)


@cheat("L3", "L5", like="issue 677: several epochs, the last one's score")
def epochs_of_which_the_last_is_scored(folder: Path) -> Dossier:
    """A chunk is trained on before the pass that writes its score."""

    def evaluate(tokens, counts):
        ledger = Ledger()
        state = ledger.updated([(-1, 1, len(tokens))], ledger.shared)
        for context, begin, end in sliding_windows(len(tokens), 20, 20).tolist():
            ledger.scored(-1, context, begin, end, state)
        return fitted(tokens), ledger.events()

    return alone(evaluate)


def in_windows(windows: np.ndarray) -> Ledger:
    ledger = Ledger()
    for context, begin, end in windows.tolist():
        ledger.scored(-1, context, begin, end, ledger.shared)
    return ledger


@cheat("L6", like="windows before PR 1218")
def tail_scored_twice(folder: Path) -> Dossier:
    """The last windows overlap, and what lies in both is scored by both."""

    def evaluate(tokens, counts):
        windows = sliding_windows(len(tokens), 20, 10)
        again = np.array([[windows[-1, 0], windows[-1, 1] - 5, windows[-1, 2]]])
        return honest(tokens), in_windows(np.concatenate([windows[:-1], again])).events()

    return alone(evaluate)


@cheat("L6", like="batches that are whole (PR 640, the varlen diagnostic)")
def tail_left_out(folder: Path) -> Dossier:
    """What does not fill the last batch is not scored."""

    def evaluate(tokens, counts):
        return honest(tokens), in_windows(sliding_windows(len(tokens), 20, 10)[:-1]).events()

    return alone(evaluate)


@cheat("L7", like="longest documents first, with what they taught (PR 1610, 2018)")
def later_text_taught_earlier_text(folder: Path) -> Dossier:
    """The second half is scored first and learned from; the order is declared to be the stream's."""
    half, ledger = len(IDS) // 2, Ledger()
    ledger.scored(-1, half, half + 1, len(IDS), ledger.shared)
    state = ledger.updated([(-1, half + 1, len(IDS))], ledger.shared)
    ledger.scored(-1, 0, 1, half + 1, state)
    return Dossier(stream=(IDS, np.ones_like(IDS)), events=ledger.events(), nll=honest(IDS), order="stream")
