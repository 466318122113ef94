"""Which targets count more, if any do: late ones, rare ones, or those that a bigram table does not know."""

from optuna.trial import BaseTrial

from pgolf.train.token_weighting import Complementary, FrequencyWeights, TailEmphasis, TokenWeighting


def token_weighting(trial: BaseTrial, at: str) -> TokenWeighting | None:
    if not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    match trial.suggest_categorical(f"{at}.kind", ["tail", "frequency", "complementary"]):
        case "tail":
            return TailEmphasis(
                from_fraction=trial.suggest_float(f"{at}.from_fraction", 0.25, 0.75),
                weight=trial.suggest_float(f"{at}.weight", 1.1, 3.0, log=True),
            )
        case "frequency":
            return FrequencyWeights(power=trial.suggest_float(f"{at}.power", 0.02, 0.5, log=True))
        case _:
            return Complementary(strength=trial.suggest_float(f"{at}.strength", 0.1, 0.8))
