"""Ranges of layer sharing: half of the blocks stored, or more, with or without low-rank deltas."""

from optuna.trial import BaseTrial

from pgolf.model.layer_sharing import LayerSharing


def layer_sharing(trial: BaseTrial, at: str, layers: int) -> LayerSharing | None:
    if layers < 2 or not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    stored = trial.suggest_int(f"{at}.stored", (layers + 1) // 2, layers - 1) if layers > 2 else 1
    adapted = trial.suggest_categorical(f"{at}.lora_rank.on", [True, False])
    return LayerSharing(
        stored=stored, lora_rank=trial.suggest_int(f"{at}.lora_rank", 4, 64, log=True) if adapted else None
    )
