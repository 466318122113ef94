"""Ranges of descent on the stream: looped networks diverge at rates that suit others, so they are wide."""

from optuna.trial import BaseTrial

from pgolf.evaluate.ttt.stream_sgd import StreamSgd
from search_spaces.evaluate.ttt.row_optimizer import rate, row_optimizer


def stream_sgd(trial: BaseTrial, at: str, trained: int, stored: int) -> StreamSgd:
    """`stored`: blocks of the network, of which at least one learns."""
    optimizer = row_optimizer(trial, f"{at}.optimizer")
    return StreamSgd(
        chunk_tokens=trial.suggest_categorical(f"{at}.chunk_tokens", [8192, 16_384, 32_768, 65_536]),
        sequence_tokens=trained,
        epochs=trial.suggest_int(f"{at}.epochs", 1, 5),
        lr=rate(trial, f"{at}.lr", 5e-4, 1e-2, optimizer),
        optimizer=optimizer,
        freeze_first=trial.suggest_int(f"{at}.freeze_first", 0, min(2, stored - 1)),
    )
