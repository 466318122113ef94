"""Small networks with every parameter random: at its zero initialization a leak would be invisible."""

import torch
from torch import nn

from pgolf.model.attention import Attention
from pgolf.model.gpt import Gpt, GptConfig
from pgolf.model.rope import Rope

VOCAB = 24
BOS = 1


def small(**changes: object) -> GptConfig:
    """Three blocks of width 16: one skip, a middle block without, grouped heads, partial RoPE."""
    given = {"layers": 3, "width": 16, "attention": Attention(heads=4, kv_heads=2), "rope": Rope(dims=2)}
    return GptConfig.model_validate(given | changes)


def randomized(module: nn.Module, seed: int, std: float = 1.0) -> nn.Module:
    """Every parameter drawn from N(0, std^2)."""
    generator = torch.Generator().manual_seed(seed)
    for p in module.parameters():
        nn.init.normal_(p, std=std, generator=generator)
    return module.eval()


def network(config: GptConfig | None = None, seed: int = 0, vocab_size: int = VOCAB, std: float = 0.5) -> Gpt:
    """A network that no training made, and that uses everything it has."""
    built = randomized((config or small()).build(vocab_size), seed, std)
    assert isinstance(built, Gpt)
    return built


def stream(seed: int, length: int, documents: int, vocab_size: int = VOCAB) -> torch.Tensor:
    """One row of tokens that begins with BOS and holds up to `documents` documents."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(2, vocab_size, (1, length), generator=generator)
    tokens[:, torch.randint(0, length, (documents,), generator=generator)] = BOS
    tokens[:, 0] = BOS
    return tokens


def tokens_of(x: torch.Tensor, vocab_size: int = VOCAB) -> torch.Tensor:
    """Tokens made of activations [rows, time, width], for modules that read tokens; a change of 1 changes them."""
    return (7 * x[..., 0]).round().long() % vocab_size
