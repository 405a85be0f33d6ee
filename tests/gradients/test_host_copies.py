"""No copy to the host in the loop over classes: a GPU would stand still for each."""

from collections import Counter

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from chiaroscuro import Classifier, Method, class_gradients, reduce_gradients, saliency_maps
from tests.toys import random_pixels, sizes, small_cnn

WAITING = ("_local_scalar_dense", "nonzero", "item", "equal", "is_nonzero", "_to_copy", "tolist")
"""Operations for which the host waits, and copies between devices."""


class Watch(TorchDispatchMode):
    """Counts every operation, and those for which a host waits."""

    def __init__(self):
        super().__init__()
        self.waits, self.all = Counter(), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        self.all += 1
        self.waits[name] += name in WAITING
        return func(*args, **(kwargs or {}))


class Norms:
    def start(self, images, classes):
        self.norms = images.new_zeros(len(images), classes)

    def add(self, gradients, classes):
        self.norms[:, classes] = gradients.flatten(2).norm(dim=2).T

    def finish(self):
        return self.norms


class Attentive(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 2, 2), nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(16 * 8, classes)

    def forward(self, x):
        tokens = self.norm(self.stem(x).flatten(2).mT)
        return self.head(
            (tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]).flatten(1)
        )


def maps(classifier, pixels, **options):
    return saliency_maps(class_gradients(classifier, pixels, **options))


CALLS = {
    "gradient": maps,
    "argmax": lambda classifier, pixels: class_gradients(classifier, pixels, argmax=True),
    "several": lambda classifier, pixels: class_gradients(classifier, pixels, classes=[3, 1]),
    "score": lambda classifier, pixels: maps(classifier, pixels, score="log-probability"),
    "smoothgrad": lambda classifier, pixels: maps(
        classifier, pixels, method=Method("smoothgrad", points=3)
    ),
    "integrated": lambda classifier, pixels: maps(
        classifier, pixels, method=Method("integrated-gradients", points=3)
    ),
    "reducer": lambda classifier, pixels: reduce_gradients(classifier, pixels, Norms()),
}


def watched(make, call, classes, many):
    torch.manual_seed(0)
    classifier = Classifier(make(classes).requires_grad_(False))
    pixels = random_pixels(1, 3, 8, 8, dtype=torch.float32)
    with sizes(many_classes=many, chunk_bytes=1, busy_bytes=1, busy_rows=1):
        call(classifier, pixels)  # probed
        with Watch() as watch:
            call(classifier, pixels)
    return watch


@pytest.mark.parametrize("make", [small_cnn, Attentive])
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("basis", [False, True])
def test_more_turns_of_the_loop_wait_no_more_often(make, name, basis):
    """One class a turn, for few classes and for twice as many."""
    few, many = (36, 72) if basis else (9, 18)
    some, more = (watched(make, CALLS[name], n, 32) for n in (few, many))
    assert more.all > some.all + 20, "there were no more turns"
    assert +more.waits == +some.waits
