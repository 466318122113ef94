"""Small orthogonal output projections: nothing in it is searched."""

from optuna.trial import BaseTrial

from pgolf.model.deep_orthogonal import DeepOrthogonal


def deep_orthogonal(trial: BaseTrial, at: str) -> DeepOrthogonal:
    return DeepOrthogonal()
