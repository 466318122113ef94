"""Ranges of phases: as many documents first as the records had, for a shard of 50,000."""

from optuna.trial import BaseTrial

from pgolf.evaluate.ttt.phased import Phased
from search_spaces.evaluate.ttt.document_lora import document_lora
from search_spaces.evaluate.ttt.row_optimizer import rate, row_optimizer


def phased(trial: BaseTrial, at: str, trained: int, documents: int, executions: int) -> Phased:
    optimizer = row_optimizer(trial, f"{at}.optimizer")
    fewest = max(documents // 100, 4)
    adapts = trial.suggest_categorical(f"{at}.lora.on", [False, True])
    return Phased(
        phases=trial.suggest_int(f"{at}.phases", 1, 4),
        prefix_documents=trial.suggest_int(f"{at}.prefix_documents", fewest, 8 * fewest, log=True),
        sequence_tokens=trained,
        epochs=trial.suggest_int(f"{at}.epochs", 1, 3),
        lr=rate(trial, f"{at}.lr", 3e-4, 5e-3, optimizer),
        optimizer=optimizer,
        parameters=trial.suggest_categorical(f"{at}.parameters", ["all", "no_embedding", "scalars"]),
        lora=document_lora(trial, f"{at}.lora", executions) if adapts else None,
    )
