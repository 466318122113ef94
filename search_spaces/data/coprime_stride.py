"""Ranges of the coprime order: how many shards a batch mixes, at first and at last."""

from optuna.trial import BaseTrial

from pgolf.data.coprime_stride import CoprimeStride


def coprime_stride(trial: BaseTrial, at: str) -> CoprimeStride:
    return CoprimeStride(
        shards_at_start=trial.suggest_int(f"{at}.shards_at_start", 4, 16, log=True),
        shards_at_end=trial.suggest_int(f"{at}.shards_at_end", 16, 128, log=True),
    )
