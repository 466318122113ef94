"""Where documents begin in a row of tokens, and where a long one is cut.

    start[i] = (token[i] is BOS) or (i is the row's first position)

Everything that looks back stops at a start. Training caps how far back attention reaches by adding starts:
inside a document longer than S there is one every S tokens, counted from the document's own beginning
(the pieces do not see one another). Rows keep their length, so another S is another mask and no other shape.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from pgolf.formats.shards import BOS


def document_starts(tokens: Int[Tensor, "*rows context"]) -> Bool[Tensor, "*rows context"]:
    """True where a document begins; the first position of a row always is a beginning."""
    starts = tokens == BOS
    starts[..., 0] = True
    return starts


def capped(starts: Bool[Tensor, "*rows time"], context: int) -> Bool[Tensor, "*rows time"]:
    """The same starts, and one more every `context` tokens inside what is longer than that.

    From where the documents begin, since they are few: this lies between two steps of a GPU.
    """
    if starts.shape[-1] <= context:
        return starts
    out = starts.clone()
    out[..., 0] = True
    first = out.view(-1).nonzero().squeeze(1)
    lengths = torch.diff(first, append=first.new_tensor([out.numel()]))
    cuts = (lengths - 1) // context  # inside each document
    number = torch.arange(int(cuts.sum()), device=out.device) - (cuts.cumsum(0) - cuts).repeat_interleave(
        cuts
    )
    out.view(-1)[first.repeat_interleave(cuts) + context * (number + 1)] = True
    return out


def positions_in_segment(starts: Bool[Tensor, "*rows time"]) -> Int[Tensor, "*rows time"]:
    """Tokens since the last start (0 at a start)."""
    here = torch.arange(starts.shape[-1], device=starts.device).expand_as(starts)
    return here - here.where(starts, 0).cummax(-1).values
