"""Methods as points: identities, completeness, and each against a loop written from its paper."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chiaroscuro import ChoiceError, Classifier, choices, class_gradients, saliency_maps
from chiaroscuro.choices import MethodOptions, parse_method
from chiaroscuro.edits import filled, image_seeds
from chiaroscuro.gradients import METHODS, Method, Points
from chiaroscuro.gradients.methods import radau
from chiaroscuro.maps import edit_map
from tests.toys import Linear, Quadratic, all_class_gradients, random_pixels, small_cnn

TARGET = [1, 4]


@pytest.fixture
def net():
    return small_cnn().double()


@pytest.fixture
def classifier(net):
    return Classifier(net, mean=0.5, std=0.25)


def score_of(net):
    net.eval()
    return lambda x: net((x - 0.5) / 0.25)


def own(gradients, target=TARGET):
    return torch.stack([gradients[b, c] for b, c in enumerate(target)])


def test_smoothgrad_without_noise_is_the_gradient(classifier):
    pixels = random_pixels(2, 3, 12, 12)
    plain = class_gradients(classifier, pixels)
    smooth = class_gradients(classifier, pixels, method=Method("smoothgrad", points=5, sigma=0))
    for name in ("target_gradient", "rival_max", "rival_min"):
        torch.testing.assert_close(
            getattr(smooth, name), getattr(plain, name), rtol=1e-12, atol=1e-15
        )


@pytest.mark.parametrize("baseline", choices.BASELINES)
def test_integrated_gradients_with_one_point_is_the_gradient(classifier, baseline):
    pixels = random_pixels(2, 3, 12, 12)
    way = pixels - filled(pixels, baseline)
    plain = class_gradients(classifier, pixels, TARGET)
    method = Method("integrated-gradients", points=1, baseline=baseline)
    found = class_gradients(classifier, pixels, TARGET, method=method)
    torch.testing.assert_close(
        found.target_gradient, way * plain.target_gradient, rtol=1e-12, atol=1e-15
    )
    # From black the way is >= 0, so extremes stay extremes; from white it is <= 0: they swap.
    if baseline == "black":
        torch.testing.assert_close(found.rival_max, way * plain.rival_max)
    if baseline == "white":
        torch.testing.assert_close(found.rival_max, way * plain.rival_min)


def test_input_x_gradient_is_the_product_of_every_class(net, classifier):
    pixels = random_pixels(2, 3, 12, 12)
    found = class_gradients(classifier, pixels, TARGET, method="input-x-gradient")
    products = all_class_gradients(score_of(net), pixels) * pixels[:, None]
    torch.testing.assert_close(found.target_gradient, own(products))
    for b, c in enumerate(TARGET):
        rivals = products[b, [k for k in range(5) if k != c]]
        torch.testing.assert_close(found.rival_max[b], rivals.amax(dim=0))
        torch.testing.assert_close(found.rival_min[b], rivals.amin(dim=0))


def test_smoothgrad_is_the_mean_over_the_same_noise_for_every_class(net, classifier):
    pixels = random_pixels(2, 3, 12, 12)
    method = Method("smoothgrad", points=6, sigma=0.2, seed=3)
    found = class_gradients(classifier, pixels, TARGET, method=method)
    score, total = score_of(net), 0
    for b, image_seed in enumerate(image_seeds(pixels, 3)):
        noise = np.random.default_rng(image_seed).standard_normal((6, 3, 12, 12), np.float32)
        noisy = pixels[b] + 0.2 * torch.from_numpy(noise).double()
        total = all_class_gradients(score, noisy).mean(dim=0)
        rivals = total[[k for k in range(5) if k != TARGET[b]]]
        torch.testing.assert_close(found.target_gradient[b], total[TARGET[b]])
        torch.testing.assert_close(found.rival_max[b], rivals.amax(dim=0))
        torch.testing.assert_close(found.rival_min[b], rivals.amin(dim=0))


def test_smoothgrads_noise_has_its_sigma_and_is_not_clipped():
    pixels = torch.zeros(2, 3, 24, 24, dtype=torch.float64)
    pixels[1] = 1
    points = METHODS["smoothgrad"](pixels, Method("smoothgrad", points=40, sigma=0.15))
    noise = points.pixels - pixels
    assert abs(float(noise.std()) - 0.15) < 0.002
    assert abs(float(noise.mean())) < 0.002
    assert points.pixels.min() < 0 and points.pixels.max() > 1
    assert not torch.equal(noise[:, 0], noise[:, 1])  # each image draws its own
    assert torch.equal(points.weights, torch.full((40, 2), 1 / 40, dtype=torch.float64))


@pytest.mark.parametrize("points", [2, 3, 8])
@pytest.mark.parametrize("baseline", choices.BASELINES)
def test_integrated_gradients_are_complete_where_the_rule_is_exact(points, baseline):
    """On a quadratic score the gradient is linear along the line: exact from two points on."""
    generator = torch.Generator().manual_seed(2)
    a, b = (torch.randn(4, 3, 6, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    classifier = Classifier(Quadratic(a, b))
    pixels = random_pixels(2, 3, 6, 6)
    method = Method("integrated-gradients", points=points, baseline=baseline)
    found = class_gradients(classifier, pixels, [0, 3], method=method)
    gain = classifier(pixels) - classifier(filled(pixels, baseline))
    torch.testing.assert_close(found.target_gradient.sum(dim=(1, 2, 3)), own(gain, [0, 3]).detach())
    # The integral in closed form: (a (x + x0) / 2 + b) (x - x0), per entry.
    start = filled(pixels, baseline)
    exact = [
        (a[k] * (pixels + start)[i] / 2 + b[k]) * (pixels - start)[i] for i, k in ((0, 0), (1, 3))
    ]
    torch.testing.assert_close(found.target_gradient, torch.stack(exact))


def test_integrated_gradients_come_to_the_logits_difference_on_a_network(classifier):
    pixels = random_pixels(2, 3, 12, 12)
    gain = own(classifier(pixels) - classifier(torch.zeros_like(pixels)), TARGET).detach()
    gaps = []
    for points in (4, 300):
        method = Method("integrated-gradients", points=points)
        found = class_gradients(classifier, pixels, TARGET, method=method)
        gaps.append(float((found.target_gradient.sum(dim=(1, 2, 3)) - gain).abs().max()))
    assert gaps[1] < 0.003 < gaps[0] / 5


@given(st.integers(1, 40))
def test_radau_is_exact_to_its_degree(points):
    places, weights = radau(points)
    assert places[-1] == 1 and (places > 0).all() and (np.diff(places) > 0).all()
    assert (weights > 0).all()
    for degree in (0, points - 1, 2 * points - 2):
        np.testing.assert_allclose(weights @ places**degree, 1 / (degree + 1), rtol=1e-9)


def test_expected_gradients_of_a_linear_score_in_closed_form():
    generator = torch.Generator().manual_seed(2)
    weights = torch.randn(4, 3, 6, 6, generator=generator, dtype=torch.float64)
    pixels, background = random_pixels(2, 3, 6, 6), random_pixels(5, 3, 6, 6, seed=8)
    method = Method("expected-gradients", points=10, background=background)
    found = class_gradients(Classifier(Linear(weights)), pixels, [0, 3], method=method)
    # Ten points go through five images twice, whatever the order.
    way = pixels - background.mean(dim=0)
    torch.testing.assert_close(
        found.target_gradient, torch.stack([weights[0] * way[0], weights[3] * way[1]])
    )
    rivals = weights[1:, None] * way[:1]
    torch.testing.assert_close(found.rival_max[0], rivals.amax(dim=0)[0])


def test_expected_gradients_multiply_each_point_by_its_own_way(net, classifier):
    pixels, background = random_pixels(2, 3, 12, 12), random_pixels(3, 3, 12, 12, seed=8)
    method = Method("expected-gradients", points=7, background=background, seed=5)
    points = METHODS["expected-gradients"](pixels, method)
    found = class_gradients(classifier, pixels, TARGET, method=method)
    score = score_of(net)
    expected = sum(
        all_class_gradients(score, place) * way[:, None] / 7
        for place, way in zip(points.pixels, points.factor, strict=True)
    )
    torch.testing.assert_close(found.target_gradient, own(expected))
    torch.testing.assert_close(found.rival_min[0], expected[0, [0, 2, 3, 4]].amin(dim=0))
    # Every point lies on the line from an image of the background, in a part of its own.
    for b in range(2):
        shares, used = [], []
        for place, way in zip(points.pixels[:, b], points.factor[:, b], strict=True):
            begin = pixels[b] - way
            used.append(int((begin - background).abs().amax(dim=(1, 2, 3)).argmin()))
            torch.testing.assert_close(begin, background[used[-1]])
            shares.append(float(((place - begin) / way).median()))
        assert sorted(int(7 * share) for share in shares) == list(range(7))
        assert sorted(used.count(image) for image in range(3)) == [2, 2, 3]


def test_one_background_image_in_many_points_is_integrated_gradients(classifier):
    pixels = random_pixels(2, 3, 12, 12)
    black = torch.zeros(1, 3, 12, 12)
    expected = class_gradients(
        classifier, pixels, method=Method("expected-gradients", points=2000, background=black)
    )
    integrated = class_gradients(
        classifier, pixels, method=Method("integrated-gradients", points=200)
    )
    gap = (
        expected.target_gradient - integrated.target_gradient
    ).norm() / integrated.target_gradient.norm()
    assert gap < 0.01


@pytest.mark.parametrize("name", ["smoothgrad", "expected-gradients"])
@pytest.mark.parametrize("budget", [1, 200_000])
def test_budget_threads_and_batch_change_no_noise(classifier, name, budget):
    pixels = random_pixels(3, 3, 12, 12)
    background = random_pixels(3, 3, 12, 12, seed=8) if name.startswith("exp") else None
    method = Method(name, points=5, background=background, seed=1)
    base = class_gradients(classifier, pixels, method=method)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        split = class_gradients(classifier, pixels, method=method, memory_budget=budget)
    finally:
        torch.set_num_threads(threads)
    single = class_gradients(classifier, pixels[2:], method=method)
    for field in ("target_gradient", "rival_max", "rival_min"):
        whole = getattr(base, field)
        torch.testing.assert_close(getattr(split, field), whole, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(getattr(single, field)[0], whole[2], rtol=1e-9, atol=1e-12)
    other = class_gradients(classifier, pixels, method=Method(name, 5, None, None, background, 2))
    assert (other.target_gradient - base.target_gradient).abs().max() > 1e-6
    made = METHODS[name](pixels, method)
    alone = METHODS[name](pixels[1:2], method)
    assert torch.equal(made.pixels[:, 1:2], alone.pixels)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**16))
def test_point_factors_of_one_value_are_a_factor_of_the_sum(seed):
    classifier = Classifier(small_cnn().double())
    pixels = random_pixels(2, 3, 8, 8, seed=seed)
    places = random_pixels(3, 2, 3, 8, 8, seed=seed + 1)
    weights = torch.full((3, 2), 1 / 3, dtype=torch.float64)
    factor = random_pixels(2, 3, 8, 8, seed=seed + 2) - 0.5
    one = class_gradients(classifier, pixels, method=Points(places, weights, factor))
    each = class_gradients(
        classifier, pixels, method=Points(places, weights, factor.expand(3, -1, -1, -1, -1)),
        memory_budget=1,
    )  # fmt: skip
    for field in ("target_gradient", "rival_max", "rival_min"):
        torch.testing.assert_close(getattr(one, field), getattr(each, field))


def test_competition_with_input_x_gradient_is_gupta_and_arora(net, classifier):
    """Keep x g_c where it is positive and the largest, or negative and the smallest, of all."""
    pixels = random_pixels(2, 3, 12, 12)
    found = class_gradients(classifier, pixels, TARGET, method="input-x-gradient")
    values = saliency_maps(found, ["competition"], reduce="none")["competition"]
    products = all_class_gradients(score_of(net), pixels) * pixels[:, None]
    mine = own(products)
    top = (mine > 0) & (products.argmax(dim=1) == torch.tensor(TARGET).view(-1, 1, 1, 1))
    bottom = (mine < 0) & (products.argmin(dim=1) == torch.tensor(TARGET).view(-1, 1, 1, 1))
    torch.testing.assert_close(values, torch.where(top | bottom, mine, 0.0))
    assert 0.05 < (top | bottom).double().mean() < 0.95


def test_settings_are_told():
    method = Method("expected-gradients", points=4, background=torch.zeros(2, 3, 4, 4), seed=7)
    told = method.describe()
    assert (
        told.pop("background_sha256")
        != Method("expected-gradients", background=torch.ones(2, 3, 4, 4)).describe()[
            "background_sha256"
        ]
    )
    assert told == {
        "name": "expected-gradients", "points": 4, "background_images": 2, "seed": 7,
    }  # fmt: skip
    assert Method("gradient").describe() == {"name": "gradient"}
    line = Method("integrated-gradients", baseline="blur").describe()
    assert line == {"name": "integrated-gradients", "points": 32, "baseline": "blur"}
    assert parse_method("smoothgrad") == MethodOptions("smoothgrad", 32, 0.15)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "vargrad"}, "vargrad' is refused: the variance of gradients has no sign"),
        ({"name": "smoothgrad-squared"}, "the mean of squared gradients has no sign.*smoothgrad"),
        ({"name": "smoothgrd"}, "unknown method 'smoothgrd': did you mean smoothgrad"),
        (
            {"name": "gradient", "points": 3},
            "takes no points: it is for .*smoothgrad, integrated-gradients",
        ),
        ({"name": "gradient", "sigma": 0.1}, "takes no sigma: it is for smoothgrad"),
        (
            {"name": "smoothgrad", "baseline": "black"},
            "takes no baseline: it is for integrated-gradients",
        ),
        ({"name": "smoothgrad", "points": 0}, "points is 0: expected at least 1"),
        ({"name": "smoothgrad", "sigma": -0.1}, "sigma is -0.1: expected a number >= 0"),
        ({"name": "smoothgrad", "sigma": float("nan")}, "sigma is nan"),
        ({"name": "integrated-gradients", "baseline": "gray"}, "unknown baseline 'gray'"),
        ({"name": "expected-gradients"}, "needs background images"),
        ({"name": "gradient", "background": torch.zeros(1, 3, 2, 2)}, "takes no background"),
        ({"name": "expected-gradients", "background": torch.zeros(3, 2, 2)}, r"shape \(3, 2, 2\)"),
    ],
)
def test_refused_methods(arguments, message):
    with pytest.raises(ChoiceError, match=message):
        Method(**arguments)


def test_refused_points_and_backgrounds(classifier):
    pixels = random_pixels(2, 3, 12, 12)
    with pytest.raises(ChoiceError, match=r"background has images \(3, 8, 8\)"):
        class_gradients(
            classifier, pixels,
            method=Method("expected-gradients", background=torch.zeros(2, 3, 8, 8)),
        )  # fmt: skip
    with pytest.raises(ChoiceError, match=r"a factor \(1, 3, 12, 12\): expected \(P, B, C, H, W\)"):
        Points(pixels[None], torch.ones(1, 2), factor=pixels[:1])
    with pytest.raises(ChoiceError, match="method is a float: expected a name, a Method, Points"):
        class_gradients(classifier, pixels, method=0.5)


@pytest.mark.parametrize("options", [{"points": 2.5}, {"points": "3"}, {"sigma": "0.1"}])
def test_options_of_a_method_are_numbers(options):
    with pytest.raises(ChoiceError, match="expected a"):
        parse_method("smoothgrad", **options)
    assert type(parse_method("smoothgrad", points=np.int64(3)).points) is int


@pytest.mark.parametrize("name", [0.5, None])
def test_what_is_no_name_is_refused_as_one(name):
    refused = pytest.raises(ChoiceError, match=f"unknown [a-z ]+ '{name}'")
    with refused:
        choices.Fill(name)
    with refused:
        choices.Framing(fit=name)
    with refused:
        choices.Framing(interpolation=name)
    with refused:
        edit_map(Classifier(small_cnn().double()), random_pixels(1, 3, 12, 12), "black", name)
    with pytest.raises(ChoiceError, match="unknown baseline '0.5'"):
        Method("integrated-gradients", baseline=0.5)
