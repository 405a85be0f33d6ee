"""Images for a run, and runs that draw nothing unless a test asks for the page."""

import pytest

import chiaroscuro.runs.evaluation as evaluation
from tests.pictures import class_rows, write_parquet
from tests.runs.toy import CLASSES


@pytest.fixture
def page():
    """For tests that look at figures or page; the others go without drawing them."""


@pytest.fixture(autouse=True)
def drawn(request, monkeypatch):
    if "page" not in request.fixturenames:
        monkeypatch.setattr(evaluation, "write_page", lambda folder, summary: None)


@pytest.fixture
def data(tmp_path):
    write_parquet(tmp_path / "data" / "test.parquet", class_rows(3, 5), CLASSES)
    return tmp_path / "data"
