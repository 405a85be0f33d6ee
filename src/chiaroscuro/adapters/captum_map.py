"""The class that Captum sees; imported only where Captum is wanted."""

from functools import wraps
from typing import Any

from captum.attr import GradientAttribution
from torch import Tensor

from chiaroscuro.adapters.network import PixelNetwork
from chiaroscuro.adapters.question import Question
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ChoiceError, InputError

Inputs = Tensor | tuple[Tensor, ...]


class CaptumMap(GradientAttribution):  # type: ignore[misc]  # Captum's types are not followed
    """One of our maps as Captum asks for it; made by `captum_attribution`."""

    def __init__(self, classifier: Classifier, question: Question) -> None:
        super().__init__(PixelNetwork(classifier))
        self.classifier = classifier
        self.question = question

    def _attribute_noisy(self, inputs: Inputs, target: Any = None) -> Inputs:
        """What `NoiseTunnel` calls, past the method that users call: it shows noisy images only."""
        asked = "the predicted class" if target is None else f"rivals {self.question.rivals}"
        if target is None or self.question.rivals.count is not None:
            raise ChoiceError(
                f"{asked} would be chosen anew on every noisy image, since NoiseTunnel never shows "
                "the clean one: name the target, and rivals as 'all' or a list of classes"
            )
        return self._answer(inputs, target)

    @wraps(_attribute_noisy, assigned=())  # carries `__wrapped__`, keeps its own name and words
    def attribute(self, inputs: Inputs, target: Any = None) -> Inputs:
        """The map per channel, (B, C, H, W), in the inputs' form; see `captum_attribution`."""
        return self._answer(inputs, target)

    def _answer(self, inputs: Inputs, target: Any) -> Inputs:
        pixels = _only(inputs)
        found = self.question.values(self.classifier, pixels, _classes(target), "none")
        return (found,) if isinstance(inputs, tuple) else found


def _only(inputs: Inputs) -> Tensor:
    if not isinstance(inputs, tuple):
        return inputs
    if len(inputs) != 1:
        raise InputError(f"inputs are {len(inputs)} tensors: an image classifier takes one")
    return inputs[0]


def _classes(target: Any) -> Any:
    """Captum's targets as ours: one number in a tensor is for all images, a tuple is no list."""
    if isinstance(target, tuple):
        raise ChoiceError(
            f"target is the tuple {target}, to Captum one place in an output of several axes: "
            "expected a class index, a list of them, or a 1-D tensor"
        )
    if isinstance(target, Tensor) and target.numel() == 1:
        return target.reshape(())
    return target
