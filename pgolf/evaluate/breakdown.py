"""Where the bits go: by the length of a document, and by the position in it."""

import math

import numpy as np
from numpy.typing import NDArray

from pgolf.evaluate.predictor import Extent
from pgolf.formats.shards import Tokens

Table = list[dict[str, float]]  # rows from, targets, bytes, bits, bpb


def breakdown(nll: NDArray[np.float64], counts: Tokens, extent: Extent) -> dict[str, Table]:
    """Rows `by_length` (a document's targets) and `by_position` (targets of the document before this one).

    Buckets double: 0, 1, 2 to 3, 4 to 7 and so on; a row says where its bucket begins and how many documents or
    none, targets, bytes and bits it has. All rows of a table sum to the whole.
    """
    document = extent.documents
    position = np.arange(1, extent.tokens) - 1 - extent.starts[document]
    parts = (extent.lengths[document], position)
    return {
        name: _table(part, nll[1:], counts[1:].astype(np.int64))
        for name, part in zip(("by_length", "by_position"), parts, strict=True)
    }


def _table(values: NDArray[np.int64], nll: NDArray[np.float64], counts: NDArray[np.int64]) -> Table:
    bucket = np.frexp(values.astype(np.float64))[1]  # 0 for 0, 1 for 1, 2 for 2 to 3, ...
    rows = []
    for b in np.unique(bucket).tolist():
        inside = bucket == b
        bits, size = math.fsum(nll[inside]) / math.log(2), int(counts[inside].sum())
        row = {
            "from": float(2 ** (b - 1)) if b else 0.0,
            "targets": int(inside.sum()),
            "bytes": size,
            "bits": bits,
        }
        rows.append({**row, "bpb": bits / size} if size else row)
    return rows
