"""How steps relate. The two-sided form wants whole output covariances; forms with clips are behind at any rate."""

from optuna.trial import BaseTrial

from pgolf.quantize.forms import FisherGrid, FisherRows, Form, TensorClips, TwoSided, TypeClips

PLAIN: dict[str, Form] = {
    "type_clips": TypeClips(),
    "tensor_clips": TensorClips(),
    "fisher_rows": FisherRows(),
    "fisher_grid": FisherGrid(),
}


def forms(
    trial: BaseTrial, at: str, kinds: tuple[str, ...] = ("fisher_rows", "fisher_grid", "two_sided")
) -> Form:
    kind = trial.suggest_categorical(f"{at}.kind", kinds)
    if kind in PLAIN:
        return PLAIN[kind]
    return TwoSided(
        shrinkage=trial.suggest_float(f"{at}.shrinkage", 0.05, 0.4),
        damping=trial.suggest_float(f"{at}.damping", 0.002, 0.05, log=True),
    )
