"""The kinds of eval-time memory: what is remembered of scored text and changes the network's distributions.

token_tilt      tilts towards what followed the same n tokens
match_model     the same towards what followed the longest match
backoff         exact counts, interpolated with shorter contexts and at last the network
ppm             exact counts, the network where they give up
context_mixing  the network and counts as experts of a mixture that learns its weights
unigram_cache   a bias on the output
knn             what came where the network's state was alike
byte_ppm        research, outside the rules
paid_prefix     research, outside the rules
"""

from typing import Annotated, get_args

from pydantic import Field

from pgolf.evaluate.memory.backoff import Backoff
from pgolf.evaluate.memory.byte_ppm import BytePpm
from pgolf.evaluate.memory.context_mixing import ContextMixing
from pgolf.evaluate.memory.knn import Knn
from pgolf.evaluate.memory.match_model import MatchModel
from pgolf.evaluate.memory.paid_prefix import PaidPrefix
from pgolf.evaluate.memory.ppm import Ppm
from pgolf.evaluate.memory.token_tilt import TokenTilt
from pgolf.evaluate.memory.unigram_cache import UnigramCache
from pgolf.section import resolve

Memory = Annotated[
    TokenTilt | MatchModel | Backoff | Ppm | ContextMixing | UnigramCache | Knn | BytePpm | PaidPrefix,
    Field(discriminator="kind"),
]
_union, _ = get_args(Memory)

resolve(get_args(_union), Memory=Memory)
