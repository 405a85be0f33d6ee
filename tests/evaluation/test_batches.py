"""The rows of an image are the same in any batch; PyTorch's kernels may round logits otherwise."""

import numpy as np
import pyarrow as pa
import pytest
import zarr
from pyarrow import parquet

from tests.pictures import BROKEN, class_rows, write_parquet
from tests.stress import CLASSES, RUNS

ROUNDED = {"logit", "probability", "logits"}
"""Columns whose last bits may differ; all others must not."""


@pytest.fixture
def data(tmp_path):
    rows = class_rows(3, 4)
    rows[4] = (BROKEN, 1)
    write_parquet(tmp_path / "data" / "test.parquet", rows, CLASSES)
    return tmp_path / "data"


def rows_of(run, table):
    """All rows of a table, by image."""
    files = sorted((run / table).glob("*.parquet"))
    return pa.concat_tables(parquet.read_table(file) for file in files)


def assert_same_rows(one, other):
    assert one.schema == other.schema and len(one) == len(other) > 0
    for name in one.column_names:
        first, second = one[name].to_pylist(), other[name].to_pylist()
        if name in ROUNDED:
            np.testing.assert_allclose(np.array(first), np.array(second), rtol=0, atol=2e-5)
        else:
            assert first == second, name


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_an_evaluation_has_the_same_rows_in_any_batch(data, tmp_path, batch):
    RUNS["evaluate"](data, tmp_path / "whole", 1, batch=12)
    RUNS["evaluate"](data, tmp_path / "parts", 1, batch=batch)
    assert_same_rows(
        rows_of(tmp_path / "whole", "deletion"), rows_of(tmp_path / "parts", "deletion")
    )


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_stored_maps_are_the_same_in_any_batch(data, tmp_path, batch):
    maps = []
    for name, size in (("whole", 12), ("parts", batch)):
        RUNS["maps"](data, tmp_path / name, 1, batch=size)
        maps.append(zarr.open_array(tmp_path / name / "maps.zarr" / "maps", mode="r")[:])
    assert_same_rows(rows_of(tmp_path / "whole", "rows"), rows_of(tmp_path / "parts", "rows"))
    whole, parts = maps
    assert np.array_equal(np.isnan(whole), np.isnan(parts))
    np.testing.assert_allclose(whole, parts, rtol=1e-6, atol=1e-9)  # rounded once otherwise
