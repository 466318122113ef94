"""The one scorer: it owns the targets, asks a predictor for distributions, and adds up.

    bpb = (sum of nll / ln 2) / (sum of bytes), both over exactly the same targets, in float64

A predictor sees a window's inputs and document starts and answers with float32 logits for the next
token at every position; the scorer normalizes them itself and looks the target up afterwards, so a
predictor can neither see a target nor hand in something that is no distribution.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from pgolf.data.starts import document_starts
from pgolf.evaluate.windows import Sliding
from pgolf.formats.ledger import check_ledger
from pgolf.formats.shards import Tokens

ROWS = 16  # windows a forward


@runtime_checkable
class Predictor(Protocol):
    """Logits for the next token, from the past inside the window alone."""

    def __call__(
        self, tokens: Int[Tensor, "rows time"], starts: Bool[Tensor, "rows time"]
    ) -> Float[Tensor, "rows time vocab"]: ...


@dataclass(frozen=True)
class Scores:
    """What scoring a stream came to."""

    nll: NDArray[np.float64]  # [tokens], nats; entry 0 is unscored
    windows: NDArray[np.int64]  # the ledger
    tokens: int  # targets scored
    bytes: int  # of text they stand for

    @property
    def nats_per_token(self) -> float:
        return math.fsum(self.nll) / self.tokens

    @property
    def bpb(self) -> float:
        return math.fsum(self.nll) / math.log(2) / self.bytes

    def metrics(self) -> Mapping[str, float]:
        return {
            "bpb": self.bpb,
            "val_tokens": self.tokens,
            "val_bytes": self.bytes,
            "nats_per_token": self.nats_per_token,
        }


@torch.inference_mode()
def score(predictor: Predictor, tokens: Tokens, counts: Tokens, plan: Sliding, device: str = "cpu") -> Scores:
    """Score every target of a stream exactly once.

    Args:
        tokens: the stream, documents beginning with BOS.
        counts: bytes each token stands for; a document's sum is its length.

    Raises:
        ValueError: if the stream has nothing to score, or no bytes to divide by.
    """
    if len(tokens) < 2 or not int(counts[1:].sum(dtype=np.int64)):
        raise ValueError(
            f"a stream of {len(tokens)} tokens and {int(counts.sum())} bytes has nothing to score"
        )
    windows = plan.plan(len(tokens))
    assert (broken := check_ledger(windows, len(tokens))) is None, broken
    stream = torch.from_numpy(tokens.astype(np.int64))
    nll = np.zeros(len(tokens), dtype=np.float64)
    lengths = windows[:, 2] - 1 - windows[:, 0]
    for length in np.unique(lengths)[::-1]:
        members = windows[lengths == length]
        for at in range(0, len(members), ROWS):
            rows = members[at : at + ROWS]
            inputs = torch.stack([stream[c : e - 1] for c, _, e in rows])
            logits = predictor(inputs.to(device), document_starts(inputs).to(device))
            for row, (c, b, e) in zip(logits, rows, strict=True):
                nll[b:e] = _nll(row[b - 1 - c : e - 1 - c], stream[b:e].to(device))
    return Scores(nll, windows, len(tokens) - 1, int(counts[1:].sum(dtype=np.int64)))


def _nll(logits: Float[Tensor, "n vocab"], targets: Int[Tensor, "n"]) -> NDArray[np.float64]:  # noqa: F821
    """-log softmax at the targets, with the normalizer and the difference in float64."""
    wide = logits.double()
    return (wide.logsumexp(1) - wide.gather(1, targets.unsqueeze(1)).squeeze(1)).cpu().numpy()
