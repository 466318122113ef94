"""Ranges of binary codes: the grid of what is not grouped. Groups are those of training."""

from optuna.trial import BaseTrial

from pgolf.quantize.binary import Binary
from search_spaces.quantize.quant_gate import quant_gate
from search_spaces.quantize.sd_clip import sd_clip


def binary(trial: BaseTrial, at: str, group: int = 128, gated: bool = False) -> Binary:
    """`group`: of train.late_qat; `gated`: the network has head gates, whose matrices may be quantized too."""
    return Binary(
        group=group,
        embedding=sd_clip(trial, f"{at}.embedding"),
        gate=quant_gate(trial, f"{at}.gate") if gated else None,
    )
