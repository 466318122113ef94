"""Which mode of evaluation, and what adapts and remembers on the way."""

from optuna.trial import BaseTrial

from pgolf.evaluate.evaluation import Evaluation
from search_spaces.evaluate.adaptation import adaptation
from search_spaces.evaluate.document_chunks import document_chunks
from search_spaces.evaluate.memories import memories
from search_spaces.evaluate.sliding import sliding


def evaluation(trial: BaseTrial, at: str, trained: int, documents: int, finest: int = 4) -> Evaluation:
    """`documents`: of the split that is scored."""
    if trial.suggest_categorical(f"{at}.kind", ["sliding", "document_chunks"]) == "sliding":
        return sliding(trial, at, trained, finest)
    return document_chunks(trial, at, trained).but(
        ttt=adaptation(trial, f"{at}.ttt", trained, documents), memory=memories(trial, f"{at}.memory")
    )
