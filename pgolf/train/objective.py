"""What training minimizes. Plain cross-entropy, unless techniques are given; what is measured always is plain.

    total = mean(w_t (1 - p_t)^gamma CE'_t) + z mean(lse_t^2) + m mean_k CE_k

CE' is the smoothed cross-entropy; each factor or term is there where its technique is. Everything is a mean
over all tokens of the batch, so that any division of it, among ranks or forwards, adds up to the same.
In this regime, with its real budget, plain cross-entropy has beaten every other objective so far.
"""

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from pgolf.data.batch import Batch
from pgolf.data.stream import Stream
from pgolf.kernels.attention import Layout
from pgolf.kernels.softcap_cross_entropy import softcap_cross_entropy, softcap_cross_entropy_reference
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
    raw = network.raw_logits(hidden)
    plain, lse = scored(network, raw, batch.targets)
    tokens = plain
    if objective.label_smoothing is not None:
        mean_logit = network.softcapped(raw.float()).mean(dim=2)
        tokens = objective.label_smoothing.smoothed(plain, lse, mean_logit)
    if objective.focal is not None:
        tokens = tokens * objective.focal.factor(plain)
    if batch.weights is not None:
        tokens = tokens * batch.weights
    if objective.z_loss is not None:
        tokens = tokens + objective.z_loss.penalty(lse)
    total = tokens.mean()
    if objective.mtp is not None:
        assert heads is not None, "heads are made for a run with mtp"
        ahead = heads(hidden, batch.targets, lambda logits, targets: scored(network, logits, targets)[0])
        total = total + objective.mtp.weight * ahead
    return Loss(total, plain.detach().mean())


def loss_nats(network: Gpt, batch: Batch, layout: Layout | None = None) -> Float[Tensor, ""]:
    """Mean cross-entropy over the batch, in nats per token."""
    if network.fused:
        raw = network.raw_logits(network.hidden(batch.tokens, batch.starts, layout))
        return scored(network, raw, batch.targets)[0].mean()
    logits = network(batch.tokens, batch.starts, layout)
    return F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())


def scored(
    network: Gpt, raw: Float[Tensor, "rows time vocab"], targets: Int[Tensor, "rows time"]
) -> tuple[Float[Tensor, "rows time"], Float[Tensor, "rows time"]]:
    """(plain cross-entropy, log of the softmax's normalizer) of each token, in float32, from raw logits."""
    cross_entropy = softcap_cross_entropy if network.fused else softcap_cross_entropy_reference
    if network.sides is None:
        nats, lse = cross_entropy(raw.flatten(0, 1), targets.flatten(), network.cap)
    else:  # learned: no constant that a kernel could take
        nats, lse = cross_entropy(network.softcapped(raw.float()).flatten(0, 1), targets.flatten(), None)
    return nats.view(targets.shape), lse.view(targets.shape)
