"""A trained model: float32 weights, and what it takes to build the network around them."""

import json
from pathlib import Path

import torch

from pgolf.errors import StoreError
from pgolf.formats.arrays import read_arrays, write_arrays
from pgolf.model.gpt import Gpt, GptConfig

WEIGHTS, META = "weights.npz", "model.json"


def write_checkpoint(directory: Path, config: GptConfig, model: Gpt) -> None:
    write_arrays(directory / WEIGHTS, {n: p.detach().cpu().numpy() for n, p in model.named_parameters()})
    meta = {"model": config.plain(), "vocab_size": model.vocab_size}
    (directory / META).write_text(json.dumps(meta, sort_keys=True, indent=1))


def read_checkpoint(directory: Path, device: str = "cpu") -> tuple[GptConfig, Gpt]:
    """Raises StoreError if a file is missing or damaged."""
    try:
        meta = json.loads((directory / META).read_text())
    except (OSError, ValueError) as error:
        raise StoreError("a checkpoint has a readable model.json", f"{directory}: {error}", "train again") from None
    config = GptConfig.model_validate(meta["model"])
    model = config.build(meta["vocab_size"])
    weights = {name: torch.from_numpy(a) for name, a in read_arrays(directory / WEIGHTS).items()}
    model.load_state_dict(weights)
    return config, on_device(model, device)


def on_device(model: Gpt, device: str) -> Gpt:
    """Move a model; activations are bfloat16 on a GPU and float32 on a CPU."""
    model.dtype = torch.bfloat16 if device == "cuda" else torch.float32
    return model.to(device)
