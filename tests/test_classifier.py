"""A classifier: what it is made with, what it accepts, how outputs and class names are read."""

from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from torch import nn
from torch.testing import assert_close

from chiaroscuro import ChoiceError, Classifier, ImageError, ModelError, class_gradients
from chiaroscuro.images import Framing, frame, open_photo
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
    [(None, "NoneType"), ("logits", "str"), ({"scores": 3}, "dict"), ([], "list")],
)
def test_an_output_without_logits_is_refused_by_its_type(output, named):
    message = rf"Fixed returned a {named} with no tensors: expected logits as a tensor \(2, K\)"
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
    assert message.startswith("net failed on an image of 3 x 4 x 4 (C x H x W): ")
    assert "broken on purpose" in message
    assert len(message.splitlines()) == 1
    assert isinstance(caught.value.__cause__, error)
    with pytest.raises(ModelError, match=r"\(C x H x W\)[^;]*$"):
        Classifier(Fixed(error("once")), size=4)(pixels())


def test_a_module_that_raises_without_words_gives_the_errors_type():
    with pytest.raises(
        ModelError,
        match=r"3 x 4 x 4 \(C x H x W\): NotImplementedError; to scale photos .*size=...\)$",
    ):
        Classifier(Fixed(NotImplementedError()))(pixels())


def test_another_size_than_the_network_takes_is_one_line():
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).double()
    with pytest.raises(ModelError, match=r"Sequential failed on an image of 3 x 5 x 5 "):
        Classifier(net)(pixels(1, 3, 5, 5))


@pytest.mark.parametrize("count", [2, 4])
def test_labels_of_another_count_are_refused_when_asked(count):
    classifier = Classifier(Fixed(SCORES), labels=["x"] * count)
    with pytest.raises(ModelError, match=f"Fixed gives 3 classes but has {count} labels"):
        classifier(pixels())


# Pixels


@pytest.mark.parametrize("shape", [(3, 4, 4), (4, 4), (0, 3, 4, 4), (2, 3, 0, 4), (1,) * 6])
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
    message = rf"pixels have {found} channels \(shape \({found}, 4, 4\)\): net expects {expected}"
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


def test_to_moves_the_module_in_place_as_pytorch_does():
    net = small_cnn()
    classifier = Classifier(net, mean=0.5, std=0.25, name="net")
    x = pixels(2, 3, 12, 12)
    before = classifier(x.float())
    assert classifier.to(torch.float64) is classifier
    assert classifier.module is net
    assert {p.dtype for p in net.parameters()} == {torch.float64}
    assert classifier.dtype == torch.float64
    assert_close(classifier(x), before.double(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "wrap", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm]
)
def test_modules_with_parametrized_weights_move_too(wrap):
    classifier = Classifier(nn.Sequential(nn.Flatten(), wrap(nn.Linear(12, 3))))
    assert classifier.to(torch.float64)(pixels(2, 3, 2, 2)).dtype == torch.float64


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
        r"class 'crane' is ambiguous: give the index, #0 \(crane, bird\) or #1 \(crane, machine\)"
    )
    with pytest.raises(ChoiceError, match=message):
        named.class_index("crane")
    with pytest.raises(ChoiceError, match=r"#4 \(maillot\) or #5 \(maillot, tank suit\)"):
        named.class_index("Maillot")


def test_an_unknown_name_comes_with_near_ones(named):
    message = r"unknown class 'taby': did you mean tabby.*\? net has 6 classes: crane, bird; crane"
    with pytest.raises(ChoiceError, match=message):
        named.class_index("taby")


@pytest.mark.parametrize("name", ["zebra fish", "", "--3", "3.0", "1e0"])
def test_an_unlike_name_says_how_many_classes_there_are(named, name):
    with pytest.raises(ChoiceError, match=rf"unknown class '{name}': .*net has 6 classes: "):
        named.class_index(name)


@pytest.mark.parametrize("index", [6, -1, "6", "-1", 10**12])
def test_an_index_out_of_range_gives_the_range(named, index):
    with pytest.raises(ChoiceError, match=rf"class {index} is out of range: expected 0\.\.5"):
        named.class_index(index)


def test_without_names_a_class_is_its_index():
    classifier = Classifier(nn.Flatten(), name="net")
    assert classifier.class_index("7") == 7
    assert classifier.label(7) == "class 7"
    assert classifier.class_index("class 7") == classifier.class_index("#7") == 7
    with pytest.raises(ChoiceError, match="class 'dog': net has no class names, give an index"):
        classifier.class_index("dog")
    with pytest.raises(ChoiceError, match=r"class -2 is out of range: expected 0\.\.K-1"):
        classifier.class_index(-2)


def test_the_packaged_names_are_imagenets(lite0):
    assert lite0.class_index("tabby cat") == 281
    assert lite0.label(281).startswith("tabby")
    with pytest.raises(ChoiceError, match=r"class 'crane' is ambiguous: .*#134 .*#517 "):
        lite0.class_index("crane")


# What PyTorch users expect


FEATURES = torch.rand(2, 8)


@pytest.mark.parametrize(
    ("output", "labels"),
    [
        ({"out": SCORES, "aux": SCORES + 1}, None),
        (SCORES[:, :, None, None], None),
        ({"out": SCORES[:, :, None, None]}, None),
        ((FEATURES, SCORES), "abc"),
        ((torch.rand(2, 4, 5, 5), SCORES), None),
        ((torch.tensor(0.3), SCORES), None),
        ((SCORES, SCORES + 1), "abc"),
        ({"scores": SCORES, "features": torch.rand(2, 4, 5)}, None),
    ],
    ids=[
        "out",
        "1 x 1 map",
        "both",
        "features first",
        "a map first",
        "a loss first",
        "an auxiliary head after",
        "one in dict",
    ],
)
def test_logits_are_found_among_other_tensors(output, labels):
    classifier = Classifier(Fixed(output), labels=labels and list(labels))
    assert torch.equal(classifier(pixels()), SCORES)


def test_several_tensors_that_could_be_logits_are_refused_with_their_shapes():
    message = r"tuple with \(2, 8\), \(2, 3\): expected logits .* give labels"
    with pytest.raises(ModelError, match=message):
        Classifier(Fixed((FEATURES, SCORES)))(pixels())
    with pytest.raises(ModelError, match=message):
        Classifier(Fixed((FEATURES, SCORES)), labels=["x"] * 5)(pixels())


def test_labels_may_be_names_by_index():
    assert Classifier(Fixed(SCORES), labels={1: "b", 0: "a", 2: "c"}).labels == ("a", "b", "c")
    with pytest.raises(ChoiceError, match=r"labels has keys \[0, 2\]: expected every class index"):
        Classifier(Fixed(SCORES), labels={0: "a", 2: "c"})
    assert Classifier(Fixed(SCORES), labels={"1": "b", "0": "a"}).labels == ("a", "b")  # of JSON
    with pytest.raises(ChoiceError, match=r"labels has keys \['a'\]: expected every class index"):
        Classifier(Fixed(SCORES), labels={"a": 0})
    with pytest.raises(ChoiceError, match=r"labels is \[\]: expected a list with a name"):
        Classifier(Fixed(SCORES), labels=[])
    for wrong in ("abc", 3, {"a", "b"}):
        with pytest.raises(ChoiceError, match="expected a list with a name for each class"):
            Classifier(Fixed(SCORES), labels=wrong)


def test_text_is_a_name_before_it_is_an_index():
    classifier = Classifier(Fixed(SCORES), labels=["1", "10", "11", "2", "3"])
    assert classifier.class_index("3") == 4
    assert classifier.class_index("#3") == 3
    assert classifier.class_index(3) == 3
    assert classifier.class_index("4") == 4  # nobody is called so
    for number in (np.int64(3), torch.tensor(3), 3.0):
        assert classifier.class_index(number) == 3
    with pytest.raises(ChoiceError, match=r"class 7 is out of range: expected 0\.\.4"):
        classifier.class_index("7")
    with pytest.raises(ChoiceError, match="expected a whole number"):
        classifier.class_index(2.5)


@pytest.mark.parametrize("number", [np.float32(0.5), torch.tensor(0.5), np.array(0.5)])
def test_numbers_of_any_library_are_numbers(number):
    classifier = Classifier(nn.Flatten(), mean=number, std=[number] * 3, size=np.int64(8))
    assert (classifier.mean, classifier.std, classifier.size) == ((0.5,) * 3, (0.5,) * 3, (8, 8))
    assert Classifier(nn.Flatten(), mean=np.array([0.1, 0.2, 0.3])).mean == (0.1, 0.2, 0.3)


@pytest.mark.parametrize("name", ["mean", "std"])
def test_numbers_for_pixels_up_to_255_are_noticed(name):
    with pytest.raises(ChoiceError, match=rf"{name} is \(123\.7, .* divide it by 255"):
        Classifier(nn.Flatten(), **{name: (123.7, 116.3, 103.5)})


def test_it_says_what_it_is_in_a_line():
    classifier = Classifier(small_cnn(), name="net")
    assert repr(classifier) == "Classifier('net', unknown classes, any size, cpu float32)"
    assert classifier.num_classes is None
    classes = classifier(pixels(1, 3, 12, 12).float()).shape[1]
    assert classifier.num_classes == classes
    assert f"{classes} classes" in repr(classifier)
    named = Classifier(Fixed(SCORES), labels=list("abc"), size=(8, 9), name="n")
    assert repr(named) == "Classifier('n', 3 classes, 8x9, cpu float32)"
    assert (named.device, named.dtype) == (torch.device("cpu"), torch.float32)
    facts = named.describe()
    assert (facts.name, facts.framing.size, facts.device, facts.dtype) == (
        "n", (8, 9), "cpu", "float32",
    )  # fmt: skip
    digest = classifier.describe(digest=True).sha256
    assert digest == Classifier(small_cnn()).describe(digest=True).sha256
    with torch.no_grad():
        classifier.module[0].weight[0, 0, 0, 0] += 1
    assert digest != classifier.describe(digest=True).sha256


def test_a_module_without_values_is_refused():
    with torch.device("meta"):
        net = nn.Linear(3, 2)
    with pytest.raises(
        ModelError, match="the module's weight is on the meta device, which holds no v"
    ):
        Classifier(net)


def test_a_compiled_module_is_used_as_it_was_before():
    net = small_cnn().double()
    compiled = torch.compile(net)
    classifier = Classifier(compiled)
    assert classifier.module is net
    assert "torch.compile" in classifier.notes[0]
    inside = small_cnn().double()
    inside.load_state_dict(net.state_dict())
    inside.compile()
    other = Classifier(inside)
    assert "compile()" in other.notes[0]
    x = pixels(2, 3, 12, 12)
    assert torch.equal(other(x), classifier(x))
    mine, theirs = class_gradients(other, x), class_gradients(classifier, x)
    assert torch.equal(mine.rival_max, theirs.rival_max)


def test_modules_of_libraries_bring_what_belongs_to_them(tmp_path):
    weights = torchvision.models.EfficientNet_B0_Weights.DEFAULT
    classifier = Classifier.from_torchvision(torchvision.models.efficientnet_b0(), weights)
    assert (classifier.name, classifier.size) == ("efficientnet_b0", (224, 224))
    assert classifier.origin["architecture"] == "torchvision:efficientnet_b0"
    assert classifier.mean == (0.485, 0.456, 0.406)
    assert classifier.label(0) == "tench"
    timm_model = timm.create_model("test_resnet", num_classes=3)
    found = Classifier.from_timm(timm_model, name="mine")
    assert (found.name, found.size, found.labels) == ("mine", (160, 160), None)
    assert found.origin["architecture"] == "timm:test_resnet"


# Pictures


def test_pictures_of_every_kind_are_the_same_pixels(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    picture = Image.fromarray(array)
    picture.save(tmp_path / "p.png")
    classifier = Classifier(small_cnn().double(), size=12)
    given = [tmp_path / "p.png", str(tmp_path / "p.png"), picture, array, array / 255]
    found = classifier.preprocess(given)
    assert found.shape == (5, 3, 12, 12)
    assert found.dtype == torch.float64
    for one in given:
        assert torch.equal(classifier.preprocess(one)[0], found[0])
    assert torch.equal(found, found[:1].expand_as(found))
    expected, _ = frame(open_photo(tmp_path / "p.png"), classifier.framing)
    assert_close(found[0], torch.from_numpy(expected).double())
    padded = classifier.preprocess(picture, fit="pad")
    assert not torch.equal(padded[0], found[0])


def test_arrays_of_other_channels_are_converted():
    values = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
    color, gray = (Classifier(nn.Flatten(), size=12, channels=count) for count in (3, 1))
    assert color.preprocess(values[..., 0]).shape == (1, 3, 12, 12)
    assert torch.equal(gray.preprocess(values), gray.preprocess(Image.fromarray(values)))
    assert gray.preprocess(values[..., :1]).shape == (1, 1, 12, 12)


def test_pictures_of_several_sizes_need_a_size():
    classifier = Classifier(small_cnn())
    with pytest.raises(ImageError, match="pictures have 2 sizes"):
        classifier.preprocess([Image.new("RGB", (8, 9)), Image.new("RGB", (9, 8))])
    with pytest.raises(ImageError, match="pictures have 0 sizes"):
        classifier.preprocess([])
    with pytest.raises(ImageError, match="image is a int"):
        classifier.preprocess([3])


def test_a_map_goes_back_to_the_photos_pixels():
    classifier = Classifier(nn.Flatten(), size=4)
    picture = Image.new("RGB", (16, 8))  # the middle 8 x 8 is seen, 2 photo pixels each
    values = torch.arange(16.0).view(4, 4)
    drawn = classifier.to_photo(values, picture)
    assert drawn.shape == (8, 16)
    assert np.isnan(drawn[:, :4]).all() and np.isnan(drawn[:, 12:]).all()
    np.testing.assert_array_equal(drawn[:, 4:12], np.kron(values.numpy(), np.ones((2, 2))))
    with pytest.raises(ImageError, match=r"values have shape \(3, 4\): the network sees \(4, 4\)"):
        classifier.to_photo(values[:3], picture)


@pytest.mark.parametrize("kind", [np.float32, np.uint8, torch.Tensor])
def test_an_array_of_the_classifiers_size_is_taken_as_it_is(kind):
    classifier = Classifier(small_cnn().double(), framing=Framing((12, 12), (16, 16)))
    values = np.random.default_rng(0).integers(0, 256, (2, 12, 12, 3), np.uint8)
    given = values if kind is np.uint8 else (values / 255).astype(np.float32)
    expected = torch.from_numpy(values / 255).permute(0, 3, 1, 2)
    if kind is torch.Tensor:
        given = torch.from_numpy(given).permute(0, 3, 1, 2)
    for pictures in (given, list(given)):
        assert_close(classifier.preprocess(pictures), expected, rtol=0, atol=1e-7)
    assert_close(classifier.preprocess(given[1]), expected[1:], rtol=0, atol=1e-7)
    values = torch.arange(144.0).view(12, 12)
    np.testing.assert_array_equal(classifier.to_photo(values, given[0]), values.numpy())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (8,)}, "size has 1 numbers: expected 2"),
        ({"size": "8"}, "size is '8': expected a number"),
        ({"size": 0}, r"size is \(0, 0\): expected"),
        ({"channels": 0}, "channels is 0: expected 3, or 1 for gray input"),
        ({"mean": float("nan")}, "mean is .*: expected finite numbers"),
        ({"std": float("inf")}, "std is .*: expected finite numbers"),
        ({"mean": "0.5"}, "mean is '0.5': expected a number"),
        ({"mean": (123.7, 116.8, 103.9)}, "mean is .* for pixels of 0 to 255: divide it by 255"),
    ],
)
def test_numbers_that_cannot_be_meant_are_refused(options, message):
    with pytest.raises(ChoiceError, match=message):
        Classifier(nn.Flatten(), **options)


def test_numbers_of_numpy_and_torch_are_numbers():
    classifier = Classifier(
        nn.Flatten(), mean=np.float32(0.5), std=torch.full((3,), 0.25), size=np.int64(8)
    )
    assert (classifier.mean, classifier.std) == ((0.5,) * 3, (0.25,) * 3)
    assert classifier.size == Classifier(nn.Flatten(), size=np.array([8, 8])).size == (8, 8)


def test_modules_that_are_not_of_the_library_are_refused():
    weights = torchvision.models.ResNet18_Weights
    for wrong in (weights, "IMAGENET1K_V1", None):
        with pytest.raises(ModelError, match="is no member of weights for classification"):
            Classifier.from_torchvision(nn.Flatten(), wrong)
    with pytest.raises(ModelError, match="Flatten is no classifier of timm"):
        Classifier.from_timm(nn.Flatten())
    with pytest.raises(ModelError, match="Flatten with NoneType is no classifier with an image pr"):
        Classifier.from_huggingface(nn.Flatten(), None)


# Modules that are not plain


def scripted(form, net):
    if form == "traced":
        return torch.jit.trace(net, pixels(1, 3, 12, 12))
    module = torch.jit.script(net)
    return torch.jit.freeze(module) if form == "frozen" else module


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
@pytest.mark.parametrize("form", ["scripted", "frozen", "traced"])
def test_torchscript_gives_the_same_gradients(form):
    net = small_cnn().double().eval()
    x = pixels(2, 3, 12, 12)
    expected = class_gradients(Classifier(net), x)
    module = scripted(form, net)
    if form != "frozen":
        module.train()
    found = class_gradients(Classifier(module), x)
    assert getattr(module, "training", True)
    assert_close(found.logits, expected.logits, rtol=1e-9, atol=1e-9)
    assert_close(found.rival_max, expected.rival_max, rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
def test_tensors_that_gradients_do_not_pass_are_refused_by_name():
    from torch.utils.mkldnn import to_mkldnn  # warns when it is imported

    with pytest.raises(ModelError, match=r"the module's 0\.bias is in MKL-DNN layout"):
        Classifier(to_mkldnn(small_cnn().eval()))
    with pytest.raises(ModelError, match=r"the module's 1\.weight has no shape yet: run"):
        Classifier(nn.Sequential(nn.Flatten(), nn.LazyLinear(3)))
    net = small_cnn()
    net.register_buffer("empty", torch.zeros(3, device="meta"))
    with pytest.raises(ModelError, match="the module's empty is on the meta device"):
        Classifier(net)


def test_a_module_with_a_sparse_buffer_has_a_digest():
    net = small_cnn()
    net.register_buffer("graph", torch.eye(3).to_sparse())
    digest = Classifier(net).describe(digest=True).sha256
    net.graph = (2 * torch.eye(3)).to_sparse()
    assert Classifier(net).describe(digest=True).sha256 != digest


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((3, 30, 20), np.uint8), np.zeros((30, 20, 5), np.uint8), np.zeros(9, np.uint8),
        np.array(1.0), np.array(7, np.uint8), torch.tensor(1.0), np.full((8, 8, 3), "a"),
        np.full((8, 8, 3), 0.5, object), np.ones((8, 8, 3), bool), np.ones((8, 8, 3), np.int64),
        np.zeros((8, 8, 3), np.uint32), np.zeros((8, 8, 3), complex),
        torch.zeros(2, 3, 8, 8, 3), np.zeros((0, 0, 3), np.uint8),
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [8, None])
def test_an_array_that_is_no_picture_says_so(picture, size):
    with pytest.raises(ImageError, match=r"shape|holds|pixels|sides|one image"):
        Classifier(nn.Flatten(), size=size).preprocess(picture)


@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_and_tensors_of_any_layout_are_one_picture(channels):
    values = (np.arange(32).reshape(4, 8) / 32).astype(np.float32)
    classifier = Classifier(nn.Flatten(), channels=channels)
    expected = torch.from_numpy(values).expand(1, channels, 4, 8)
    for picture in (
        values, values[:, :, None], values.astype(">f8"), values.astype(np.float16),
        np.repeat(values, 2, 1)[:, ::2], values[::-1][::-1], torch.from_numpy(values),
        torch.from_numpy(values)[None], torch.from_numpy(values).bfloat16(),
        torch.from_numpy(values).to_sparse(), torch.from_numpy(values).requires_grad_(),
    ):  # fmt: skip
        assert_close(classifier.preprocess(picture), expected, rtol=0, atol=0)
    colors = np.random.default_rng(0).integers(0, 256, (4, 8, 4), np.uint8)
    seen = Classifier(nn.Flatten(), size=(4, 8)).preprocess(colors)
    by_pillow = Classifier(nn.Flatten(), size=(4, 8)).preprocess(Image.fromarray(colors))
    assert_close(seen, by_pillow, rtol=0, atol=0)


def test_names_that_are_no_unicode_become_escapes():
    classifier = Classifier(nn.Flatten(), name="bad\udcff", labels=["a\udcff", "b"])
    assert classifier.name == "bad\\udcff"
    assert classifier.labels == ("a\\udcff", "b")


@pytest.mark.parametrize(
    "options",
    [{"channels": 0, "mean": 0.5}, {"channels": -1, "std": 1.0}, {"labels": {0.5: "a"}}],
)
def test_odd_options_of_a_classifier(options):
    with pytest.raises(ChoiceError, match=next(iter(options))):
        Classifier(nn.Flatten(), **options)


@pytest.mark.parametrize("text", ["9" * 5000, "#" + "9" * 5000, "-" + "1" * 30])
def test_a_number_without_end_is_no_class(text):
    with pytest.raises(ChoiceError, match="unknown class"):
        Classifier(nn.Flatten(), labels=["a", "b"]).class_index(text)


def test_buffers_that_a_state_dict_leaves_out_are_in_the_digest():
    def digest(value):
        net = nn.Flatten()
        net.register_buffer("scale", torch.tensor(value), persistent=False)
        return Classifier(net).describe(digest=True).sha256

    assert digest(1.0) == digest(1.0)
    assert digest(1.0) != digest(2.0)
