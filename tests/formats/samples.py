"""Small quantized models for the tests of what stores, packs and reads them."""

import torch

from pgolf.formats.quantized import GroupedMatrix, LowRankMatrix, Matrix, QuantizedMatrix, QuantizedModel


def scaled(
    g: torch.Generator, rows: int, cols: int, spread: float = 9.0, by_column: bool = False
) -> QuantizedMatrix:
    """Codes of a Gaussian, steps around a hundredth."""
    codes = (torch.randn(rows, cols, generator=g) * spread).round().clamp(-32_767, 32_767).short()
    row = torch.randint(-70, -40, (rows,), generator=g).short()
    return QuantizedMatrix(
        codes, row, torch.randint(-9, 9, (cols,), generator=g).short() if by_column else None
    )


def low_rank(g: torch.Generator, rows: int, cols: int, rank: int, groups: int = 1) -> LowRankMatrix:
    """`groups`: into how many rows of b each row of the right factor is cut."""
    return LowRankMatrix(
        scaled(g, rows, cols), scaled(g, rank, rows), scaled(g, rank * groups, cols // groups)
    )


def grouped(g: torch.Generator, rows: int, cols: int, group: int) -> GroupedMatrix:
    codes = torch.randint(-1, 2, (rows, cols), generator=g).short()
    alpha = torch.rand(-(-rows * cols // group), generator=g).half()
    return GroupedMatrix(codes, alpha, group)


def quantized(seed: int = 0, rows: int = 6, cols: int = 10, spread: float = 9.0) -> QuantizedModel:
    """Three roles, matrices of every kind, two vectors, a scalar and nothing at all."""
    g = torch.Generator().manual_seed(seed)
    matrices: dict[str, Matrix] = {
        "a.w": scaled(g, rows, cols, spread),
        "b.w": scaled(g, cols, rows, spread, by_column=True),
        "embed": scaled(g, rows + 1, cols, spread),
        "low": low_rank(g, rows, cols, rank=2, groups=2 if cols % 2 == 0 else 1),
        "ternary": grouped(g, rows, cols, group=4),
    }
    rest = {
        "gäin": torch.randn(cols, generator=g).half(),
        "scalar": torch.tensor(0.5).half(),
        "empty": torch.zeros(0).half(),
    }
    roles = {"a.w": "mlp", "b.w": "mlp", "embed": "embedding", "low": "attention", "ternary": "mlp"}
    return QuantizedModel({"layers": 1}, 300, matrices, roles, rest)


def assert_equal(a: QuantizedModel, b: QuantizedModel) -> None:
    """Bit for bit, names and order included."""
    assert (a.model, a.vocab_size, dict(a.roles)) == (b.model, b.vocab_size, dict(b.roles))
    assert list(a.matrices) == list(b.matrices)
    assert list(a.rest) == list(b.rest)
    for name, m in a.matrices.items():
        other = b.matrices[name]
        assert type(m) is type(other)
        assert m.tree() == other.tree()
        assert list(m.arrays()) == list(other.arrays())
        for part, array in m.arrays().items():
            assert torch.equal(array, other.arrays()[part])
            assert other.arrays()[part].dtype == (torch.float16 if part == "alpha" else torch.int16)
    for name, t in a.rest.items():
        assert torch.equal(t, b.rest[name])
        assert b.rest[name].dtype == torch.float16
