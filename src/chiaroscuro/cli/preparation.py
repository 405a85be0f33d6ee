"""What every command does before it computes: this process is the command's own."""

from collections.abc import Callable

import torch

from chiaroscuro.allocator import tune_allocator
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ChoiceError, first_line
from chiaroscuro.hub import hide_progress
from chiaroscuro.models import load_classifier


def prepare(threads: int | None, *, quiet: bool) -> None:
    """Tune the allocator, set the CPU threads if asked, and keep libraries as quiet as we are."""
    tune_allocator()
    if quiet:
        hide_progress()
    if threads is not None:
        torch.set_num_threads(threads)


def load(model: str, device: str) -> Classifier:
    """The classifier of a spec on a device; raises `ChoiceError` for a device that is not here."""
    return on_device(load_classifier(model), device)


def on_device(classifier: Classifier, device: str) -> Classifier:
    """The classifier on a device; raises `ChoiceError` for a device that is not here."""
    device = usable_device(device)
    return classifier if device == "cpu" else classifier.to(torch.device(device))


def usable_device(device: str) -> str:
    """A device by name, "auto" for the best one; raises `ChoiceError` for one that is not here."""
    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        why = first_line(error).partition(". ")[0]  # PyTorch goes on to list all its backends
        raise ChoiceError(
            f"device {device!r} cannot be used here: {why}; give auto, cpu, or a cuda, cuda:N or "
            "mps that this machine has"
        ) from error
    return device


def settled(device: str) -> Callable[[], object]:
    """A function that waits until a device is idle; it does nothing on a CPU."""
    kind = torch.device(usable_device(device)).type
    if kind == "cuda":
        return torch.cuda.synchronize
    return torch.mps.synchronize if kind == "mps" else lambda: None


def share_of_threads(workers: int) -> int:
    """The CPU threads of one of several worker processes."""
    return max(1, torch.get_num_threads() // workers)
