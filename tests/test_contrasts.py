"""Several rivals as one weighted mean: weights, two passes, and the paper's own identity."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chiaroscuro import ChoiceError, Classifier, InputError, class_gradients, saliency_maps
from chiaroscuro.choices import RivalRule, parse_rivals
from chiaroscuro.gradients import Method
from chiaroscuro.gradients.classes import rival_weights
from tests.toys import Linear, all_class_gradients, random_pixels, small_cnn

WEIGHTED = ["softmax", "softmax:2", "mean", "mean:3", {0: 1.0, 3: 3.0}, {2: 1e-3}]


@pytest.fixture
def net():
    return small_cnn().double()


@pytest.fixture
def classifier(net):
    return Classifier(net, mean=0.5, std=0.25)


def naive_weights(rule, logits, c):
    """The weights of one image, by hand."""
    others = [k for k in range(len(logits)) if k != c]
    ranked = sorted(others, key=lambda k: -logits[k])
    if isinstance(rule, dict):
        raw = {k: w for k, w in rule.items() if k != c}
    else:
        word, _, count = rule.partition(":")
        used = ranked[: int(count)] if count else others
        raw = {k: 1.0 if word == "mean" else float(torch.tensor(logits[k]).exp()) for k in used}
    return [raw.get(k, 0.0) / sum(raw.values()) for k in range(len(logits))]


@pytest.mark.parametrize("rule", WEIGHTED, ids=str)
@pytest.mark.parametrize("budget", [None, 1])
@pytest.mark.parametrize("score", ["logit", "log-probability"])
def test_a_weighted_contrast_is_the_mean_of_the_rivals_gradients(
    net, classifier, rule, budget, score
):
    pixels, target = random_pixels(3, 3, 12, 12), [1, 4, 0]
    calls = []
    found = class_gradients(
        classifier, pixels, target, rule, score=score, memory_budget=budget,
        progress=lambda *told: calls.append(told),
    )  # fmt: skip
    net.eval()

    def scores(x):
        logits = net((x - 0.5) / 0.25)
        return logits if score == "logit" else logits.log_softmax(dim=1)

    gradients = all_class_gradients(scores, pixels)
    for b, c in enumerate(target):
        weights = naive_weights(rule, found.logits[b].tolist(), c)
        mean = torch.einsum("k,kchw->chw", torch.tensor(weights).double(), gradients[b])
        torch.testing.assert_close(found.rival_max[b], mean, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(found.target_gradient[b], gradients[b, c])
        assert c not in found.rivals[b]
    assert torch.equal(found.rival_max, found.rival_min)
    assert calls[-1] == (6, 6)  # two passes an image, whatever K is


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), st.integers(0, 4), st.floats(0.1, 30))
def test_softmax_contrast_is_the_gradient_of_the_log_probability(seed, target, steepness):
    """grad log softmax_c = (1 - p_c) (g_c - sum over rivals of a_k g_k)."""
    net = small_cnn().double()
    with torch.no_grad():
        net[8].weight.mul_(steepness)
    classifier = Classifier(net)
    pixels = random_pixels(2, 3, 8, 8, seed=seed)
    contrast = class_gradients(classifier, pixels, target, "softmax")
    log = class_gradients(classifier, pixels, target, "runner-up", score="log-probability")
    rest = 1 - contrast.logits.softmax(dim=1)[:, target].view(-1, 1, 1, 1)
    torch.testing.assert_close(
        log.target_gradient,
        rest * (contrast.target_gradient - contrast.rival_max),
        rtol=1e-6,
        atol=1e-9,
    )


def test_it_is_above_zero_on_active_entries_and_below_on_inactive_ones(classifier):
    pixels = random_pixels(3, 3, 12, 12)
    every = class_gradients(classifier, pixels)
    soft = class_gradients(classifier, pixels, rivals="softmax")
    lead = soft.target_gradient - soft.rival_max
    active, inactive = (
        every.target_gradient > every.rival_max,
        every.target_gradient < every.rival_min,
    )
    assert active.any() and inactive.any()
    assert (lead[active] > 0).all() and (lead[inactive] < 0).all()


def test_with_one_rival_every_rule_is_the_same():
    weights = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    classifier, pixels = Classifier(Linear(weights)), torch.rand(2, 3, 4, 4)
    base = class_gradients(classifier, pixels, 0)
    for rule in ("softmax", "mean", "runner-up", {1: 0.3}, [1], "top:1"):
        made = class_gradients(classifier, pixels, 0, rule)
        torch.testing.assert_close(made.rival_max, base.rival_max)
        margin = saliency_maps(made, ["margin"], reduce="none")["margin"]
        torch.testing.assert_close(margin, (weights[0] - weights[1]).expand(2, -1, -1, -1))


def test_the_mean_is_taken_of_the_methods_attributions(net, classifier):
    pixels = random_pixels(2, 3, 12, 12)
    products = all_class_gradients(lambda x: net.eval()((x - 0.5) / 0.25), pixels)
    # With the target among the classes that have weights, an image has fewer rivals than another.
    for rule, target in (("mean:2", [1, 4]), ({0: 1.0, 3: 3.0}, [0, 4])):
        for name in ("input-x-gradient", "lrp"):
            found = class_gradients(classifier, pixels, target, rule, Method(name))
            for b, c in enumerate(target):
                weights = torch.tensor(naive_weights(rule, found.logits[b].tolist(), c))
                mean = torch.einsum("k,kchw->chw", weights.double(), products[b]) * pixels[b]
                torch.testing.assert_close(found.rival_max[b], mean, rtol=1e-5, atol=1e-6)


@settings(max_examples=50)
@given(
    st.lists(st.floats(-50, 50), min_size=2, max_size=8),
    st.sampled_from(["softmax", "mean", "softmax:1", "mean:2", "all", "runner-up"]),
    st.data(),
)
def test_weights_are_a_mean_without_the_target(logits, word, data):
    target = data.draw(st.integers(0, len(logits) - 1))
    weights = rival_weights(
        parse_rivals(word), torch.tensor([logits], dtype=torch.float64), torch.tensor([target])
    )
    assert weights.shape == (1, len(logits))
    assert weights[0, target] == 0
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(), torch.tensor(1.0, dtype=torch.float64))


def test_words_and_weights_are_read_back():
    for rivals in (*WEIGHTED, "all", "top:7", "runner-up", [4, 1]):
        rule = parse_rivals(rivals)
        assert parse_rivals(str(rule)) == rule == parse_rivals(rule)
    assert parse_rivals("runner-up") == parse_rivals("top:1")
    assert parse_rivals({3: 0, 1: 2}) == RivalRule(classes=(1,), weights=(2.0,))
    assert parse_rivals("softmax").most_classes(1000) == 2
    assert not parse_rivals("top:3").is_weighted


@pytest.mark.parametrize(
    ("rivals", "message"),
    [
        ({}, "rivals have weights for no class"),
        ({1: -1.0, 2: 3.0}, "rivals have weights 1=-1, 2=3: expected numbers >= 0"),
        ({1: 0.0}, "one above 0"),
        ({1: float("nan")}, "expected numbers >= 0"),
        ("softmax:0", "give all, top:N"),
        ("top:-1", "give all, top:N"),
        ("runner-up:2", "runner-up, mean"),
        ("mean:", "give all, top:N"),
        ("1=x", "give all, top:N"),
        ("1=1,1=2", "give all, top:N"),
        ("1=2,cat", "give all, top:N"),
        ('a"b', "give all, top:N"),
        ('"', "give all, top:N"),
        (" ; ;", "give all, top:N"),
    ],
)
def test_refused_words(rivals, message):
    with pytest.raises(ChoiceError, match=message):
        parse_rivals(rivals)


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("#3,#1", (1, 3)),
        ("cat, #3 ,dog", (3, "cat", "dog")),
        ("tabby, tabby cat; #7", (7, "tabby, tabby cat")),
        ('"tabby, tabby cat",#7', (7, "tabby, tabby cat")),
        ("3,#3", (3, "3")),
        ('"#3",#3', (3, "#3")),
        ('"all"', ("all",)),
        ('"say ""a"", b"', ('say "a", b',)),
        ("cat;", ("cat",)),
        ("allspice", ("allspice",)),
    ],
)
def test_classes_are_read_by_index_and_name(text, classes):
    rule = parse_rivals(text)
    assert rule.classes == classes
    assert parse_rivals(str(rule)) == rule == parse_rivals(list(classes))


_CLASSES = st.one_of(
    st.integers(0, 2000),
    st.text(min_size=1, max_size=8),
    st.text('a,;="#: 3', min_size=1, max_size=5),
    st.sampled_from(["all", "top:3", "mean", "softmax:2", "runner-up"]),
)
_WEIGHTS = st.floats(0, 1e6, exclude_min=True, allow_subnormal=True)
_RULES = st.one_of(
    st.builds(
        RivalRule,
        count=st.one_of(st.none(), st.integers(1, 2000)),
        weighting=st.sampled_from(["none", "mean", "softmax"]),
    ),
    st.lists(_CLASSES, min_size=1, max_size=5).map(parse_rivals),
    st.dictionaries(_CLASSES, _WEIGHTS, min_size=1, max_size=5).map(parse_rivals),
)


@settings(max_examples=300, deadline=None)
@given(_RULES)
def test_a_rule_is_read_back_from_its_text(rule):
    assert parse_rivals(str(rule)) == rule


def test_names_become_indices_where_a_classifier_knows_them(net):
    named = Classifier(net, labels=["ant", "bee, honey bee", "cat", "3", "dog"])
    pixels = random_pixels(1, 3, 12, 12)
    found = class_gradients(named, pixels, 0, "bee; dog")
    assert found.choices.rivals == RivalRule(classes=(1, 4))
    assert parse_rivals({"cat": 1, 4: 3}).resolve(named.class_index) == parse_rivals("#2=1,#4=3")
    assert parse_rivals("3,1").resolve(named.class_index).classes == (1, 3)  # "3" is a name of 3
    assert parse_rivals("#3,2").resolve(named.class_index).classes == (2, 3)
    with pytest.raises(
        ChoiceError, match=r"unknown class 'cow'.*\(rivals are classes, or all, top"
    ):
        class_gradients(named, pixels, 0, "cow")
    with pytest.raises(ChoiceError, match="one class has two weights"):
        parse_rivals("bee=1,1=2").resolve(named.class_index)
    with pytest.raises(ChoiceError, match="class names need a classifier"):
        assert parse_rivals("cat").indices


def test_refused_contrasts(classifier):
    pixels = random_pixels(1, 3, 12, 12)
    with pytest.raises(InputError, match="no single rival holds the extreme of a weighted mean"):
        class_gradients(classifier, pixels, rivals="softmax", argmax=True)
    with pytest.raises(InputError, match="no rival is left for target 2"):
        class_gradients(classifier, pixels, 2, {2: 1.0})
    with pytest.raises(ChoiceError, match=r"class 9 is out of range: expected 0\.\.4"):
        class_gradients(classifier, pixels, 2, {9: 1.0})


@pytest.mark.parametrize(
    "options",
    [{"count": 2.5}, {"count": "3"}, {"count": True}],
)
def test_a_rule_of_the_wrong_kind_is_a_choice(options):
    with pytest.raises(ChoiceError, match="rivals"):
        RivalRule(**options)


def test_as_many_rivals_as_the_largest_networks_have():
    many = tuple(range(21_843))
    assert parse_rivals(str(RivalRule(classes=many))).classes == many
