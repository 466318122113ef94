"""What a quantizer that improves on another's answer may hold: those that stand by themselves."""

from typing import Annotated

from pydantic import Field

from pgolf.quantize.gptq import Gptq
from pgolf.quantize.rate_distortion import RateDistortion
from pgolf.quantize.rtn import Rtn

Plain = Annotated[Rtn | Gptq | RateDistortion, Field(discriminator="kind")]
