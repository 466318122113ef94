"""The laws that every part of the network obeys. Subclass, say what to build, inherit the tests.

A technique of the model is tested with random parameters, since a leak behind a zero is invisible, and
with a control: the change that must not be seen on one side is seen on the other.
"""

import torch
from torch import Tensor, nn

from pgolf.model.roles import roles_of
from tests.nets import randomized

TIME, WIDTH = 8, 16


class TechniqueContract:
    """Subclass with `build`, and with `apply` where the module takes more than activations."""

    width = WIDTH

    def build(self) -> nn.Module:
        raise NotImplementedError

    def apply(self, module: nn.Module, x: Tensor, starts: Tensor) -> Tensor:
        """The module's output [1, time, ...] for activations [1, time, width]."""
        return module(x)

    def outputs(self, changed: slice, document_starts_at: int | None) -> tuple[Tensor, Tensor]:
        """The module's output before and after changing some positions of its input."""
        module = randomized(self.build(), seed=1)
        x = torch.randn(1, TIME, self.width, generator=torch.Generator().manual_seed(2))
        starts = torch.zeros(1, TIME, dtype=torch.bool)
        starts[:, 0] = True
        if document_starts_at is not None:
            starts[:, document_starts_at] = True
        y = x.clone()
        y[:, changed] += 1.0
        with torch.no_grad():
            return self.apply(module, x, starts), self.apply(module, y, starts)

    def test_the_future_is_invisible(self):
        before, after = self.outputs(slice(5, None), document_starts_at=None)
        assert torch.equal(before[:, :5], after[:, :5])
        assert not torch.equal(before[:, 5:], after[:, 5:])

    def test_documents_are_islands(self):
        before, after = self.outputs(slice(None, 5), document_starts_at=5)
        assert torch.equal(before[:, 5:], after[:, 5:])
        assert not torch.equal(before[:, :5], after[:, :5])

    def test_every_parameter_has_one_role(self):
        module = self.build()
        assert roles_of(module).keys() == dict(module.named_parameters()).keys()

    def test_reset_sets_every_parameter_from_the_seed_alone(self):
        first, second = self._reset(seed=3, before=float("nan")), self._reset(seed=3, before=7.0)
        for name, value in first.items():
            assert torch.isfinite(value).all(), f"{name} was not reset"
            assert torch.equal(value, second[name]), name

    def _reset(self, seed: int, before: float) -> dict[str, Tensor]:
        module = self.build()
        for p in module.parameters():
            nn.init.constant_(p, before)
        generator = torch.Generator().manual_seed(seed)
        for part in module.modules():
            if callable(reset := getattr(part, "reset", None)):
                reset(generator)
        return {name: p.detach() for name, p in module.named_parameters()}
