"""The network and the caller's tensors are left as they were found, also after an error."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from chiaroscuro import Classifier, ModelError, class_gradients
from chiaroscuro.guard import attributes_as_found
from tests.toys import random_pixels, small_cnn


class Counting(nn.Module):
    """Counts its calls in a buffer, draws random numbers, and may raise."""

    def __init__(self, fails=False):
        super().__init__()
        self.body = small_cnn()
        self.register_buffer("calls", torch.zeros(()))
        self.fails = fails

    def forward(self, x):
        self.calls += 1
        torch.rand(3), np.random.rand(3), random.random()
        if self.fails:
            raise RuntimeError("broken on purpose\nwith a second line")
        return self.body(x)


def snapshot(net, pixels):
    return {
        "flags": [part.training for part in net.modules()],
        "required": [p.requires_grad for p in net.parameters()],
        "grads": [None if p.grad is None else p.grad.clone() for p in net.parameters()],
        "state": {name: value.clone() for name, value in net.state_dict().items()},
        "strides": [p.stride() for p in net.parameters()],
        "hooks": [
            (len(part._forward_hooks), len(part._forward_pre_hooks), len(part._backward_hooks))
            for part in net.modules()
        ],
        "pixels": pixels.detach().clone(),
        "pixels grad": (pixels.requires_grad, pixels.grad),
        "random": (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()),
        "threads": torch.get_num_threads(),
        "grad mode": torch.is_grad_enabled(),
    }


def assert_same(before, after):
    assert before.keys() == after.keys()
    for key in before:
        a, b = before[key], after[key]
        if key == "state":
            assert all(torch.equal(a[name], b[name]) for name in a)
        elif key in ("grads", "pixels"):
            for one, other in zip(a, b, strict=True):
                assert (one is None and other is None) or torch.equal(one, other)
        elif key == "random":
            assert a[:2] == b[:2] and torch.equal(a[2], b[2])
        else:
            assert a == b, key


def prepared(fails):
    net = Counting(fails).double()
    net.train()
    net.body[5].eval()  # mixed flags
    net.body[0].weight.requires_grad_(False)
    net.body[3].bias.grad = torch.ones_like(net.body[3].bias)
    net.body[1].register_forward_hook(lambda *_: None)
    return net


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("call", ["gradients", "logits"])
def test_everything_is_as_found(fails, call):
    net = prepared(fails)
    pixels = random_pixels(2, 3, 12, 12).requires_grad_(True)
    before = snapshot(net, pixels)
    classifier = Classifier(net)
    run = classifier if call == "logits" else lambda x: class_gradients(classifier, x)
    if fails:
        with pytest.raises(ModelError, match="broken on purpose(;|$)"):
            run(pixels)
    else:
        run(pixels)
    assert_same(before, snapshot(net, pixels))


class Replacing(nn.Module):
    """Puts a new tensor in its buffer's place at every call, as `self.calls = self.calls + 1`."""

    def __init__(self):
        super().__init__()
        self.body = small_cnn()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls = self.calls + 1
        return self.body(x)


def test_a_buffer_that_is_replaced_comes_back_itself():
    net = Replacing().double()
    before = net.calls
    class_gradients(Classifier(net), random_pixels(1, 3, 12, 12))
    assert net.calls is before
    assert net.calls.item() == 0


def test_an_interrupt_in_the_middle_restores_too():
    net = prepared(False)
    pixels = random_pixels(2, 3, 12, 12)
    before = snapshot(net, pixels)

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        class_gradients(Classifier(net), pixels, progress=stop)
    assert_same(before, snapshot(net, pixels))


def test_eval_mode_is_what_is_asked():
    net = small_cnn().double().train()
    pixels = random_pixels(2, 3, 12, 12)
    found = class_gradients(Classifier(net), pixels)
    again = class_gradients(Classifier(net), pixels)
    assert torch.equal(found.target_gradient, again.target_gradient)
    assert net.training
    net.eval()
    torch.testing.assert_close(found.logits, net(pixels).detach())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_works_inside_the_callers_grad_modes(mode):
    net = small_cnn().double()
    pixels = random_pixels(2, 3, 12, 12)
    outside = class_gradients(Classifier(net), pixels)
    with mode():
        inside = class_gradients(Classifier(net), pixels * 1.0)
        assert not torch.is_grad_enabled()
    assert torch.equal(inside.target_gradient, outside.target_gradient)
    assert not inside.target_gradient.is_inference()
    assert not inside.target_gradient.requires_grad


def test_a_module_created_in_inference_mode_is_refused():
    with torch.inference_mode():
        net = small_cnn().double()
    with pytest.raises(ModelError, match="0.weight was created inside torch.inference_mode"):
        class_gradients(Classifier(net), random_pixels(1, 3, 12, 12))


def test_a_modules_own_train_method_is_not_called():
    class Frozen(nn.Sequential):
        def train(self, mode=True):
            raise AssertionError("train() was called")

    net = Frozen(nn.Flatten(), nn.Linear(12, 3))
    class_gradients(Classifier(net), torch.rand(1, 3, 2, 2))


@pytest.mark.parametrize("fails", [False, True])
def test_what_a_library_hangs_on_a_network_is_taken_off(fails):
    net = small_cnn()
    tensors = [parameter.data_ptr() for parameter in net.parameters()]
    values = [parameter.detach().clone() for parameter in net.parameters()]
    held = [sorted(part.__dict__) for part in net.modules()]
    try:
        with attributes_as_found(net):
            net[0].rule = "epsilon"
            net[0].register_forward_hook(lambda *_: None)
            for parameter in net.parameters():
                parameter.data = torch.zeros_like(parameter)
            if fails:
                raise RuntimeError("on purpose")
    except RuntimeError:
        assert fails
    assert [parameter.data_ptr() for parameter in net.parameters()] == tensors
    assert all(torch.equal(p, v) for p, v in zip(net.parameters(), values, strict=True))
    assert [sorted(part.__dict__) for part in net.modules()] == held
    assert not net[0]._forward_hooks
