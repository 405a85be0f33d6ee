"""What a library's own network and preprocessing make of a picture, beside ours."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import models as zoo

from chiaroscuro.images import frame
from chiaroscuro.images.photos import photo_from_image
from tests.toys import random_pixels


class Evil:
    """A pickle that makes a file where it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def asked(module, x):
    """Logits of a library's own module in eval mode."""
    module.eval()
    with torch.no_grad():
        output = module(x)
    return getattr(output, "logits", output)


def normalized(x, mean, std):
    return (x - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)


def floats(*shape, seed=0):
    return random_pixels(*shape, seed=seed, dtype=torch.float32)


def noise(height, width):
    values = np.random.default_rng(height).integers(0, 256, (height, width, 3))
    return Image.fromarray(values.astype(np.uint8))


def framed(classifier, image):
    pixels, _ = frame(photo_from_image(image), classifier.framing, classifier.channels)
    return torch.from_numpy(pixels)[None]


def one_line(caught):
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def place(checkpoints, name, content, tag="DEFAULT"):
    """Save something as the weights of a torchvision model; return its weights entry and file."""
    weights = zoo.get_model_weights(name)[tag]
    path = checkpoints / Path(weights.url).name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    return weights, path
