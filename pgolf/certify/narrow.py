"""The same mode of evaluation in smaller windows, chunks and rounds.

A short stream lies within one window of the given mode, and within one round: nothing overlaps there and nothing is
learned. What would go wrong where windows meet, or after a round, has to happen on the short stream too.
"""

from typing import Any

from pgolf.evaluate.mode import Mode
from pgolf.section import Section

SHARES_OF_STREAM = {
    "context": 6, "stride": 18, "chunk": 18, "chunk_tokens": 5, "round_tokens": 5, "sequence_tokens": 10,
    "prefix_tokens": 2,
}  # parts of the stream  # fmt: skip


def narrowed(mode: Mode, tokens: int, documents: int) -> Mode:
    """The mode for a stream of so many tokens; itself where it is narrow enough already."""
    if not any(_wide(part, tokens, documents) for part in mode.held()):
        return mode
    made = _narrowed(mode, tokens, documents)
    assert isinstance(made, Mode)
    return made


def _limits(tokens: int, documents: int) -> dict[str, int]:
    parts = {name: max(tokens // share, 2) for name, share in SHARES_OF_STREAM.items()}
    return {**parts, "prefix_documents": max(documents // 2, 1)}


def _wide(part: Section, tokens: int, documents: int) -> bool:
    """Twice as wide as it may be: a mode that nearly fits is left as it is."""
    return any(
        isinstance(value := getattr(part, name, None), int) and value > 2 * most
        for name, most in _limits(tokens, documents).items()
    )


def _narrowed(section: Section, tokens: int, documents: int) -> Section:
    limits, changes = _limits(tokens, documents), dict[str, Any]()
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            changes[name] = _narrowed(value, tokens, documents)
        elif name in limits and isinstance(value, int):
            changes[name] = min(value, limits[name])
        elif name == "short_chunks":
            changes[name] = tuple((limit, min(chunk, limits["chunk"])) for limit, chunk in value)
    return section.but(**changes)
