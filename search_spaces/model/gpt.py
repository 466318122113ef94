"""The architecture's joint space: depth and width from the caller's range, everything else by technique."""

from optuna.trial import BaseTrial

from pgolf.model.gpt import GptConfig
from search_spaces.model.asymmetric_softcap import asymmetric_softcap
from search_spaces.model.attention import attention
from search_spaces.model.carry import carry
from search_spaces.model.embedding import embedding
from search_spaces.model.factored_embedding import factored_embedding
from search_spaces.model.layer_sharing import layer_sharing
from search_spaces.model.ln_scale import ln_scale
from search_spaces.model.mlp import mlp
from search_spaces.model.ngrams import ngrams
from search_spaces.model.output_init import output_init
from search_spaces.model.overtone import overtone
from search_spaces.model.parallel import parallel
from search_spaces.model.phase_mix import phase_mix
from search_spaces.model.recurrence import recurrence
from search_spaces.model.residual import residual
from search_spaces.model.rope import rope
from search_spaces.model.smear import smear
from search_spaces.model.softcap import softcap
from search_spaces.model.u_net import u_net
from search_spaces.model.value_embedding import value_embedding
from search_spaces.model.value_residual import value_residual


def gpt(
    trial: BaseTrial,
    at: str,
    *,
    layers: tuple[int, int],
    width: tuple[int, int, int],
    heads: int,
    vocab_size: int | None = None,
    switches: bool = False,
) -> GptConfig:
    """`layers` is (least, most); `width` is (least, most, step), its step a multiple of 2 x heads.

    With a `vocab_size` what the record stacks added to the baseline is open too: short runs cannot judge it.
    `switches` adds what has a low prior and would be on in most random trials.
    """
    depth = trial.suggest_int(f"{at}.layers", *layers)
    wide = trial.suggest_int(f"{at}.width", width[0], width[1], step=width[2])
    frontier = vocab_size is not None
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
    if vocab_size is None:
        return plain
    made = _frontier(trial, at, plain, vocab_size)
    return _switches(trial, at, made) if switches else made


def _frontier(trial: BaseTrial, at: str, plain: GptConfig, vocab_size: int) -> GptConfig:
    looped = recurrence(trial, f"{at}.recurrence", plain.layers)
    return plain.but(
        smear=smear(trial, f"{at}.smear"),
        recurrence=looped,
        parallel=parallel(trial, f"{at}.parallel", plain.layers, looped),
        ngrams=ngrams(trial, f"{at}.ngrams", vocab_size),
        value_embedding=value_embedding(trial, f"{at}.value_embedding", vocab_size, plain.layers),
    )


def _switches(trial: BaseTrial, at: str, made: GptConfig) -> GptConfig:
    deep, attend = made.recurrence, made.attention
    changes: dict[str, object] = {
        "residual": made.residual.but(phase=phase_mix(trial, f"{at}.residual.phase"))
        if made.residual.mix
        else made.residual,
        "embedding": made.embedding.but(
            overtone=overtone(trial, f"{at}.embedding.overtone"),
            factored=factored_embedding(trial, f"{at}.embedding.factored", made.width),
        ),
        "output_init": output_init(trial, f"{at}.output_init"),
    }
    if deep:
        changes["recurrence"] = deep.but(carry=carry(trial, f"{at}.recurrence.carry"))
    if made.softcap:
        changes["softcap"] = made.softcap.but(sides=asymmetric_softcap(trial, f"{at}.softcap.sides"))
    if not (deep or made.parallel):
        shared = layer_sharing(trial, f"{at}.sharing", made.layers)
        changes["sharing"] = shared
        if not (shared or made.value_embedding):
            changes["attention"] = attend.but(
                value_residual=value_residual(trial, f"{at}.attention.value_residual")
            )
    return made.but(**changes)
