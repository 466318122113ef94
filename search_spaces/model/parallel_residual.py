"""Ranges of the parallel residual: from which layer on."""

from optuna.trial import BaseTrial

from pgolf.model.parallel_residual import ParallelResidual


def parallel_residual(trial: BaseTrial, at: str, least: int, layers: int) -> ParallelResidual:
    return ParallelResidual(from_layer=trial.suggest_int(f"{at}.from_layer", least, layers - 1))
