"""Which mode of evaluation."""

from optuna.trial import BaseTrial

from pgolf.evaluate.evaluation import Evaluation
from search_spaces.evaluate.document_chunks import document_chunks
from search_spaces.evaluate.sliding import sliding


def evaluation(trial: BaseTrial, at: str, trained: int, finest: int = 4) -> Evaluation:
    if trial.suggest_categorical(f"{at}.kind", ["sliding", "document_chunks"]) == "sliding":
        return sliding(trial, at, trained, finest)
    return document_chunks(trial, at, trained)
