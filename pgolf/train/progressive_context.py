"""Progressive context: attention reaches further as the run goes on.

    S(f) = context of the first stage with until_fraction >= f;    lr x min((k - k_change + 1) / n, 1)

PR 2014: 1024 until 0.10, 2048 until 0.70, 3072 until the end, with a re-warmup of the rate over n = 32 steps
after each change. A stage caps how long a segment is (pgolf.data.starts) and changes no shape, so the
curriculum costs nothing and compiles nothing. The fraction is where a stage ENDS; a copy of the idea read it
as the beginning and trained on the shortest context for most of the run.
"""

from pydantic import Field, model_validator

from pgolf.section import RuleBroken, Section


class ContextStage(Section):
    context: int = Field(ge=2)  # the longest segment, in tokens
    until_fraction: float = Field(gt=0, le=1)  # of the run, where the stage ends


class ProgressiveContext(Section):
    """The last stage lasts to the end, at train.context."""

    stages: tuple[ContextStage, ...] = Field(min_length=1)
    rewarmup_steps: int = Field(32, ge=1)  # after a change; 1: none

    @model_validator(mode="after")
    def _in_order(self) -> "ProgressiveContext":
        ends = [stage.until_fraction for stage in self.stages]
        if ends != sorted(set(ends)):
            raise RuleBroken("stages are in order: each until_fraction is above the one before it",
                             str(ends), str(sorted(set(ends))))  # fmt: skip
        if ends[-1] != 1.0:
            raise RuleBroken("the last stage lasts to the end of the run", f"until_fraction={ends[-1]}",
                             "until_fraction: 1.0")  # fmt: skip
        return self

    def at(self, progress: float) -> int:
        """The context at a fraction of the run."""
        return next(stage.context for stage in self.stages if stage.until_fraction >= min(progress, 1.0))

    @property
    def first(self) -> ContextStage:
        return self.stages[0]

    @property
    def second(self) -> ContextStage | None:
        """The stage between the first and the last, where there are three."""
        return self.stages[1] if len(self.stages) > 2 else None


class ContextClock:
    """The context of each step, and the factor on the rate after it changed."""

    def __init__(self, section: ProgressiveContext | None, context: int) -> None:
        self.section, self.context = section, context
        self._changed_at: int | None = None
        if section is not None:
            self.context = section.at(0.0)

    def at(self, progress: float, step: int) -> tuple[int, float]:
        """(context, factor on the learning rate) of the step with this number. Steps are asked for in order."""
        if self.section is None:
            return self.context, 1.0
        context = self.section.at(progress)
        if context != self.context:
            self.context, self._changed_at = context, step
        if self._changed_at is None:
            return context, 1.0
        return context, min((step - self._changed_at + 1) / self.section.rewarmup_steps, 1.0)
