"""One rank of two, for the tests: `torchrun ... -m tests.evaluate.ttt.gang OUT`. Rank 0 writes every mode's scores."""

import json
import sys
from pathlib import Path

import torch.distributed as dist
from torch import Tensor

from pgolf.evaluate.predictor import Predictor
from pgolf.evaluate.ranks import Ranks
from pgolf.evaluate.scorer import score
from pgolf.evaluate.ttt.phased import PhasedPredictor
from pgolf.evaluate.ttt.stream_sgd import StreamSgdPredictor
from tests.evaluate.ttt.cases import COUNTS, MODES, TOKENS, net

SHARED = (
    "lora", "lora-everywhere", "lora-lower", "phased", "phased-longest", "stream", "stream-documents",
    "stream-fine", "stream-adamw", "stream-rmsprop", "stream-muon",
)  # fmt: skip


def told(predictor: Predictor) -> list[int]:
    """Filled with the numbers of targets that this rank takes the gradients of, of the network's own parameters."""
    found: list[int] = []
    if isinstance(predictor, StreamSgdPredictor | PhasedPredictor):
        loss = predictor.descent._loss

        def counted(sequences: list[Tensor]) -> Tensor:
            found.append(sum(len(sequence) - 1 for sequence in sequences))
            return loss(sequences)

        predictor.descent._loss = counted
    return found


def main(out: Path) -> None:
    dist.init_process_group("gloo")
    ranks, made = Ranks(dist.get_rank(), dist.get_world_size()), {}
    for name in SHARED:
        predictor = MODES[name].predictor(net())
        trained = told(predictor)
        scores = score(predictor, TOKENS, COUNTS, MODES[name], ranks)
        every = ranks.gather(sum(trained))
        if ranks.rank == 0:
            found = scores.verify().audit()
            made[name] = {
                "bpb": scores.bpb,
                "nll": scores.nll.tolist(),
                "trained": every,
                "order": found.order,
                "ranks": len(set(scores.events[:, 1].tolist())),
            }
            made[name]["update_tokens"] = found.update_tokens
    if ranks.rank == 0:
        (out / "scores.json").write_text(json.dumps(made))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
