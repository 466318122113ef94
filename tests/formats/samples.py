"""Small quantized models for the tests of what stores, packs and reads them."""

import torch

from pgolf.formats.quantized import QuantizedMatrix, QuantizedModel


def quantized(seed: int = 0, rows: int = 6, cols: int = 10, spread: float = 9.0) -> QuantizedModel:
    """Two roles, three matrices, two vectors and a scalar; codes of a Gaussian."""
    g = torch.Generator().manual_seed(seed)

    def matrix(rows: int, cols: int) -> QuantizedMatrix:
        codes = (torch.randn(rows, cols, generator=g) * spread).round().clamp(-127, 127).to(torch.int8)
        return QuantizedMatrix(codes, (torch.rand(rows, 1, generator=g) + 0.01).half())

    matrices = {"a.w": matrix(rows, cols), "b.w": matrix(cols, rows), "embed": matrix(rows + 1, cols)}
    rest = {
        "gain": torch.randn(cols, generator=g).half(),
        "scalar": torch.tensor(0.5).half(),
        "empty": torch.zeros(0).half(),
    }
    roles = {"a.w": "mlp", "b.w": "mlp", "embed": "embedding"}
    return QuantizedModel({"layers": 1, "note": "é"}, 300, matrices, roles, rest)


def assert_equal(a: QuantizedModel, b: QuantizedModel) -> None:
    """Bit for bit, names and order included."""
    assert (a.model, a.vocab_size, dict(a.roles)) == (b.model, b.vocab_size, dict(b.roles))
    assert list(a.matrices) == list(b.matrices)
    assert list(a.rest) == list(b.rest)
    for name, m in a.matrices.items():
        assert torch.equal(m.q, b.matrices[name].q)
        assert torch.equal(m.step, b.matrices[name].step)
        assert (b.matrices[name].q.dtype, b.matrices[name].step.dtype) == (torch.int8, torch.float16)
    for name, t in a.rest.items():
        assert torch.equal(t, b.rest[name])
        assert b.rest[name].dtype == torch.float16
