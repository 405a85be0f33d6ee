"""Images for a run, and runs that draw nothing unless a test looks at the page."""

import pytest

import chiaroscuro.report.evaluation as report
from chiaroscuro.report import pages
from tests.drawings import drawn_once
from tests.evaluation.toy import CLASSES
from tests.pictures import class_rows, write_parquet


@pytest.fixture(scope="package", autouse=True)
def charts_drawn_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "draw_sheet", drawn_once)
        yield


@pytest.fixture
def page():
    """For tests that look at figures or page; the others do without drawing them."""


@pytest.fixture(autouse=True)
def drawn(request, monkeypatch):
    if not {"page", "evaluated"} & set(request.fixturenames):
        monkeypatch.setattr(report, "write", lambda result, folder: None)


@pytest.fixture
def data(tmp_path):
    write_parquet(tmp_path / "data" / "test.parquet", class_rows(3, 5), CLASSES)
    return tmp_path / "data"
