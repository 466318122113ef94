"""Named arrays in one file, byte for byte the same for the same values.

An .npz (zip of .npy, fixed time stamps, no compression): readable anywhere, no pickle.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from pgolf.errors import StoreError


def write_arrays(path: Path, arrays: Mapping[str, NDArray]) -> None:
    """Write arrays in the mapping's order."""
    plain: dict[str, Any] = {name.replace("/", "|"): np.asarray(a, order="C") for name, a in arrays.items()}
    np.savez(path, **plain)


def read_arrays(path: Path) -> dict[str, NDArray]:
    """Raises StoreError if the file is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name.replace("|", "/"): file[name] for name in file.files}
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        raise StoreError(
            "a file of arrays can be read", f"{path}: {error}", "delete its store entry"
        ) from None
