"""Watching what every matrix of a network is given, for the statistics that quantization is solved with.

The tied table is seen as the output matrix: its inputs are the final norm's outputs, or what a factored
embedding makes of them. Further tables are indexed by tokens and hashes, they have no inputs to be seen.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from pgolf.model.adapter import LowRank
from pgolf.model.linear import Linear

See = Callable[[str, Tensor], None]  # a parameter's name, its inputs [..., in]


@contextmanager
def observed(network: nn.Module, head: nn.Module, see: See) -> Iterator[None]:
    """For the block's duration, tell `see` every application; `head`'s output enters the tied table."""
    handles = [head.register_forward_hook(lambda _, __, out: see("embedding.weight", out))]
    for name, module in network.named_modules():
        if isinstance(module, Linear):
            handles.append(module.register_forward_pre_hook(partial(_input, see, f"{name}.weight")))
        elif isinstance(module, LowRank):
            handles.append(module.register_forward_pre_hook(partial(_factors, see, name)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _input(see: See, name: str, _: nn.Module, given: tuple[Any, ...]) -> None:
    see(name, given[0])


def _factors(see: See, name: str, module: nn.Module, given: tuple[Any, ...]) -> None:
    assert isinstance(module, LowRank)
    see(f"{name}.a", given[0])
    see(f"{name}.b", module.narrowed(given[0]))
