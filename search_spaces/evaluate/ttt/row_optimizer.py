"""Which optimizer adapters and networks step by at test time, and its ranges."""

from optuna.trial import BaseTrial

from pgolf.evaluate.ttt.row_optimizer import AdamW, RowOptimizer, Momentum, RmsProp, RowMuon


def row_optimizer(trial: BaseTrial, at: str) -> RowOptimizer:
    kind = trial.suggest_categorical(f"{at}.kind", ["adamw", "rmsprop", "sgd", "muon"])
    if kind in ("sgd", "muon"):
        momentum = trial.suggest_float(f"{at}.momentum", 0.0, 0.95)
        return Momentum(momentum=momentum) if kind == "sgd" else RowMuon(momentum=momentum)
    beta2 = trial.suggest_float(f"{at}.beta2", 0.9, 0.999)
    if kind == "rmsprop":
        return RmsProp(beta2=beta2)
    return AdamW(
        beta1=trial.suggest_float(f"{at}.beta1", 0.0, 0.9),
        beta2=beta2,
        weight_decay=trial.suggest_float(f"{at}.weight_decay", 0.0, 2.0),
    )
