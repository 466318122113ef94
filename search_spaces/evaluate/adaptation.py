"""Whether and how scored text is learned from: of a stream as the records did, of documents in every way."""

from optuna.trial import BaseTrial

from pgolf.evaluate.adaptation import Adaptation
from search_spaces.evaluate.ttt.document_lora import document_lora
from search_spaces.evaluate.ttt.phased import phased
from search_spaces.evaluate.ttt.stream_sgd import stream_sgd


def adaptation(
    trial: BaseTrial, at: str, trained: int, documents: int, executions: int, stored: int, opens: bool = True
) -> Adaptation | None:
    """`opens`: whether documents advance one by one."""
    if not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    if not opens:
        return stream_sgd(trial, at, trained, stored)
    kind = trial.suggest_categorical(f"{at}.kind", ["stream_sgd", "document_lora", "phased"])
    if kind == "stream_sgd":
        return stream_sgd(trial, at, trained, stored)
    if kind == "document_lora":
        return document_lora(trial, at, executions)
    return phased(trial, at, trained, documents, executions)
