"""Which optimizer adapters and networks step by at test time, and its ranges."""

from optuna.trial import BaseTrial

from pgolf.evaluate.ttt.row_optimizer import AdamW, Momentum, RmsProp, RowMuon, RowOptimizer

SHARES = {"sgd": 1.0, "muon": 0.1, "rmsprop": 0.01, "adamw": 0.01}  # of momentum's rate


def row_optimizer(trial: BaseTrial, at: str) -> RowOptimizer:
    kind = trial.suggest_categorical(f"{at}.kind", ["adamw", "rmsprop", "sgd", "muon"])
    if kind in ("sgd", "muon"):
        momentum = trial.suggest_float(f"{at}.momentum", 0.0, 0.97)
        if kind == "sgd":
            return Momentum(momentum=momentum)
        steps = trial.suggest_int(f"{at}.newton_schulz_steps", 3, 5)
        return RowMuon(momentum=momentum, newton_schulz_steps=steps)
    beta2 = trial.suggest_float(f"{at}.beta2", 0.9, 0.999)
    if kind == "rmsprop":
        return RmsProp(beta2=beta2)
    return AdamW(
        beta1=trial.suggest_float(f"{at}.beta1", 0.0, 0.9),
        beta2=beta2,
        weight_decay=trial.suggest_float(f"{at}.weight_decay", 0.0, 2.0),
    )


def rate(trial: BaseTrial, name: str, low: float, high: float, optimizer: RowOptimizer) -> float:
    """The rate of a whole network, from what momentum takes: where a gradient's size does not count, steps of the
    same rate would be longer by orders of magnitude (PR 1045: AdamW at 0.002 destroys)."""
    share = SHARES[optimizer.kind]
    return trial.suggest_float(name, share * low, share * high, log=True)
