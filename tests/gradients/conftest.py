"""The network that the engine is asked about, in float64."""

import pytest

from chiaroscuro import Classifier
from chiaroscuro.device import DeviceProfile, profile_in_use
from tests.gradients.oracle import CLASSES
from tests.toys import small_cnn


@pytest.fixture
def net():
    return small_cnn(CLASSES).double()


@pytest.fixture
def classifier(net):
    return Classifier(net, mean=0.5, std=0.25)


@pytest.fixture(autouse=True)
def every_kernel():
    """Oracles are in float64, and the kernels that they prove are for every number format."""
    with profile_in_use(DeviceProfile(slow_convolutions=())):
        yield
