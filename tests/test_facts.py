"""Facts that follow from the definitions, on random networks: identities, not examples."""

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from chiaroscuro import Classifier, class_gradients, saliency_maps
from chiaroscuro.maps import active_mask, inactive_mask
from tests.toys import Linear, Quadratic, random_pixels, small_cnn

settings.register_profile("facts", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("facts")

SHAPE = (3, 4, 5)
seeds = st.integers(0, 2**31)
class_counts = st.integers(2, 7)


def quadratic(seed, classes):
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(classes, *SHAPE, generator=generator).double() for _ in range(2))
    return Quadratic(a, b)


def tied(seed, classes):
    """A linear network whose gradients take few values, so that ties are common."""
    generator = torch.Generator().manual_seed(seed)
    return Linear(torch.randint(-2, 3, (classes, *SHAPE), generator=generator).double())


def ask(net, seed, **arguments):
    return class_gradients(Classifier(net), random_pixels(2, *SHAPE, seed=seed), **arguments)


@given(seeds, class_counts, st.booleans())
def test_original_is_the_larger_of_positive_and_negative(seed, classes, ties):
    found = ask((tied if ties else quadratic)(seed, classes), seed)
    maps = saliency_maps(found)
    assert torch.equal(maps["original"], torch.maximum(maps["positive"], maps["negative"]))


@given(seeds, class_counts, st.booleans())
def test_masks_are_disjoint_per_channel(seed, classes, ties):
    found = ask((tied if ties else quadratic)(seed, classes), seed)
    assert not (active_mask(found) & inactive_mask(found)).any()
    split = saliency_maps(found, ["positive", "negative"], reduce="none")
    assert not ((split["positive"] > 0) & (split["negative"] > 0)).any()


@given(seeds, st.booleans())
def test_one_rival_leaves_only_ties_out(seed, ties):
    found = ask((tied if ties else quadratic)(seed, 2), seed)
    equal = found.target_gradient == found.rival_max
    assert torch.equal(active_mask(found) | inactive_mask(found), ~equal)
    if not ties:
        assert not equal.any()
        maps = saliency_maps(found)
        assert torch.equal(torch.maximum(maps["active"], maps["inactive"]), maps["original"])


@given(seeds, class_counts)
def test_all_classes_tied_leave_both_masks_empty(seed, classes):
    one = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(seed)).double()
    found = ask(Linear(one.expand(classes, -1, -1, -1).clone()), seed)
    assert not active_mask(found).any()
    assert not inactive_mask(found).any()
    maps = saliency_maps(found, ["active", "inactive", "signed", "margin"], normalize="minmax")
    for values in maps.values():
        assert not values.any()


@given(seeds, class_counts)
def test_active_means_that_every_margin_rises(seed, classes):
    net = quadratic(seed, classes)
    found = ask(net, seed, target=0)
    pixels = random_pixels(2, *SHAPE, seed=seed)
    gradients = net.a.detach() * pixels[:, None] + net.b.detach()
    margins = gradients[:, :1] - gradients[:, 1:]
    assert torch.equal(active_mask(found), (margins > 0).all(dim=1))
    assert torch.equal(inactive_mask(found), (margins < 0).all(dim=1))


@given(seeds, class_counts, st.booleans())
def test_every_entry_is_active_for_one_class_in_k(seed, classes, ties):
    """Explained in turn, the classes share the entries out: one active, one inactive, but ties."""
    net = (tied if ties else quadratic)(seed, classes)
    found = [ask(net, seed, target=k) for k in range(classes)]
    for mask, extreme in ((active_mask, torch.amax), (inactive_mask, torch.amin)):
        own = torch.stack([each.target_gradient for each in found])
        alone = (own == extreme(own, dim=0)).sum(dim=0) == 1
        assert torch.equal(sum(mask(each).int() for each in found), alone.int())
        assert ties or alone.all()


class Shifted(torch.nn.Module):
    """The same network with one function of the pixels added to every logit."""

    def __init__(self, net, common):
        super().__init__()
        self.net, self.common = net, common

    def forward(self, x):
        return self.net(x) + self.common(x)


@given(seeds, class_counts)
def test_a_common_addition_changes_values_but_no_mask(seed, classes):
    net = quadratic(seed, classes)
    plain = ask(net, seed, target=1)
    shifted = ask(Shifted(net, quadratic(seed + 1, 1)), seed, target=1)
    own = plain.target_gradient
    clear = torch.minimum((own - plain.rival_max).abs(), (own - plain.rival_min).abs()) > 1e-9
    assert clear.float().mean() > 0.9
    for mask in (active_mask, inactive_mask):
        assert torch.equal(mask(plain)[clear], mask(shifted)[clear])
    before, after = saliency_maps(plain), saliency_maps(shifted)
    assert not torch.allclose(before["positive"], after["positive"])
    assert active_mask(plain).any() == (before["active"] != after["active"]).any()


class Scaled(torch.nn.Module):
    def __init__(self, net, factor):
        super().__init__()
        self.net, self.factor = net, factor

    def forward(self, x):
        return self.net(x) * self.factor


@given(seeds, class_counts, st.sampled_from([0.25, 2.0, 8.0]))
def test_scaling_all_logits_scales_every_raw_map(seed, classes, factor):
    net = quadratic(seed, classes)
    names = ["original", "positive", "negative", "active", "inactive", "signed", "margin"]
    plain, scaled = ask(net, seed), ask(Scaled(net, factor), seed)
    raw, large = saliency_maps(plain, names), saliency_maps(scaled, names)
    one, other = (saliency_maps(f, names, normalize="minmax") for f in (plain, scaled))
    for name in names:
        assert torch.equal(raw[name] * factor, large[name])  # powers of two are exact
        assert torch.equal(one[name], other[name])


@given(seeds, class_counts)
def test_negating_all_logits_swaps_the_pairs(seed, classes):
    net = quadratic(seed, classes)
    maps = saliency_maps(
        ask(net, seed, target=0), ["positive", "negative", "active", "inactive", "signed"]
    )
    turned = saliency_maps(
        ask(Scaled(net, -1.0), seed, target=0),
        ["positive", "negative", "active", "inactive", "signed"],
    )
    assert torch.equal(maps["positive"], turned["negative"])
    assert torch.equal(maps["negative"], turned["positive"])
    assert torch.equal(maps["active"], turned["inactive"])
    assert torch.equal(maps["inactive"], turned["active"])
    assert torch.equal(maps["signed"], -turned["signed"])


@given(seeds, class_counts)
def test_log_softmax_rises_on_active_and_falls_on_inactive(seed, classes):
    net = quadratic(seed, classes)
    logit = ask(net, seed, target=0)
    chance = ask(net, seed, target=0, score="log-probability")
    assert (chance.target_gradient[active_mask(logit)] > 0).all()
    assert (chance.target_gradient[inactive_mask(logit)] < 0).all()
    # (1 - p_c) (g_c - sum over rivals of a_k g_k), a = softmax over the rivals alone.
    pixels = random_pixels(2, *SHAPE, seed=seed)
    gradients = net.a.detach() * pixels[:, None] + net.b.detach()
    share = logit.logits.softmax(dim=1)[:, 0]
    rivals = logit.logits[:, 1:].softmax(dim=1)
    mean = torch.einsum("bk,bkchw->bchw", rivals, gradients[:, 1:])
    expected = (1 - share).view(-1, 1, 1, 1) * (gradients[:, 0] - mean)
    torch.testing.assert_close(chance.target_gradient, expected)


@given(seeds, class_counts)
def test_log_probability_has_the_masks_of_the_logit(seed, classes):
    net = quadratic(seed, classes)
    logit, chance = ask(net, seed), ask(net, seed, score="log-probability")
    own = logit.target_gradient
    clear = torch.minimum((own - logit.rival_max).abs(), (own - logit.rival_min).abs()) > 1e-9
    assert torch.equal(active_mask(logit)[clear], active_mask(chance)[clear])


@given(seeds, st.integers(3, 7))
def test_fewer_rivals_never_shrink_a_mask(seed, classes):
    net = quadratic(seed, classes)
    every, few = ask(net, seed), ask(net, seed, rivals="top:1")
    assert not (active_mask(every) & ~active_mask(few)).any()
    assert not (inactive_mask(every) & ~inactive_mask(few)).any()


@given(seeds, st.permutations(range(5)))
def test_renaming_classes_changes_no_map(seed, order):
    net = quadratic(seed, 5)
    moved = Quadratic(net.a.detach()[list(order)], net.b.detach()[list(order)])
    one = saliency_maps(ask(net, seed, target=order[2]))
    other = saliency_maps(ask(moved, seed, target=2))
    for name in one:
        assert torch.equal(one[name], other[name])


@given(seeds, st.lists(st.floats(0.1, 10.0), min_size=3, max_size=3))
def test_normalization_inside_changes_channel_weights_not_signs(seed, std):
    net = tied(seed, 4)
    pixels = random_pixels(1, *SHAPE, seed=seed)
    plain = class_gradients(Classifier(net), pixels, 0)
    normed = class_gradients(Classifier(net, mean=0.3, std=std), pixels, 0)
    assert torch.equal(plain.target_gradient.sign(), normed.target_gradient.sign())
    assert torch.equal(active_mask(plain), active_mask(normed))
    torch.testing.assert_close(
        normed.target_gradient,
        plain.target_gradient / torch.tensor(std, dtype=torch.float64).view(3, 1, 1),
    )


@given(seeds, st.floats(0, 1e4), st.floats(-30, 30))
def test_scaled_maps_stay_inside_their_range(seed, factor, exponent):
    assume(factor == 0 or factor > 1e-3)
    net = Scaled(quadratic(seed, 4), factor * 10.0**exponent)
    names = ["original", "positive", "negative", "active", "inactive", "signed", "margin"]
    for name, values in saliency_maps(ask(net, seed, target=0), names, normalize="minmax").items():
        assert values.isfinite().all()
        assert values.max() <= 1
        assert values.min() >= (-1 if name in ("signed", "margin") else 0)


@settings(max_examples=15)
@given(st.integers(1, 400_000), st.sampled_from(["all", "top:1", "top:3", [0, 2]]))
def test_any_memory_budget_gives_the_same_maps(budget, rivals):
    classifier = Classifier(small_cnn().double(), mean=0.5, std=0.25)
    pixels = random_pixels(3, 3, 12, 12)
    base = class_gradients(classifier, pixels, 1, rivals)
    made = class_gradients(classifier, pixels, 1, rivals, memory_budget=budget)
    for name in ("target_gradient", "rival_max", "rival_min"):
        torch.testing.assert_close(getattr(made, name), getattr(base, name), rtol=1e-9, atol=1e-12)
