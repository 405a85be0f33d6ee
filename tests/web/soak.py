"""Many questions to one server: whether its memory and its open files stay flat.

    python -m tests.web.soak [--requests 500]
    python -m tests.web.soak --first        # seconds to the first and to the whole answer

Each round uploads another photo, asks for an explanation, changes the photo twice and takes the
result; every tenth one is a file that is no photo, and every seventh visitor leaves in the middle.
"""

import argparse
import gc
import json
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch

from chiaroscuro import Classifier, save_classifier
from chiaroscuro.models.folder import basic_cnn
from chiaroscuro.web.settings import ServerSettings
from tests.web.conftest import CLASSES, Running, encoded

ROUND, VISITORS = 5, 3
"""Requests of a round; browsers, each of which keeps its last photos and answers."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--first", action="store_true", help="EfficientNet-Lite0 and a photo")
    arguments = parser.parse_args()
    if arguments.first:
        first_answer()
        return
    count = arguments.requests
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "net"
        torch.manual_seed(0)
        classifier = Classifier(basic_cnn(classes=CLASSES), size=32)
        save_classifier(classifier, model, architecture="basic-cnn", arguments={"classes": CLASSES})
        server = Running(ServerSettings(models=(str(model),)))
        for done, megabytes, handles in soak(server, str(model), count):
            print(f"{done:6,} requests: {megabytes:7.1f} MB, {handles} open files", flush=True)
        server.close()


def first_answer(turns=3):
    """Print how long the default network's answers take, three times."""
    model = "efficientnet-lite0"
    server = Running(ServerSettings(models=(model,)))
    server.server.models.get(model)
    with server.visitor() as client:
        for _ in range(turns):
            kept = client.post("/api/samples", json={"name": "cat"}).json()["photo"]
            question, start = {"photo": kept, "model": model}, time.perf_counter()
            with client.stream("POST", "/api/explain", json=question) as answer:
                for line in answer.iter_lines():
                    message = json.loads(line)
                    if message["state"] == "explained":
                        print(f"{time.perf_counter() - start:.2f} s: {message['compared']} rivals")
    server.close()


def soak(server, model, count, every=100):
    """Yields (requests done, resident MB, open files) after each `every` requests."""
    source = np.random.default_rng(0)
    with ExitStack() as stack:
        clients = [stack.enter_context(server.visitor()) for _ in range(VISITORS)]
        for n in range(count // ROUND):
            pixels = source.integers(0, 256, (200, 200, 3), dtype=np.uint8)
            visit(clients[n % VISITORS], model, pixels, n)
            if (n + 1) * ROUND % every == 0:
                gc.collect()
                yield (n + 1) * ROUND, resident(), len(list(Path("/proc/self/fd").iterdir()))


def visit(client, model, pixels, n):
    """One round of a visitor."""
    if n % 10 == 9:
        refused = client.post("/api/photos", content=b"no photo")
        assert refused.status_code == 400
    photo = client.post("/api/photos", content=encoded(pixels)).raise_for_status().json()["photo"]
    question = {"photo": photo, "model": model}
    with client.stream("POST", "/api/explain", json=question) as answer:
        lines = answer.iter_lines()
        if n % 7 == 6:
            next(lines)
            return
        last = [json.loads(line) for line in lines][-1]
    for fill in ("black", "white"):
        change = {"answer": last["answer"], "fill": fill, "fraction": 0.1}
        client.post("/api/change", json=change).raise_for_status()
    client.get("/api/result.zip", params={"answer": last["answer"]}).raise_for_status()


def resident() -> float:
    """The process's memory in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
