"""What training minimizes. Plain cross-entropy, unless techniques are given; what is measured always is plain.

    total = mean(w_t (1 - p_t)^gamma CE'_t) + z mean(lse_t^2) + m mean_k CE_k

CE' is the smoothed cross-entropy; each factor or term is there where its technique is. Everything is a mean
over all tokens of the batch, so that any division of it, among ranks or forwards, adds up to the same.
In this regime, with its real budget, plain cross-entropy has beaten every other objective so far.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from pgolf.data.batch import Batch
from pgolf.data.stream import Stream
from pgolf.kernels.attention import Layout
from pgolf.model.gpt import Gpt
from pgolf.section import Section
from pgolf.train.focal import Focal
from pgolf.train.label_smoothing import LabelSmoothing
from pgolf.train.mtp import Mtp, MtpHeads
from pgolf.train.token_weighting import TokenWeighting, Weigher
from pgolf.train.z_loss import ZLoss


class Objective(Section):
    """Techniques on top of cross-entropy; without any it is plain."""

    z_loss: ZLoss | None = None
    label_smoothing: LabelSmoothing | None = None
    focal: Focal | None = None
    token_weighting: TokenWeighting | None = None
    mtp: Mtp | None = None

    @property
    def is_plain(self) -> bool:
        return all(part is None for part in dict(self).values())

    def heads(self, network: Gpt) -> MtpHeads | None:
        """The training-only heads beside a network, on its device."""
        if self.mtp is None:
            return None
        made = self.mtp.build(network.config.width, network.vocab_size)
        return made.to(network.embedding.weight.device)

    def weigher(self, stream: Stream, vocab_size: int, context: int, device: str) -> Weigher | None:
        """What weighs the targets of a batch. Reads training data."""
        if self.token_weighting is None:
            return None
        return self.token_weighting.weigher(stream, vocab_size, context, device)


class Loss(NamedTuple):
    """Means over the tokens of a batch, in nats."""

    total: Float[Tensor, ""]  # what is minimized
    nats: Float[Tensor, ""]  # plain cross-entropy, without gradient: what is reported


class Scored(NamedTuple):
    """Of each token, in float32."""

    nats: Float[Tensor, "rows time"]  # plain cross-entropy
    lse: Float[Tensor, "rows time"]  # log of the softmax's normalizer
    mean_logit: Float[Tensor, "rows time"]  # of the capped logits, over the vocabulary


def loss(
    network: Gpt,
    heads: MtpHeads | None,
    batch: Batch,
    objective: Objective | None,
    layout: Layout | None = None,
) -> Loss:
    """The loss of a batch; plain cross-entropy without an objective.

    `layout` is the network's for the batch's starts (None: made here).
    """
    if objective is None:
        nats = loss_nats(network, batch, layout)
        return Loss(nats, nats.detach())
    hidden = network.hidden(batch.tokens, batch.starts, layout)
    scored = _scored(network, hidden, batch.targets)
    tokens = scored.nats
    if objective.label_smoothing is not None:
        tokens = objective.label_smoothing.smoothed(*scored)
    if objective.focal is not None:
        tokens = tokens * objective.focal.factor(scored.nats)
    if batch.weights is not None:
        tokens = tokens * batch.weights
    if objective.z_loss is not None:
        tokens = tokens + objective.z_loss.penalty(scored.lse)
    total = tokens.mean()
    if objective.mtp is not None:
        assert heads is not None, "heads are made for a run with mtp"
        total = total + objective.mtp.weight * heads(hidden, batch.targets, network.softcapped)
    return Loss(total, scored.nats.detach().mean())


def loss_nats(network: Gpt, batch: Batch, layout: Layout | None = None) -> Float[Tensor, ""]:
    """Mean cross-entropy over the batch, in nats per token."""
    logits = network(batch.tokens, batch.starts, layout)
    return F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())


def _scored(network: Gpt, hidden: Float[Tensor, "rows time d"], targets: Int[Tensor, "rows time"]) -> Scored:
    logits = network.softcapped(network.raw_logits(hidden).float())
    lse = torch.logsumexp(logits, dim=2)
    nats = lse - logits.gather(2, targets.unsqueeze(2)).squeeze(2)
    return Scored(nats, lse, logits.mean(dim=2))
