"""The network as a predictor: what every chain of predictors ends in."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pgolf.evaluate.predictor import Ask, Predictor
from pgolf.model.adapter import Adapters
from pgolf.model.gpt import Gpt

Forward = Callable[[Tensor, Tensor], Tensor]  # [rows, time] tokens and starts -> [rows, time, vocab] logits


class Neural(Predictor):
    """A network that does not change by itself. Who holds it may change its weights between two questions."""

    def __init__(self, network: Gpt) -> None:
        self.network = network

    @torch.inference_mode()
    def log_probs(self, ask: Ask) -> Float[Tensor, "targets vocab"]:
        return self.logits(self.hidden(ask)).double().log_softmax(-1)

    def hidden(self, ask: Ask, adapters: Sequence[Adapters] = ()) -> Float[Tensor, "targets d"]:
        """The last states that the distributions asked for are made of. Differentiable."""
        device = self.network.device
        found = ask.asked(
            self.network.hidden(ask.tokens.to(device), ask.starts.to(device), adapters=adapters)
        )
        self.latest = found
        return found

    def states(self) -> Float[Tensor, "targets d"]:
        return self.latest.detach()

    def logits(
        self, states: Float[Tensor, "targets d"], added: Float[Tensor, "targets vocab"] | None = None
    ) -> Float[Tensor, "targets vocab"]:
        """Float32 logits of such states, with what is added to them before the softcap. Differentiable."""
        raw = self.network.raw_logits(states.unsqueeze(0)).squeeze(0).float()
        return self.network.softcapped(raw if added is None else raw + added)


class Plain(Predictor):
    """Any causal function from tokens and starts to logits as a predictor, on the CPU."""

    def __init__(self, forward: Forward) -> None:
        self.forward = forward

    @torch.inference_mode()
    def log_probs(self, ask: Ask) -> Float[Tensor, "targets vocab"]:
        tokens: Int[Tensor, "rows time"] = ask.tokens
        starts: Bool[Tensor, "rows time"] = ask.starts
        return ask.asked(self.forward(tokens, starts)).double().log_softmax(-1)
