"""Whether and how scored text is learned from, where documents advance one by one."""

from optuna.trial import BaseTrial

from pgolf.evaluate.adaptation import Adaptation
from search_spaces.evaluate.ttt.document_lora import document_lora
from search_spaces.evaluate.ttt.phased import phased
from search_spaces.evaluate.ttt.stream_sgd import stream_sgd


def adaptation(trial: BaseTrial, at: str, trained: int, documents: int) -> Adaptation | None:
    kind = trial.suggest_categorical(f"{at}.kind", ["none", "stream_sgd", "document_lora", "phased"])
    if kind == "stream_sgd":
        return stream_sgd(trial, at, trained)
    if kind == "document_lora":
        return document_lora(trial, at)
    return phased(trial, at, trained, documents) if kind == "phased" else None
