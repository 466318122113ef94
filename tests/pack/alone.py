"""Runs bundles where pgolf and what it is checked with cannot be imported: `python -I alone.py JOBS.json`.

A job is {"file", "arguments", "out"}. To `out` goes the SHA-256 of every tensor that a module of the network
gave, in order, so that two runs which agree here did the same arithmetic.
"""

import hashlib
import json
import runpy
import sys
from pathlib import Path

ABSENT = ("pgolf", "pydantic", "pydantic_core", "jaxtyping", "beartype", "yaml", "ray", "optuna", "mlflow",
          "typer", "rich", "zstandard", "python_minifier")  # fmt: skip


class Absent:
    """What is not installed in the clean environment."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return


class Witness:
    """Digests of all that modules give."""

    def __init__(self):
        self.digests = []

    def __call__(self, module, inputs, output):
        if hasattr(output, "detach"):
            data = output.detach().cpu().contiguous()
            self.digests.append(hashlib.sha256(data.float().numpy().tobytes()).hexdigest()[:16])


def main(jobs: list) -> None:
    sys.meta_path.insert(0, Absent())
    import torch

    for job in jobs:
        witness = Witness()
        hook = torch.nn.modules.module.register_module_forward_hook(witness)
        sys.argv = [job["file"], *job["arguments"]]
        runpy.run_path(job["file"], run_name="__main__")
        hook.remove()
        Path(job["out"]).write_text(json.dumps(witness.digests))
    loaded = sorted(name for name in ABSENT if name in sys.modules)
    assert not loaded, loaded


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
