"""Ranges of BigramHash: 1,024 to 10,240 buckets of 64 to 128 columns. Trigrams in the same table were worse."""

from optuna.trial import BaseTrial

from pgolf.model.bigram_hash import BigramHash


def bigram_hash(trial: BaseTrial, at: str) -> BigramHash:
    return BigramHash(
        buckets=trial.suggest_int(f"{at}.buckets", 1024, 10_240, step=512),
        rank=trial.suggest_int(f"{at}.rank", 64, 128, step=16),
        trigram=trial.suggest_categorical(f"{at}.trigram", [False, True]),
    )
