"""What a training is: everything that decides its result."""

from dataclasses import dataclass

from chiaroscuro.errors import ChoiceError

CHECKPOINT = "last.ckpt"
"""The file of a training's work folder that it goes on from."""
PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}
"""Number formats by our name, as Lightning calls them."""


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """The defaults are the paper's: AdamW, no schedule, no augmentation, the last epoch kept.

    `architecture`: basic-cnn, resnet18, convnext-tiny, efficientnet-lite0, timm:NAME or
    torchvision:NAME; all but the first end in a linear layer from their own outputs to the classes.
    `split` and `test_split`: None for the data set's own. `size`: height and width that images are
    stretched to; None for the network's own, or the images' own. `pretrained`: the body starts
    with its library's weights. `freeze`: only the last layer learns; the body stays in train mode,
    so that BatchNorm statistics adapt, as in the paper. `cache_features`: the frozen body is asked
    once per image, in eval mode. `normalize`: with the body's own mean and std (the paper: not).
    `rgb_only`: files that are not RGB are left out. `limit`: that many training images, drawn
    with the seed.
    """

    architecture: str
    data: str
    split: str | None = None
    test_split: str | None = None
    epochs: int = 50
    batch: int = 128
    learning_rate: float = 0.001
    weight_decay: float = 0.01
    seed: int = 42
    size: tuple[int, int] | None = None
    pretrained: bool = False
    freeze: bool = False
    cache_features: bool = False
    normalize: bool = False
    rgb_only: bool = False
    limit: int | None = None
    precision: str = "32"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch"):
            if getattr(self, name) < 1:
                raise ChoiceError(f"{name} is {getattr(self, name)}: expected at least 1")
        if self.learning_rate <= 0 or self.weight_decay < 0:
            raise ChoiceError(
                f"learning rate {self.learning_rate} and weight decay {self.weight_decay}: "
                "expected above 0, and 0 or more"
            )
        if self.precision not in PRECISIONS:
            raise ChoiceError(f"precision {self.precision!r}: known are {', '.join(PRECISIONS)}")
        if self.cache_features and not self.freeze:
            raise ChoiceError("features can be computed once for a frozen body only: add --freeze")
        if (self.freeze or self.normalize) and self.architecture == "basic-cnn":
            raise ChoiceError("basic-cnn has no body to freeze and no normalization of its own")
