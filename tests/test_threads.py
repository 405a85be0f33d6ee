"""Several threads ask one classifier at once: it is left as found, and each gets its own answer."""

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch._dynamo
from torch import nn

from chiaroscuro import Classifier, ModelError, class_gradients, deletion_curve, logit_change
from chiaroscuro.guard import as_found, attributes_as_found, held
from tests.toys import random_pixels, small_cnn

PATIENCE = 20


class Meeting(nn.Module):
    """A network in train mode inside whose forward pass threads wait for each other."""

    def __init__(self, count: int):
        super().__init__()
        self.body = nn.Sequential(small_cnn(), nn.Dropout(0.5))
        self.register_buffer("calls", torch.zeros(()))
        self.barrier = threading.Barrier(count)
        self.meets = True
        self.modes: list[bool] = []
        self.fails_on = -1.0

    def forward(self, x):
        if self.meets:
            self.barrier.wait(PATIENCE)
        self.modes.append(self.training or self.body[1].training)
        if float(x.detach().flatten()[0]) == self.fails_on:
            raise RuntimeError("on purpose")
        return self.body(x)


def together(*calls):
    """The results of calls that run at the same time; an exception is a result too."""

    def settle(call):
        try:
            return call()
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return [job.result(PATIENCE) for job in [pool.submit(settle, call) for call in calls]]


def gradients(classifier, pixels, **options):
    found = class_gradients(classifier, pixels, **options)
    return torch.cat([found.target_gradient, found.rival_max, found.rival_min])


def found_state(net):
    return (
        [part.training for part in net.modules()],
        [parameter.requires_grad for parameter in net.parameters()],
        {name: value.clone() for name, value in net.state_dict().items()},
    )


def assert_as_found(net, before):
    after = found_state(net)
    assert after[:2] == before[:2]
    assert all(torch.equal(value, before[2][name]) for name, value in after[2].items())


def alone(net, images):
    net.meets = False
    answers = [class_gradients(Classifier(net), image) for image in images]
    net.meets = True
    return answers


def test_two_threads_inside_one_forward_pass():
    net = Meeting(2).double().train()
    net.body[0][0].weight.requires_grad_(False)
    images = [random_pixels(1, 3, 12, 12, seed=seed) for seed in range(2)]
    before = found_state(net)
    expected = alone(net, images)
    classifier = Classifier(net)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda x: class_gradients(classifier, x), images))
    for mine, theirs in zip(expected, answers, strict=True):
        for name in ("logits", "target_gradient", "rival_max", "rival_min"):
            assert torch.equal(getattr(mine, name), getattr(theirs, name)), name
    assert not any(net.modes)  # nobody saw train mode
    assert_as_found(net, before)


def test_one_that_leaves_first_does_not_change_the_others():
    net = small_cnn().train()
    inside, leave = threading.Event(), threading.Event()

    def long():
        with as_found(net):
            inside.set()
            assert leave.wait(PATIENCE)
            return net.training

    with ThreadPoolExecutor(1) as pool:
        task = pool.submit(long)
        assert inside.wait(PATIENCE)
        with as_found(net):
            assert not net.training
        assert not net.training  # the other one is still inside
        leave.set()
        assert task.result() is False
    assert net.training


def test_an_error_in_one_thread_leaves_the_other_right():
    net = Meeting(2).double().train()
    images = [random_pixels(1, 3, 12, 12, seed=seed) for seed in range(2)]
    before = found_state(net)
    net.meets = False
    expected = Classifier(net)(images[0])
    net.meets = True
    net.fails_on = float(images[1].flatten()[0])
    classifier = Classifier(net)
    with ThreadPoolExecutor(2) as pool:
        good = pool.submit(lambda: classifier(images[0]))
        bad = pool.submit(lambda: classifier(images[1]))
        assert torch.equal(good.result(), expected)
        with pytest.raises(ModelError, match="on purpose"):
            bad.result()
    assert_as_found(net, before)


def test_modules_that_share_a_part():
    shared = small_cnn().train()
    one, other = nn.Sequential(shared), nn.Sequential(shared, nn.Identity())
    with as_found(one):
        with as_found(other):
            assert not shared.training
        assert not shared.training
        assert not any(p.requires_grad for p in shared.parameters())
    assert shared.training
    assert all(p.requires_grad for p in shared.parameters())


def test_random_state_is_as_found_when_calls_overlap():
    class Drawing(Meeting):
        def forward(self, x):
            torch.rand(3)
            return super().forward(x)

    net = Drawing(2)
    before = torch.get_rng_state()
    images = [random_pixels(1, 3, 12, 12, seed=s).float() for s in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(Classifier(net), images))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("method", ["gradient", "guided-backprop"])
def test_gradients_and_predicted_edits_at_the_same_time(method):
    """Predictions reorder plain chains, and Captum hooks modules: neither is seen by the others."""
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(200, 5)
    )
    classifier = Classifier(net)
    images = [random_pixels(2, 3, 12, 12, seed=seed).float() for seed in range(8)]

    def work(image):
        gradients = class_gradients(classifier, image, method=method)
        curve = deletion_curve(
            classifier, image, {"g": gradients.target_gradient.abs().amax(1)}, "black"
        )["g"]
        return gradients.target_gradient, gradients.rival_max, curve.allegiance

    expected = [work(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(work, images))
    for mine, theirs in zip(expected, answers, strict=True):
        for a, b in zip(mine, theirs, strict=True):
            assert torch.equal(a, b)
    assert [type(layer).__name__ for layer in net][1:3] == ["ReLU", "MaxPool2d"]
    assert not net[1].inplace
    assert not net[1]._forward_hooks and not net[1]._backward_hooks


class Counting(nn.Module):
    """Its answer depends on how often it was called, which a buffer counts."""

    def __init__(self):
        super().__init__()
        self.body = small_cnn()
        self.register_buffer("calls", torch.zeros((), dtype=torch.float64))
        self.inside = 0
        self.most = 0

    def forward(self, x):
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.calls += 1
        logits = self.body(x) + self.calls
        threading.Event().wait(0.02)
        self.inside -= 1
        return logits


def test_a_network_that_writes_its_buffers_is_asked_by_one_thread_at_a_time():
    net = Counting().double()
    classifier, pixels = Classifier(net), random_pixels(1, 3, 12, 12)
    expected = classifier(pixels)
    found = together(*[lambda: classifier(pixels)] * 4)
    assert all(torch.equal(logits, expected) for logits in found)
    assert (net.most, net.calls.item()) == (1, 0)


@pytest.mark.parametrize("outer", [False, True])
def test_attached_attributes_are_seen_by_no_other_thread(outer):
    net = small_cnn().double()
    classifier, pixels = Classifier(net), random_pixels(1, 3, 12, 12)
    expected = classifier(pixels)
    inside = threading.Barrier(2)

    def attach():
        with as_found(net if outer else nn.Identity()):
            inside.wait(PATIENCE)
            with attributes_as_found(net):
                net[0].register_forward_hook(lambda part, inputs, output: output + 1)
                changed = classifier(pixels)
                threading.Event().wait(0.05)
            return changed

    first, second = together(attach, attach)
    assert torch.equal(first, second) and not torch.equal(first, expected)
    assert not net[0]._forward_hooks
    inside.reset()

    def look():
        inside.wait(PATIENCE)
        return [classifier(pixels) for _ in range(20)]

    _, seen = together(attach, look)
    assert all(torch.equal(logits, expected) for logits in seen)
    assert torch.equal(classifier(pixels), expected)


def test_alone_waits_for_those_inside_and_keeps_others_out():
    net, events, entered = small_cnn(), [], [threading.Event() for _ in range(3)]

    def share():
        with as_found(net):
            entered[0].set()
            threading.Event().wait(0.1)
            events.append("first leaves")

    def alone():
        entered[0].wait(PATIENCE)
        with as_found(net, alone=True):
            events.append("alone enters")
            entered[1].set()
            threading.Event().wait(0.1)
            events.append("alone leaves")

    def late():
        entered[1].wait(PATIENCE)
        with as_found(net):
            events.append("last enters")

    together(share, alone, late)
    assert events == ["first leaves", "alone enters", "alone leaves", "last enters"]


def test_what_fails_to_be_restored_keeps_nothing_else():
    undone = []

    def fail():
        raise RuntimeError("on purpose")

    changes = {"a": lambda: fail, "b": lambda: lambda: undone.append("b")}
    with pytest.raises(RuntimeError, match="on purpose"), held(changes):
        pass
    assert undone == ["b"]
    with held({"a": lambda: lambda: undone.append("a")}):
        pass
    assert undone == ["b", "a"]


def test_switches_of_the_process_are_as_found_when_calls_overlap():
    net = Meeting(2).double()
    classifier = Classifier(net)
    images = [random_pixels(1, 3, 12, 12, seed=seed) for seed in range(2)]
    net.meets = False
    expected = [logit_change(classifier, image, image) for image in images]
    net.meets = True

    def switches():
        filters = list(warnings.filters)
        stance = torch._dynamo.eval_frame._stance.stance
        return (
            filters,
            stance,
            torch.backends.mha.get_fastpath_enabled(),
            torch._C._get_flash_sdp_enabled(),
        )

    before = switches()
    found = together(*(lambda x=x: logit_change(classifier, x, x) for x in images))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert switches() == before
    assert before[2:] == (True, True)
