"""L1 to L4: a prediction is a distribution made of the past alone (conditions C1 and C2 of issue 1017).

The subject is evaluated on a short stream of real text, whole, with its mode, adaptation and memory
(pgolf.certify.perturb says how, and what may move).
"""

import math

import numpy as np

from pgolf.certify.dossier import Dossier
from pgolf.certify.perturb import MOVED_TOLERANCE, TOLERANCE, Footprint, Moved, apart
from pgolf.certify.verdict import Rule, Verdict
from pgolf.evaluate.scorer import MOST_SUM_ERROR

PREFIX_TOLERANCE = 1e-4  # nats: other shapes add up otherwise, and adaptation makes more of it
MOST_TRIED_ERROR = 1e-3  # of one that was found by trying every token
LEAST = math.log(np.finfo(np.float64).tiny)  # nats: below it a probability is no normal number
NOTHING_TO_RUN = "nothing that predicts was given: `predictor` with `evaluate`, or `evaluator`, and `tokens`"


def predictions_see_the_past_alone(d: Dossier) -> Verdict:
    """L1: replace a token; its distribution, what was scored before it, and other documents stay."""
    rule = Rule(
        "L1", "predictions_see_the_past_alone",
        "let an answer at a position depend on the inputs up to it alone, and stop at document starts",
    )  # fmt: skip
    moved = d.moved
    if moved is None:
        return rule.lacks(_missing(d))
    if moved.foretells_ends:
        nats = float(np.median(moved.foretold))
        said = f"at {len(moved.foretold)} places BOS is {nats:.3g} nats likelier (median) where a document ends there"
        return rule.judged(False, said, foretold=nats, runs=moved.runs)
    return _judged(rule, moved, moved.sight)


def adaptation_sees_the_past_alone(d: Dossier) -> Verdict:
    """L2: nothing in the token's own chunk before it moves, and nothing that no declared state was told of it."""
    rule = Rule(
        "L2", "adaptation_sees_the_past_alone",
        "adapt in `observe` or `learn`, which come after the score, and declare what outlives a document",
    )  # fmt: skip
    moved = d.moved
    if moved is None:
        return rule.lacks(_missing(d))
    if not moved.state.pairs:
        return rule.lacks("no ledger says which scores belong to one chunk and which states were told what")
    if moved.silent and not moved.state.broken:
        return rule.lacks("it adapts, but on so short a stream nothing was told to it: raise probe.tokens")
    return _judged(rule, moved, moved.state)


def answers_are_distributions(d: Dossier) -> Verdict:
    """L3: every answer sums to one over the vocabulary; where none is shown, all tokens are tried in its place."""
    rule = Rule("L3", "answers_are_distributions",
                "normalize over the whole vocabulary before the target is looked up")  # fmt: skip
    if d.nll is not None and d.nll.size and (least := float(np.min(d.nll))) < -1e-9:
        at = int(np.argmin(d.nll))
        return rule.judged(False, f"target {at} was given probability {math.exp(-least):.4g}", nll_min=least)
    if d.nll is not None and not np.isfinite(d.nll).all():
        at = int(np.flatnonzero(~np.isfinite(d.nll))[0])
        return rule.judged(False, f"the score of target {at} is {d.nll[at]}", nll_min=float(d.nll[at]))
    if d.evaluator is not None and (tried := d.tried) is not None:
        sums, at_ = tried
        error = float(np.nan_to_num(np.abs(sums - 1), nan=np.inf).max())
        worst = at_[int(np.nan_to_num(np.abs(sums - 1), nan=np.inf).argmax())]
        return rule.judged(
            error <= MOST_TRIED_ERROR,
            f"with each of {d.vocabulary} tokens tried at {len(sums)} places, their probabilities sum to "
            f"{sums[at_.index(worst)]:.6g} at target {worst}, {error:.2g} from one",
            norm_maxerr=error, n=len(sums),
        )  # fmt: skip
    if d.sums is None or d.vocabulary is None:
        return rule.lacks(_missing(d))
    widths = sorted({width for answer in d.sums for width in answer.widths})
    if widths != [d.vocabulary]:
        said = f"answers have {', '.join(map(str, widths))} entries for a vocabulary of {d.vocabulary}"
        return rule.judged(False, said, width=widths[0])
    rows = np.concatenate([a.rows[1:] for a in d.sums if a.rows is not None])
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        off = np.nan_to_num(np.abs(np.exp(rows).sum(1) - 1), nan=np.inf)
    error, least = float(off.max()), float(np.nan_to_num(rows, nan=-np.inf, neginf=-np.inf).min())
    gated = sum(int(a.differs.sum()) for a in d.sums if a.differs is not None)
    said = (
        f"{len(rows):,} distributions over {d.vocabulary} tokens ({gated:,} of them altered by a memory or mixer) "
        f"sum to one within {error:.2g}"
    )
    if error > MOST_SUM_ERROR:
        broken = int((off > MOST_SUM_ERROR).sum())
        said = f"{broken:,} of {len(rows):,} distributions do not sum to one; one is {error:.3g} away"
    elif least < LEAST:
        said = f"a token has a log-probability of {least:.4g} nats, which no float64 probability can hold"
    return rule.judged(error <= MOST_SUM_ERROR and least >= LEAST, said,
                       norm_maxerr=error, n=len(rows), gated=gated, least=least)  # fmt: skip


def prefixes_suffice(d: Dossier) -> Verdict:
    """L4: asked one position at a time, with nothing after it in reach, the answers are the same."""
    rule = Rule(
        "L4", "prefixes_suffice", "answer a position from the inputs up to it, however many are asked at once"
    )
    if d.prefixes is None:
        if d.evaluator is not None:
            return rule.lacks(
                "an evaluator with a loop of its own shows no distributions; L1 and L3 try its scores"
            )
        return rule.lacks(_missing(d))
    off = np.concatenate([apart(alone, together)[1:].max(1) for alone, together in d.prefixes])
    worst, broken = float(off.max()), int((off > PREFIX_TOLERANCE).sum())
    said = f"{len(off)} distributions asked for with their prefix alone differ by {worst:.2g} nats at most"
    if broken:
        said = f"{broken} of {len(off)} distributions change, by up to {worst:.3g} nats, when only the prefix is there"
    return rule.judged(not broken, said, maxdiff=worst, n=len(off))


def _judged(rule: Rule, moved: Moved, found: Footprint) -> Verdict:
    measured = {
        "causal_maxdiff": found.worst, "n_pairs": found.pairs, "places": moved.places, "runs": moved.runs,
        "noise": moved.noise,
    }  # fmt: skip
    if moved.planned_by_text and found is moved.sight:
        said = f"windows, rounds or what states are told change when token {moved.planned_by_text} is another"
        return rule.judged(False, f"{said}: they may go by lengths alone", **measured)
    if not found.pairs:
        return rule.lacks("no score could be compared", **measured)
    if found.broken:
        assert found.first is not None
        score, token = found.first
        what = (
            f"target {score}'s own distribution moves"
            if score == token
            else f"the score of target {score} moves"
        )
        said = f"{what} by {found.worst:.3g} nats when token {token} is another"
        return rule.judged(
            False, f"{said}; {found.broken} of {found.pairs:,} scores that may not move do", **measured
        )
    return rule.judged(
        True,
        f"{moved.runs} replacements at {moved.places} places move none of {found.pairs:,} scores that may not move "
        f"(at most {found.worst:.2g} nats, {TOLERANCE:g} to {MOVED_TOLERANCE:g} allowed)",
        **measured,
    )


def _missing(d: Dossier) -> str:
    return NOTHING_TO_RUN if d.trial is None else f"it did not come through an evaluation: {d.trial.failure}"
