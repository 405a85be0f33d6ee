"""Which method works on which network through the installed Captum: `python -m tools.captum_pairs`.

Prints a Markdown table; the networks need no download (those without packaged weights are random).
"""

import timm
import torch
import torchvision
from torch import nn

from chiaroscuro import ChiaroscuroError, Classifier, class_gradients, load_classifier
from chiaroscuro.gradients import CAPTUM
from chiaroscuro.images import frame, open_photo, packaged_photo

CLASSES = 10


def networks() -> dict[str, Classifier]:
    """The paper's networks and the default one, by where they come from."""
    torch.manual_seed(0)

    def random(module: nn.Module, name: str) -> Classifier:
        return Classifier(module, mean=0.45, std=0.22, size=224, name=name)

    return {
        "cifar10-cnn (basic-cnn)": load_classifier("cifar10-cnn"),
        "torchvision resnet18": random(
            torchvision.models.resnet18(num_classes=CLASSES), "resnet18"
        ),
        "timm resnet18": random(timm.create_model("resnet18", num_classes=CLASSES), "resnet18"),
        "timm tf_efficientnet_lite0": load_classifier("efficientnet-lite0"),
        "torchvision convnext_tiny": random(
            torchvision.models.convnext_tiny(num_classes=CLASSES), "convnext_tiny"
        ),
        "timm convnext_tiny": random(
            timm.create_model("convnext_tiny", num_classes=CLASSES), "convnext_tiny"
        ),
    }


def outcome(classifier: Classifier, method: str) -> str:
    """Whether it works, or where it fails and why, in the words of the error."""
    pixels, _ = frame(open_photo(packaged_photo("coffee")), classifier.framing, 3)
    try:
        class_gradients(
            classifier, torch.from_numpy(pixels)[None], rivals="runner-up", method=method
        )
    except ChiaroscuroError as error:
        _, _, reason = str(error).partition(f" failed on {classifier.name} at ")
        return "fails at " + reason.partition(": ")[0].replace("|", "/")
    return "works"


def main() -> None:
    """One row a network, one column a method."""
    print(f"| network | {' | '.join(CAPTUM)} |")
    print("|---" * (len(CAPTUM) + 1) + "|")
    for name, classifier in networks().items():
        cells = [outcome(classifier, method) for method in CAPTUM]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
