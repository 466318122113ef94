"""The architecture's joint space: depth and width from the caller's range, everything else by technique."""

from optuna.trial import BaseTrial

from pgolf.model.gpt import GptConfig
from search_spaces.model.attention import attention
from search_spaces.model.embedding import embedding
from search_spaces.model.ln_scale import ln_scale
from search_spaces.model.mlp import mlp
from search_spaces.model.parallel import parallel
from search_spaces.model.recurrence import recurrence
from search_spaces.model.residual import residual
from search_spaces.model.rope import rope
from search_spaces.model.smear import smear
from search_spaces.model.softcap import softcap
from search_spaces.model.u_net import u_net


def gpt(
    trial: BaseTrial,
    at: str,
    *,
    layers: tuple[int, int],
    width: tuple[int, int, int],
    heads: int,
    frontier: bool = False,
) -> GptConfig:
    """`layers` is (least, most); `width` is (least, most, step), its step a multiple of 2 x heads.
    `frontier` opens what the record stacks added to the baseline, which short runs cannot judge."""
    depth = trial.suggest_int(f"{at}.layers", *layers)
    wide = trial.suggest_int(f"{at}.width", width[0], width[1], step=width[2])
    plain = GptConfig(
        layers=depth,
        width=wide,
        attention=attention(trial, f"{at}.attention", heads, frontier_layers=depth if frontier else 0),
        rope=rope(trial, f"{at}.rope", wide // heads),
        mlp=mlp(trial, f"{at}.mlp"),
        residual=residual(trial, f"{at}.residual"),
        embedding=embedding(trial, f"{at}.embedding"),
        u_net=u_net(trial, f"{at}.u_net", frontier=frontier),
        ln_scale=ln_scale(trial, f"{at}.ln_scale"),
        softcap=softcap(trial, f"{at}.softcap"),
    )
    if not frontier:
        return plain
    looped = recurrence(trial, f"{at}.recurrence", depth)
    return plain.but(
        smear=smear(trial, f"{at}.smear"),
        recurrence=looped,
        parallel=parallel(trial, f"{at}.parallel", depth, looped),
    )
