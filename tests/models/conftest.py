"""Nothing is fetched: the hub does not answer, and no URL can be opened."""

import urllib.error
import urllib.request

import pytest
import torch

from chiaroscuro import hub


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """The hub does not answer, and opening any URL fails at once."""

    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr(hub, "_answers", lambda: False)
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(torch.hub, "urlopen", refuse)


@pytest.fixture
def checkpoints(tmp_path):
    """The folder where torchvision looks for weights before it fetches them."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path / "hub"))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    yield tmp_path / "hub" / "checkpoints"
    torch.hub.set_dir(before)
