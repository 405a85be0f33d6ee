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
