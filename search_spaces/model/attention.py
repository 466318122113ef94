"""Ranges of grouped-query attention. The number of heads follows from the width, not from the sampler."""

from optuna.trial import BaseTrial

from pgolf.model.attention import Attention
from search_spaces.model.head_gate import head_gate
from search_spaces.model.self_exclusion import self_exclusion


def attention(trial: BaseTrial, at: str, heads: int, *, frontier_layers: int = 0) -> Attention:
    """KV heads as powers of two up to `heads`; gain 1 to 6 (1.5 first baseline, 5 late stacks). With
    `frontier_layers` (the model's number of layers) also XSA and the head gates."""
    shared = [n for n in (1, 2, 4, 8) if heads % n == 0]
    plain = Attention(
        heads=heads,
        kv_heads=trial.suggest_categorical(f"{at}.kv_heads", shared),
        qk_gain=trial.suggest_float(f"{at}.qk_gain", 1.0, 6.0, log=True),
    )
    if not frontier_layers:
        return plain
    return plain.but(
        xsa=self_exclusion(trial, f"{at}.xsa", frontier_layers), gate=head_gate(trial, f"{at}.gate")
    )
