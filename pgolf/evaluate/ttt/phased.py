"""Phases: rounds of documents, and between them the whole network learns from all that was scored (PR 1610, 1626).

The first `prefix_documents` documents, or `prefix_tokens` targets, are scored in `phases` rounds of about equal
size. After each of them a descent (descent.py) goes over everything that was scored so far, once a chunk, at a rate
that falls by a cosine over the phase's chunks, with an optimizer that begins at rest and from the weights as they are
by then; then everything that is left is scored. Documents adapt by `lora` meanwhile, which begins anew in every phase.

Which documents come first is the mode's `order`. In the records they were the longest ones, and of those scored
the set that was trained on depended on which rank was faster; here it is everything that was scored, every time.
"""

from typing import Literal

from pydantic import Field

from pgolf.evaluate.neural import Neural
from pgolf.evaluate.predictor import Extent, Holding, Predictor, Scored
from pgolf.evaluate.ranks import ALONE, Ranks
from pgolf.evaluate.ttt.descent import Descent, DescentSection
from pgolf.evaluate.ttt.document_lora import DocumentLora


class Phased(DescentSection):
    kind: Literal["phased"] = "phased"
    rows: int = Field(16, ge=1)
    epochs: int = Field(1, ge=1)
    lr: float = Field(0.001, gt=0)
    phases: int = Field(3, ge=1)
    prefix_documents: int = Field(2500, ge=1)
    prefix_tokens: int | None = Field(None, ge=1)  # instead of so many documents, so many targets
    lora: DocumentLora | None = DocumentLora()

    @property
    def needs_documents(self) -> bool:
        return self.lora is not None

    @property
    def by_lengths(self) -> list[str]:
        """Its own rates fall over what was scored."""
        return [] if self.lora is None else [f"lora.{name}" for name in self.lora.by_lengths]

    def must_fit(self, executions: int, blocks: int) -> None:
        super().must_fit(executions, blocks)
        if self.lora is not None:
            self.lora.must_fit(executions, blocks)

    def build(self, base: Neural) -> "PhasedPredictor":
        descent = Descent(self, base)
        return PhasedPredictor(self, descent, base if self.lora is None else self.lora.build(base))

    def ends(self, extent: Extent) -> list[int]:
        """Targets scored when each phase is over. Whoever is scored after the last one has learned for nothing,
        so a phase that would leave no one is none."""
        scored_by = extent.scored_by
        if self.prefix_tokens is not None:
            wanted = self._shares(min(self.prefix_tokens, int(scored_by[-1])))
        else:
            counts = self._shares(min(self.prefix_documents, len(scored_by)))
            wanted = [int(scored_by[count - 1]) for count in counts if count]
        return sorted({end for end in wanted if 0 < end < scored_by[-1]})

    def _shares(self, whole: int) -> list[int]:
        return [phase * whole // self.phases for phase in range(1, self.phases + 1)]


class PhasedPredictor(Holding):
    def __init__(self, section: Phased, descent: Descent, base: Predictor) -> None:
        super().__init__(base)
        self.section, self.descent, self.learns = section, descent, True

    def begin(self, extent: Extent, ranks: Ranks = ALONE) -> None:
        super().begin(extent, ranks)
        self.descent.begin(ranks)
        self.ends = extent.ending(self.section.ends(extent))

    def boundaries(self, extent: Extent) -> list[int]:
        return [*super().boundaries(extent), *self.section.ends(extent)]

    def learn(self, scored: Scored) -> None:
        super().learn(scored)
        self.descent.tell(scored)
        if scored.number in self.ends:
            self._phase()

    def _phase(self) -> None:
        s, sequences = self.section, self.descent.sequences()
        together = max(s.chunk_tokens // s.sequence_tokens, 1)
        begins = range(0, len(sequences), together)
        self.descent.rest()
        for number, at in enumerate(begins[: max(len(begins) - 1, 1)]):  # there is no rate left for the last
            self.descent.chunk(sequences[at : at + together], s.cosine(number, len(begins)))
