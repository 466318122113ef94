"""Factored embedding: the tied table is narrower than the stream.

    x = W_in E[t],  logits = E W_out n(x)        E [vocab, rank], W_in [width, rank], W_out [rank, width]

vocab * rank + 2 * width * rank parameters instead of vocab * width (rank 254 in the ternary record). The table
stays tied; its two projections are orthogonal at the start and not tied to one another.
"""

from pydantic import Field

from pgolf.model.linear import Linear
from pgolf.model.roles import Role
from pgolf.section import Section


class FactoredEmbedding(Section):
    rank: int = Field(254, ge=1)  # columns of the table, below the width

    def build(self, width: int) -> tuple[Linear, Linear]:
        """The projections into the stream and out of it."""
        return Linear(self.rank, width, Role.PROJECTION), Linear(width, self.rank, Role.PROJECTION)
