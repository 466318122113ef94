"""Ternary or binary weights: which, in groups of how many, from where. The quantizer is then of the same kind."""

from optuna.trial import BaseTrial

from pgolf.train.grouped_qat import Binary, Ternary

KINDS: dict[str, type[Ternary] | type[Binary]] = {"ternary": Ternary, "binary": Binary}


def grouped_qat(trial: BaseTrial, at: str) -> Ternary | Binary:
    return of_kind(trial, at, trial.suggest_categorical(f"{at}.kind", list(KINDS)))


def of_kind(trial: BaseTrial, at: str, kind: str) -> Ternary | Binary:
    return KINDS[kind](
        group=trial.suggest_categorical(f"{at}.group", [64, 128, 256]),
        from_fraction=trial.suggest_categorical(f"{at}.from_fraction", [0.0, 0.1, 0.3]),
    )
