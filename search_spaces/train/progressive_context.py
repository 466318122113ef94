"""A context that grows over the run in one or two stages before the last, or none."""

from optuna.trial import BaseTrial

from pgolf.train.progressive_context import ContextStage, ProgressiveContext


def progressive_context(trial: BaseTrial, at: str, context: int) -> ProgressiveContext | None:
    """`context` is the run's, that of the last stage; the first is a third, a half or two thirds of it."""
    if not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    short = trial.suggest_categorical(f"{at}.first.context", [context // 3, context // 2, context * 2 // 3])
    until = trial.suggest_float(f"{at}.first.until_fraction", 0.05, 0.5)
    stages = [ContextStage(context=short, until_fraction=until)]
    if trial.suggest_categorical(f"{at}.second.on", [False, True]):
        between = ContextStage(
            context=trial.suggest_categorical(f"{at}.second.context", [context * 2 // 3, context * 5 // 6]),
            until_fraction=trial.suggest_float(f"{at}.second.until_fraction", 0.55, 0.9),
        )
        stages.append(between)
    stages.append(ContextStage(context=context, until_fraction=1.0))
    return ProgressiveContext(
        stages=tuple(stages),
        rewarmup_steps=trial.suggest_int(f"{at}.rewarmup_steps", 1, 64, log=True),
    )
