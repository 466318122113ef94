"""Ranges of SGD on the stream: looped networks diverge at rates that suit others, so they are wide."""

from optuna.trial import BaseTrial

from pgolf.evaluate.ttt.stream_sgd import StreamSgd


def stream_sgd(trial: BaseTrial, at: str, trained: int) -> StreamSgd:
    return StreamSgd(
        chunk_tokens=trial.suggest_categorical(f"{at}.chunk_tokens", [8192, 16_384, 32_768, 65_536]),
        sequence_tokens=trained,
        epochs=trial.suggest_int(f"{at}.epochs", 1, 5),
        lr=trial.suggest_float(f"{at}.lr", 5e-4, 1e-2, log=True),
        momentum=trial.suggest_float(f"{at}.momentum", 0.8, 0.97),
        freeze_first=trial.suggest_int(f"{at}.freeze_first", 0, 2),
    )
