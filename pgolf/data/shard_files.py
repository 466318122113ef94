"""Which files of a directory, or of globs, are token shards of a split, which are byte sidecars, which the tokenizer.

A sidecar's name differs from its shard's by `_bytes`, so every glob for validation shards finds sidecars too;
one that is read as tokens is a stream of nonsense that scores well. They are told apart here, once.
"""

import glob
from dataclasses import dataclass, field
from pathlib import Path

from pgolf.errors import DataError

SIDECAR = "_bytes_"


@dataclass(frozen=True)
class Shards:
    """The files that are checked. Sidecars never are among `train` and `validation`."""

    train: list[Path]
    validation: list[Path]
    sidecars: list[Path]  # of validation and select
    tokenizer: Path
    select: list[Path] = field(default_factory=list)
    directory: Path | None = None  # whose manifest speaks of them

    @property
    def token_files(self) -> list[Path]:
        return [*self.train, *self.select, *self.validation]

    @staticmethod
    def of_directory(directory: Path, tokenizer: Path | None = None) -> "Shards":
        """Shards by their names (train_*, val_*, validation_*, with or without a prefix) and the .model.

        Raises:
            DataError: if there are none of one split, or not exactly one .model.
        """
        if not directory.is_dir():
            raise DataError("what is checked is a directory of shards", str(directory), "check the path")
        models = sorted(directory.glob("*.model"))
        if tokenizer is None and len(models) != 1:
            raise DataError("a directory of shards has one tokenizer, its .model file",
                            f"{directory} has {len(models)}", "--tokenizer FILE")  # fmt: skip
        names = {"train": ("train",), "select": ("select",), "validation": ("val", "validation")}
        found = {
            split: sorted({f for stem in stems for f in directory.glob(f"*{stem}_*.bin")})
            for split, stems in names.items()
        }
        return Shards._sorted_out(found, tokenizer or models[0], directory)

    @staticmethod
    def of_globs(train: str, validation: str, tokenizer: Path) -> "Shards":
        """Raises DataError if one of the patterns names no shard."""
        found = {"train": train, "select": "", "validation": validation}
        files = {
            split: [Path(f) for f in sorted(glob.glob(pattern))]  # noqa: PTH207 (absolute globs)
            for split, pattern in found.items()
        }
        return Shards._sorted_out(files, tokenizer, None)

    @staticmethod
    def _sorted_out(found: dict[str, list[Path]], tokenizer: Path, directory: Path | None) -> "Shards":
        tokens = {split: [f for f in files if SIDECAR not in f.name] for split, files in found.items()}
        for split in ("train", "validation"):
            if not tokens[split]:
                where = "the glob" if directory is None else f"{directory}"
                raise DataError(
                    f"there is a {split} shard to check", f"{where} names none", f"--{split} GLOB"
                )
        held_out = [*tokens["select"], *tokens["validation"]]
        beside = {s for f in held_out if (s := sidecar_beside(f)).is_file()}
        named = {f for split in ("select", "validation") for f in found[split] if SIDECAR in f.name}
        return Shards(
            tokens["train"],
            tokens["validation"],
            sorted(beside | named),
            tokenizer,
            tokens["select"],
            directory,
        )


def sidecar_beside(shard: Path) -> Path:
    """The name that a byte sidecar of this shard has: `_bytes` before its number."""
    stem, _, number = shard.stem.rpartition("_")
    return shard.with_name(f"{stem}{SIDECAR}{number}{shard.suffix}")
