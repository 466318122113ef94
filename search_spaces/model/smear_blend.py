"""Ranges of the old smear: where its blend begins (-3 and 0 were used), before or after the norm."""

from optuna.trial import BaseTrial

from pgolf.model.smear_blend import SmearBlend


def smear_blend(trial: BaseTrial, at: str) -> SmearBlend:
    return SmearBlend(
        initial=trial.suggest_float(f"{at}.initial", -4.0, 0.0),
        before_norm=trial.suggest_categorical(f"{at}.before_norm", [False, True]),
    )
