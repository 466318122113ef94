"""Keys and values of positions that a forward has been through, for a row that grows.

    o_t = softmax(q_t [K; k_t]) [V; v_t]        K, V: what each execution made of the positions before

Attention is all that looks back further than a token or two, so it alone needs a past. The network still reads
a row's tokens from its beginning, embeds all of them, and executes its blocks for the new ones. Entries go by
execution and not by layer: a layer of the recurrence says something else in every pass.

A cache belongs to one network as it stands, to the rows that it has seen, and to the executions that it was
first used with; all rows have got equally far. What it keeps carries no gradient.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pgolf.kernels.attention import Masked, visible


class Cache:
    """Empty at first. `known` counts positions, and moves when all executions are through."""

    def __init__(self) -> None:
        self.known = 0
        self.forgotten = 0  # positions before the first one that is known
        self.seen: dict[int, tuple[Tensor, Tensor]] = {}  # by execution: keys, turned already, and values

    @property
    def end(self) -> int:
        """The rotation's position of the next one."""
        return self.forgotten + self.known

    def copy(self) -> "Cache":
        """Another that goes on from here."""
        made = Cache()
        made.known, made.forgotten, made.seen = self.known, self.forgotten, dict(self.seen)
        return made

    def forget(self, positions: int) -> None:
        """Rows begin so many positions later from here on. Their keys stay turned as they were."""
        assert positions <= self.known, "what is forgotten was known"
        self.known, self.forgotten = self.known - positions, self.forgotten + positions
        self.seen = {step: (k[:, positions:], v[:, positions:]) for step, (k, v) in self.seen.items()}

    def layout(self, starts: Bool[Tensor, "batch time"]) -> Masked:
        """What the new positions may read, of whole rows: written out, whatever the network's backend."""
        return Masked(visible(starts, self.known))

    def extended(
        self,
        step: int,
        k: Float[Tensor, "batch new kv_heads dim"],
        v: Float[Tensor, "batch new kv_heads dim"],
    ) -> tuple[Float[Tensor, "batch time kv_heads dim"], Float[Tensor, "batch time kv_heads dim"]]:
        """The keys and values of all positions in execution `step`, whose new ones these are."""
        if self.known:
            assert step in self.seen, "a cache serves the executions that it was first used with"
            past_k, past_v = (past[:, : self.known] for past in self.seen[step])
            k, v = torch.cat([past_k, k], dim=1), torch.cat([past_v, v], dim=1)
        self.seen[step] = k.detach(), v.detach()
        return k, v

    def select(self, rows: Int[Tensor, " kept"] | Bool[Tensor, " batch"]) -> None:
        """Keep these rows alone: the others' documents are at an end."""
        self.seen = {step: (k[rows], v[rows]) for step, (k, v) in self.seen.items()}
