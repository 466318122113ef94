"""Codes and row steps as bytes: pgolf's own coder against general compressors and against the ideal.

    python -m benchmarks.coding STORE/quantize/*/codes.npz      bytes and seconds on a model's codes
    python -m benchmarks.coding                                 seconds and memory at 35.9 M weights

All compress the same codes. Ours carries steps as whole eighths of an octave, as the artifact does; the
others carry them as float16, low bytes first, then high bytes, by Brotli. The `lrzip` row is what the
strongest published records do: one file a group of like matrices, columns outermost, rows of three groups
put in order of likeness and the orders counted.
"""

import json
import lzma
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import brotli
import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc, gammaln

from pgolf.formats.ans import decode_arrays
from pgolf.pack.ans_coding import encode_arrays, estimate_bytes

Codes = Mapping[str, NDArray]
SORTED = ("embedding", "q.weight", "up.weight")


def coding(arrays: Codes, steps: Codes) -> dict[str, float]:
    """Bytes by coder, and our seconds; a coder that is not installed is left out, with a note."""
    logs = {
        name: np.rint(8 * np.log2(s.astype(np.float64).ravel())).astype(np.int16) for name, s in steps.items()
    }
    ours = [a for name in arrays for a in (logs[name], arrays[name].astype(np.int16))]
    began = time.process_time()
    data = encode_arrays(ours)
    encoded = time.process_time()
    back = decode_arrays(data, [a.shape for a in ours])
    decoded = time.process_time()
    assert all(np.array_equal(a, b) for a, b in zip(ours, back, strict=True))
    pairs = [(log, code) for log, code in zip(ours[::2], ours[1::2], strict=True)]
    estimated = sum(estimate_bytes(log) + estimate_bytes(code, log) for log, code in pairs)
    estimate_done = time.process_time()
    rows = {
        "weights": float(sum(a.size for a in arrays.values())),
        "ours": float(len(data)),
        "estimated": estimated,
        "ideal": sum(ideal_bytes(a) for a in ours),
        "encode_seconds": encoded - began,
        "decode_seconds": decoded - encoded,
        "estimate_seconds": estimate_done - decoded,
    }
    plain = b"".join(_byte(a).tobytes() for a in arrays.values())
    halves = b"".join(s.astype("<f2").tobytes() for s in steps.values())
    side = len(_brotli(halves[::2] + halves[1::2]))
    groups = _groups(arrays)
    across = [b"".join(np.ascontiguousarray(_byte(a).T).tobytes() for a in g) for g in groups.values()]
    rows |= {
        "float16_steps": side,
        "brotli": len(_brotli(plain)) + side,
        "brotli_transposed": sum(len(_brotli(g)) for g in across) + side,
        "xz": len(lzma.compress(plain, preset=9 | lzma.PRESET_EXTREME)) + side,
    }
    try:
        import zstandard
    except ImportError:
        print("zstandard is not installed: left out", file=sys.stderr)
    else:
        rows["zstd"] = len(zstandard.ZstdCompressor(level=22).compress(plain)) + side
    if shutil.which("lrzip"):
        rows["lrzip"] = _lrzip(groups) + side
    else:
        print("lrzip is not installed: left out", file=sys.stderr)
    return rows


def full_size() -> dict[str, float]:
    """Seconds on one core and peak memory of decoding, at the sizes of a 35.9 M record's matrices."""
    g = np.random.default_rng(0)

    def matrix(rows: int, cols: int, step: float, by_row: float, by_col: float) -> list[NDArray]:
        sigma = np.exp(by_row * g.standard_normal((rows, 1)) + by_col * g.standard_normal(cols)) / step
        codes = np.rint(g.standard_normal((rows, cols)) * sigma)
        return [np.rint(g.standard_normal(rows) * 2 - 40).astype(np.int16), codes.astype(np.int16)]

    arrays = matrix(8192, 512, 0.39, 0.3, 0.1)
    for _ in range(11):
        for rows in (512, 256, 256, 512):
            arrays += matrix(rows, 512, 0.42, 0.1, 0.1)
        arrays += matrix(2048, 512, 0.37, 0.1, 0.05) + matrix(512, 2048, 0.37, 0.1, 0.3)
    began = time.process_time()
    estimated = sum(estimate_bytes(a) for a in arrays)
    estimate_done = time.process_time()
    data = encode_arrays(arrays)
    encoded = time.process_time()
    shapes = [a.shape for a in arrays]
    decode_arrays(data, shapes)
    decoded = time.process_time()
    tracemalloc.start()
    decode_arrays(data, shapes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {
        "weights": float(sum(a.size for a in arrays if a.ndim == 2)),
        "bytes": float(len(data)),
        "estimated_over_coded": estimated / len(data),
        "coded_over_ideal": len(data) / sum(ideal_bytes(a) for a in arrays),
        "estimate_seconds": estimate_done - began,
        "encode_seconds": encoded - estimate_done,
        "decode_seconds": decoded - encoded,
        "decode_peak_bytes": float(peak),  # the arrays themselves included, two bytes a weight
    }


def ideal_bytes(codes: NDArray) -> float:
    """The least of static models: the exact code length of values under real-valued probabilities, and the
    order-0 entropy of what describes them, differences of levels in eighths of an octave.

    Written without the coder: sigmas are moments, probabilities are differences of the distribution's
    own integral, and nothing is rounded.
    """
    if codes.ndim == 1:
        steps = np.diff(codes.astype(np.int64))
        return min(_order_0(steps), _order_0(codes)) / 8
    x = codes.astype(np.float64)
    square = np.maximum(x**2, 0).astype(np.float64)
    row = np.maximum(square.mean(1) - 1 / 12, 0.02)
    col = np.maximum(square.mean(0) - 1 / 12, 0.02)
    whole = max(square.mean() - 1 / 12, 0.02)
    bits = [_order_0(codes)]
    flat_row, flat_col = np.zeros(len(row)), np.zeros(len(col))
    by_row, by_col = _levels(row / whole), _levels(col / whole)
    both = _levels((square / 2.0 ** (by_col / 4)).mean(1) / whole)
    for r, c in ((flat_row, flat_col), (by_row, flat_col), (flat_row, by_col), (both, by_col)):
        side = sum(_order_0(np.diff(v.astype(np.int64))) for v in (r, c) if v.any())
        level = (r[:, None] + c).astype(np.int64)
        wide, low = int(np.abs(x).max()) + 1, int(level.min())
        counts = np.bincount(((level - low) * wide + np.abs(codes)).ravel())
        seen = np.flatnonzero(counts)
        sigma = np.sqrt(whole) * 2.0 ** ((seen // wide + low) / 8)
        for beta in (1.0, 1.5, 2.0, 2.5, 3.0):
            bits.append(side + float(counts[seen] @ _length(seen % wide, sigma, beta)))
    return min(bits) / 8


def _levels(ratio: NDArray) -> NDArray:
    return np.rint(4 * np.log2(np.maximum(ratio, 1e-9)))


def _length(x: NDArray, sigma: NDArray, beta: float) -> NDArray:
    """Bits of one value of either sign."""
    a = sigma * np.exp((gammaln(1 / beta) - gammaln(3 / beta)) / 2)
    upper = gammainc(1 / beta, ((x + 0.5) / a) ** beta)
    lower = np.where(x > 0, gammainc(1 / beta, (np.abs(x - 0.5) / a) ** beta), -upper)
    return -np.log2(np.maximum((upper - lower) / 2, 2.0**-40))


def _order_0(values: NDArray) -> float:
    n = np.unique(values, return_counts=True)[1]
    return float((n * np.log2(n.sum() / n)).sum()) if n.size else 0.0


def _byte(codes: NDArray) -> NDArray:
    """One byte a code; the general compressors are spared the codes that need more."""
    return codes.clip(-128, 127).astype(np.int8)


def _brotli(data: bytes) -> bytes:
    return brotli.compress(data, quality=11, lgwin=24)


def _groups(arrays: Codes) -> dict[str, list[NDArray]]:
    """Matrices by their name without the layer's number."""
    groups: dict[str, list[NDArray]] = {}
    for name, a in arrays.items():
        groups.setdefault(re.sub(r"\.\d+\.", ".", name), []).append(a)
    return groups


def _lrzip(groups: dict[str, list[NDArray]]) -> float:
    total, orders = 0, b""
    with tempfile.TemporaryDirectory() as tmp:
        for name, group in groups.items():
            data = b""
            for a in group:
                codes = _byte(a)
                if any(part in name for part in SORTED):
                    order = _by_likeness(codes)
                    orders += order.astype("<u2").tobytes()
                    codes = codes[order]
                data += np.ascontiguousarray(codes.T).tobytes()
            file, packed = Path(tmp) / "group", Path(tmp) / "group.lrz"
            file.write_bytes(data)
            subprocess.run(
                ["lrzip", "-q", "-f", "-z", "-L", "9", "-o", packed, file], check=True, capture_output=True
            )
            total += packed.stat().st_size
    return total + len(_brotli(orders))


def _by_likeness(codes: NDArray) -> NDArray:
    """From row 0 always on to the row at the least L1 distance that is not used yet."""
    wide, free, order = codes.astype(np.int16), np.ones(len(codes), bool), [0]
    free[0] = False
    while free.any():
        left = np.flatnonzero(free)
        order.append(int(left[np.abs(wide[left] - wide[order[-1]]).sum(1).argmin()]))
        free[order[-1]] = False
    return np.array(order)


def _read(file: str) -> tuple[dict[str, NDArray], dict[str, NDArray]]:
    with np.load(file) as arrays:
        return tuple(
            {k.partition("|")[2]: arrays[k] for k in arrays if k.startswith(f"{kind}|")}
            for kind in ("q", "step")
        )  # type: ignore[return-value]


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            print(json.dumps(full_size(), indent=1))
        case files:
            for file in files:
                print(file, json.dumps(coding(*_read(file)), indent=1))
