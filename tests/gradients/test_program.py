"""Segments, chunks, bases and what is done when memory runs out: never another result."""

import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from chiaroscuro import Classifier, class_gradients
from chiaroscuro.gradients import Points, probe, stream
from chiaroscuro.gradients.backward import steps
from chiaroscuro.gradients.backward.program import Program
from chiaroscuro.gradients.backward.tape import Tape
from tests.gradients.oracle import close, engine_gradients, plain_gradients
from tests.toys import random_pixels, sizes, small_cnn

CLASSES = 40
FIELDS = ("logits", "target_gradient", "rival_max", "rival_min", "rival_argmax", "rival_argmin")


CUTS = {
    "unbind": lambda parts: parts.unbind(0),
    "select": list,
    "slices": lambda parts: [parts[i : i + 1].mean(0) for i in range(3)],
    "split": lambda parts: [part.squeeze(0) for part in parts.split(1, dim=-3)],
}
"""Three tensors out of one that has them along its first axis, as a batch of three has images."""


class Narrow(nn.Module):
    """Six features (24 before a depthwise convolution) stand before forty classes.

    They are the fewest at a place where no basis may begin: behind a pad of nothing that its
    convolution takes over, or where the first axis is not the batch.
    """

    def __init__(self, how="plain"):
        super().__init__()
        torch.manual_seed(2)
        self.how = how
        self.body = nn.Conv2d(3, 6, 3, 2)
        self.wider = nn.Conv2d(6, 9, 1)
        self.pixel, self.depth = nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 3, 2, 3, groups=6)
        self.matrix = nn.Parameter(torch.randn(12, 6))
        features = {"plain": 6, "pad": 9, "depthwise": 54, "transposed": 12}.get(how, 20)
        self.parts = nn.Conv2d(6, 12, 1)
        self.head = nn.Linear(features, CLASSES)
        self.double().eval().requires_grad_(False)

    def forward(self, x):
        found = F.adaptive_avg_pool2d(self.body(x).tanh(), 2 if self.how == "depthwise" else 1)
        if self.how == "pad":
            found = self.wider(F.pad(found, (0, 0, 0, 0)))
        if self.how == "depthwise":
            found = self.depth(self.pixel(found).tanh())
        if self.how == "transposed":
            found = (self.matrix @ found[..., 0, 0].T.exp()).T
        if cut := CUTS.get(self.how):
            parts = self.parts(found).view(len(x), 3, 4).transpose(0, 1)
            first, second, third = cut(parts)
            found = torch.cat([(first[:, :, None] * second[:, None]).flatten(1), third], dim=1)
        return self.head(found.flatten(1))


def narrow_program(net, pixels, basis=1 << 30):
    leaf = pixels.clone().requires_grad_(True)
    return Program(Tape.of(net(leaf.clone()), leaf), 1 << 20, CLASSES, basis)


@pytest.mark.parametrize("how", ["plain", "pad", "depthwise", "transposed", *CUTS])
@pytest.mark.parametrize("rows", [1, 3, 6])
def test_a_basis_gives_what_the_direct_way_gives(how, rows):
    net, pixels = Narrow(how), random_pixels(rows, 3, 7, 7)
    wanted = plain_gradients(net, pixels)
    assert narrow_program(net, pixels)._tail
    for chunk in (1, 3000, 1 << 20):
        for basis in (0, 6 * pixels.numel() * 8, 1 << 30):
            made, _ = engine_gradients(net, pixels, chunk=chunk, classes=CLASSES, basis=basis)
            close(made, wanted)


def test_what_a_leg_hands_on_fits_the_chunk_too(monkeypatch):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Tanh(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(32, CLASSES)
    ).double()  # fmt: skip
    pixels = random_pixels(1, 3, 10, 10)
    handed = []
    plain = Program._pass

    def spy(self, stage, cotangent):
        found = plain(self, stage, cotangent)
        handed.append(found.tensor.nbytes)
        return found

    monkeypatch.setattr(Program, "_pass", spy)
    chunk = 3 * 8 * 8 * 8 * 8  # three classes before the pooling, 48 after it
    made, _ = engine_gradients(net, pixels, chunk=chunk, classes=CLASSES, basis=0)
    close(made, plain_gradients(net, pixels))
    assert max(handed) <= chunk


@pytest.mark.parametrize(("rows", "busy", "most"), [(1, 4, 2), (2, 3, 1), (2, 3, 4), (4, 1, 3)])
def test_many_rows_take_no_more_of_the_cache_than_keeps_the_cores_busy(
    rows, busy, most, monkeypatch
):
    """Whatever the chunk: as many classes as fit the bytes, or as make the rows, if more."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(512, CLASSES))
    pixels = random_pixels(rows, 3, 10, 10)
    # The linear layer reads forty numbers a row and writes 512.
    most_bytes = most * rows * (CLASSES + 512) * 8
    taken = []
    plain = Program._pass

    def spy(self, stage, cotangent):
        taken.append(len(cotangent.tensor))
        return plain(self, stage, cotangent)

    monkeypatch.setattr(Program, "_pass", spy)
    with sizes(busy_rows=busy, busy_bytes=most_bytes):
        made, _ = engine_gradients(net.double(), pixels, chunk=1 << 30)
    close(made, plain_gradients(net, pixels))
    assert max(taken) == max(most, -(-busy // rows))


def test_a_basis_is_used_where_it_saves_passes_and_fits():
    net, pixels = Narrow(), random_pixels(2, 3, 7, 7)
    needed = 6 * (pixels.numel() + CLASSES * 2) * 8
    assert narrow_program(net, pixels, needed)._tail
    assert not narrow_program(net, pixels, needed - 1)._tail
    leaf = pixels.clone().requires_grad_(True)
    assert not Program(Tape.of(net(leaf.clone()), leaf), 1 << 20, 6, 1 << 30)._tail


@pytest.mark.parametrize("score", ["logit", "log-probability"])
@pytest.mark.parametrize("budget", [1, 10**5, None])
def test_scores_and_points_through_a_basis(score, budget):
    net, pixels = Narrow(), random_pixels(3, 3, 7, 7)
    places = random_pixels(4, 3, 3, 7, 7, seed=9)
    weights = random_pixels(4, 3, seed=3) - 0.4
    found = class_gradients(
        Classifier(net), pixels, [0, 1, 2], method=Points(places, weights), score=score,
        memory_budget=budget,
    )  # fmt: skip
    asked = net if score == "logit" else lambda x: net(x).log_softmax(1)
    wanted = sum(
        plain_gradients(asked, place) * weight.view(-1, 1, 1, 1)
        for place, weight in zip(places, weights, strict=True)
    )
    close(found.target_gradient, torch.stack([wanted[k, k] for k in range(3)]))
    rivals = torch.stack([wanted[[k for k in range(CLASSES) if k != b], b] for b in range(3)])
    close(found.rival_max, rivals.amax(1))
    close(found.rival_min, rivals.amin(1))


REFUSALS = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    MemoryError(),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize(
    ("points", "call", "budget"),
    # In the third case some classes of the image have been counted by then.
    [(1, 1, None), (1, 2, None), (1, 5, 15_000), (3, 1, 60_000), (3, 7, 60_000)],
)
def test_less_is_taken_when_memory_runs_out(monkeypatch, refusal, points, call, budget):
    monkeypatch.setattr(stream.Stream, "_least_room", lambda _: 0)
    classifier, pixels = Classifier(small_cnn().double()), random_pixels(4, 3, 12, 12)
    places = pixels + torch.linspace(0, 0.1, points, dtype=torch.float64).view(-1, 1, 1, 1, 1)
    weights = torch.ones(points, 4, dtype=torch.float64) / points
    method = "gradient" if points == 1 else Points(places, weights)
    wanted = class_gradients(
        classifier, pixels, 1, method=method, argmax=True, memory_budget=budget
    )
    calls, counts = [], []
    whole = steps.Convolve.__call__

    def refusing(step, cotangents):
        calls.append(1)
        if len(calls) == call:
            raise refusal
        return whole(step, cotangents)

    monkeypatch.setattr(steps.Convolve, "__call__", refusing)
    found = class_gradients(
        classifier, pixels, 1, method=method, argmax=True, memory_budget=budget,
        progress=lambda *count: counts.append(count),
    )  # fmt: skip
    assert len(calls) > call
    for name in FIELDS:
        torch.testing.assert_close(
            getattr(found, name), getattr(wanted, name), rtol=1e-9, atol=1e-12
        )
    assert counts[-1] == (20, 20)
    assert max(done for done, _ in counts) == 20


def test_less_is_taken_when_the_forward_pass_runs_out_of_memory():
    class Limited(nn.Module):
        """Refuses more than two rows."""

        def __init__(self):
            super().__init__()
            self.net = small_cnn().double()

        def forward(self, x):
            if len(x) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return self.net(x)

    pixels = random_pixels(7, 3, 12, 12)
    net = Limited()
    found = class_gradients(Classifier(net), pixels, 2)
    close(found.target_gradient, class_gradients(Classifier(net.net), pixels, 2).target_gradient)


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyError("broken")])
def test_other_errors_pass_and_the_network_is_left_as_found(monkeypatch, error):
    net = small_cnn().double().train()
    net[0].weight.requires_grad_(False)
    flags = [(p.training, [q.requires_grad for q in p.parameters()]) for p in net.modules()]
    mean = net[1].running_mean.clone()

    def broken(*_):
        raise error

    monkeypatch.setattr(probe, "make_plan", broken)
    with pytest.raises(type(error), match="broken"):
        class_gradients(Classifier(net), random_pixels(2, 3, 12, 12), 0)
    assert flags == [(p.training, [q.requires_grad for q in p.parameters()]) for p in net.modules()]
    assert torch.equal(net[1].running_mean, mean)


@pytest.fixture
def probes(monkeypatch):
    """Counts the networks that are probed."""
    made = []
    original = probe._probe_layouts
    monkeypatch.setattr(
        probe, "_probe_layouts", lambda *a, **k: made.append(1) or original(*a, **k)
    )
    return made


def test_a_network_is_probed_once_a_size_and_again_when_its_parts_change(probes):
    net = small_cnn().double()
    classifier, pixels = Classifier(net), random_pixels(2, 3, 12, 12)
    for _ in range(2):
        class_gradients(classifier, pixels, 0)
    assert len(probes) == 1
    class_gradients(classifier, random_pixels(1, 3, 13, 12), 0)
    assert len(probes) == 2
    for _ in range(20):  # a new part may come to lie where the old one was
        del net[8]
        net.append(nn.Linear(32, 4).double())
        class_gradients(classifier, pixels, 0)
    assert len(probes) == 22
    net[8].weight, net[8].bias = (
        nn.Parameter(torch.rand(6, 32).double()), nn.Parameter(torch.rand(6).double()),
    )  # fmt: skip
    assert class_gradients(classifier, pixels, 0).logits.shape == (2, 6)
    assert len(probes) == 23


def test_nothing_keeps_a_network_alive():
    net = small_cnn().double()
    class_gradients(Classifier(net), random_pixels(2, 3, 12, 12), 0)
    gone = [weakref.ref(net), weakref.ref(net[0]), weakref.ref(net[0].weight)]
    del net
    gc.collect()
    assert [there() for there in gone] == [None] * 3
