"""What the modes of evaluation have in common: how far a prediction sees, and what adapts on the way.

A mode says in which windows and in which order a stream is scored. What happens beside that, adaptation and memory,
is held by it, and predictors built from them hold the network.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pgolf.evaluate.adaptation import Adaptation
from pgolf.evaluate.memories import Memory
from pgolf.evaluate.neural import Neural
from pgolf.evaluate.predictor import Extent, Predictor
from pgolf.evaluate.schedule import Round
from pgolf.model.gpt import Gpt
from pgolf.section import RuleBroken, Section

ROWS = 16  # windows of a stream that are asked for together


class Mode(Section):
    """A subclass says which windows a stream is scored in."""

    opens_documents: ClassVar[bool] = False  # whether documents advance one by one, and can be adapted to
    context: int = Field(1024, ge=2)  # positions a window sees
    ttt: Adaptation | None = None  # what of the network learns from scored text
    memory: Memory | None = None  # what is remembered of scored text and changes the network's distributions

    @model_validator(mode="after")
    def _adapts_to_what_it_opens(self) -> "Mode":
        if self.ttt is not None and self.ttt.needs_documents and not self.opens_documents:
            raise RuleBroken(
                "evaluate.ttt adapts to one document after the other, and this mode does not open documents",
                f"ttt.kind={self.ttt.kind}",
                "evaluate.kind=document_chunks",
            )
        for memory in self.memory.chain if self.memory is not None else ():
            if memory.needs_documents and not self.opens_documents:
                raise RuleBroken(
                    "evaluate.memory remembers one document after the other, and this mode does not open documents",
                    f"memory.kind={memory.plain()['kind']}, share_documents=false",
                    "evaluate.kind=document_chunks",
                )
        return self

    def predictor(self, network: Gpt, bottom: type[Neural] = Neural) -> Predictor:
        """The network (as `bottom` asks it), adapting and remembering as this says."""
        neural = bottom(network)
        adapting = neural if self.ttt is None else self.ttt.build(neural)
        return adapting if self.memory is None else self.memory.build(adapting)

    @property
    def adaptive(self) -> bool:
        """Whether scored text changes what is predicted later."""
        return self.plain_mode != self

    @property
    def plain_mode(self) -> "Mode":
        """The same windows without adaptation or memory."""
        return self.but(ttt=None, memory=None)

    @property
    def outside_rules(self) -> list[str]:
        """The rules that this mode's memories break: research, never ranked."""
        chain = self.memory.chain if self.memory is not None else []
        return [m.OUTSIDE_RULES for m in chain if m.OUTSIDE_RULES is not None]

    @property
    def carries(self) -> bool:
        """Whether what is learned of one document is known to others: then their order counts."""
        memories = self.memory.chain if self.memory is not None else []
        return (self.ttt is not None and self.ttt.carries) or any(m.share_documents for m in memories)

    @property
    def by_lengths(self) -> list[str]:
        """The settings by which scores depend on how long documents, or the stream, will turn out to be.

        Lawful, since an evaluator knows the lengths beforehand; but such scores do not predict where a document
        ends. Where documents are longer than the context, their last window, which ends with them, is one more.
        """
        return [] if self.ttt is None else [f"ttt.{name}" for name in self.ttt.by_lengths]

    @property
    def described(self) -> str:
        """The windows in a few words."""
        raise NotImplementedError

    def order_of(self, extent: Extent) -> NDArray[np.int64]:
        """Its documents in the order in which they are scored."""
        return np.arange(len(extent.starts))

    def rounds(self, extent: Extent, wanted: Sequence[int], ranks: int = 1) -> list[Round]:
        """Every target of a stream once, in rounds that end where it is `wanted` (targets scored by then)."""
        raise NotImplementedError
