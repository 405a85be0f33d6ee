"""What is kept of all classes: extremes and who holds them, several targets, own reducers."""

import numpy as np
import pytest
import torch
from torch import nn

from chiaroscuro import ChoiceError, Classifier, InputError, ModelError, class_gradients
from chiaroscuro.gradients import Points, reduce_gradients
from chiaroscuro.gradients.reducers import Extremes
from tests.gradients.oracle import naive_score
from tests.gradients.test_program import Narrow
from tests.toys import Linear, all_class_gradients, random_pixels


def test_argmax_names_the_rival_at_each_extreme(net, classifier):
    pixels = random_pixels(2, 3, 12, 12)
    found = class_gradients(classifier, pixels, [1, 4], argmax=True)
    gradients = all_class_gradients(naive_score(net), pixels)
    for b, c in enumerate([1, 4]):
        rows = gradients[b].clone()
        rows[c] = -torch.inf
        assert torch.equal(found.rival_argmax[b], rows.argmax(dim=0))
        rows[c] = torch.inf
        assert torch.equal(found.rival_argmin[b], rows.argmin(dim=0))


@pytest.mark.parametrize("budget", [1, None])
def test_argmax_is_minus_one_where_rivals_tie(budget):
    weights = torch.zeros(4, 1, 1, 4)
    weights[0] = 9.0  # the target never counts
    weights[1, 0, 0] = torch.tensor([2.0, 2.0, 1.0, 1.0])
    weights[2, 0, 0] = torch.tensor([2.0, 1.0, 1.0, 1.0])
    weights[3, 0, 0] = torch.tensor([1.0, 3.0, 1.0, 2.0])
    classifier = Classifier(Linear(weights), channels=1)
    found = class_gradients(
        classifier, torch.zeros(1, 1, 1, 4), 0, argmax=True, memory_budget=budget
    )
    assert found.rival_argmax.flatten().tolist() == [-1, 3, -1, 3]
    assert found.rival_argmin.flatten().tolist() == [3, 2, -1, -1]


def test_a_repeated_rival_is_no_tie():
    # Image 0 has two rivals, image 1 (whose target is listed) only one, repeated to fill its row.
    weights = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1)
    found = class_gradients(
        Classifier(Linear(weights), channels=1),
        torch.zeros(2, 1, 1, 1),
        [2, 1],
        rivals=[0, 1],
        argmax=True,
    )
    assert found.rival_argmax.flatten().tolist() == [1, 0]
    assert found.rival_argmin.flatten().tolist() == [0, 0]


def test_a_rival_repeated_in_a_later_chunk_is_no_tie():
    columns, rivals = torch.tensor([[2, 2, 4, 5]]), np.ones((1, 4), dtype=bool)
    extremes = Extremes(torch.empty(1, 1), ~rivals, rivals, columns)
    for place, value in enumerate((3.0, 3.0, 1.0, 1.0)):
        extremes.add(torch.full((1, 1, 1), value), place, slice(None))
    assert extremes.holders.flatten().tolist() == [2, -1]


@pytest.mark.parametrize("own", [(0, 0), (0, 3), (6, 2)])
def test_classes_may_lie_side_by_side_or_one_after_the_other(own):
    gradients = random_pixels(2 * 60, 7, seed=2) - 0.5
    side_by_side = torch.unflatten(gradients.T, 1, (2, 60))
    targets = np.array([[k == c for k in range(7)] for c in own])
    for layout in (side_by_side, side_by_side.contiguous()):
        extremes = Extremes(torch.empty(2, 60, dtype=torch.float64), targets, ~targets)
        for values in (slice(25), slice(25, 60)):
            extremes.add(layout[:4, :, values], 0, values)
            extremes.add(layout[4:, :, values], 4, values)
        for image, c in enumerate(own):
            others = layout[[k for k in range(7) if k != c], image]
            assert torch.equal(extremes.target[image], layout[c, image])
            assert torch.equal(extremes.high[image], others.amax(dim=0))
            assert torch.equal(extremes.low[image], others.amin(dim=0))


RIVALS = ["all", "top:2", "runner-up", [0, 2], "mean", "softmax:2", {0: 1.0, 3: 3.0}]


@pytest.mark.parametrize("budget", [1, None])
@pytest.mark.parametrize("rivals", RIVALS, ids=str)
def test_several_targets_are_as_each_alone(classifier, rivals, budget):
    pixels = random_pixels(3, 3, 12, 12)
    argmax = isinstance(rivals, list) or rivals in ("all", "top:2", "runner-up")
    options = {"rivals": rivals, "memory_budget": budget, "argmax": argmax}
    together = class_gradients(classifier, pixels, classes=[4, 1, 2], **options)
    assert len(together) == 3
    for target, found in zip([4, 1, 2], together, strict=True):
        alone = class_gradients(classifier, pixels, target, **options)
        assert torch.equal(found.target, alone.target)
        assert torch.equal(found.rivals, alone.rivals)
        assert found.choices == alone.choices
        names = ["logits", "target_gradient", "rival_max", "rival_min"]
        names += ["rival_argmax", "rival_argmin"] if argmax else []
        for name in names:
            torch.testing.assert_close(
                getattr(found, name), getattr(alone, name), rtol=1e-9, atol=1e-12
            )


def test_several_targets_run_every_class_once(classifier, net):
    passes, counts = [], []
    handle = net.register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    pixels = random_pixels(2, 3, 12, 12)
    class_gradients(classifier, pixels, 0)  # probed
    for options in ({"target": 0}, {"classes": [0, 1, 2, 3, 4]}):
        passes.clear()
        class_gradients(classifier, pixels, progress=lambda *c: counts.append(c), **options)
        assert len(passes) == 1
        assert counts[-1] == (10, 10)
    handle.remove()


def test_class_gradients_show_shapes_and_not_values(net):
    shown = repr(class_gradients(Classifier(net), random_pixels(2, 3, 12, 12)))
    assert shown.startswith("ClassGradients(logits=(2, 5), target=(2,), rivals=(2, 4), target_grad")


def test_classes_have_names(net):
    classifier = Classifier(net, labels=["ant", "bee, honeybee", "cat", "dog", "eel"])
    pixels = random_pixels(2, 3, 12, 12)
    named = class_gradients(classifier, pixels, classes=["honeybee", 3])
    assert [each.target.tolist() for each in named] == [[1, 1], [3, 3]]
    assert class_gradients(classifier, pixels, ["dog", 2]).target.tolist() == [3, 2]
    assert class_gradients(classifier, pixels, "eel").target.tolist() == [4, 4]
    with pytest.raises(ChoiceError, match="unknown class 'fox'"):
        class_gradients(classifier, pixels, classes=["fox"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": []}, "expected a list of at least one class"),
        ({"classes": "cat"}, "expected a list of at least one class"),
        ({"classes": 1}, "classes are 1: expected a list"),
        ({"classes": [5]}, "out of range"),
        ({"classes": [1], "target": 1}, "both target and classes"),
        ({"classes": [1, 2], "rivals": [1]}, "no rival is left for target 1"),
    ],
)
def test_wrong_classes_are_named(classifier, options, message):
    with pytest.raises(InputError, match=message):
        class_gradients(classifier, random_pixels(1, 3, 12, 12), **options)


class Norms:
    """The size of each class's gradient, (G, K)."""

    def start(self, images, classes):
        self.norms = images.new_full((len(images), classes), torch.nan)

    def add(self, gradients, classes):
        assert self.norms[:, classes].isnan().all(), "every class comes once"
        self.norms[:, classes] = gradients.flatten(2).norm(dim=2).T

    def finish(self):
        return self.norms


class MeanAndTopTwo:
    """The mean over classes and the two largest gradients of each value."""

    def start(self, images, classes):
        self.total = torch.zeros_like(images)
        self.best = images.new_full((2, *images.shape), -torch.inf)
        self.count = 0

    def add(self, gradients, classes):
        self.total += gradients.sum(dim=0)
        self.count += len(classes)
        self.best = torch.cat([self.best, gradients]).topk(2, dim=0).values

    def finish(self):
        return self.total / self.count, self.best.movedim(0, 1)


@pytest.mark.parametrize("budget", [1, 300_000, None])
@pytest.mark.parametrize("points", [1, 3])
@pytest.mark.parametrize("name", ["cnn", "basis"])
def test_a_reducer_sees_every_class_once(net, name, points, budget):
    module = net if name == "cnn" else Narrow()
    size = 12 if name == "cnn" else 7
    pixels = random_pixels(4, 3, size, size)
    places = torch.stack([pixels * share for share in torch.linspace(1, 0.5, points)])
    weights = torch.rand(points, 4, dtype=torch.float64)
    method = "gradient" if points == 1 else Points(places, weights)
    score = naive_score(module) if name == "cnn" else module
    classifier = Classifier(module, mean=0.5, std=0.25) if name == "cnn" else Classifier(module)
    exact = sum(
        all_class_gradients(score, place) * (weight.view(-1, 1, 1, 1, 1) if points > 1 else 1)
        for place, weight in zip(places, weights, strict=True)
    )
    options = {"method": method, "memory_budget": budget}
    norms = reduce_gradients(classifier, pixels, Norms(), **options)
    torch.testing.assert_close(norms, exact.flatten(2).norm(dim=2), rtol=1e-9, atol=1e-12)
    mean, best = reduce_gradients(classifier, pixels, MeanAndTopTwo(), **options)
    torch.testing.assert_close(mean, exact.mean(dim=1), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(best, exact.topk(2, dim=1).values, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("reducer", [object(), Norms])
def test_a_reducer_without_its_methods_is_refused(net, reducer):
    with pytest.raises(ChoiceError, match="expected an object with start, add and finish"):
        reduce_gradients(Classifier(net), random_pixels(1, 3, 12, 12), reducer)


class Counts(Norms):
    def finish(self):
        return 3


def test_a_reducer_that_gives_no_tensor_is_refused(net):
    with pytest.raises(ChoiceError, match=r"finish\(\) gave 3: expected a tensor, or a tuple"):
        reduce_gradients(Classifier(net), random_pixels(1, 3, 12, 12), Counts())


def test_a_reducer_may_take_some_classes(net, classifier):
    pixels = random_pixels(2, 3, 12, 12)
    exact = all_class_gradients(naive_score(net), pixels)
    some = [4, 0, 3]
    norms = reduce_gradients(classifier, pixels, Norms(), classes=some)
    torch.testing.assert_close(norms[:, some], exact[:, some].flatten(2).norm(dim=2))
    assert norms[:, [1, 2]].isnan().all()
    for wrong, words in (([5], "out of range"), ([], "at least one class"), (2, "expected a list")):
        with pytest.raises(ChoiceError, match=words):
            reduce_gradients(classifier, pixels, Norms(), classes=wrong)
    with pytest.raises(ChoiceError, match="Captum"):
        reduce_gradients(classifier, pixels, Norms(), method="lrp")


def test_a_reducer_starts_anew_when_memory_runs_out(net, classifier):
    starts = []

    class Tight(Norms):
        """Refuses more than two images once it has seen some classes."""

        def start(self, images, classes):
            super().start(images, classes)
            starts.append(len(images))

        def add(self, gradients, classes):
            super().add(gradients, classes)
            if gradients.shape[1] > 2:
                raise MemoryError

    pixels = random_pixels(5, 3, 12, 12)
    norms = reduce_gradients(classifier, pixels, Tight())
    exact = all_class_gradients(naive_score(net), pixels)
    torch.testing.assert_close(norms, exact.flatten(2).norm(dim=2))
    assert starts == [5, 2, 2, 1]


def test_gradients_that_are_not_finite_are_refused():
    class Root(nn.Module):
        def forward(self, x):
            return x.flatten(1).sqrt()

    pixels = torch.zeros(1, 3, 1, 1)
    for ask in (class_gradients, lambda c, x: reduce_gradients(c, x, Norms())):
        with pytest.raises(ModelError, match="NaN or infinite"):
            ask(Classifier(Root()), pixels)
