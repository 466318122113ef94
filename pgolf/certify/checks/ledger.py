"""L5 to L7: scored once, before anything was told, in the order that is declared (conditions C3 and C4)."""

from pgolf.certify.dossier import Dossier
from pgolf.certify.verdict import Rule, Verdict
from pgolf.formats.ledger import Audit, check_once

NO_LEDGER = "no ledger of events was given or kept, and no predictor to make one with"


def scored_before_told(d: Dossier) -> Verdict:
    """L5: whatever a state was told had been scored by then, and nobody scores what he was told."""
    rule = Rule("L5", "scored_before_told", "write the score of a token before anything learns from it")
    if (found := d.audited) is None:
        return rule.lacks(NO_LEDGER)
    if found.rule == "L6":
        return rule.lacks(f"the ledger's scores are not in order: {found.broken}")
    said = f"{found.update_tokens:,} tokens told in {found.updates:,} updates, each after its score"
    if not found.updates:
        said = f"{found.scores:,} score events, and nothing was told to anybody"
    return rule.judged(found.holds, said if found.holds else str(found.broken), **_measured(found))


def scored_once(d: Dossier) -> Verdict:
    """L6: every target of the stream exactly once, from its past."""
    rule = Rule("L6", "scored_once", "score each target once, and never write over a score")
    if (kept := d.ledger) is None:
        return rule.lacks(NO_LEDGER)
    events, tokens = kept
    broken = check_once(events, len(tokens))
    if broken is None and d.nll is not None and d.events is not None and len(d.nll) != len(tokens):
        broken = f"{len(d.nll):,} scores for a stream of {len(tokens):,} tokens"
    said = f"{len(tokens) - 1:,} targets, each scored once"
    return rule.judged(broken is None, broken or said, targets=len(tokens) - 1)


def order_is_declared(d: Dossier) -> Verdict:
    """L7: in the stream's order, or documents independent of one another, or said to be neither."""
    rule = Rule(
        "L7", "order_is_declared", "declare the order that the ledger shows, or score in the stream's order"
    )
    if (found := d.audited) is None:
        return rule.lacks(NO_LEDGER)
    if not found.holds:
        return rule.lacks(f"the ledger's order means nothing: {found.broken}")
    rank = {"document_independent": 0, "stream": 1, "reordered_carry": 2}
    says = {
        "document_independent": "no document's score depends on another document",
        "stream": "what was learned lies before what it scores, in the stream's order",
        "reordered_carry": "later text of the stream taught what scores earlier text: reordered state carry, so marked",
    }[found.order]
    if d.order is not None and rank[found.order] > rank[d.order]:
        said = f"declared {d.order}, but {says} (most ahead: {found.update_lead} tokens)"
        return rule.judged(False, said, **_measured(found))
    lengths = [] if d.evaluate is None else d.evaluate.by_lengths
    known = f"; these settings go by lengths that are known before: {', '.join(lengths)}" if lengths else ""
    return rule.judged(True, f"{found.order}: {says}{known}", **_measured(found))


def _measured(found: Audit) -> dict[str, float]:
    lead = {} if found.update_lead is None else {"max_update_minus_score": float(found.update_lead)}
    return {
        "score_events": found.scores, "update_events": found.updates, "update_tokens": found.update_tokens,
        "phases": found.rounds, **lead,
    }  # fmt: skip
