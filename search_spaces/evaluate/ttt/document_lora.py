"""Ranges of document adapters: flat in the rank once alpha / rank is fixed, and in the choice of matrices."""

from optuna.trial import BaseTrial

from pgolf.evaluate.ttt.document_lora import DocumentLora, Target
from search_spaces.evaluate.ttt.row_optimizer import row_optimizer
from search_spaces.listed import listed

TARGETS: dict[str, tuple[Target, ...]] = {  # in the records' words
    "all": ("q", "k", "v", "o", "down", "head"),
    "no_qv": ("k", "o", "down", "head"),
    "no_k": ("q", "v", "o", "down", "head"),
    "k_and_o": ("k", "o"),
    "mlp": ("up", "down"),
    "head": ("head",),
}


def document_lora(trial: BaseTrial, at: str, executions: int) -> DocumentLora:
    """`executions`: of the network's layers, of which the upper ones alone may have adapters."""
    rank = trial.suggest_int(f"{at}.rank", 4, 192, log=True)
    targets = listed(trial, f"{at}.targets", list(TARGETS.values()))
    head = targets == TARGETS["head"]
    some = not head and executions > 1 and trial.suggest_categorical(f"{at}.upper.on", [False, True])
    return DocumentLora(
        rank=rank,
        alpha=trial.suggest_float(f"{at}.alpha", 8.0, 288.0, log=True),
        targets=targets,
        lr=trial.suggest_float(f"{at}.lr", 3e-5, 1e-2, log=True),
        local_lr_mult=trial.suggest_float(f"{at}.local_lr_mult", 0.5, 2.0),
        cosine=trial.suggest_categorical(f"{at}.cosine", [False, True]),
        grad_steps=trial.suggest_int(f"{at}.grad_steps", 1, 3),
        optimizer=row_optimizer(trial, f"{at}.optimizer"),
        warm_a=trial.suggest_categorical(f"{at}.warm_a", [False, True]),
        upper=trial.suggest_int(f"{at}.upper", 1, executions - 1) if some else None,
        cache_lower=(head or some) and trial.suggest_categorical(f"{at}.cache_lower", [False, True]),
    )
