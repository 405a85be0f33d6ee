"""The engine against a plain loop over images and classes, whatever is batched how."""

import pytest
import torch
from torch import nn

from chiaroscuro import Classifier, class_gradients
from chiaroscuro.errors import ChoiceError
from chiaroscuro.gradients import Points
from chiaroscuro.gradients.probe import Probe, make_plan
from tests.gradients.oracle import CLASSES, naive_score
from tests.toys import Linear, all_class_gradients, random_pixels, small_cnn


def assert_found(found, wanted):
    """The target's gradients and the extremes of its rivals'."""
    for name, value in zip(("target_gradient", "rival_max", "rival_min"), wanted, strict=True):
        torch.testing.assert_close(getattr(found, name), value)


def expected(gradients, target, rivals=None):
    """own, rival_max, rival_min by indexing the full Jacobian (B, K, C, H, W)."""
    own, high, low = [], [], []
    for b, c in enumerate(target):
        others = [k for k in (range(gradients.shape[1]) if rivals is None else rivals[b]) if k != c]
        own.append(gradients[b, c])
        high.append(gradients[b, others].amax(dim=0))
        low.append(gradients[b, others].amin(dim=0))
    return torch.stack(own), torch.stack(high), torch.stack(low)


@pytest.mark.parametrize("rivals", ["all", "top:2", "top:99", [0, 3], [3, 0, 0, 4]])
@pytest.mark.parametrize("target", [None, 2, [0, 3, 4]])
def test_equals_the_full_jacobian(net, classifier, rivals, target):
    pixels = random_pixels(3, 3, 12, 12)
    found = class_gradients(classifier, pixels, target, rivals)
    score = naive_score(net)
    logits = score(pixels)
    torch.testing.assert_close(found.logits, logits.detach())
    chosen = logits.argmax(1).tolist() if target is None else ([2] * 3 if target == 2 else target)
    assert found.target.tolist() == chosen
    rival_sets = None
    if rivals == "top:2":
        rival_sets = [
            sorted((k for k in range(CLASSES) if k != c), key=lambda k, row=row: -row[k])[:2]
            for c, row in zip(chosen, logits.tolist(), strict=True)
        ]
    elif isinstance(rivals, list):
        rival_sets = [rivals] * 3
    assert_found(found, expected(all_class_gradients(score, pixels), chosen, rival_sets))


@pytest.mark.parametrize("budget", [1, 60_000, 200_000, 10**7, 10**12])
def test_budget_changes_nothing_but_the_batches(classifier, budget):
    pixels = random_pixels(4, 3, 12, 12)
    base = class_gradients(classifier, pixels, argmax=True)
    made = class_gradients(classifier, pixels, argmax=True, memory_budget=budget)
    for name in ("logits", "target_gradient", "rival_max", "rival_min"):
        torch.testing.assert_close(getattr(made, name), getattr(base, name), rtol=1e-9, atol=1e-12)
    assert torch.equal(made.rival_argmax, base.rival_argmax)
    assert torch.equal(made.rival_argmin, base.rival_argmin)


def test_batch_equals_single(classifier):
    pixels = random_pixels(3, 3, 12, 12)
    together = class_gradients(classifier, pixels, rivals="top:2")
    for b in range(3):
        alone = class_gradients(classifier, pixels[b : b + 1], rivals="top:2")
        torch.testing.assert_close(
            alone.target_gradient[0], together.target_gradient[b], rtol=1e-9, atol=1e-12
        )
        torch.testing.assert_close(alone.rival_max[0], together.rival_max[b], rtol=1e-9, atol=1e-12)
        assert alone.target[0] == together.target[b]


def test_log_probability_is_the_gradient_of_log_softmax(net, classifier):
    pixels = random_pixels(2, 3, 12, 12)
    found = class_gradients(classifier, pixels, [1, 3], score="log-probability")
    score = naive_score(net)
    gradients = all_class_gradients(lambda x: score(x).log_softmax(dim=1), pixels)
    assert_found(found, expected(gradients, [1, 3]))


def test_multi_label_log_probability_is_the_gradient_of_log_sigmoid(net):
    pixels = random_pixels(1, 3, 12, 12)
    classifier = Classifier(net, mean=0.5, std=0.25, multi_label=True)
    found = class_gradients(classifier, pixels, 2, score="log-probability")
    score = naive_score(net)
    gradients = all_class_gradients(lambda x: nn.functional.logsigmoid(score(x)), pixels)
    torch.testing.assert_close(found.target_gradient, gradients[:, 2])
    with pytest.raises(ChoiceError, match="multi-label classifier has no predicted class"):
        class_gradients(classifier, pixels)


def test_one_sigmoid_column_is_two_classes():
    weights = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    found = class_gradients(Classifier(Linear(weights)), torch.rand(1, 3, 4, 4), 1)
    torch.testing.assert_close(found.target_gradient[0], weights[0] / 2)
    torch.testing.assert_close(found.rival_max[0], -weights[0] / 2)


@pytest.mark.parametrize("budget", [1, 150_000, None])
def test_points_are_averaged_before_rivals_compete(net, classifier, budget):
    pixels = random_pixels(2, 3, 12, 12)
    places = random_pixels(3, 2, 3, 12, 12, seed=5) * 1.4 - 0.2  # may leave [0, 1]
    weights = torch.tensor([[0.2, 0.5], [-1.0, 0.25], [0.3, 0.25]], dtype=torch.float64)
    found = class_gradients(
        classifier, pixels, [0, 1], method=Points(places, weights), memory_budget=budget
    )
    score = naive_score(net)
    mean = sum(
        all_class_gradients(score, place) * weight.view(-1, 1, 1, 1, 1)
        for place, weight in zip(places, weights, strict=True)
    )
    assert_found(found, expected(mean, [0, 1]))
    # Target and rivals are those of the untouched image.
    torch.testing.assert_close(found.logits, score(pixels).detach())


def test_a_factor_multiplies_before_rivals_compete(net, classifier):
    pixels = random_pixels(2, 3, 12, 12)
    factor = random_pixels(2, 3, 12, 12, seed=7) - 0.5  # a negative one swaps the extremes
    ones = torch.ones(1, 2, dtype=torch.float64)
    found = class_gradients(classifier, pixels, [0, 1], method=Points(pixels[None], ones, factor))
    gradients = all_class_gradients(naive_score(net), pixels) * factor[:, None]
    assert_found(found, expected(gradients, [0, 1]))


def test_points_of_other_images_are_refused(classifier):
    pixels = random_pixels(2, 3, 12, 12)
    with pytest.raises(ChoiceError, match=r"points are for images \(1, 3, 12, 12\)"):
        class_gradients(
            classifier, pixels, method=Points(pixels[None, :1], torch.ones(1, 1).double())
        )
    with pytest.raises(ChoiceError, match="0 points are for images .*: expected at least one"):
        class_gradients(classifier, pixels, method=Points(pixels[None][:0], torch.ones(0, 2)))
    with pytest.raises(ChoiceError, match=r"expected \(P, B, C, H, W\), \(P, B\)"):
        Points(pixels, torch.ones(2))
    with pytest.raises(ChoiceError, match=r"factor \(1, 3, 12, 12\): expected \(P, B, C"):
        Points(pixels[None], torch.ones(1, 2), pixels[:1])


def test_float32_and_dtype_of_the_inputs():
    net = small_cnn().float()
    pixels = random_pixels(2, 3, 12, 12, dtype=torch.float32)
    found = class_gradients(Classifier(net), pixels)
    assert {t.dtype for t in (found.target_gradient, found.rival_max, found.logits)} == {
        torch.float32
    }
    exact = class_gradients(Classifier(small_cnn().double()), pixels.double())
    assert exact.target_gradient.dtype == torch.float64
    torch.testing.assert_close(
        found.target_gradient, exact.target_gradient.float(), rtol=1e-4, atol=1e-6
    )


def test_many_classes_are_streamed():
    classes = 21_000
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(classes, 1, 2, 2, generator=generator)
    found = class_gradients(Classifier(Linear(weights), channels=1), torch.rand(1, 1, 2, 2), 20_999)
    assert torch.equal(found.target_gradient[0], weights[-1])
    assert torch.equal(found.rival_max[0], weights[:-1].amax(dim=0))
    assert torch.equal(found.rival_min[0], weights[:-1].amin(dim=0))
    assert found.rivals.shape == (1, classes - 1)


class OneNumber(nn.Module):
    """All classes are functions of one number."""

    def forward(self, x):
        s = x.flatten(1).sum(dim=1)
        return torch.stack([s, s * s, -s, 3 * s], dim=1)


@pytest.mark.parametrize("images", [1, 4])
def test_classes_of_a_single_feature(images):
    pixels = random_pixels(images, 3, 2, 2)
    found = class_gradients(Classifier(OneNumber()), pixels, 0)
    gradients = all_class_gradients(OneNumber(), pixels)
    assert_found(found, expected(gradients, [0] * images))


def test_top_counts_ties_by_the_lower_class():
    weights = torch.arange(4.0).view(4, 1, 1, 1)
    logits = torch.tensor([1.0, 5.0, 1.0, 1.0])
    classifier = Classifier(Linear(weights, logits), channels=1)
    found = class_gradients(classifier, torch.zeros(1, 1, 1, 1), rivals="top:2")
    assert found.target.item() == 1
    assert found.rivals.tolist() == [[0, 2]]


def test_rivals_follow_the_clean_image_only_those_are_run():
    calls = []
    net = Linear(torch.randn(50, 3, 2, 2))
    classifier = Classifier(net)
    class_gradients(
        classifier, torch.rand(2, 3, 2, 2), rivals="top:4", progress=lambda *a: calls.append(a)
    )
    assert calls[-1] == (2 * 5, 2 * 5)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})


class Viewing(nn.Module):
    """Flattens with `view`, which refuses channels_last."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4 * 16, 3)

    def forward(self, x):
        x = self.conv(x).relu()
        return self.head(x.view(len(x), -1))


class Reused(nn.Module):
    """In-place first operation, and one in-place ReLU used twice."""

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.head = nn.Linear(4 * 4, 3)

    def forward(self, x):
        x.mul_(2.0)
        return self.head(self.relu(self.two(self.relu(self.one(x)))).flatten(1))


@pytest.mark.parametrize("make", [Viewing, Reused])
def test_awkward_networks(make):
    torch.manual_seed(0)
    net = make().double()
    pixels = random_pixels(2, 3, 6, 6)
    kept = pixels.clone()
    found = class_gradients(Classifier(net), pixels, 1)
    own, high, _ = expected(all_class_gradients(lambda x: net(x.clone()), pixels), [1, 1])
    torch.testing.assert_close(found.target_gradient, own)
    torch.testing.assert_close(found.rival_max, high)
    assert torch.equal(pixels, kept)


@pytest.mark.parametrize("images", [1, 7, 64])
@pytest.mark.parametrize("classes", [2, 10, 11, 1000])
@pytest.mark.parametrize("points", [1, 16])
@pytest.mark.parametrize("row_bytes", [10**4, 10**6, 10**9])
def test_plans_stay_inside_the_budget_and_cover_everything(images, classes, points, row_bytes):
    budget = 500 * 10**6
    probe = Probe(row_bytes, row_bytes // 4, 600_000, torch.channels_last, 1000, None)
    plan = make_plan(images, classes, points, probe, memory_budget=budget)
    while plan is not None:
        assert 1 <= plan.images <= images
        assert 1 <= plan.classes <= classes
        assert 1 <= plan.points <= points
        rows = plan.images * plan.points
        assert rows == 1 or rows * row_bytes <= budget / 4
        assert plan.classes == 1 or plan.classes * plan.images * 600_000 <= budget / 2
        assert plan.chunk_bytes <= budget / 16 and plan.basis_bytes <= budget / 2
        assert plan.images == 1 or classes * rows * 600_000 <= plan.basis_bytes
        smaller = plan.halved()
        assert (
            smaller is None
            or smaller.chunk_bytes < plan.chunk_bytes
            or smaller.classes <= plan.classes
        )
        plan = smaller


@pytest.mark.parametrize(("classes", "together"), [(2, 19), (100, 4), (416, 1), (1000, 1)])
def test_images_of_many_classes_leave_room_for_a_basis(classes, together):
    probe = Probe(10**6, 10**5, 600_000, torch.channels_last, 1000, None)
    assert make_plan(64, classes, 1, probe, memory_budget=500 * 10**6).images == together
