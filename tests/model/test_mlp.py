"""The squared leaky ReLU, by hand."""

import pytest
import torch
from pydantic import ValidationError

from pgolf.model.gpt import GptConfig
from pgolf.model.mlp import Mlp
from tests.conformance.technique import TechniqueContract


class TestMlp(TechniqueContract):
    def build(self):
        return Mlp(mult=1.5, negative_slope=0.5).build(self.width)


@pytest.mark.parametrize(("slope", "expected"), [(0.0, [9.0, 0.0]), (0.5, [9.0, 1.0]), (1.0, [9.0, 4.0])])
def test_worked_example(slope, expected):
    """With both matrices the identity, 3 becomes 9 and -2 becomes (slope * -2)^2."""
    module = Mlp(mult=1.0, negative_slope=slope).build(2)
    with torch.no_grad():
        module.up.weight.copy_(torch.eye(2))
        module.down.weight.copy_(torch.eye(2))
        assert module(torch.tensor([[[3.0, -2.0]]])).tolist() == [[expected]]


def test_a_hidden_width_that_is_no_whole_number_is_refused():
    assert Mlp(mult=2.25).hidden(16) == 36
    with pytest.raises(ValidationError, match="whole number"):
        GptConfig(width=16 * 9, mlp=Mlp(mult=2.3))
