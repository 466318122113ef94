"""One rank of two, for the tests: `torchrun ... -m tests.evaluate.ttt.gang OUT`. Rank 0 writes every mode's scores."""

import json
import sys
from pathlib import Path

import torch.distributed as dist

from pgolf.evaluate.ranks import Ranks
from pgolf.evaluate.scorer import score
from tests.evaluate.ttt.cases import COUNTS, MODES, TOKENS, net

SHARED = ("lora", "lora-everywhere", "lora-lower", "phased", "phased-longest", "stream", "stream-documents")


def main(out: Path) -> None:
    dist.init_process_group("gloo")
    ranks, made = Ranks(dist.get_rank(), dist.get_world_size()), {}
    for name in SHARED:
        scores = score(MODES[name].predictor(net()), TOKENS, COUNTS, MODES[name], ranks)
        if ranks.rank == 0:
            found = scores.verify().audit()
            made[name] = {
                "bpb": scores.bpb,
                "order": found.order,
                "ranks": len(set(scores.events[:, 1].tolist())),
            }
            made[name]["update_tokens"] = found.update_tokens
    if ranks.rank == 0:
        (out / "scores.json").write_text(json.dumps(made))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
