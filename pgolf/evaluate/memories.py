"""The kinds of eval-time memory: what is remembered of scored text and changes the network's distributions.

token_tilt      tilts towards what followed the same n tokens
unigram_cache   a bias on the output
"""

from typing import Annotated

from pydantic import Field

from pgolf.evaluate.memory.token_tilt import TokenTilt
from pgolf.evaluate.memory.unigram_cache import UnigramCache
from pgolf.section import resolve

Memory = Annotated[TokenTilt | UnigramCache, Field(discriminator="kind")]

resolve([TokenTilt, UnigramCache], Memory=Memory)
