"""The autograd graph of one forward pass, read as a list: from the logits back to the pixels."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

Node = Any
"""A node of the autograd graph, such as `ConvolutionBackward0`; PyTorch has no public type."""


@dataclass(frozen=True, slots=True)
class Edge:
    """Where a gradient goes: output `number` of the operation at `place` on the tape."""

    place: int
    number: int


@dataclass(frozen=True, eq=False)
class Entry:
    """One operation of the forward pass: its node, and where the gradients of its inputs go.

    `edges` has one item an input, None where no pixel is behind it.
    """

    node: Node
    edges: tuple[Edge | None, ...]

    @property
    def name(self) -> str:
        """The kind of the operation, such as "ReluBackward0"."""
        return str(self.node.name())

    @property
    def shapes(self) -> tuple[torch.Size, ...]:
        """The shape of each output of the operation."""
        return tuple(torch.Size(about.shape) for about in self.node._input_metadata)

    @property
    def dtype(self) -> torch.dtype:
        """The number format of its first output."""
        found: torch.dtype = self.node._input_metadata[0].dtype
        return found

    def input_shape(self, number: int = 0) -> torch.Size:
        """The shape of one input of the operation."""
        node, output = self.node.next_functions[number]
        return torch.Size(node._input_metadata[output].shape)

    @property
    def is_local(self) -> bool:
        """Whether it can be asked apart from what lies behind it.

        Operations written in Python cannot be called; the engine that is asked instead tells their
        inputs apart only where there is one.
        """
        return callable(self.node) or sum(edge is not None for edge in self.edges) == 1

    def differentiate(self, gradients: list[Tensor | None]) -> list[Tensor | None]:
        """The operation's own backward pass: gradients of its outputs to those of its inputs."""
        if callable(self.node):
            found = self.node(*gradients)
            return list(found) if isinstance(found, tuple) else [found]
        place = next(i for i, edge in enumerate(self.edges) if edge is not None)
        given = [(i, gradient) for i, gradient in enumerate(gradients) if gradient is not None]
        (made,) = torch.autograd.grad(
            [GradientEdge(self.node, i) for i, _ in given],
            [GradientEdge(*self.node.next_functions[place])],
            [gradient for _, gradient in given],
            retain_graph=True,
            allow_unused=True,
        )
        return [made if i == place else None for i in range(len(self.edges))]


@dataclass(frozen=True, eq=False)
class Tape:
    """Operations in the order of the backward pass; the last one stands for the pixels.

    `start` is where the gradient of the logits goes in. Operations that no pixel is behind are
    left out.
    """

    entries: tuple[Entry, ...]
    start: Edge

    @classmethod
    def of(cls, logits: Tensor, leaf: Tensor) -> "Tape | None":
        """Read the graph from logits to a leaf; None when the one does not lead to the other."""
        if logits.grad_fn is None:
            return None
        ordered = list(_towards_leaves(logits.grad_fn))
        behind: set[Node] = set()
        for node in ordered:
            if getattr(node, "variable", None) is leaf or any(
                child in behind for child, _ in node.next_functions
            ):
                behind.add(node)
        kept = [node for node in reversed(ordered) if node in behind]
        if logits.grad_fn not in behind:
            return None
        place = {node: i for i, node in enumerate(kept)}
        entries = tuple(
            Entry(
                node,
                tuple(
                    Edge(place[child], number) if child in place else None
                    for child, number in node.next_functions
                ),
            )
            for node in kept
        )
        return cls(entries, Edge(0, logits.output_nr))


def _towards_leaves(root: Node) -> Iterator[Node]:
    """Every node after all of those that lie behind it."""
    seen: set[Node] = set()
    stack: list[tuple[Node, bool]] = [(root, False)]
    while stack:
        node, opened = stack.pop()
        if opened:
            yield node
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack += [(child, False) for child, _ in node.next_functions if child is not None]
