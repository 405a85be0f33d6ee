"""The autograd graph of one forward pass as a list: from the logits back to the pixels.

PyTorch has no public type for a node's saved values and shapes, so all access to them is here:
`Entry.saved` and `_metadata`. An attribute that this PyTorch
lacks raises `UnknownNodeError`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Node = Any
"""A node of the autograd graph, such as `ConvolutionBackward0`."""

Shapes = tuple[torch.Size, ...]
"""The shape of each output of an operation."""

_HOOKED = "BackwardHookFunctionBackward"
"""The operation that a module's full backward hook leaves in the graph."""


class UnknownNodeError(Exception):
    """A node of the autograd graph has not the attribute that a rule reads."""


def _metadata(node: Node) -> Any:
    """Shape, number format and device of each output of a node."""
    return _attribute(node, "_input_metadata")


def _attribute(node: Node, name: str) -> Any:
    try:
        return getattr(node, name)
    except AttributeError:
        message = f"{node.name()} has no {name} in PyTorch {torch.__version__}"
        raise UnknownNodeError(message) from None


@dataclass(frozen=True, slots=True)
class Edge:
    """Where a gradient goes: output `number` of the operation at `place` on the tape."""

    place: int
    number: int


@dataclass(frozen=True, eq=False)
class Entry:
    """One operation of the forward pass: its node, and where the gradients of its inputs go.

    `edges` has one item per input, None where no pixel is behind it.
    """

    node: Node
    edges: tuple[Edge | None, ...]

    @property
    def name(self) -> str:
        """The kind of the operation, such as "ReluBackward0"."""
        return str(self.node.name())

    def saved(self, name: str) -> Any:
        """A value that autograd saved for the backward pass, such as "self" or "weight"."""
        return _attribute(self.node, f"_saved_{name}")

    def all_saved(self, *names: str) -> list[Any]:
        """Several of them."""
        return [self.saved(name) for name in names]

    def saved_or_none(self, name: str) -> Any:
        """The same where some kinds of the operation save no such value."""
        return getattr(self.node, f"_saved_{name}", None)

    @property
    def shapes(self) -> Shapes:
        """The shape of each output of the operation."""
        return tuple(torch.Size(output.shape) for output in _metadata(self.node))

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        """The number format of each output."""
        return tuple(output.dtype for output in _metadata(self.node))

    @property
    def device(self) -> torch.device:
        """Where the first output lies."""
        device: torch.device = _metadata(self.node)[0].device
        return device

    def input_shape(self, number: int = 0) -> torch.Size:
        """The shape of one input of the operation."""
        return torch.Size(self._input(number).shape)

    def input_dtype(self, number: int = 0) -> torch.dtype:
        """The number format of one input."""
        dtype: torch.dtype = self._input(number).dtype
        return dtype

    def input_device(self, number: int = 0) -> torch.device:
        """Where one input lies."""
        device: torch.device = self._input(number).device
        return device

    def _input(self, number: int) -> Any:
        node, output = self.node.next_functions[number]
        return _metadata(node)[output]

    @property
    def is_real(self) -> bool:
        """Whether no complex number goes in or comes out."""
        ins = [self.input_dtype(i) for i, edge in enumerate(self.edges) if edge is not None]
        return not any(dtype.is_complex for dtype in (*self.dtypes, *ins))

    @property
    def follows_first_alone(self) -> bool:
        """Whether the pixels reach it through its first input only."""
        return self.edges[0] is not None and not any(self.edges[1:])

    @property
    def is_custom(self) -> bool:
        """Whether it is a `torch.autograd.Function` written in Python."""
        return isinstance(self.node, torch.autograd.function.BackwardCFunction)

    def backward(self, gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
        """The operation's own backward pass for one class: gradients of its inputs.

        The node itself is called. PyTorch's engine, asked for the gradients of two inputs, would
        add to the one what flows into it through the other.
        """
        own = self._custom_backward if self.is_custom else self._call
        results = own(gradients)
        inputs = [results] if results is None or isinstance(results, Tensor) else results
        return [
            None if edge is None or gradient is None else gradient.sum_to_size(self.input_shape(i))
            for i, (edge, gradient) in enumerate(zip(self.edges, inputs, strict=True))
        ]

    def _call(self, gradients: Sequence[Tensor | None]) -> Any:
        return self.node(*gradients)

    def _custom_backward(self, gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Of a `torch.autograd.Function`, which answers for arguments that are no tensors too."""
        filled = [
            torch.zeros(about.shape, dtype=about.dtype, device=about.device) if g is None else g
            for g, about in zip(gradients, _metadata(self.node), strict=True)
        ]
        results = self.node.apply(*filled)
        answers = [results] if results is None or isinstance(results, Tensor) else results
        wanted = iter(
            [g for g, needed in zip(answers, self.node.needs_input_grad, strict=False) if needed]
        )
        return [None if node is None else next(wanted) for node, _ in self.node.next_functions]


@dataclass(frozen=True, eq=False)
class Tape:
    """Operations in the order of the backward pass; the last one stands for the pixels.

    `start` is where the gradient of the logits goes in. Operations that no pixel is behind are
    left out.
    """

    entries: tuple[Entry, ...]
    start: Edge
    logits: Tensor

    @classmethod
    def of(cls, logits: Tensor, leaf: Tensor) -> "Tape | None":
        """Read the graph from logits to a leaf; None when the one does not lead to the other.

        Raises `UnknownNodeError` for a graph with hooks of modules, and where nodes tell no shapes.
        """
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
        if any(node.name() == _HOOKED for node in kept):
            raise UnknownNodeError("the network has backward hooks")
        for node in kept:
            _metadata(node)
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
        return cls(entries, Edge(0, logits.output_nr), logits)


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
