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


def document_lora(trial: BaseTrial, at: str, warm: bool = False) -> DocumentLora:
    """With `warm`, A may outlive documents, which costs their independence."""
    rank = trial.suggest_int(f"{at}.rank", 4, 192, log=True)
    return DocumentLora(
        rank=rank,
        alpha=trial.suggest_float(f"{at}.alpha", 8.0, 288.0, log=True),
        targets=listed(trial, f"{at}.targets", list(TARGETS.values())),
        lr=trial.suggest_float(f"{at}.lr", 3e-5, 1e-2, log=True),
        cosine=trial.suggest_categorical(f"{at}.cosine", [False, True]),
        grad_steps=trial.suggest_int(f"{at}.grad_steps", 1, 3),
        optimizer=row_optimizer(trial, f"{at}.optimizer"),
        warm_a=warm and trial.suggest_categorical(f"{at}.warm_a", [False, True]),
    )
