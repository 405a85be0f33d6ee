"""Classes from text: the image tower of a CLIP, and a linear layer with a row for each text."""

from typing import Any

import torch
from torch import Tensor, nn

from chiaroscuro.catalog import TextClasses
from chiaroscuro.errors import ChoiceError
from chiaroscuro.guard import as_found

_AT_ONCE = 64
"""So many prompts go through the text tower together."""


class TextClassifier(nn.Module):
    """Logits (B, K) of images (B, C, H, W): `head` of the image's embedding at length 1.

    With rows scale x embedding (unit length) of the texts these are scale x cosine + bias.
    """

    def __init__(
        self, tower: nn.Module, projection: nn.Module, rows: Tensor, bias: Tensor | None
    ) -> None:
        super().__init__()
        self.tower, self.projection = tower, projection
        classes, features = rows.shape
        self.head = nn.Linear(features, classes, bias is not None, device="meta")  # draws nothing
        self.head.weight = nn.Parameter(rows)
        if bias is not None:
            self.head.bias = nn.Parameter(bias.expand(classes).clone())

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (B, K)."""
        features = self.projection(self.tower(pixels).pooler_output)
        logits: Tensor = self.head(_unit(features))
        return logits


def text_classifier(model: Any, tokenizer: Any, texts: TextClasses) -> TextClassifier:
    """The image tower of a CLIP or SigLIP of transformers (shared), its text tower run once."""
    scale, bias = model.logit_scale.detach().exp(), getattr(model, "logit_bias", None)
    return TextClassifier(
        model.vision_model,
        getattr(model, "visual_projection", nn.Identity()),
        scale * embed(model, tokenizer, texts),
        None if bias is None else bias.detach(),
    )


def embed(model: Any, tokenizer: Any, texts: TextClasses) -> Tensor:
    """Embeddings (K, D) of length 1: of each class the mean of those of its prompts, length 1 each.

    That is CLIP's protocol for several templates (arXiv:2103.00020, section 3.1.4). Raises
    `ChoiceError` for a prompt that the text tower would cut.
    """
    prompts = texts.prompts
    limit = min(tokenizer.model_max_length, model.config.text_config.max_position_embeddings)
    for prompt, tokens in zip(prompts, tokenizer(prompts, verbose=False).input_ids, strict=True):
        if len(tokens) > limit:
            begin = prompt if len(prompt) <= 80 else f"{prompt[:77]}..."
            raise ChoiceError(
                f"{begin!r} is {len(tokens)} tokens long: the text tower reads {limit} and would "
                "silently leave out the rest; shorten it"
            )
    padding = "max_length" if "siglip" in model.config.model_type else "longest"  # as trained
    rows = []
    with as_found(model), torch.no_grad():
        for start in range(0, len(prompts), _AT_ONCE):
            some = prompts[start : start + _AT_ONCE]
            tokens = tokenizer(some, padding=padding, max_length=limit, return_tensors="pt")
            tokens = tokens.to(model.logit_scale.device)
            rows.append(_unit(model.get_text_features(**tokens).pooler_output))
        means = torch.cat(rows).view(len(texts.names), len(texts.templates), -1).mean(dim=1)
        return _unit(means)


def _unit(vectors: Tensor) -> Tensor:
    length: Tensor = vectors.norm(dim=-1, keepdim=True)
    return vectors / length
