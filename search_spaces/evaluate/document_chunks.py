"""Ranges of documents in chunks: contexts as trained and longer, chunks around the records' 48."""

from optuna.trial import BaseTrial

from pgolf.evaluate.document_chunks import DocumentChunks
from search_spaces.listed import listed

SHORT = ((), ((256, 8), (2000, 24)))  # PR 2014's table


def document_chunks(trial: BaseTrial, at: str, trained: int, carries: bool = False) -> DocumentChunks:
    """With `carries`, one round learns from another, and it matters which documents come first."""
    orders = ["stream", "longest"]
    return DocumentChunks(
        context=trial.suggest_categorical(f"{at}.context", [trained, trained * 3 // 2, 2 * trained]),
        chunk=trial.suggest_categorical(f"{at}.chunk", [16, 32, 48, 64]),
        short_chunks=listed(trial, f"{at}.short_chunks", SHORT),
        order=trial.suggest_categorical(f"{at}.order", orders) if carries else "stream",
    )
