"""Every error pgolf raises on purpose.

    PgolfError
    ├── UserError            a mistake the user can mend: three lines at most, exit code 2
    │   ├── ConfigError      a setting that does not exist, does not fit or contradicts another
    │   ├── DataError        a corpus, shard or tokenizer that is missing, damaged or does not fit
    │   └── StoreError       a store entry or a run that is missing or damaged
    ├── UnlawfulScore        an evaluation broke a rule of play; its score is not given out
    ├── RankFailed           another rank of the gang failed or vanished; carries that rank's traceback
    └── InfeasibleTrial      not a fault: an outcome on its way to the record (carries `Infeasible`)

Everything else that escapes is a bug or a fault of the machine: it fails the trial loudly and caches
nothing. An outcome (`Infeasible`) is data: over the byte cap, over time, diverged, killed at a gate.
"""

from pgolf.section import Refusal, Section
from pgolf.section import nearest as nearest


class PgolfError(Exception):
    """Root of the tree."""


class UserError(PgolfError):
    """A mistake the user can mend: the rule, the value that broke it, and the way out."""

    def __init__(self, rule: str, given: object = None, remedy: str | None = None) -> None:
        self.rule, self.given, self.remedy = rule, given, remedy
        super().__init__("\n".join(Refusal(rule, given, remedy).lines()))


class ConfigError(UserError):
    """A setting that does not exist, does not fit its type, or contradicts another."""


class DataError(UserError):
    """A corpus, shard or tokenizer that is missing, damaged, or does not fit the others."""


class StoreError(UserError):
    """A store entry or a run that is missing or damaged."""


class UnlawfulScore(PgolfError):
    """An evaluation broke a rule of play: which, and where."""


class RankFailed(PgolfError):
    """A collective broke off because another rank failed: what that rank had to say."""


class Infeasible(Section):
    """One broken limit of a trial: an outcome, recorded, ranked below every feasible trial."""

    reason: str  # artifact_bytes, train_seconds, eval_seconds, diverged, gate, rules, certificate
    measured: float | None  # None where the quantity is not a number (a diverged loss)
    limit: float

    @property
    def violation(self) -> float:
        """How far over the limit, relative to it: what a constrained sampler is told (> 0)."""
        if self.measured is None:
            return 1.0
        return max(abs(self.measured - self.limit) / max(abs(self.limit), 1e-12), 1e-9)


class InfeasibleTrial(PgolfError):
    """Unwinds a trial that already is known not to be feasible; the pipeline records the outcome."""

    def __init__(self, outcome: Infeasible) -> None:
        self.outcome = outcome
        super().__init__(f"{outcome.reason}: measured {outcome.measured}, limit {outcome.limit}")

    def __reduce__(self) -> tuple[type["InfeasibleTrial"], tuple[Infeasible]]:
        return InfeasibleTrial, (self.outcome,)
