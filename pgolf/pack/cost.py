"""What a packer is expected to make of codes: for the cost model, fitted by `python -m benchmarks.cost_model`."""

from dataclasses import dataclass

BYTE_PIECES = 256  # rows of a token table that text with a good tokenizer hardly meets


@dataclass(frozen=True)
class Cost:
    """Relative to the entropy of Gaussian weights on their grids."""

    coded: float  # bytes over entropy
    unmet: float  # share saved on rows that training never moved: they are alike
