"""Our maps as the explain_func of the installed Quantus: four of its metrics, by hand."""

import copy

import numpy as np
import pytest
import quantus
import torch
from torch import nn

from chiaroscuro import ChoiceError, Classifier, ModelError, class_gradients, saliency_maps
from chiaroscuro.adapters import PixelNetwork, quantus_explain
from chiaroscuro.choices import RANKING_MAPS
from tests.test_guard import assert_same, prepared, snapshot
from tests.test_maps_oracle import oracle
from tests.toys import Linear, Quadratic, all_class_gradients, random_pixels, small_cnn

LABELS = np.array([1, 4, 0])


@pytest.fixture
def single():
    """The toy in float32, which is what Quantus hands to networks, and three images for it."""
    classifier = Classifier(small_cnn(), mean=0.5, std=0.25, size=12)
    return classifier, random_pixels(3, 3, 12, 12, dtype=torch.float32)


def our_map(classifier, pixels, name, target=LABELS):
    return saliency_maps(class_gradients(classifier, pixels, target.tolist()), [name])[name]


def measured(metric, classifier, pixels, explain, labels=LABELS, **keywords):
    return metric(
        model=PixelNetwork(classifier), x_batch=pixels.numpy(), y_batch=labels,
        explain_func=explain, **keywords,
    )  # fmt: skip


def test_a_copy_whose_network_was_changed_is_asked_itself(single):
    classifier, pixels = single
    network = copy.copy(PixelNetwork(classifier))
    network._modules = {"module": copy.deepcopy(classifier.module)}
    with torch.no_grad():
        network.module[0].weight.neg_()
    found = quantus_explain("signed")(model=network, inputs=pixels.numpy(), targets=LABELS)
    changed = Classifier(network.module, mean=0.5, std=0.25, size=12)
    assert np.array_equal(found[:, 0], our_map(changed, pixels, "signed").numpy())
    assert not np.array_equal(found[:, 0], our_map(classifier, pixels, "signed").numpy())


@pytest.mark.parametrize("name", RANKING_MAPS)
def test_values_are_our_maps(single, name):
    classifier, pixels = single
    ask = quantus_explain(name)
    found = ask(model=PixelNetwork(classifier), inputs=pixels.numpy(), targets=LABELS)
    assert found.shape == (3, 1, 12, 12)
    assert found.dtype == np.float32
    assert np.array_equal(found[:, 0], our_map(classifier, pixels, name).numpy())
    if name in ("signed", "margin"):
        assert found.min() < 0 < found.max()


def test_rivals_and_score_are_passed_on(single):
    classifier, pixels = single
    ask = quantus_explain("active", rivals="top:1", score="log-probability")
    found = ask(model=PixelNetwork(classifier), inputs=pixels.numpy(), targets=LABELS)
    gradients = class_gradients(
        classifier, pixels, LABELS.tolist(), "top:1", score="log-probability"
    )
    assert np.array_equal(found[:, 0], saliency_maps(gradients)["active"].numpy())


def test_pixel_flipping(single):
    classifier, pixels = single
    metric = quantus.PixelFlipping(
        features_in_step=9, perturb_baseline=1.0, normalise=False, disable_warnings=True
    )
    found = np.array(measured(metric, classifier, pixels, quantus_explain("negative")))
    order = np.argsort(
        -np.broadcast_to(our_map(classifier, pixels, "negative")[:, None].numpy(), (3, 3, 12, 12))
        .reshape(3, -1), axis=1,
    )  # fmt: skip
    changed, steps = pixels.clone().flatten(1), []
    for start in range(0, 3 * 144, 9):
        for image in range(3):
            changed[image, order[image, start : start + 9]] = 1.0
        chances = classifier(changed.view_as(pixels)).detach().softmax(dim=1)
        steps.append(chances[range(3), LABELS].numpy())
    np.testing.assert_allclose(found, np.stack(steps, axis=1), rtol=1e-5, atol=1e-6)
    assert np.ptp(found, axis=1).min() > 1e-3


def test_pixel_flipping_has_no_area_with_the_numpy_that_is_tested(single):
    """The how-to says so: ask for the curves."""
    assert not hasattr(np, "trapz")
    metric = quantus.PixelFlipping(
        features_in_step=72, return_auc_per_sample=True, disable_warnings=True
    )
    with pytest.raises(AttributeError, match="trapz"):
        measured(metric, *single, quantus_explain("negative"))


def test_max_sensitivity():
    generator = torch.Generator().manual_seed(2)
    a, b = (torch.randn(5, 3, 4, 4, generator=generator) for _ in range(2))
    classifier = Classifier(Quadratic(a, b))
    pixels = random_pixels(3, 3, 4, 4, dtype=torch.float32)
    metric = quantus.MaxSensitivity(
        nr_samples=2, perturb_func=lambda arr, indices, **_: arr + 0.25, disable_warnings=True
    )
    found = measured(metric, classifier, pixels, quantus_explain("signed"))
    for image, target in enumerate(LABELS):
        here, there = (
            oracle(all_class_gradients(classifier.module, x[None])[0], target, "signed")
            for x in (pixels[image], pixels[image] + 0.25)
        )
        assert found[image] == pytest.approx(float((here - there).norm() / here.norm()), rel=1e-5)
        assert found[image] > 0.01


def test_sparseness(single):
    classifier, pixels = single
    metric = quantus.Sparseness(normalise=False, disable_warnings=True)
    found = measured(metric, classifier, pixels, quantus_explain("active"))
    for image, values in enumerate(our_map(classifier, pixels, "active").double()):
        flat = values.flatten()
        gini = (flat[:, None] - flat).abs().sum() / (2 * len(flat) * flat.sum())
        assert found[image] == pytest.approx(float(gini), rel=1e-4)


def test_random_logit():
    """Two opposite classes: the signed map of the other class is its negative."""
    generator = torch.Generator().manual_seed(4)
    w = torch.randn(3, 4, 4, generator=generator)
    classifier = Classifier(Linear(torch.stack([w, -w])))
    metric = quantus.RandomLogit(
        num_classes=2, similarity_func=quantus.similarity_func.correlation_pearson,
        disable_warnings=True,
    )  # fmt: skip
    pixels = random_pixels(2, 3, 4, 4, dtype=torch.float32)
    labels = np.array([0, 1])
    found = measured(metric, classifier, pixels, quantus_explain("signed"), labels)
    np.testing.assert_allclose(found, [-1, -1], rtol=1e-6)
    found = measured(metric, classifier, pixels, quantus_explain("original"), labels)
    np.testing.assert_allclose(found, [1, 1], rtol=1e-6)


def test_random_logit_with_its_own_similarity(single):
    classifier, pixels = single
    metric = quantus.RandomLogit(num_classes=5, disable_warnings=True)
    found = measured(metric, classifier, pixels, quantus_explain("signed"))
    assert np.isfinite(found).all()
    assert np.abs(found).max() < 0.9


def test_the_network_of_the_moment_is_explained(single):
    classifier, pixels = single
    ask, network = quantus_explain("signed"), PixelNetwork(classifier)
    other = copy.deepcopy(network)
    torch.manual_seed(0)
    for part in other.modules():
        if isinstance(part, nn.Linear):
            part.reset_parameters()
    found = ask(model=other, inputs=pixels.numpy(), targets=LABELS)
    expected = our_map(Classifier(other.module, mean=0.5, std=0.25), pixels, "signed").numpy()
    assert np.array_equal(found[:, 0], expected)
    own = ask(model=network, inputs=pixels.numpy(), targets=LABELS)
    assert np.array_equal(own[:, 0], our_map(classifier, pixels, "signed").numpy())
    assert not np.allclose(found, own)


def test_any_other_module_gets_its_input_as_it_is():
    net = small_cnn().eval()
    normalized = (random_pixels(3, 3, 12, 12, dtype=torch.float32) - 0.5) / 0.25
    found = quantus_explain("signed")(model=net, inputs=normalized.numpy(), targets=LABELS)
    gradients = all_class_gradients(net, normalized)
    for image, target in enumerate(LABELS):
        expected = oracle(gradients[image], target, "signed").numpy()
        np.testing.assert_allclose(found[image, 0], expected, rtol=1e-4, atol=1e-6)


def test_keywords_of_quantus_are_accepted_and_ours_among_them_refused(single):
    classifier, pixels = single
    ask, network = quantus_explain("negative"), PixelNetwork(classifier)
    plain = ask(model=network, inputs=pixels.numpy(), targets=LABELS)
    keywords = {"device": "cpu", "method": "Saliency", "xai_lib_kwargs": {}}
    assert np.array_equal(
        ask(model=network, inputs=pixels.numpy(), targets=LABELS, **keywords), plain
    )
    metric = quantus.Sparseness(disable_warnings=True)
    assert len(measured(metric, classifier, pixels, ask, device="cpu")) == 3
    with pytest.raises(
        ChoiceError, match=r"rivals is among .* give it to quantus_explain\(rivals="
    ):
        measured(metric, classifier, pixels, ask, explain_func_kwargs={"rivals": "top:1"})


class Half(nn.Module):
    """Class 0 lives on the bright images only: the others' maps are zero everywhere."""

    def forward(self, x):
        size = x.flatten(1).sum(dim=1)
        bright = (x.amax(dim=(1, 2, 3)) > 0.5).to(x)
        return torch.stack([size * bright, 0 * size], dim=1)


def test_all_zero_maps_are_named():
    pixels = torch.full((4, 3, 4, 4), 0.25)
    pixels[2] = 0.75
    network, ask = PixelNetwork(Classifier(Half())), quantus_explain("original")
    metric = quantus.Sparseness(disable_warnings=True)
    with pytest.warns(UserWarning, match="'original' is zero everywhere for image 0, 1, 3 of this"):
        found = metric(
            model=network, x_batch=pixels.numpy(), y_batch=np.zeros(4, int), explain_func=ask
        )
    assert found[0] == found[1] == found[3] == 0  # in silence, but for our warning
    with (
        pytest.warns(UserWarning, match="for image 0, 1 of this batch of 2"),
        pytest.raises(AssertionError, match="all equal to zero"),
    ):
        metric(
            model=network, x_batch=pixels[:2].numpy(), y_batch=np.zeros(2, int), explain_func=ask
        )


@pytest.mark.parametrize("fails", [False, True])
def test_the_network_is_left_as_found(fails):
    net = prepared(fails).float()
    pixels = random_pixels(3, 3, 12, 12, dtype=torch.float32)
    before = snapshot(net, pixels)
    metric = quantus.MaxSensitivity(
        nr_samples=2, perturb_func=lambda arr, indices, **_: arr + 0.25, disable_warnings=True
    )
    if fails:
        with pytest.raises(ModelError, match="broken on purpose"):
            measured(metric, Classifier(net), pixels, quantus_explain())
    else:
        measured(metric, Classifier(net), pixels, quantus_explain())
    assert_same(before, snapshot(net, pixels))
