"""Fixtures shared by the tests."""

import multiprocessing

import pytest
import torch

from chiaroscuro import Classifier, load_classifier
from tests.toys import small_cnn

collect_ignore = ["second_torch.py"]  # a plugin, whose import tells PyTorch of operators

# Toy networks are too small to share out between threads.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def lite0() -> Classifier:
    """The packaged ImageNet classifier, loaded once."""
    return load_classifier("efficientnet-lite0")


@pytest.fixture
def quick_workers(monkeypatch):
    """Worker processes begin as copies of one that has imported everything already.

    tests/passes/test_executor.py starts them as users do, which takes seconds.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["chiaroscuro.evaluation", "torchvision"])
    monkeypatch.setattr(multiprocessing, "get_context", lambda method=None: context)


@pytest.fixture
def toy() -> Classifier:
    """A small random network of five classes for 12 px pictures, in float64."""
    labels = ["crane, bird", "crane, machine", "cat, tabby", "dog", "cup, mug"]
    return Classifier(small_cnn().double(), mean=0.5, std=0.25, size=12, labels=labels)
