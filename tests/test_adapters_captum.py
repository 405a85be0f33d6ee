"""Our maps inside the installed Captum: its noise tunnel, its metrics, its pictures."""

import copy

import numpy as np
import pytest
import torch
from captum.attr import GradientAttribution, NoiseTunnel, Saliency, visualization
from captum.metrics import infidelity, sensitivity_max

from chiaroscuro import (
    ChoiceError,
    Classifier,
    InputError,
    ModelError,
    class_gradients,
    saliency_maps,
)
from chiaroscuro.adapters import captum_attribution, captum_picture
from chiaroscuro.choices import MAPS, RANKING_MAPS
from chiaroscuro.gradients import Points
from tests.test_adapters import curved
from tests.test_guard import assert_same, prepared, snapshot
from tests.test_maps_oracle import oracle
from tests.toys import Linear, all_class_gradients, random_pixels


def opposite():
    """Two classes whose gradients are w and -w everywhere: the signed map of class 0 is w."""
    generator = torch.Generator().manual_seed(4)
    w = torch.randn(3, 4, 4, generator=generator, dtype=torch.float64)
    return w, Classifier(Linear(torch.stack([w, -w])))


@pytest.mark.parametrize("name", RANKING_MAPS)
def test_values_are_our_maps_per_channel(toy, name):
    pixels = random_pixels(3, 3, 12, 12)
    attribution = captum_attribution(toy, name)
    assert isinstance(attribution, GradientAttribution)
    found = attribution.attribute(pixels, target=[1, 0, 4])
    gradients = class_gradients(toy, pixels, [1, 0, 4])
    assert torch.equal(found, saliency_maps(gradients, [name], reduce="none")[name])
    if MAPS[name].kind == "magnitude":
        assert torch.equal(found.amax(dim=1), saliency_maps(gradients, [name])[name])


@pytest.mark.parametrize(
    ("target", "meant"),
    [
        (2, [2, 2, 2]),
        ([1, 0, 4], [1, 0, 4]),
        (torch.tensor([1, 0, 4]), [1, 0, 4]),
        (torch.tensor([3]), [3, 3, 3]),
        (torch.tensor(3), [3, 3, 3]),
        (None, None),
    ],
)
def test_targets_and_forms(toy, target, meant):
    pixels = random_pixels(3, 3, 12, 12)
    attribution = captum_attribution(toy, "signed")
    gradients = class_gradients(toy, pixels, meant)
    expected = saliency_maps(gradients, ["signed"], reduce="none")["signed"]
    assert torch.equal(attribution.attribute(pixels, target=target), expected)
    (alone,) = attribution.attribute((pixels,), target=target)
    assert torch.equal(alone, expected)
    assert expected.min() < 0 < expected.max()


def test_other_targets_and_inputs_are_refused(toy):
    pixels = random_pixels(2, 3, 12, 12)
    attribution = captum_attribution(toy)
    with pytest.raises(ChoiceError, match=r"target is the tuple \(1, 2\)"):
        attribution.attribute(pixels, target=(1, 2))
    with pytest.raises(ChoiceError, match="target has 3 classes for 2 images"):
        attribution.attribute(pixels, target=[1, 2, 3])
    with pytest.raises(InputError, match="inputs are 2 tensors: an image classifier takes one"):
        attribution.attribute((pixels, pixels), target=1)


@pytest.mark.parametrize("form", ["tensor", "tuple"])
@pytest.mark.parametrize("target", [1, [1, 0], torch.tensor([1, 0])])
def test_the_noise_tunnel_averages_maps_not_gradients(form, target):
    classifier = curved()
    pixels = random_pixels(2, 3, 4, 4)
    torch.manual_seed(5)
    tunnel = NoiseTunnel(captum_attribution(classifier, "active"))
    given = (pixels,) if form == "tuple" else pixels
    found = tunnel.attribute(given, nt_samples=6, stdevs=0.3, target=target)
    found = found[0] if form == "tuple" else found
    # The same noise as Captum drew, in its order: six copies of an image follow each other.
    torch.manual_seed(5)
    noise = torch.normal(0, torch.tensor(0.3).repeat(12, 3, 4, 4)).double()
    noisy = (pixels.repeat_interleave(6, dim=0) + noise).view(2, 6, 3, 4, 4)
    assert noisy.min() < 0 and noisy.max() > 1
    means = torch.zeros(2, 4, 4, dtype=torch.float64)
    for image, own in enumerate([1, 1] if isinstance(target, int) else [1, 0]):
        gradients = all_class_gradients(classifier.module, noisy[image])
        per_channel = gradients[:, own].abs()
        others = [k for k in range(5) if k != own]
        per_channel[gradients[:, own] <= gradients[:, others].amax(dim=1)] = 0
        torch.testing.assert_close(found[image], per_channel.mean(dim=0))
        means[image] = oracle(gradients.mean(dim=0), own, "active")
    # Signs and rivals on the mean gradient, as our own smoothgrad takes them, is another map.
    points = Points(noisy.transpose(0, 1), torch.full((6, 2), 1 / 6, dtype=torch.float64))
    ours = class_gradients(classifier, pixels, target, method=points)
    torch.testing.assert_close(saliency_maps(ours)["active"], means)
    assert (found.amax(dim=1) - means).abs().max() > 0.1


def test_the_noise_tunnel_needs_a_target_and_fixed_rivals(toy):
    pixels = random_pixels(2, 3, 12, 12)
    tunnel = NoiseTunnel(captum_attribution(toy))
    with pytest.raises(ChoiceError, match="the predicted class would differ between noisy imag"):
        tunnel.attribute(pixels, nt_samples=2, stdevs=0.1)
    top = NoiseTunnel(captum_attribution(toy, rivals="top:2"))
    with pytest.raises(ChoiceError, match="rivals top:2 would differ"):
        top.attribute(pixels, nt_samples=2, stdevs=0.1, target=1)
    listed = NoiseTunnel(captum_attribution(toy, rivals=[0, 2]))
    assert listed.attribute(pixels, nt_samples=2, stdevs=0.1, target=1).shape == pixels.shape
    assert captum_attribution(toy, rivals="top:2").attribute(pixels).shape == pixels.shape


def test_users_see_the_method_they_call(toy):
    attribute = captum_attribution(toy).attribute
    assert attribute.__name__ == "attribute"
    assert attribute.__doc__.startswith("The map per channel")
    assert attribute.__wrapped__.__name__ == "_attribute_noisy"


def test_infidelity_is_nought_for_a_linear_network_while_the_sign_is_kept():
    w, classifier = opposite()
    pixels = random_pixels(2, 3, 4, 4)
    change = random_pixels(2, 3, 4, 4, seed=9) - 0.5  # leaves [0, 1]
    maps = {name: captum_attribution(classifier, name) for name in ("signed", "original")}

    def score(name):
        attribution = maps[name]
        made = attribution.attribute(pixels, target=0)
        perturb = lambda x: (change, x - change)  # noqa: E731
        return infidelity(
            attribution.forward_func, perturb, pixels, made, target=0, n_perturb_samples=1
        )

    torch.testing.assert_close(score("signed"), torch.zeros(2, dtype=torch.float64))
    lost = ((change * (w.abs() - w)).sum(dim=(1, 2, 3))) ** 2
    torch.testing.assert_close(score("original"), lost)
    assert lost.min() > 0.1


def test_sensitivity_max_by_hand():
    classifier = curved()
    pixels = random_pixels(2, 3, 4, 4)
    attribution = captum_attribution(classifier, "positive")
    found = sensitivity_max(
        attribution.attribute, pixels, lambda x: x + 0.05, n_perturb_samples=1, target=3
    )
    here, there = (
        all_class_gradients(classifier.module, x)[:, 3].relu().flatten(1)
        for x in (pixels, pixels + 0.05)
    )
    torch.testing.assert_close(found, (here - there).norm(dim=1) / here.norm(dim=1))
    assert found.min() > 0.01


def test_their_plain_gradient_is_ours(toy):
    pixels = random_pixels(2, 3, 12, 12)
    attribution = captum_attribution(toy, "original")
    theirs = Saliency(attribution.forward_func).attribute(pixels.requires_grad_(True), target=2)
    torch.testing.assert_close(attribution.attribute(pixels, target=2), theirs)


@pytest.mark.parametrize("fails", [False, True])
def test_the_network_is_left_as_found(fails):
    net = prepared(fails)
    pixels = random_pixels(2, 3, 12, 12)
    attribution = captum_attribution(Classifier(net))
    before = snapshot(net, pixels)

    def run():
        state = torch.get_rng_state()
        try:
            NoiseTunnel(attribution).attribute(pixels, nt_samples=2, stdevs=0.1, target=1)
        finally:
            torch.set_rng_state(state)  # Captum's own noise
        sensitivity_max(attribution.attribute, pixels, lambda x: x + 0.01, target=1)

    if fails:
        with pytest.raises(ModelError, match="broken on purpose"):
            run()
    else:
        run()
    assert_same(before, snapshot(net, pixels))


def drawn(picture, sign, method="heat_map", image=None):
    # With 0 outliers Captum's sums may miss their own total by a rounding.
    _, axes = visualization.visualize_image_attr(
        picture, image, method, sign, outlier_perc=1e-6, use_pyplot=False
    )
    return np.asarray(axes.images[-1].get_array())


def test_pictures_show_the_map_and_its_sign(toy):
    pixels = random_pixels(1, 3, 12, 12)
    maps = saliency_maps(class_gradients(toy, pixels), ["negative", "signed"])
    for name, sign in (("negative", "positive"), ("signed", "all")):
        picture = captum_picture(maps[name][0])
        assert picture.shape == (12, 12, 1)
        expected = (maps[name][0] / maps[name][0].abs().max()).numpy()
        np.testing.assert_allclose(drawn(picture, sign), expected)
    assert picture.min() < 0
    blended = drawn(
        captum_picture(maps["negative"][0]), "positive", "blended_heat_map",
        pixels[0].permute(1, 2, 0).numpy(),
    )  # fmt: skip
    np.testing.assert_allclose(blended[..., None], captum_picture(maps["negative"][0]))


def test_tiny_gradients_are_drawn_and_what_cannot_be_is_refused():
    values = torch.tensor([[0.0, 1e-9], [4e-9, 1e-9]])
    assert drawn(captum_picture(values), "positive").tolist() == [[0, 0.25], [1, 0.25]]
    for bad in (torch.zeros(2, 2), torch.full((2, 2), torch.nan), torch.full((2, 2), torch.inf)):
        with pytest.raises(InputError, match="there is nothing to draw"):
            captum_picture(bad)
    with pytest.raises(InputError, match=r"map has shape \(1, 2, 2\): expected one map \(H, W\)"):
        captum_picture(torch.ones(1, 2, 2))


def test_why_captum_gets_one_channel():
    """It adds up the channels before it splits the sign: opposite ones vanish."""
    both = np.array([[[1.0, -1.0], [0.0, 2.0]]])
    assert drawn(both, "positive").tolist() == [[0, 1]]
    with pytest.raises(AssertionError, match="Cannot normalize by scale factor = 0"):
        drawn(np.zeros((2, 2, 1)), "positive")


def test_an_instance_can_be_copied(toy):
    pixels = random_pixels(1, 3, 12, 12)
    attribution = captum_attribution(toy)
    other = copy.deepcopy(attribution)
    assert torch.equal(other.attribute(pixels), attribution.attribute(pixels))
