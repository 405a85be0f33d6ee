"""Plain autograd, one class and one row at a time, and the engine's way back beside it."""

import torch
from torch import Tensor, nn

from chiaroscuro.gradients.backward.program import Program
from chiaroscuro.gradients.backward.rules import step_of
from chiaroscuro.gradients.backward.steps import Opaque
from chiaroscuro.gradients.backward.tape import Tape
from tests.toys import random_pixels, sizes

CHUNK = 1 << 20
NO_BASIS = 0
CLASSES = 5
"""Of the small network that stands for any."""
MANY = 100
"""So many that channels which carry nothing are looked for."""


def close(made, wanted, rtol=1e-9):
    """Equal to `rtol` of the largest value, since sums may cancel."""
    scale = max(float(wanted.detach().abs().max()), 1e-30) if wanted.numel() else 1.0
    torch.testing.assert_close(made, wanted, rtol=rtol, atol=rtol * scale)


class Net(nn.Module):
    """A function of pixels with a small convolution before it and a linear head behind."""

    def __init__(self, work, *, channels=4, classes=3, stem=True):
        super().__init__()
        torch.manual_seed(5)
        self.work, self.classes = work, classes
        self.stem = nn.Conv2d(3, channels, 3, padding=1) if stem else nn.Identity()
        self.double().eval().requires_grad_(False)

    def forward(self, x):
        found = self.work(self.stem(x)).reshape(len(x), -1)
        weight = torch.linspace(-1, 1, found.shape[1] * self.classes, dtype=torch.float64)
        head = weight.sin().view(self.classes, -1).to(found.dtype)
        return found @ head.T


def engine_gradients(net, pixels, *, chunk=CHUNK, classes=0, basis=NO_BASIS):
    """(K, B, C, H, W) by the engine's program, and the operations that it did not know."""
    leaf = pixels.clone().requires_grad_(True)
    with torch.enable_grad():
        logits = net(leaf.clone())
    tape = Tape.of(logits, leaf)
    unknown = {e.name for e in tape.entries[:-1] if isinstance(step_of(e), Opaque)}
    program = Program(tape, chunk, classes, basis)
    count = logits.shape[1]
    one_hot = torch.eye(count, dtype=logits.dtype)[:, None].expand(-1, len(pixels), -1)
    with torch.no_grad():
        made = whole_gradients(program.run(count, lambda a, b: one_hot[a:b]), count, pixels)
    return made, unknown


def whole_gradients(chunks, classes, pixels):
    """(K, B, C, H, W) put together from chunks that hold every value of every class once."""
    made = torch.full((classes, len(pixels), pixels[0].numel()), torch.nan, dtype=pixels.dtype)
    for first, start, found in chunks:
        place = made[first : first + len(found), :, start : start + found.shape[2]]
        assert place.shape == found.shape
        assert place.isnan().all()
        place.copy_(found)
    _, channels, height, width = pixels.shape
    return made.view(classes, -1, height, width, channels).permute(0, 1, 4, 2, 3)


def plain_gradients(net, pixels):
    """(K, B, C, H, W) by `torch.autograd.grad` alone, class by class and row by row."""
    leaf = pixels.clone().requires_grad_(True)
    logits = net(leaf.clone())
    made: list[Tensor] = []
    for k in range(logits.shape[1]):
        rows = [
            torch.autograd.grad(logits[b, k], leaf, retain_graph=True)[0][b]
            for b in range(len(pixels))
        ]
        made.append(torch.stack(rows))
    return torch.stack(made)


def check(net, pixels=None, *, rtol=1e-9, **options):
    """The engine equals autograd; what it asked PyTorch about is returned."""
    pixels = random_pixels(2, 3, 6, 8) if pixels is None else pixels
    wanted = plain_gradients(net, pixels)
    made, unknown = engine_gradients(net, pixels, **options)
    assert wanted.abs().max() > 0, "the case has no gradient to compare"
    assert made.dtype == wanted.dtype
    close(made, wanted, rtol)
    again, _ = engine_gradients(net, pixels, chunk=1)
    close(again, wanted, rtol)
    with sizes(lanes=1):
        narrow, _ = engine_gradients(net, pixels, classes=MANY, basis=1 << 30)
    close(narrow, wanted, rtol)
    return unknown


def norm(channels, *, affine=True, kind=nn.BatchNorm2d):
    part = kind(channels, affine=affine)
    with torch.no_grad():
        part.running_mean.uniform_(-1, 1)
        part.running_var.uniform_(0.5, 2)
        if affine:
            part.weight.uniform_(-1, 1)
            part.bias.uniform_(-1, 1)
    return part.double().eval()


def naive_score(net):
    """The same network asked naively: eval mode, normalization by hand."""
    net.eval()
    return lambda x: net((x - 0.5) / 0.25)
