"""Which head gate, if any: at most one is on."""

from optuna.trial import BaseTrial

from pgolf.model.attention import HeadGate
from search_spaces.model.dense_gate import dense_gate
from search_spaces.model.elementwise_gate import elementwise_gate
from search_spaces.model.headwise_gate import headwise_gate
from search_spaces.model.output_gate import output_gate
from search_spaces.model.sparse_gate import sparse_gate

GATES = {f.__name__: f for f in (sparse_gate, dense_gate, output_gate, headwise_gate, elementwise_gate)}


def head_gate(trial: BaseTrial, at: str) -> HeadGate | None:
    if not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    return GATES[trial.suggest_categorical(f"{at}.kind", list(GATES))](trial, at)
