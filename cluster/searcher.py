"""Ray Tune's side of the books: a `Searcher` that asks and tells, and keeps no state of its own.

Not Ray's OptunaSearch: that one cannot set constraints, leaves trials RUNNING for ever and repeats paid
trials on restore. Here the study's storage is the only truth, a fresh Tuner on the same study is the way to
resume, and the checkpoint that Tune asks a searcher for holds one line that says so.
"""

from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from cluster.books import Books
from cluster.trainable import ASSIGNMENT, SAID, Batch


class StudySearcher(Searcher):
    """Hands the books' trials to Tune, and Tune's words to the books."""

    def __init__(self, books: Books) -> None:
        super().__init__()
        self.books = books
        self._numbers: dict[str, int] = {}  # Tune's id of a running trial -> its number in the study

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its configuration at times; a searcher is never woken from a pickle

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Objectives belong to the study, so Tune must not have been given any."""
        return metric is None and mode is None

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is one
        step = self.books.next()
        if step == "over":
            return Searcher.FINISHED
        if step == "wait":
            return None
        self._numbers[trial_id] = step.number
        return {ASSIGNMENT: step}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self.books.heard(self._numbers[trial_id], Batch.of(result[SAID]).said)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """The end of a trial: by its own verdict, by its actor's death, or because the search was stopped."""
        if (number := self._numbers.pop(trial_id, None)) is None:
            return
        batch = Batch.of(result[SAID]) if result and SAID in result else None
        if batch is not None and batch.verdict is not None:
            self.books.heard(number, batch.said)
            self.books.ended(number, batch.verdict, batch.gang_seconds)
        elif error:
            self.books.lost(number, "the trial's actor died")
        # else Tune was interrupted: the trial stays RUNNING, for the next driver to hand out again

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).write_text(f"study {self.books.study.round.name}: its storage has everything\n")

    def restore(self, checkpoint_path: str) -> None:
        raise RuntimeError("a search is resumed by a fresh driver on the same study, not from a checkpoint")
