"""Which gate, and its ranges."""

from optuna.trial import BaseTrial

from pgolf.evaluate.memory.gate import Confidence, Gate, Learned, Odds


def gate(trial: BaseTrial, at: str) -> Gate:
    kind = trial.suggest_categorical(f"{at}.kind", ["confidence", "odds", "learned"])
    if kind == "confidence":
        return Confidence(
            threshold=trial.suggest_float(f"{at}.threshold", 0.5, 0.95),
            beta=trial.suggest_float(f"{at}.beta", 1.0, 4.0),
        )
    if kind == "odds":
        return Odds(
            shrink=trial.suggest_float(f"{at}.shrink", 0.3, 1.0),
            beta_max=trial.suggest_float(f"{at}.beta_max", 2.0, 6.0),
            negative=trial.suggest_categorical(f"{at}.negative", [False, True]),
            prior=trial.suggest_float(f"{at}.prior", 0.25, 4.0, log=True),
        )
    return Learned(
        shrink=trial.suggest_float(f"{at}.shrink", 0.5, 1.0),
        beta_max=trial.suggest_float(f"{at}.beta_max", 2.0, 8.0),
        least_gain=trial.suggest_float(f"{at}.least_gain", 1e-4, 1e-2, log=True),
        trust=trial.suggest_float(f"{at}.trust", 5.0, 200.0, log=True),
    )
