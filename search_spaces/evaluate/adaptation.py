"""Whether and how scored text is learned from, where documents advance one by one."""

from optuna.trial import BaseTrial

from pgolf.evaluate.adaptation import Adaptation
from search_spaces.evaluate.ttt.document_lora import document_lora
from search_spaces.evaluate.ttt.phased import phased
from search_spaces.evaluate.ttt.stream_sgd import stream_sgd


def adaptation(trial: BaseTrial, at: str, trained: int, documents: int) -> Adaptation | None:
    if not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    kind = trial.suggest_categorical(f"{at}.kind", ["stream_sgd", "document_lora", "phased"])
    if kind == "stream_sgd":
        return stream_sgd(trial, at, trained)
    return document_lora(trial, at) if kind == "document_lora" else phased(trial, at, trained, documents)
