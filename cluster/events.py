"""What a search says while it runs, as values: the terminal, a test and a log file all listen to these."""

from collections.abc import Callable
from dataclasses import dataclass

from pgolf.formats.result import Result
from search_spaces.round import Round


@dataclass(frozen=True)
class SearchStarted:
    round: Round
    store: str
    trials: int  # the study's limit
    already: int  # trials that earlier drivers finished
    again: tuple[int, ...]  # numbers of dead drivers' trials, to be handed out again
    gang_seconds: float | None  # the budget, if there is one


@dataclass(frozen=True)
class TrialStarted:
    number: int
    label: str
    attempt: int


@dataclass(frozen=True)
class TrialProgress:
    number: int
    step: int  # -1 after a stage
    metrics: dict[str, float]


@dataclass(frozen=True)
class TrialFinished:
    number: int
    result: Result
    best_number: int | None  # of the feasible trials so far
    best_bpb: float | None


@dataclass(frozen=True)
class TrialLost:
    number: int
    reason: str
    again: bool  # it will be handed out once more


@dataclass(frozen=True)
class FinalistScored:
    number: int
    result: Result


@dataclass(frozen=True)
class FinalistFailed:
    number: int
    error: str


Event = (
    SearchStarted | TrialStarted | TrialProgress | TrialFinished | TrialLost | FinalistScored | FinalistFailed
)
Say = Callable[[Event], None]
