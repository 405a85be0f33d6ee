"""Products through convolutions: the same numbers, however the matrix lies in memory."""

import pytest
import torch
from torch.overrides import TorchFunctionMode

from chiaroscuro.matmul import times


def matrices(outputs, inner, dtype):
    """The same shape in four layouts."""
    plain = torch.randn(outputs, inner, dtype=dtype)
    wide = torch.randn(outputs, 2 * inner, dtype=dtype)
    return {
        "as it is": plain,
        "transposed": torch.randn(inner, outputs, dtype=dtype).T,
        "every other column": wide[:, ::2],
        "part of a transposed one": torch.randn(inner, 2 * outputs, dtype=dtype).T[:outputs],
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [1, 2, 70])
@pytest.mark.parametrize(("outputs", "inner"), [(3, 5), (1, 4), (4, 1), (40, 33), (16, 16)])
@pytest.mark.parametrize("biased", [False, True])
def test_it_is_the_product(count, outputs, inner, dtype, biased):
    torch.manual_seed(0)
    rows = torch.randn(count, inner, dtype=dtype)
    bias = torch.randn(outputs, dtype=dtype) if biased else None
    for layout, matrix in matrices(outputs, inner, dtype).items():
        wanted = rows @ matrix.T + (0 if bias is None else bias)
        found = times(rows, matrix, bias)
        assert found.is_contiguous(), layout
        torch.testing.assert_close(found, wanted, msg=layout)


class Calls(TorchFunctionMode):
    """The names of PyTorch's functions that are called inside."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.names.append(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("dtype", "as_it_lies"), [(torch.float32, True), (torch.bfloat16, True), (torch.float16, False)]
)
def test_a_transposed_matrix_is_read_as_it_lies_where_that_is_fast(dtype, as_it_lies):
    rows, found = torch.randn(70, 33, dtype=dtype), {}
    for layout, matrix in matrices(40, 33, dtype).items():
        with Calls() as calls:
            times(rows, matrix)
        found[layout] = "conv_transpose2d" in calls.names
    assert found == {
        "as it is": False, "transposed": as_it_lies, "every other column": False,
        "part of a transposed one": False,
    }  # fmt: skip
