"""Quantized weights: integer codes on grids whose steps are powers of two in eighths, and a float16 rest.

    scaled     W_rc = q_rc 2^((row_r + col_c) / 8)                      one step a row, optionally a column
    low_rank   W    = base + sum_i a_i b_i^T                            a rounding error's leading directions
    grouped    W_i  = q_i alpha_g / mean |q|_g                          q in {-1, 0, 1}: ternary and binary

A step is stored as the integer 8 log2(step) and used as exactly that number: encoder and decoder divide and
multiply by the same float32, on every machine, since the eight mantissas are constants and the rest is an
exponent. Within 4.4 % of any step wanted, it costs a quarter of a float16 after coding and nothing in loss
(reference: compression, 2.5). Sums are written out in a fixed order for the same reason: a matrix product's
is the library's choice.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float16, Int16
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pgolf.errors import StoreError
from pgolf.formats.arrays import read_arrays, write_arrays
from pgolf.formats.checkpoint import read_meta, write_meta

CODES, LAYOUT = "codes.npz", "layout.json"
STEPS_PER_OCTAVE = 8
MANTISSAS = np.array(
    [1.0, 1.0905077, 1.1892071, 1.2968396, 1.4142135, 1.5422108, 1.6817929, 1.8340081], np.float32
)  # 2^(i / 8)
FINEST, COARSEST = -160, 80  # step codes: 2^-20 to 2^10
MOST_GROUP = 1 << 16  # weights with a magnitude of their own; a group is filled up when it is read

Tree = list[Any]  # how a matrix is made up: its kind, then what that kind needs beside its arrays


def steps_of(codes: Tensor) -> Float[Tensor, "..."]:
    """The float32 steps that step codes (any shape) stand for, exact on every machine."""
    c = codes.cpu().numpy().astype(np.int32)
    exact = np.ldexp(MANTISSAS[c % STEPS_PER_OCTAVE], c // STEPS_PER_OCTAVE)
    return torch.from_numpy(np.asarray(exact, np.float32)).to(codes.device)


def step_codes(steps: Tensor) -> Int16[Tensor, "..."]:
    """The nearest step codes; a step of zero becomes the finest, an infinite one the coarsest."""
    wanted = (steps.double().log2() * STEPS_PER_OCTAVE).round()
    return wanted.nan_to_num(nan=FINEST, neginf=FINEST, posinf=COARSEST).clamp(FINEST, COARSEST).short()


def step_codes_over(steps: Float[Tensor, " rows"]) -> Int16[Tensor, " rows"]:
    """The step codes nearest to these steps that are no finer, so that nothing is clipped."""
    codes = step_codes(steps)
    return (codes + (steps_of(codes) < steps).short()).clamp_max(COARSEST)


@dataclass(frozen=True)
class QuantizedMatrix:
    """Codes with a step for every row and, where `col` is there, a factor for every column."""

    q: Int16[Tensor, "rows cols"]
    row: Int16[Tensor, " rows"]
    col: Int16[Tensor, " cols"] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return self.q.shape[0], self.q.shape[1]

    @property
    def step(self) -> Float[Tensor, "rows steps"]:
        codes = self.row.unsqueeze(1)
        return steps_of(codes if self.col is None else codes + self.col)

    def dequantize(self) -> Float[Tensor, "rows cols"]:
        """Float32 weights: the only way codes become weights, at every place that needs them."""
        return self.q.float() * self.step

    def tree(self) -> Tree:
        return ["scaled", *self.q.shape, self.col is not None]

    def arrays(self) -> dict[str, Tensor]:
        """Steps before what they scale: a coder that has read them knows more about it."""
        own = {"row": self.row, "q": self.q}
        return own if self.col is None else {"col": self.col, **own}


@dataclass(frozen=True)
class LowRankMatrix:
    """A base and a low-rank correction: a [rank, rows] and b, [rank, cols] in rows of any equal length."""

    base: QuantizedMatrix
    a: QuantizedMatrix
    b: QuantizedMatrix

    @property
    def shape(self) -> tuple[int, int]:
        return self.base.shape

    def correction(self) -> Float[Tensor, "rows cols"]:
        """The sum of outer products, one after the other."""
        a = self.a.dequantize()
        b = self.b.dequantize().reshape(len(a), -1)
        total = torch.zeros(a.shape[1], b.shape[1])
        for left, right in zip(a, b, strict=True):
            total = total + left.unsqueeze(1) * right
        return total

    def dequantize(self) -> Float[Tensor, "rows cols"]:
        """Float32 weights."""
        return self.base.dequantize() + self.correction()

    def tree(self) -> Tree:
        return ["low_rank", self.base.tree(), self.a.tree(), self.b.tree()]

    def arrays(self) -> dict[str, Tensor]:
        parts = {"base": self.base, "a": self.a, "b": self.b}
        return {f"{part}.{name}": t for part, m in parts.items() for name, t in m.arrays().items()}


def grouped(x: Tensor, group: int) -> Tensor:
    """[groups, group]: consecutive elements, the last group filled up with zeros."""
    flat = x.flatten()
    return F.pad(flat, (0, -len(flat) % group)).view(-1, group)


def group_sizes(count: int, group: int, device: torch.device) -> Float[Tensor, " groups"]:
    """How many of `count` elements each group holds."""
    before = torch.arange(-(-count // group), device=device) * group
    return (count - before).clamp_max(group).float()


def grouped_weights(q: Tensor, alpha: Float16[Tensor, " groups"], group: int) -> Float[Tensor, "..."]:
    """Float32 weights whose mean magnitude in every group is alpha, in the shape of the codes (any dtype)."""
    codes = grouped(q.int(), group)
    filled = codes.abs().sum(1).clamp_min(1)
    scale = alpha.float() * group_sizes(q.numel(), group, q.device) / filled.float()
    return (codes.float() * scale.unsqueeze(1)).flatten()[: q.numel()].view(q.shape)


@dataclass(frozen=True)
class GroupedMatrix:
    """Ternary or binary: a float16 mean magnitude for every `group` consecutive weights, row after row.

    The last group may be shorter. A group of zeros stays zero.
    """

    q: Int16[Tensor, "rows cols"]  # -1, 0, 1
    alpha: Float16[Tensor, " groups"]  # mean |w| of each group
    group: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.q.shape[0], self.q.shape[1]

    def dequantize(self) -> Float[Tensor, "rows cols"]:
        """Float32 weights whose mean magnitude in every group is alpha."""
        return grouped_weights(self.q, self.alpha, self.group)

    def tree(self) -> Tree:
        return ["grouped", *self.q.shape, self.group]

    def arrays(self) -> dict[str, Tensor]:
        return {"q": self.q, "alpha": self.alpha}


Matrix = QuantizedMatrix | LowRankMatrix | GroupedMatrix


def array_shapes(tree: Tree) -> dict[str, tuple[int, ...]]:
    """The shapes of a matrix's arrays by name, from its tree; those called alpha are float16, others int16.

    Raises:
        ValueError: if the tree is none.
    """
    match tree:
        case ["scaled", int(rows), int(cols), bool(by_column)] if rows >= 0 and cols >= 0:
            shapes: dict[str, tuple[int, ...]] = {"row": (rows,), "q": (rows, cols)}
            return {"col": (cols,), **shapes} if by_column else shapes
        case ["low_rank", ["scaled", *_] as base, ["scaled", *_] as a, ["scaled", *_] as b]:
            parts = {"base": base, "a": a, "b": b}
            shapes = {f"{p}.{n}": s for p, t in parts.items() for n, s in array_shapes(t).items()}
            (rows, cols), (rank, left), (lines, right) = (shapes[f"{p}.q"] for p in parts)
            if rank and left == rows and lines % rank == 0 and lines * right == rank * cols:
                return shapes
        case ["grouped", int(rows), int(cols), int(group)] if (
            min(rows, cols) >= 0 and 0 < group <= MOST_GROUP
        ):
            return {"q": (rows, cols), "alpha": (-(-rows * cols // group),)}
    raise ValueError(f"no matrix is made up as {str(tree)[:80]}")


def matrix_of(tree: Tree, arrays: Mapping[str, Tensor]) -> Matrix:
    """The matrix of a tree and its arrays: what `tree` and `arrays` took apart."""
    if tree[0] == "scaled":
        return QuantizedMatrix(arrays["q"], arrays["row"], arrays.get("col"))
    if tree[0] == "grouped":
        return GroupedMatrix(arrays["q"], arrays["alpha"], tree[3])
    base, a, b = (
        QuantizedMatrix(arrays[f"{p}.q"], arrays[f"{p}.row"], arrays.get(f"{p}.col"))
        for p in ("base", "a", "b")
    )
    return LowRankMatrix(base, a, b)


@dataclass(frozen=True)
class QuantizedModel:
    """Everything an artifact says about a network: its shape, its codes, its float16 rest."""

    model: dict[str, Any]  # the plain config that builds the network
    vocab_size: int
    matrices: Mapping[str, Matrix]  # by parameter name
    roles: Mapping[str, str]  # of the matrices: what packing groups by
    rest: Mapping[str, Float16[Tensor, "..."]]

    def weights(self) -> dict[str, Float[Tensor, "..."]]:
        """The float32 weights that these codes stand for, by parameter name."""
        matrices = {name: m.dequantize() for name, m in self.matrices.items()}
        return matrices | {name: t.float() for name, t in self.rest.items()}

    def arrays(self) -> Iterator[tuple[str, str, Tensor]]:
        """(matrix, array name, array) in the order in which they are stored."""
        for name, m in self.matrices.items():
            for part, array in m.arrays().items():
                yield name, part, array

    def write(self, directory: Path) -> None:
        arrays: dict[str, NDArray] = {f"{name}/{part}": a.numpy() for name, part, a in self.arrays()}
        arrays |= {f"rest/{name}": t.numpy() for name, t in self.rest.items()}
        write_arrays(directory / CODES, arrays)
        layout = {name: [self.roles[name], m.tree()] for name, m in self.matrices.items()}
        (directory / LAYOUT).write_text(json.dumps(layout))
        write_meta(directory, self.model, self.vocab_size)

    @staticmethod
    def read(directory: Path) -> "QuantizedModel":
        """Raises StoreError if a file is missing or damaged."""
        arrays = {
            key: torch.from_numpy(np.asarray(a, order="C"))
            for key, a in read_arrays(directory / CODES).items()
        }
        model, vocab_size = read_meta(directory)
        matrices, roles = {}, {}
        try:
            layout = json.loads((directory / LAYOUT).read_text())
            for name, (role, tree) in layout.items():
                own = {part: arrays[f"{name}/{part}"] for part in array_shapes(tree)}
                matrices[name], roles[name] = matrix_of(tree, own), role
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError("quantized weights lie beside a readable layout.json", f"{directory}: {error}",
                             "delete this store entry; it will be made again") from None  # fmt: skip
        rest = {k.removeprefix("rest/"): a for k, a in arrays.items() if k.startswith("rest/")}
        return QuantizedModel(model, vocab_size, matrices, roles, rest)


def same(a: QuantizedModel, b: QuantizedModel) -> str | None:
    """None if two models are the same bit for bit, else the name of a tensor in which they differ."""
    if (a.model, a.vocab_size, dict(a.roles)) != (b.model, b.vocab_size, dict(b.roles)):
        return "the config, the vocabulary or the roles"
    for name in {*a.matrices, *b.matrices}:
        if name not in a.matrices or name not in b.matrices:
            return name
        one, two = a.matrices[name], b.matrices[name]
        if one.tree() != two.tree() or not all(
            torch.equal(x, y) for x, y in zip(one.arrays().values(), two.arrays().values(), strict=True)
        ):
            return name
    for name in {*a.rest, *b.rest}:
        if name not in a.rest or name not in b.rest or not torch.equal(a.rest[name], b.rest[name]):
            return name
    return None
