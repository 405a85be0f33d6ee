"""Where rules do not serve PyTorch's engine does, with the right numbers and a note."""

import pytest
import torch
from torch import nn

from chiaroscuro import Classifier, class_gradients, logit_change
from chiaroscuro.device import DeviceProfile, profile_in_use
from chiaroscuro.gradients import Points, target_gradients
from chiaroscuro.gradients.backward import kernels, program, steps, tape
from chiaroscuro.gradients.stream import Graph
from tests.gradients.oracle import Net, close, norm, plain_gradients
from tests.toys import Linear, random_pixels, small_cnn


class Many(nn.Module):
    """Operations of every kind of rule."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), norm(8), nn.SiLU())
        self.pool = nn.MaxPool2d(2)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm, self.group = nn.LayerNorm(8), nn.GroupNorm(2, 8)
        self.head = nn.Linear(8, 5)
        self.double().eval().requires_grad_(False)

    def forward(self, x):
        h = self.group(self.pool(self.stem(x)))
        h = nn.functional.avg_pool2d(nn.functional.interpolate(h, scale_factor=2), 2)
        tokens = h.flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(self.norm(tokens), tokens, tokens)[0]
        left, right = tokens.split(2, dim=1)[:2]
        mixed = torch.cat([left, right.flip(1) * 2 - left / 3], dim=1)
        return self.head(mixed.mean(dim=1)).log_softmax(dim=1) + mixed[:, 0, :5].softmax(-1)


def exact(net, pixels, gradients, rtol=1e-9):
    """The result is plain autograd's, for the target 0."""
    wanted = plain_gradients(net, pixels)
    close(gradients.target_gradient, wanted[0], rtol)
    close(gradients.rival_max, wanted[1:].amax(0), rtol)
    close(gradients.rival_min, wanted[1:].amin(0), rtol)


def test_an_attribute_that_autograd_renamed_costs_time_alone(monkeypatch):
    net, pixels = Many(), random_pixels(2, 3, 6, 6)
    read, plain = set(), tape._attribute

    def reading(node, name):
        read.add(name)
        return plain(node, name)

    monkeypatch.setattr(tape, "_attribute", reading)
    found = class_gradients(Classifier(net), pixels, 0)
    exact(net, pixels, found)
    assert found.notes == ()
    assert len(read) > 25, "the network has operations of every kind"
    for gone in sorted(read):

        def without(node, name, gone=gone):
            renamed = name.removesuffix("_") + "_renamed" if name == gone else name
            return plain(node, renamed)

        monkeypatch.setattr(tape, "_attribute", without)
        found = class_gradients(Classifier(net), pixels, 0)
        exact(net, pixels, found)
        assert any(f"has no {gone}_renamed" in note for note in found.notes), gone


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyError("broken"), TypeError("broken")])
@pytest.mark.parametrize("method", ["gradient", "integrated-gradients"])
def test_a_step_that_fails_leaves_the_way_back_to_autograd(monkeypatch, error, method):
    classifier, pixels = Classifier(small_cnn().double()), random_pixels(3, 3, 12, 12)
    wanted = class_gradients(classifier, pixels, 0, method=method)

    def broken(*_):
        raise error

    monkeypatch.setattr(steps.Scale, "__call__", broken)
    counts = []
    found = class_gradients(
        classifier, pixels, 0, method=method, progress=lambda *count: counts.append(count)
    )
    for name in ("target_gradient", "rival_max", "rival_min"):
        close(getattr(found, name), getattr(wanted, name))
    (note,) = found.notes
    assert note.startswith("PyTorch's engine runs class by class:")
    assert "broken" in note
    assert counts[-1][0] == counts[-1][1]


def clip(gradient):
    return gradient.clamp(-0.01, 0.01)


def on_node(h):
    y = (h * 1).sigmoid()
    y.grad_fn.register_hook(lambda inputs, _: tuple(None if g is None else clip(g) for g in inputs))
    return y


def before_node(h):
    y = (h * 1).sigmoid()
    y.grad_fn.register_prehook(lambda outputs: tuple(clip(g) for g in outputs))
    return y


def behind_an_edge(h):
    y = (h * 1).sigmoid()
    node = torch.autograd.graph.get_gradient_edge(y).node
    node.register_prehook(lambda outputs: tuple(clip(g) for g in outputs))
    return y


class Briefly(nn.Module):
    """Its layer has a full backward hook for the time of the forward pass."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Sigmoid()

    def forward(self, h):
        handle = self.layer.register_full_backward_hook(lambda _, g, __: (clip(g[0]),))
        y = self.layer(h * 1)
        handle.remove()
        return y


@pytest.mark.parametrize("work", [on_node, before_node, behind_an_edge, Briefly()])
def test_hooks_that_a_forward_pass_hangs_on_nodes_are_kept(work):
    net, pixels = Net(work), random_pixels(2, 3, 6, 8)
    found = class_gradients(Classifier(net), pixels, 0)
    exact(net, pixels, found)
    assert any("hooks" in note for note in found.notes)
    plain = plain_gradients(Net(lambda h: (h * 1).sigmoid()), pixels)
    assert not torch.allclose(found.target_gradient, plain[0]), "the hooks change something"


def compiled_whole(net):
    return torch.compile(net, backend="aot_eager")


def compiled_part(net):
    net[0] = torch.compile(net[0], backend="aot_eager")
    return net


def compiled_in_place(net):
    net.compile(backend="aot_eager")
    return net


def compiled_forward(net):
    net[0].forward = torch.compile(net[0].forward, backend="aot_eager")
    return net


@pytest.mark.parametrize(
    "compiled", [compiled_whole, compiled_part, compiled_in_place, compiled_forward]
)
def test_a_compiled_module_is_run_as_it_was_written(compiled):
    plain, pixels = Classifier(small_cnn().double()), random_pixels(2, 3, 12, 12)
    wanted = class_gradients(plain, pixels, 0)
    points = Points(pixels[None], torch.ones(1, 2, dtype=torch.float64))
    target = target_gradients(plain, points, 0, "logit")
    change = logit_change(plain, pixels, pixels / 100)
    other = Classifier(compiled(small_cnn().double()))
    found = class_gradients(other, pixels, 0)
    for name in ("target_gradient", "rival_max", "rival_min"):
        close(getattr(found, name), getattr(wanted, name))
    (note,) = found.notes
    assert "compile" in note
    close(target_gradients(other, points, 0, "logit"), target)
    close(logit_change(other, pixels, pixels / 100), change)


def test_sparse_buffers_are_left_alone():
    net = small_cnn().double()
    net.register_buffer("unused", torch.eye(4).to_sparse())
    pixels = random_pixels(1, 3, 12, 12)
    exact(net.eval(), pixels, class_gradients(Classifier(net), pixels, 0))


def test_gradients_that_are_zero_everywhere_have_a_note():
    class Rounding(nn.Module):
        def forward(self, x):
            flat = x.flatten(1)
            return torch.where(flat.sum(dim=1, keepdim=True) > 1, 0, 1) * flat + flat.round()

    pixels = torch.tensor([0.1, 0.9]).view(2, 1, 1, 1).expand(2, 3, 1, 1).contiguous()
    found = class_gradients(Classifier(Rounding()), pixels, 0)
    assert found.notes == ("all gradients of image 1 are zero: the module rounds or saturates",)
    assert class_gradients(Classifier(Rounding()), pixels[:1], 0).notes == ()


class OddStrides(torch.autograd.Function):
    """The identity, whose gradient lies channels_last with another stride for the single image."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        laid = gradient.contiguous(memory_format=torch.channels_last)
        if len(laid) > 1:
            return laid
        return laid.as_strided(laid.shape, (laid.shape[1], *laid.stride()[1:]))


class Operator(nn.Module):
    """A normalization that no function of PyTorch's is called for, as in an exported network."""

    def __init__(self):
        super().__init__()
        self.part = norm(6)

    def forward(self, x):
        p = self.part
        statistics = (p.weight, p.bias, p.running_mean, p.running_var)
        return torch.ops.aten.batch_norm.default(x, *statistics, False, 0.1, 1e-5, False)


class Transposed(nn.Module):
    """A normalization whose gradient has unusual strides, as in LeViT."""

    def __init__(self, last):
        super().__init__()
        torch.manual_seed(2)
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, 2), norm(6), nn.Tanh())
        self.last = nn.Sequential(nn.Conv2d(6, 6, 3, 2), last())
        self.head = nn.Linear(6, 4)
        self.double().eval().requires_grad_(False)

    def forward(self, x):
        tokens = OddStrides.apply(self.last(self.stem(x))).flatten(2).transpose(1, 2)
        return self.head(tokens).sigmoid().mean(1)


@pytest.mark.parametrize("last", [lambda: norm(6), Operator, lambda: nn.InstanceNorm2d(6)])
def test_normalizations_with_unusual_strides_are_differentiated_rightly(last):
    net, pixels = Transposed(last), random_pixels(1, 3, 11, 11)
    direction, step = random_pixels(1, 3, 11, 11, seed=4) - 0.5, 1e-5
    with torch.no_grad():
        ends = net(pixels + step * direction), net(pixels - step * direction)
    slopes = ((ends[0] - ends[1]) / (2 * step))[0]
    classifier = Classifier(net)
    points = Points(pixels[None], torch.ones(1, 1, dtype=torch.float64))
    for k in range(4):
        target = target_gradients(classifier, points, k, "logit")
        close((target * direction).sum(), slopes[k], 1e-7)
        found = class_gradients(classifier, pixels, k)
        close((found.target_gradient * direction).sum(), slopes[k], 1e-7)
    close(logit_change(classifier, pixels, direction)[0], slopes, 1e-7)
    plain = pixels.clone().requires_grad_(True)
    (wrong,) = torch.autograd.grad(net(plain)[0, 0], plain)
    assert not torch.isclose((wrong * direction).sum(), slopes[0], rtol=1e-2), "PyTorch's own"
    handle = net.head.register_full_backward_hook(lambda *_: None)
    found = class_gradients(classifier, pixels, 0)  # by PyTorch's engine
    close((found.target_gradient * direction).sum(), slopes[0], 1e-7)
    handle.remove()


class Odd(nn.Module):
    def forward(self, x):
        return OddStrides.apply(x)


def test_one_image_through_captum_is_as_in_a_batch():
    torch.manual_seed(2)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, 2), norm(6), nn.ReLU(), nn.Conv2d(6, 6, 3, 2), norm(6), Odd(),
        nn.Flatten(), nn.Linear(24, 4),
    )  # fmt: skip
    classifier, pixels = Classifier(net.double()), random_pixels(2, 3, 11, 11)
    both = class_gradients(classifier, pixels, 0, method="guided-backprop")
    alone = class_gradients(classifier, pixels[:1], 0, method="guided-backprop")
    close(alone.target_gradient, both.target_gradient[:1])


@pytest.mark.parametrize("score", ["logit", "log-probability"])
def test_cotangents_of_many_classes_are_made_when_their_turn_comes(monkeypatch, score):
    count, made = 600, []
    weights = random_pixels(count, 3, 4, 4, seed=5) - 0.5
    plain = Graph._cotangents

    def counting(self, classes):
        rows = plain(self, classes)
        made.append(rows.nbytes)
        return rows

    monkeypatch.setattr(Graph, "_cotangents", counting)
    with profile_in_use(DeviceProfile(chunk_bytes=1 << 20)):
        found = class_gradients(Classifier(Linear(weights)), random_pixels(1, 3, 4, 4), score=score)
    assert len(made) > 1
    assert max(made) <= 1 << 20 < count * count * 8
    if score == "logit":
        assert torch.equal(found.target_gradient[0], weights[found.target[0]])


def test_a_basis_counts_the_weights_of_all_classes(monkeypatch):
    """Weights (K, n) of many classes may be more than the basis itself."""
    body = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.Linear(6, 500)).double().eval()
    leaf = random_pixels(1, 3, 2, 2).requires_grad_(True)
    read = tape.Tape.of(body(leaf.clone()), leaf)
    needed = 6 * (12 + 500) * 8
    assert program.Program(read, 1 << 20, 500, needed)._tail
    assert not program.Program(read, 1 << 20, 500, needed - 1)._tail


@pytest.mark.parametrize("groups", [1, 8])
def test_double_precision_convolutions_take_the_kernels_that_are_fast(groups):
    usual = DeviceProfile()
    conv = nn.Conv2d(8, 8, 3, padding=1, groups=groups)
    seen = {}
    for kind in (torch.float32, torch.float64):
        net = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(288, 3)).to(kind)
        net.insert(0, nn.Conv2d(3, 8, 1).to(kind))
        pixels, made = random_pixels(2, 3, 6, 6).to(kind), []
        chosen = kernels.kernel_of

        def spying(conv, made=made, chosen=chosen):
            made.append(chosen(conv))
            return made[-1]

        with pytest.MonkeyPatch.context() as patch, profile_in_use(usual):
            patch.setattr(kernels, "kernel_of", spying)
            found = class_gradients(Classifier(net.eval()), pixels, 0)
        seen[kind] = set(made)
        if kind is torch.float64:
            exact(net, pixels, found)
    assert kernels.native in seen[torch.float64]
    assert kernels.native not in seen[torch.float32]


def scripted(net, pixels):
    return torch.jit.script(net)


def traced(net, pixels):
    return torch.jit.trace(net, pixels)


def frozen(net, pixels):
    return torch.jit.freeze(torch.jit.script(net))


def scripted_part(net, pixels):
    return nn.Sequential(torch.jit.script(net[:4]), net[4:])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [scripted, traced, frozen, scripted_part])
def test_scripted_networks_are_differentiated(make):
    net, pixels = small_cnn().double().eval(), random_pixels(2, 3, 12, 12)
    points = Points(pixels[None], torch.ones(1, 2, dtype=torch.float64))
    classifier = Classifier(make(net, pixels))
    for _ in range(3):  # a scripted network is optimized after its first calls
        exact(net, pixels, class_gradients(classifier, pixels, 0))
        target = target_gradients(classifier, points, 0, "logit")
        close(target, plain_gradients(net, pixels)[0])


@pytest.mark.parametrize(("budget", "compiled"), [(1 << 30, True), (20_000, False)])
def test_a_small_budget_leaves_the_way_back_to_autograd(budget, compiled):
    net, pixels = small_cnn().double().eval(), random_pixels(1, 3, 12, 12)
    found = class_gradients(Classifier(net), pixels, 0, memory_budget=budget)
    exact(net, pixels, found)
    assert ("memory_budget has room for" not in " ".join(found.notes)) is compiled
