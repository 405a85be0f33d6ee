"""Pictures as classes: how similar a picture's embedding is to theirs."""

import torch.nn.functional as F
from torch import Tensor, nn


class Similarities(nn.Module):
    """The cosines (B, K) of a network's outputs (B, D) with each row of `embeddings` (K, D)."""

    embeddings: Tensor

    def __init__(self, network: nn.Module, embeddings: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("embeddings", F.normalize(embeddings))

    def forward(self, x: Tensor) -> Tensor:
        """Cosines in [-1, 1]."""
        return F.normalize(self.network(x)) @ self.embeddings.mT
