"""Which order the training data is read in. Packed rows are offered where the caller says how long they are."""

from collections.abc import Sequence

from optuna.trial import BaseTrial

from pgolf.data.loader import Loader
from search_spaces.data.coprime_stride import coprime_stride
from search_spaces.data.packed import packed
from search_spaces.data.sequential import sequential
from search_spaces.data.shuffled_windows import shuffled_windows


def loader(trial: BaseTrial, at: str, rows_of: Sequence[int] = ()) -> Loader:
    kinds = ["shuffled_windows", "sequential", "coprime_stride", *(["packed"] if rows_of else [])]
    match trial.suggest_categorical(f"{at}.kind", kinds):
        case "sequential":
            return sequential(trial, at)
        case "coprime_stride":
            return coprime_stride(trial, at)
        case "packed":
            return packed(trial, at, rows_of)
        case _:
            return shuffled_windows(trial, at)
