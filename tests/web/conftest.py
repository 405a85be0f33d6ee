"""A real server with small networks, in a thread of the test's process."""

import threading
from contextlib import contextmanager
from dataclasses import replace

import httpx2 as httpx
import numpy as np
import pytest
import torch
import uvicorn
from PIL import Image

from chiaroscuro import Classifier, save_classifier
from chiaroscuro.models.folder import basic_cnn
from chiaroscuro.web.app import Server
from chiaroscuro.web.settings import ServerSettings

CLASSES = 14
SIDE = 32
FACTORIES = """
import torch
from chiaroscuro import Classifier
from chiaroscuro.models.folder import basic_cnn

def named(labels):
    torch.manual_seed(0)
    return Classifier(basic_cnn(classes=4), size=32, labels=labels)

def dense():
    torch.manual_seed(0)
    return Classifier(torch.nn.Conv2d(3, 4, 3, padding=1), size=32)

def without(): return named(None)
def shared(): return named(["crane", "crane", "owl", "owl"])
def digits(): return named(["3", "2", "1", "0"])
"""


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory):
    """Two saved networks of `CLASSES` classes."""
    folders = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        labels = [f"class {k}, of <b>{seed}</b>" for k in range(CLASSES)]
        module = basic_cnn(classes=CLASSES)
        classifier = Classifier(module, size=SIDE, labels=labels)
        folder = tmp_path_factory.mktemp("models") / f"net-{seed}"
        save_classifier(
            classifier, folder, architecture="basic-cnn", arguments={"classes": CLASSES}
        )
        folders.append(str(folder))
    return tuple(folders)


class Running:
    """A server that runs, and clients for it."""

    def __init__(self, settings):
        self.server = Server(replace(settings, port=0))
        config = uvicorn.Config(self.server.app(), port=0, log_level="warning", access_log=False)
        self.uvicorn = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.uvicorn.run, daemon=True)
        self.thread.start()
        while not self.uvicorn.started:
            self.thread.join(0.01)
        self.port = self.uvicorn.servers[0].sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"

    @contextmanager
    def visitor(self):
        with httpx.Client(base_url=self.address, timeout=240) as client:
            client.get("/").raise_for_status()
            yield client

    def close(self):
        self.uvicorn.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture(scope="session")
def running(model_folders):
    server = Running(ServerSettings(models=model_folders))
    yield server
    server.close()


@pytest.fixture
def visitor(running):
    with running.visitor() as client:
        yield client


def encoded(pixels, kind="PNG"):
    """Pixels (H, W, 3) as the bytes of a file."""
    import io

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def png():
    return encoded(np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8))
