"""What every technique must do inside a network: matter, learn, be stored, and keep the two laws.

Subclass with `on` (a config that has the technique) and `off` (the same without).
"""

import torch
from torch.nn import functional as F

from pgolf.data.loader import document_starts
from pgolf.model.gpt import GptConfig, assemble
from tests.nets import VOCAB, network, stream

TIME = 12


class InNetworkContract:
    def on(self) -> GptConfig:
        raise NotImplementedError

    def off(self) -> GptConfig:
        raise NotImplementedError

    def loss(self, config: GptConfig) -> float:
        """At random parameters; those that both networks have are equal."""
        built, plain = network(config, seed=1), network(self.off(), seed=2)
        shared = dict(plain.named_parameters())
        with torch.no_grad():
            for name, p in built.named_parameters():
                if name in shared and shared[name].shape == p.shape:
                    p.copy_(shared[name])
            tokens = stream(4, TIME, 2)
            return float(F.cross_entropy(built(tokens, document_starts(tokens))[0, :-1], tokens[0, 1:]))

    def test_on_it_changes_the_loss(self):
        assert self.loss(self.on()) != self.loss(self.off()), "a dead switch"

    def test_every_parameter_gets_a_gradient(self):
        built, tokens = network(self.on(), seed=3), stream(5, TIME, 2)
        F.cross_entropy(built(tokens, document_starts(tokens))[0, :-1], tokens[0, 1:]).backward()
        dead = [n for n, p in built.named_parameters() if p.grad is None or not p.grad.any()]
        assert not dead

    def test_every_parameter_has_one_role(self):
        built = network(self.on())
        assert built.roles.keys() == dict(built.named_parameters()).keys()

    def test_config_and_weights_make_it_again(self):
        config, tokens = self.on(), stream(2, TIME, 1)
        built = network(config)
        again = assemble(config.plain(), VOCAB, built.state_dict(), "cpu")
        assert GptConfig.model_validate(config.plain()) == config
        with torch.no_grad():
            assert torch.equal(built(tokens, tokens == 1), again(tokens, tokens == 1))

    def test_reset_leaves_nothing_unset(self):
        built = self.on().build(VOCAB)
        with torch.no_grad():
            for p in built.parameters():
                p.fill_(float("nan"))
        assert all(torch.isfinite(p).all() for p in built.reset(seed=0).parameters())

    def test_later_tokens_change_nothing(self):
        before, after = self.said(slice(7, None), document_at=None)
        assert torch.equal(before[:7], after[:7])
        assert not torch.equal(before[7:], after[7:])

    def test_another_document_changes_nothing(self):
        before, after = self.said(slice(1, 7), document_at=7)
        assert torch.equal(before[7:], after[7:])
        assert not torch.equal(before[1:7], after[1:7])

    def said(self, changed: slice, document_at: int | None) -> tuple[torch.Tensor, torch.Tensor]:
        built, tokens = network(self.on(), seed=6), stream(6, TIME, 0)
        if document_at is not None:
            tokens[:, document_at] = 1
        other = tokens.clone()
        part = other[:, changed]
        other[:, changed] = torch.where(part == 1, part, 2 + (part - 1) % (VOCAB - 2))
        with torch.no_grad():
            return tuple(built(t, document_starts(t))[0] for t in (tokens, other))  # type: ignore[return-value]
