"""The autograd graph of one forward pass as a list: from the logits back to the pixels.

PyTorch has no public type for a node's saved values and shapes, so all access to them goes through
`_attribute`: one that this PyTorch lacks raises `UnknownNodeError`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

Node = Any
"""A node of the autograd graph, such as `ConvolutionBackward0`."""

Shapes = tuple[torch.Size, ...]
"""The shape of each output of an operation."""


class UnknownNodeError(Exception):
    """A graph that cannot be read, as where a node has not the attribute that a rule reads."""


def _attribute(node: Node, name: str) -> Any:
    try:
        return getattr(node, name)
    except AttributeError:
        message = f"{node.name()} has no {name} in PyTorch {torch.__version__}"
        raise UnknownNodeError(message) from None


class About(NamedTuple):
    """What autograd knows of a tensor."""

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device


class Edge(NamedTuple):
    """Where a gradient goes: output `number` of the operation at `place` on the tape."""

    place: int
    number: int


@dataclass(frozen=True, eq=False)
class Entry:
    """One operation of the forward pass: its node, and where the gradients of its inputs go.

    `edges` and `inputs` have one item per input, None where no pixel is behind it.
    """

    node: Node
    edges: tuple[Edge | None, ...]
    outputs: Sequence[About]
    inputs: Sequence[Any]

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

    @property
    def shapes(self) -> Shapes:
        """The shape of each output of the operation."""
        return tuple(output.shape for output in self.outputs)

    def input_shape(self, number: int = 0) -> torch.Size:
        """The shape of one input of the operation, behind which pixels are."""
        shape: torch.Size = self.inputs[number].shape
        return shape

    @property
    def is_real(self) -> bool:
        """Whether no complex number goes in or comes out."""
        tensors = (*self.outputs, *self.inputs)
        return not any(about is not None and about.dtype.is_complex for about in tensors)

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
        if self.is_custom:  # it answers for arguments that are no tensors too
            filled = [
                torch.zeros(about.shape, dtype=about.dtype, device=about.device) if g is None else g
                for g, about in zip(gradients, self.outputs, strict=True)
            ]
            answers = _listed(self.node.apply(*filled))
            needed = zip(answers, self.node.needs_input_grad, strict=False)
            wanted = iter([gradient for gradient, is_needed in needed if is_needed])
            behind = self.node.next_functions
            results: Sequence[Tensor | None] = [
                None if n is None else next(wanted) for n, _ in behind
            ]
        else:
            laid = _layout_of(self.node)
            results = _listed(self.node(*(gradients if laid is None else laid(gradients))))
        return [
            None if edge is None or gradient is None else gradient.sum_to_size(self.input_shape(i))
            for i, (edge, gradient) in enumerate(zip(self.edges, results, strict=True))
        ]


def signed(value: int) -> int:
    """A number as autograd keeps it: negative ones come as unsigned."""
    return value - 2**64 if value >= 2**63 else value


def axes(entry: Entry, *names: str) -> list[int]:
    """Axes as autograd keeps them, counted from 0."""
    count = max(1, len(entry.shapes[0]))
    return [signed(value) % count for value in entry.all_saved(*names)]


def _listed(results: Any) -> Sequence[Tensor | None]:
    return [results] if results is None or isinstance(results, Tensor) else results


@dataclass(frozen=True, eq=False)
class Tape:
    """Operations in the order of the backward pass; the last one stands for the pixels.

    `start` is where the gradient of the logits goes in. Operations that no pixel is behind are
    left out.
    """

    entries: Sequence[Entry]
    start: Edge
    logits: Tensor

    @classmethod
    def of(cls, logits: Tensor, leaf: Tensor) -> "Tape":
        """Read the graph from logits to a leaf.

        Raises `UnknownNodeError` for one that leads elsewhere or has hooks of modules, and where
        nodes tell no shapes.
        """
        ordered = list(_towards_leaves(logits.grad_fn))
        behind: set[Node] = set()
        for node in ordered:
            is_leaf = getattr(node, "variable", None) is leaf
            if is_leaf or any(child in behind for child, _ in node.next_functions):
                behind.add(node)
        if logits.grad_fn not in behind:
            raise UnknownNodeError("the logits do not depend on the pixels")
        kept = [node for node in reversed(ordered) if node in behind]
        if any(node.name() == "BackwardHookFunctionBackward" for node in kept):
            raise UnknownNodeError("the network has backward hooks")
        place = {node: i for i, node in enumerate(kept)}
        outputs = {
            node: [
                About(torch.Size(output.shape), output.dtype, output.device)
                for output in _attribute(node, "_input_metadata")
            ]
            for node in kept
        }
        entries = [
            Entry(
                node,
                tuple(Edge(place[n], i) if n in place else None for n, i in node.next_functions),
                outputs[node],
                [outputs[n][i] if n in place else None for n, i in node.next_functions],
            )
            for node in kept
        ]
        return cls(entries, Edge(0, logits.output_nr), logits)


def keep_layouts(logits: Tensor) -> None:
    """Batch normalizations behind the logits get gradients that lie in memory as their inputs do.

    Where an axis of size 1 has an unusual stride PyTorch (2.6 to 2.14) takes the one of them for
    channels_last and the other not, and its backward pass is wrong.
    """
    with suppress(UnknownNodeError):
        for node in _towards_leaves(logits.grad_fn):
            if laid := _layout_of(node):
                node.register_prehook(laid)


def _layout_of(node: Node) -> Callable[[Sequence[Tensor | None]], tuple[Tensor | None, ...]] | None:
    """Lays a batch normalization's gradients out as its input; None where any layout will do."""
    if node.name() != "NativeBatchNormBackward0":
        return None
    shape = tuple(_attribute(node, "_input_metadata")[0].shape)
    if 1 not in shape:
        return None
    # Without the node, which would keep itself.
    strides = torch.empty_like(_attribute(node, "_saved_input"), device="meta").stride()

    def laid(gradients: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
        first, *others = gradients
        if first is not None and first.stride() != strides:
            first = first.new_empty_strided(shape, strides).copy_(first)
        return first, *others

    return laid


def _towards_leaves(root: Node) -> Iterator[Node]:
    """Every node after all of those that lie behind it."""
    seen: set[Node] = {None}
    stack: list[tuple[Node, bool]] = [(root, False)]
    while stack:
        node, opened = stack.pop()
        if opened:
            yield node
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack += [(child, False) for child, _ in node.next_functions]
