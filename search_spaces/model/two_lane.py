"""Ranges of the two-lane residual: from which layer, how merged, and where its routing begins."""

from optuna.trial import BaseTrial

from pgolf.model.two_lane import TwoLane


def two_lane(trial: BaseTrial, at: str, least: int, layers: int) -> TwoLane:
    """With equal routes both lanes' scalars get equal gradients; `cross_route` breaks the symmetry."""
    return TwoLane(
        from_layer=trial.suggest_int(f"{at}.from_layer", least, layers - 1),
        merge=trial.suggest_categorical(f"{at}.merge", ["mean", "attention", "mlp", "learned"]),
        keep=trial.suggest_float(f"{at}.keep", 0.9, 1.2),
        route=trial.suggest_float(f"{at}.route", 0.5, 1.5),
        cross_route=trial.suggest_float(f"{at}.cross_route", 0.0, 1.5),
    )
