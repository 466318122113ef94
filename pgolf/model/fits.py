"""What of a network's config does not go together, said with a way out.

A section checks itself; what lies between sections is checked here, once, when the config is made.
"""

from typing import TYPE_CHECKING

from pgolf.model.parallel_residual import ParallelResidual
from pgolf.model.two_lane import TwoLane
from pgolf.section import RuleBroken

if TYPE_CHECKING:
    from pgolf.model.gpt import GptConfig


def check_shapes(config: "GptConfig") -> None:
    """Raises RuleBroken where a width, a head or a length does not fit another."""
    dim, factored, values = (
        config.attention.head_dim(config.width),
        config.embedding.factored,
        config.value_embedding,
    )
    if config.rope.dims > dim:
        raise RuleBroken(
            "rope.dims is at most the head dimension width / heads",
            f"rope.dims={config.rope.dims}, width/heads={dim}",
            f"rope.dims={dim}",
        )
    if factored and factored.rank >= config.width:
        raise RuleBroken(
            "embedding.factored.rank is below the width",
            f"rank={factored.rank}, width={config.width}",
            f"rank={config.width // 2}, or embedding.factored=null",
        )
    if values and values.layers[-1] >= config.layers:
        raise RuleBroken(
            "value_embedding.layers are layers of the model (the first is 0)",
            f"layers={list(values.layers)} of {config.layers}",
            f"layers from 0 to {config.layers - 1}",
        )
    config.mlp.check(config.width, len(set(config.uses())))


def check_order(config: "GptConfig") -> None:
    """Raises RuleBroken where the executed order does not allow what is to happen in it."""
    if config.recurrence and config.recurrence.last >= config.layers:
        raise RuleBroken(
            "recurrence.last is one of the model's layers (the first is 0)",
            f"recurrence.last={config.recurrence.last}, layers={config.layers}",
            f"recurrence.last={config.layers - 1}",
        )
    if config.parallel:
        decoder = config.layers // 2 if config.u_net and isinstance(config.parallel, TwoLane) else 0
        least = max((config.recurrence.last + 1) if config.recurrence else 0, decoder)
        if not least <= config.parallel.from_layer < config.layers:
            raise RuleBroken(
                "parallel.from_layer is a layer of the decoder, after the recurrent band",
                f"parallel.from_layer={config.parallel.from_layer}, layers={config.layers}",
                f"from {least} to {config.layers - 1}" if least < config.layers else "parallel=null",
            )
    if config.sharing and isinstance(config.parallel, ParallelResidual):
        raise RuleBroken(
            "a shared block is not sequential for one layer and parallel for another",
            "sharing with parallel.kind=parallel_residual",
            "parallel.kind=two_lane, or sharing=null",
        )


def check_values(config: "GptConfig") -> None:
    """Raises RuleBroken where a value residual meets what it was seen to do harm with."""
    if not config.attention.value_residual:
        return
    for name in ("recurrence", "sharing", "value_embedding", "parallel"):
        if getattr(config, name):
            raise RuleBroken(
                "a value residual goes with no recurrence, sharing, value embedding or parallel residual",
                f"attention.value_residual with {name}",
                f"attention.value_residual=null, or {name}=null",
            )
