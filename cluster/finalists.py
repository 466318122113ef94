"""The finalists: the best feasible trials, each scored once on the validation split, on gangs of their own.

Only these see the validation split, and only after the search has ended: the split that ranks (select) is
never the one that is reported. A finalist whose certificate fails becomes infeasible and the next in line
moves up, so the rule is simply: the best N feasible trials all have a validation score.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import ray
from ray.util.placement_group import placement_group, remove_placement_group

from cluster.books import Books
from cluster.events import FinalistFailed, FinalistScored
from cluster.gang import Gang, Job, Verdict, bundles
from cluster.trainable import BATCH_SECONDS
from pgolf import rules
from pgolf.formats.result import Result
from pgolf.runtime import Runtime
from pgolf.stage import Store

Validator = Callable[[Result, Store, Runtime], Result]
Scorer = Callable[[Result], Verdict]


def score(books: Books, finalists: int, scorer: Scorer) -> dict[int, str]:
    """Validate until the best `finalists` feasible trials all are; returns {number: error} of those not."""
    errors: dict[int, str] = {}
    with ThreadPoolExecutor(books.budget.max_concurrent) as pool:
        while todo := _unscored(books, finalists, errors):
            for number, verdict in zip(
                todo, pool.map(scorer, [books.finished[n] for n in todo]), strict=True
            ):
                if verdict.result is None:
                    errors[number] = verdict.why
                    books.say(FinalistFailed(number, verdict.why))
                else:
                    books.amend(number, verdict.result)
                    books.say(FinalistScored(number, verdict.result))
    return errors


def on_a_gang(gang: rules.Gang, validator: Validator, store: Store) -> Scorer:
    """Scoring on one rank of its own: only training is collective, and a finalist is trained already."""
    return partial(_score_one, gang.but(ranks=1), validator, store)


def _unscored(books: Books, finalists: int, errors: dict[int, str]) -> list[int]:
    best = books.ranked()[:finalists]
    return [n for n in best if books.finished[n].validation_bpb is None and n not in errors]


def _score_one(gang: rules.Gang, validator: Validator, store: Store, result: Result) -> Verdict:
    group = placement_group(bundles(gang), strategy="STRICT_PACK")
    ray.get(group.ready())
    ranks = Gang(gang, group, first_bundle=0)
    try:
        ranks.start(_job(validator, result, store))
        verdict = None
        while verdict is None:
            _, verdict = ranks.poll(BATCH_SECONDS)
        return verdict
    finally:
        ranks.close()
        remove_placement_group(group)


def _job(validator: Validator, result: Result, store: Store) -> Job:
    def job(runtime: Runtime) -> Result | None:
        return validator(result, store, runtime)

    return job
