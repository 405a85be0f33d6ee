"""Fixtures of the explanations: a photo, a classifier with a name, and no slow figure."""

import pytest
import torch
from PIL import Image

from chiaroscuro import load_classifier
from chiaroscuro.report import explanation as view
from tests.explanations.inputs import picture

SPEC = """
import torch
from chiaroscuro import Classifier
from tests.toys import small_cnn

def make():
    labels = ["crane, bird", "crane, machine", "cat, tabby", "dog", "cup, mug"]
    net = small_cnn().double()
    return Classifier(net, mean=0.5, std=0.25, size=12, labels=labels)
"""


def quick_figure(sheet, path):
    Image.new("RGB", (8, 8)).save(path, "PNG")


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors: waking a second thread on a busy machine takes longer than the work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A stand-in for the figure, which takes most of a second; tests/test_render.py draws it."""
    monkeypatch.setattr(view, "save_sheet", quick_figure)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photos" / "a b.png"
    path.parent.mkdir()
    picture(20, 14).save(path)
    return path


@pytest.fixture
def spec(tmp_path):
    """A classifier that can be loaded again by its name; the same network as `toy`."""
    path = tmp_path / "net.py"
    path.write_text(SPEC)
    return load_classifier(f"{path}:make")
