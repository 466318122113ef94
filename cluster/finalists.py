"""The finalists: the best feasible trials, each scored once on the validation split, on gangs of their own.

Only these see the validation split, and only after the search has ended: the split that ranks (select) is
never the one that is reported. A finalist whose certificate fails becomes infeasible and the next in line
moves up, so the rule is simply: the best N feasible trials all have a validation score.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event

from ray.util.placement_group import placement_group, remove_placement_group

from cluster.books import Books
from cluster.events import FinalistFailed, FinalistScored
from cluster.gang import Gang, Job, Verdict, bundles
from cluster.trainable import BATCH_SECONDS
from pgolf import rules
from pgolf.formats.result import Result
from pgolf.runtime import Runtime
from pgolf.stage import Store

Validator = Callable[[Result, Store, Runtime], Result | None]  # on the leading rank the result
Scorer = Callable[[Result, Event], tuple[Verdict, float]]  # ends soon after the event; seconds it took


def score(books: Books, scorer: Scorer) -> dict[int, str]:
    """Validate until the leading feasible trials all are; returns {number: error} of those not."""
    errors: dict[int, str] = {}
    stop = Event()
    with ThreadPoolExecutor(books.budget.max_concurrent) as pool:
        try:
            while todo := _unscored(books, errors):
                work = [pool.submit(scorer, books.finished[number], stop) for number in todo]
                for number, future in zip(todo, work, strict=True):
                    verdict, seconds = future.result()
                    books.study.scored(number, seconds)
                    _note(books, number, verdict, errors)
        finally:
            stop.set()  # on Ctrl-C the pool is left only once its threads have ended
    return errors


def on_a_gang(gang: rules.Gang, validator: Validator, store: Store) -> Scorer:
    """Scoring on a gang like a trial's: all its ranks score, against the same clock."""
    return partial(_score_one, gang, validator, store)


def _note(books: Books, number: int, verdict: Verdict, errors: dict[int, str]) -> None:
    if verdict.result is None:
        errors[number] = verdict.why
        books.say(FinalistFailed(number, verdict.why))
    else:
        books.amend(number, verdict.result)
        books.say(FinalistScored(number, verdict.result))


def _unscored(books: Books, errors: dict[int, str]) -> list[int]:
    return [number for number in books.unscored() if number not in errors]


def _score_one(
    gang: rules.Gang, validator: Validator, store: Store, result: Result, stop: Event
) -> tuple[Verdict, float]:
    group = placement_group(bundles(gang), strategy="STRICT_PACK")
    ranks = Gang(gang, group, first_bundle=0)
    verdict = None
    try:
        while not group.wait(BATCH_SECONDS) and not stop.is_set():
            pass
        began = time.monotonic()
        if not stop.is_set():
            ranks.start(_job(validator, result, store))
        while verdict is None and not stop.is_set():
            _, verdict = ranks.poll(BATCH_SECONDS)
        return verdict or Verdict("error", why="interrupted"), time.monotonic() - began
    finally:
        ranks.close()
        remove_placement_group(group)


def _job(validator: Validator, result: Result, store: Store) -> Job:
    def job(runtime: Runtime) -> Result | None:
        return validator(result, store, runtime)

    return job
