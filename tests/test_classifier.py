"""A classifier: what it is made with, what it accepts, how outputs and class names are read."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from chiaroscuro import ChoiceError, Classifier, ImageError, ModelError
from chiaroscuro.images import Framing
from tests.toys import random_pixels, small_cnn


class Fixed(nn.Module):
    """Answers the same output whatever the pixels, or raises it."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class ByName(dict):
    """Like a Hugging Face ModelOutput: a mapping whose keys are attributes too."""

    __getattr__ = dict.__getitem__


def pixels(*shape):
    return random_pixels(*(shape or (2, 3, 4, 4)))


# Normalization


@pytest.mark.parametrize(
    ("mean", "std", "expected"),
    [
        (None, None, lambda x: x),
        (0.5, 0.25, lambda x: (x - 0.5) / 0.25),
        (0.5, None, lambda x: x - 0.5),
        (None, 0.25, lambda x: x / 0.25),
        (0, 2, lambda x: x / 2),
        ([0.1, 0.2, 0.3], 0.5, lambda x: (x - x.new_tensor([0.1, 0.2, 0.3])[:, None, None]) / 0.5),
        ([0.1, 0.2, 0.3], (0.4, 0.5, 0.6),
         lambda x: (x - x.new_tensor([0.1, 0.2, 0.3])[:, None, None])
         / x.new_tensor([0.4, 0.5, 0.6])[:, None, None]),
    ],
)  # fmt: skip
def test_mean_and_std_are_applied_per_channel_inside(mean, std, expected):
    x = pixels()
    logits = Classifier(nn.Flatten(), mean=mean, std=std)(x)
    assert_close(logits, expected(x).flatten(1), rtol=1e-15, atol=1e-15)


def test_one_channel_has_one_mean():
    classifier = Classifier(nn.Flatten(), mean=0.5, std=[0.2], channels=1)
    assert (classifier.mean, classifier.std) == ((0.5,), (0.2,))
    assert_close(classifier(pixels(2, 1, 4, 4)), ((pixels(2, 1, 4, 4) - 0.5) / 0.2).flatten(1))


@pytest.mark.parametrize("name", ["mean", "std"])
@pytest.mark.parametrize(("numbers", "channels"), [([0.5, 0.5], 3), ([0.5] * 3, 1), ([], 3)])
def test_numbers_that_do_not_fit_the_channels_are_refused(name, numbers, channels):
    with pytest.raises(
        ChoiceError, match=f"{name} has {len(numbers)} numbers: expected {channels}"
    ):
        Classifier(nn.Flatten(), channels=channels, **{name: numbers})


@pytest.mark.parametrize("std", [0, [0.5, 0.0, 0.5], -1.0])
def test_a_std_of_zero_or_less_is_refused(std):
    with pytest.raises(ChoiceError, match=r"std is \(.*\): expected numbers above 0"):
        Classifier(nn.Flatten(), std=std)


@pytest.mark.parametrize("module", [None, "resnet18", nn.functional.relu, nn.Flatten])
def test_something_other_than_a_module_is_refused(module):
    message = rf"module is a {type(module).__name__}: expected an nn\.Module"
    with pytest.raises(ModelError, match=message):
        Classifier(module)


def test_size_is_one_number_or_two_and_a_framing_brings_its_own():
    assert Classifier(nn.Flatten()).size is None
    assert Classifier(nn.Flatten(), size=8).size == (8, 8)
    assert Classifier(nn.Flatten(), size=(8, 9)).size == (8, 9)
    framing = Framing((5, 6), (7, 8), "crop", "bicubic")
    assert Classifier(nn.Flatten(), framing=framing).framing == framing
    assert Classifier(nn.Flatten(), framing=framing).size == (5, 6)


def test_a_classifier_is_named_after_its_module_unless_told():
    assert Classifier(nn.Flatten()).name == "Flatten"
    assert Classifier(nn.Flatten(), name="mine").name == "mine"
    assert dict(Classifier(nn.Flatten(), origin={"weights": "made here"}).origin) == {
        "weights": "made here"
    }


# Outputs


SCORES = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


@pytest.mark.parametrize(
    "output",
    [
        SCORES,
        (SCORES, "more"),
        [SCORES],
        {"loss": None, "logits": SCORES},
        ByName(logits=SCORES, hidden=None),
        SimpleNamespace(logits=SCORES),
    ],
    ids=["tensor", "tuple", "list", "dict", "mapping with attributes", "object"],
)
def test_logits_are_found_in_every_usual_output(output):
    assert torch.equal(Classifier(Fixed(output))(pixels()), SCORES)


def test_one_column_is_read_as_two_classes():
    column = torch.tensor([[3.0], [-1.0]])
    classifier = Classifier(Fixed(column), labels=["no", "yes"])
    logits = classifier(pixels())
    assert logits.tolist() == [[-1.5, 1.5], [0.5, -0.5]]
    likely = classifier.probabilities(logits)
    assert_close(likely, torch.cat([1 - column.sigmoid(), column.sigmoid()], dim=1))


def test_probabilities_are_softmax_or_sigmoid():
    assert_close(Classifier(Fixed(SCORES)).probabilities(SCORES), SCORES.softmax(1))
    many = Classifier(Fixed(SCORES), multi_label=True)
    assert_close(many.probabilities(SCORES), SCORES.sigmoid())


@pytest.mark.parametrize("shape", [(2,), (2, 3, 1), (3, 3), (1, 3), (2, 0), ()])
def test_another_output_shape_is_refused(shape):
    message = r"Fixed returned shape \(.*\) for 2 images: expected logits \(B, K\) = \(2, K\)"
    with pytest.raises(ModelError, match=message):
        Classifier(Fixed(torch.zeros(shape)))(pixels())


def test_integer_logits_are_refused():
    with pytest.raises(ModelError, match=r"Fixed returned torch\.int64: expected floating-point"):
        Classifier(Fixed(torch.zeros(2, 3, dtype=torch.int64)))(pixels())


@pytest.mark.parametrize(
    ("output", "named"),
    [(None, "NoneType"), ("logits", "str"), ({"scores": SCORES}, "dict"), ([], "list")],
)
def test_an_output_without_logits_is_refused_by_its_type(output, named):
    message = rf"Fixed returned a {named}: expected logits as a tensor \(B, K\), a tuple's first"
    with pytest.raises(ModelError, match=message):
        Classifier(Fixed(output))(pixels())


@pytest.mark.parametrize(
    "error",
    [RuntimeError, ValueError, TypeError, AssertionError, IndexError, KeyError, AttributeError],
)
def test_a_module_that_raises_becomes_one_line(error):
    with pytest.raises(ModelError) as caught:
        Classifier(Fixed(error("broken on purpose\nat length")), name="net")(pixels())
    message = str(caught.value)
    assert message.startswith("net failed on pixels of shape (2, 3, 4, 4): ")
    assert "broken on purpose" in message
    assert len(message.splitlines()) == 1
    assert isinstance(caught.value.__cause__, error)


def test_a_module_that_raises_without_words_gives_the_errors_type():
    with pytest.raises(ModelError, match=r"\(2, 3, 4, 4\): NotImplementedError$"):
        Classifier(Fixed(NotImplementedError()))(pixels())


def test_another_size_than_the_network_takes_is_one_line():
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).double()
    with pytest.raises(ModelError, match=r"Sequential failed on pixels of shape \(1, 3, 5, 5\): "):
        Classifier(net)(pixels(1, 3, 5, 5))


@pytest.mark.parametrize("count", [2, 4])
def test_labels_of_another_count_are_refused_when_asked(count):
    classifier = Classifier(Fixed(SCORES), labels=["x"] * count)
    with pytest.raises(ModelError, match=f"Fixed gives 3 classes but has {count} labels"):
        classifier(pixels())


# Pixels


@pytest.mark.parametrize("shape", [(3, 4, 4), (4, 4), (0, 3, 4, 4), (2, 3, 0, 4), (1, 1, 3, 4, 4)])
def test_pixels_of_another_shape_are_refused(shape):
    message = r"pixels are a Tensor of shape \(.*\): expected a tensor \(B, C, H, W\) with at least"
    with pytest.raises(ImageError, match=message):
        Classifier(nn.Flatten())(torch.zeros(shape))


def test_a_numpy_array_is_not_pixels():
    message = r"pixels are a ndarray of shape \(2, 3, 4, 4\): expected a tensor"
    with pytest.raises(ImageError, match=message):
        Classifier(nn.Flatten())(pixels().numpy())


@pytest.mark.parametrize(("found", "expected"), [(1, 3), (4, 3), (3, 1)])
def test_pixels_with_other_channels_are_refused(found, expected):
    message = (
        rf"pixels have {found} channels \(shape \(2, {found}, 4, 4\)\): net expects {expected}"
    )
    with pytest.raises(ImageError, match=message):
        Classifier(nn.Flatten(), channels=expected, name="net")(pixels(2, found, 4, 4))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_integer_pixels_are_refused(dtype):
    message = rf"pixels are {dtype}: expected floats in \[0, 1\]; divide 8-bit values by 255"
    with pytest.raises(ImageError, match=message):
        Classifier(nn.Flatten())(torch.ones(2, 3, 4, 4, dtype=dtype))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_pixels_that_are_not_finite_are_refused(value):
    x = pixels()
    x[1, 2, 3, 0] = value
    with pytest.raises(ImageError, match="pixels holds NaN or infinite values"):
        Classifier(nn.Flatten())(x)


@pytest.mark.parametrize("value", [-0.25, 1.5, 255.0])
def test_pixels_outside_the_range_are_refused(value):
    x = torch.full((2, 3, 4, 4), 0.5)
    x[1, 2, 3, 0] = value
    low, high = sorted([0.5, value])
    message = rf"pixels has values from {low:.4g} to {high:.4g}: expected floats in \[0, 1\]; hand"
    with pytest.raises(ImageError, match=message):
        Classifier(nn.Flatten())(x)


def test_pixels_of_another_dtype_than_the_weights_are_refused():
    message = (
        r"pixels are torch\.float64 on cpu, net is torch\.float32 on cpu: bring the pixels there, "
        r"or use classifier\.to\(\.\.\.\)"
    )
    with pytest.raises(ImageError, match=message):
        Classifier(small_cnn(), name="net")(pixels(1, 3, 12, 12))


def test_the_callers_pixels_are_unchanged_by_an_operation_in_place():
    x = pixels() / 2 + 0.25
    before = x.clone()
    for net in (nn.Hardtanh(0, 0.3, inplace=True), nn.Threshold(0.5, 0.0, inplace=True)):
        for mean, std in ((None, None), (0.0, None), (None, 1.0), (0.0, 1.0)):
            logits = Classifier(nn.Sequential(net, nn.Flatten()), mean=mean, std=std)(x)
            assert not torch.equal(logits, before.flatten(1))
            assert torch.equal(x, before)


# Mode and place


def test_it_is_asked_in_eval_mode_and_flags_are_restored():
    net = small_cnn().double()
    net.train()
    net[1].eval()
    flags = [part.training for part in net.modules()]
    state = {name: value.clone() for name, value in net.state_dict().items()}
    classifier = Classifier(net)
    x = pixels(2, 3, 12, 12)
    first, second = classifier(x), classifier(x)
    assert torch.equal(first, second)
    assert [part.training for part in net.modules()] == flags
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert torch.equal(first, net.eval()(x))


def test_in_train_mode_the_same_network_would_answer_otherwise():
    net = small_cnn().double().train()
    x = pixels(2, 3, 12, 12)
    assert not torch.allclose(Classifier(net)(x), Classifier(net).logits(x))


def test_to_moves_a_copy_and_leaves_the_original():
    net = small_cnn()
    original = Classifier(net, mean=0.5, std=0.25, labels="abcde", name="net")
    moved = original.to(torch.float64)
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert original.module is net
    assert {p.dtype for p in moved.module.parameters()} == {torch.float64}
    assert (moved.mean, moved.labels, moved.name) == (original.mean, original.labels, "net")
    x = pixels(2, 3, 12, 12)
    assert_close(moved(x), original(x.float()).double(), rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        next(moved.module.parameters()).zero_()
    assert next(net.parameters()).abs().sum() > 0


# Names of classes

NAMES = [
    "crane, bird",
    "crane, machine",
    "tabby, Tabby Cat",
    "dog",
    "maillot",
    "maillot, tank suit",
]


@pytest.fixture
def named():
    """A classifier with synonyms, an ambiguous name and a label that is another's synonym."""
    return Classifier(nn.Flatten(), labels=NAMES, name="net")


@pytest.mark.parametrize(
    ("name", "index"),
    [
        (3, 3),
        ("3", 3),
        (" 0 ", 0),
        ("dog", 3),
        ("DOG", 3),
        ("tabby cat", 2),
        ("Tabby", 2),
        ("machine", 1),
        ("crane, bird", 0),
        ("tank suit", 5),
        ("  Tank Suit ", 5),
    ],
)
def test_a_class_is_found_by_index_and_by_any_of_its_names(named, name, index):
    assert named.class_index(name) == index


def test_an_ambiguous_name_lists_the_indices(named):
    message = (
        r"class 'crane' is ambiguous: give the index, 0 \(crane, bird\) or 1 \(crane, machine\)"
    )
    with pytest.raises(ChoiceError, match=message):
        named.class_index("crane")
    with pytest.raises(ChoiceError, match=r"4 \(maillot\) or 5 \(maillot, tank suit\)"):
        named.class_index("Maillot")


def test_an_unknown_name_comes_with_near_ones(named):
    message = r"unknown class 'taby': did you mean tabby.*\? net has 6 classes$"
    with pytest.raises(ChoiceError, match=message):
        named.class_index("taby")


@pytest.mark.parametrize("name", ["zebra fish", "", "--3", "3.0", "1e0"])
def test_an_unlike_name_says_how_many_classes_there_are(named, name):
    with pytest.raises(ChoiceError, match=rf"unknown class '{name}': .*net has 6 classes$"):
        named.class_index(name)


@pytest.mark.parametrize("index", [6, -1, "6", "-1", 10**12])
def test_an_index_out_of_range_gives_the_range(named, index):
    with pytest.raises(ChoiceError, match=rf"class {index} is out of range: expected 0\.\.5"):
        named.class_index(index)


def test_without_names_a_class_is_its_index():
    classifier = Classifier(nn.Flatten(), name="net")
    assert classifier.class_index("7") == 7
    assert classifier.label(7) == "class 7"
    with pytest.raises(ChoiceError, match="class 'dog': net has no class names, give an index"):
        classifier.class_index("dog")
    with pytest.raises(ChoiceError, match=r"class -2 is out of range: expected 0\.\.K-1"):
        classifier.class_index(-2)


def test_the_packaged_names_are_imagenets(lite0):
    assert lite0.class_index("tabby cat") == 281
    assert lite0.label(281).startswith("tabby")
    with pytest.raises(ChoiceError, match=r"class 'crane' is ambiguous: .* 134 .* 517 "):
        lite0.class_index("crane")
