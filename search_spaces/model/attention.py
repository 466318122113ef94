"""Ranges of grouped-query attention. The number of heads follows from the width, not from the sampler."""

from optuna.trial import BaseTrial

from pgolf.model.attention import Attention


def attention(trial: BaseTrial, at: str, heads: int) -> Attention:
    """KV heads as powers of two up to `heads`; gain 1 to 6 (1.5 first baseline, 5 late stacks)."""
    shared = [n for n in (1, 2, 4, 8) if heads % n == 0]
    return Attention(
        heads=heads,
        kv_heads=trial.suggest_categorical(f"{at}.kv_heads", shared),
        qk_gain=trial.suggest_float(f"{at}.qk_gain", 1.0, 6.0, log=True),
    )
