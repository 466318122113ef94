"""The laws a deployed score obeys, each a function that answers with evidence.

A check returns None when its law holds and otherwise one sentence that says what broke it.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from pgolf.data.published import TOLERANCE
from pgolf.data.starts import document_starts
from pgolf.data.tokenizer import Tokenizer
from pgolf.formats.ledger import Events, check_once
from pgolf.formats.shards import BOS, Tokens
from pgolf.model.gpt import Gpt

Forward = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
SPAN = 64  # positions of a probe row


def score_once(events: Events, tokens: int) -> str | None:
    """Every target exactly once, each from its past."""
    return check_once(events, tokens)


def sums_agree(nll: NDArray[np.float64], counts: Tokens, bpb: float) -> str | None:
    """The reported bits per byte are the ledger's bits over the sidecar's bytes."""
    again = math.fsum(nll) / math.log(2) / int(counts[1:].sum(dtype=np.int64))
    return None if math.isclose(again, bpb, rel_tol=1e-12) else f"reported {bpb!r}, the ledger says {again!r}"


def bytes_are_the_text(tokens: Tokens, counts: Tokens, tokenizer: Tokenizer) -> str | None:
    """The denominator is the UTF-8 length of the text that the tokens decode to, document by document.

    A normalizing case coding may come with a sidecar of raw bytes (the published one), which tokens do not tell;
    there the documents together may be off by `published.TOLERANCE`.
    """
    starts = np.flatnonzero(tokens == BOS)
    exact = tokenizer.lossless or tokenizer.case is None
    all_text = all_counted = 0
    for begin, end in zip(starts, [*starts[1:], len(tokens)], strict=True):
        text = len(tokenizer.decode(tokens[begin + 1 : end].tolist()))
        counted = int(counts[begin:end].sum(dtype=np.int64))
        if exact and text != counted:
            return f"the document at token {begin} has {text} bytes, {counted} are counted"
        all_text, all_counted = all_text + text, all_counted + counted
    if abs(all_counted - all_text) > TOLERANCE * all_text:
        return f"the documents have {all_text} bytes, {all_counted} are counted"
    return None


def future_is_invisible(network: Forward, vocab_size: int) -> str | None:
    """Changing tokens from a position on changes no prediction made before it."""
    before, after = _perturbed(network, vocab_size, changed=slice(SPAN // 2, None), start=None)
    return _same(before[:, : SPAN // 2], after[:, : SPAN // 2], "a prediction changed with later tokens")


def documents_are_islands(network: Forward, vocab_size: int) -> str | None:
    """Changing one document changes no prediction in the next."""
    half = SPAN // 2
    before, after = _perturbed(network, vocab_size, changed=slice(1, half), start=half)
    return _same(before[:, half:], after[:, half:], "a prediction changed with the document before")


def is_a_distribution(network: Forward, vocab_size: int) -> str | None:
    """Logits are finite, one for each token of the vocabulary."""
    logits, _ = _perturbed(network, vocab_size, changed=slice(0, 0), start=None)
    if logits.shape[-1] != vocab_size:
        return f"{logits.shape[-1]} logits for a vocabulary of {vocab_size}"
    return None if torch.isfinite(logits).all() else "a logit is not finite"


@torch.inference_mode()
def _perturbed(
    network: Forward, vocab_size: int, changed: slice, start: int | None
) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(20240520)
    x = torch.randint(2, vocab_size, (2, SPAN), generator=rng)
    if start is not None:
        x[:, start] = BOS
    y = x.clone()
    y[:, changed] = 2 + (y[:, changed] - 1) % (vocab_size - 2)
    device = next(network.parameters()).device if isinstance(network, Gpt) else torch.device("cpu")
    return tuple(network(t.to(device), document_starts(t).to(device)) for t in (x, y))  # type: ignore[return-value]


def _same(a: torch.Tensor, b: torch.Tensor, broken: str) -> str | None:
    difference = float((a - b).abs().max())
    return None if difference <= 1e-5 else f"{broken}, by up to {difference:.3g}"
