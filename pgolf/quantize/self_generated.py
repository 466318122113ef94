"""Calibration text that the model writes itself: no data is touched, so no training second is spent.

    x_1 uniform over the vocabulary,   x_{t+1} ~ softmax(z_t / temperature)

64 sequences of 2048 tokens at temperature 0.8 came within 0.0003 BPB of calibrating on validation text and within
nothing of training text (PR 1019's study), at some 190 s: every token reads its whole past again, since networks
here keep no cache of keys. It pays where training seconds are dearer than seconds after training.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor

from pgolf.formats.shards import BOS
from pgolf.model.gpt import Gpt
from pgolf.section import Section

ROWS = 16  # texts written side by side


class SelfGenerated(Section):
    kind: Literal["self_generated"] = "self_generated"
    temperature: float = Field(0.8, gt=0)

    @torch.no_grad()
    def rows(
        self, network: Gpt, seeds: list[int], context: int
    ) -> tuple[Int[Tensor, "rows time"], Bool[Tensor, "rows time"]]:
        """A text of `context` tokens for every seed, each a document of its own, and where they start.

        A text is its seed's alone: it does not matter which others are written beside it, up to the float
        order of a batch.
        """
        draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        tokens = torch.full((len(seeds), context), BOS, dtype=torch.int64)
        starts = torch.zeros_like(tokens, dtype=torch.bool)
        starts[:, 0] = True
        if context > 1:
            firsts = [torch.randint(network.vocab_size, (1,), generator=g) for g in draws]
            tokens[:, 1] = torch.cat(firsts) if firsts else tokens[:, 1]
        for at in range(2, context):
            for first in range(0, len(seeds), ROWS):
                some = slice(first, first + ROWS)
                past = tokens[some, :at].to(network.device), starts[some, :at].to(network.device)
                last = network.raw_logits(network.hidden(past[0], past[1])[:, -1:]).float()
                p = (network.softcapped(last)[:, 0].double() / self.temperature).softmax(-1).cpu()
                for row, g in zip(range(first, first + len(p)), draws[some], strict=True):
                    tokens[row, at] = torch.multinomial(p[row - first], 1, generator=g)
        return tokens, starts
