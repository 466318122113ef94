"""Ranges of an SDClip grid. What counts is clip_sigmas / qmax: both are offered, coarse to fine."""

from optuna.trial import BaseTrial

from pgolf.quantize.sd_clip import SdClip


def sd_clip(trial: BaseTrial, at: str) -> SdClip:
    return SdClip(
        bits=trial.suggest_int(f"{at}.bits", 4, 8),
        clip_sigmas=trial.suggest_float(f"{at}.clip_sigmas", 4.0, 20.0, log=True),
    )
