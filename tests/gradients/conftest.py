"""The network that the engine is asked about, in float64."""

import pytest

from chiaroscuro import Classifier
from tests.gradients.oracle import CLASSES
from tests.toys import small_cnn


@pytest.fixture
def net():
    return small_cnn(CLASSES).double()


@pytest.fixture
def classifier(net):
    return Classifier(net, mean=0.5, std=0.25)
