"""NTK scaling of RoPE: a larger base for windows longer than the base was meant for.

    base' = base * (used_length / train_length)^(dims / (dims - 2))

From PR 198 to 1204 a default that nobody passed on had every such run train with train_length 1024 at windows
of 2048: base 20,452 with 64 rotated dimensions and 22,082 with 16. Those recipes are expressed by this; PR 1218
and later have none. Both lengths are settings, never read off a row: a packed row is 98,304 positions long, and
rescaling by that would give training and evaluation different bases.
"""

from typing import Literal

from pydantic import Field, model_validator

from pgolf.section import RuleBroken, Section


class Ntk(Section):
    kind: Literal["ntk"] = "ntk"
    train_length: int = Field(1024, ge=1)  # positions that the base is meant for
    used_length: int = Field(2048, ge=1)  # positions of a window, in training and evaluation alike

    @model_validator(mode="after")
    def _longer(self) -> "Ntk":
        refuse_shorter(self.train_length, self.used_length)
        return self

    def scaled_base(self, dims: int, base: float) -> float:
        return float(base * (self.used_length / self.train_length) ** (dims / (dims - 2)))

    def stretch(self, dims: int, base: float) -> tuple[float, ...]:
        """Factors of single frequencies: none."""
        return ()

    @property
    def magnitude(self) -> float:
        return 1.0


def refuse_shorter(train_length: int, used_length: int) -> None:
    """Raises RuleBroken unless windows are longer than the base is meant for."""
    if used_length <= train_length:
        raise RuleBroken(
            "RoPE is scaled for windows longer than it was meant for: used_length above train_length",
            f"train_length={train_length}, used_length={used_length}",
            "a longer used_length, or rope.scaling=null",
        )
