"""Sanity checks: copies with random weights, what a map must notice, and verdicts by hand."""

import copy

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from torch import nn

from chiaroscuro import Classifier, class_gradients, saliency_maps
from chiaroscuro.checks import CheckSettings, check
from chiaroscuro.checks.sanity import verdict
from chiaroscuro.classifier.copies import POSITIVE_INSIDE, find_layers, positive_inside, randomized
from chiaroscuro.data.images import read_batches
from chiaroscuro.data.loading import load_images
from chiaroscuro.errors import ChoiceError, ModelError, ResultError
from chiaroscuro.evaluation import evaluate
from chiaroscuro.report.checks import lines, verdict_cells
from chiaroscuro.results import load
from chiaroscuro.results.facts import Interval
from chiaroscuro.results.measurements import Layer, Limits, Similarities, Step
from tests.evaluation.toy import FAST, bytes_of
from tests.pictures import BROKEN, class_rows, write_parquet
from tests.toys import random_pixels

CLASSES = ["cat", "dog", "owl"]
_ORIGINAL = ("gradient", "original")


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def changed(before, module):
    after = module.state_dict()
    return {name for name in before if not torch.equal(before[name], after[name])}


class Odd(nn.Module):
    """Registered the other way round than it runs, with weights of its own and one never called."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(4, 3)
        self.idle = nn.Linear(2, 2)
        self.first = nn.Linear(12, 4)
        self.shift = nn.Parameter(torch.arange(12.0).reshape(3, 2, 2) / 12)

    def forward(self, x):
        return self.last(torch.tanh(self.first((x + self.shift).flatten(1))))


def test_layers_follow_the_forward_pass_from_the_output():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4),
        nn.Flatten(), nn.Linear(64, 3),
    )  # fmt: skip
    pixels = random_pixels(1, 3, 8, 8, dtype=torch.float32)
    layers = find_layers(Classifier(net), pixels)
    assert layers == (Layer("6", ("6",)), Layer("3", ("3", "4")), Layer("0", ("0", "1")))
    assert find_layers(Classifier(net), pixels, 2) == (
        Layer("6 to 3", ("6", "3", "4")), Layer("0", ("0", "1")),
    )  # fmt: skip
    assert not any(part._forward_pre_hooks for part in net.modules())


def test_layers_of_an_unusual_network():
    layers = find_layers(Classifier(Odd()), random_pixels(1, 3, 2, 2, dtype=torch.float32))
    assert [layer.name for layer in layers] == ["idle", "last", "first", "(the module itself)"]


def test_only_the_named_layers_of_a_copy_get_new_weights(toy):
    net = toy.module
    before = state(net)
    layers = find_layers(toy, random_pixels(1, 3, 12, 12))
    twin = randomized(toy, layers[:1], seed=0)
    assert changed(before, net) == set()
    assert changed(before, twin.module) == {"8.weight", "8.bias"}
    whole = randomized(toy, layers, seed=0)
    weights = {name for name, _ in net.named_parameters()}
    assert changed(before, whole.module) >= weights | {"1.running_mean", "1.running_var"}
    assert whole.module[1].running_mean.tolist() == [0] * 6
    assert whole.module[1].weight.tolist() == [1] * 6
    assert torch.equal(whole.module[8].weight, twin.module[8].weight)  # the same in any company
    assert torch.equal(randomized(toy, layers, 0).module[3].weight, whole.module[3].weight)
    for other in (randomized(toy, layers, 0, draw=1), randomized(toy, layers, 1)):
        assert not torch.equal(other.module[3].weight, whole.module[3].weight)


def test_modules_come_as_freshly_built(toy):
    """A reset convolution has the bounds of its own initialization, not of the old weights."""
    twin = randomized(toy, [Layer("0", ("0",))], seed=3)
    bound = 1 / 27**0.5
    weight = twin.module[0].weight
    assert 0.9 * bound < weight.abs().max() <= bound


def test_weights_without_a_reset_are_drawn_by_mean_and_spread():
    net = Odd()
    with torch.no_grad():
        net.shift.copy_(5 + 2 * torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(0)))
    big = nn.Sequential(net)
    big.values = nn.Parameter(torch.linspace(4, 6, 20_000))
    drawn = randomized(Classifier(big), [Layer("", ("",))], seed=0).module.values
    assert drawn.mean().item() == pytest.approx(5, abs=0.02)
    assert drawn.std().item() == pytest.approx(2 / 12**0.5, rel=0.02)
    assert torch.equal(big.values, torch.linspace(4, 6, 20_000))


def test_the_callers_random_state_stays(toy):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    randomized(toy, find_layers(toy, random_pixels(1, 3, 12, 12)), seed=0)
    assert torch.equal(torch.rand(3), expected)


def test_networks_that_cannot_be_checked_are_named():
    with pytest.raises(ModelError, match="has no weights"):
        find_layers(Classifier(nn.Flatten()), torch.rand(1, 3, 1, 1))

    class Stubborn(nn.Linear):
        def __deepcopy__(self, memo):
            raise TypeError("no copies of me")

    with pytest.raises(ModelError, match=r"cannot be copied \(no copies of me\)"):
        find_layers(Classifier(nn.Sequential(nn.Flatten(), Stubborn(3, 2))), torch.rand(1, 3, 1, 1))

    class Broken(nn.Linear):
        def reset_parameters(self):
            if hasattr(self, "built"):
                raise ValueError("not again")
            self.built = True
            super().reset_parameters()

    net = nn.Sequential(nn.Flatten(), Broken(3, 2))
    with pytest.raises(ModelError, match=r"module '1' \(Broken\): its reset_parameters failed"):
        randomized(Classifier(net), [Layer("1", ("1",))], 0)


def test_the_reference_lets_only_positive_gradients_back():
    """By hand: logits w2 relu(w1 x); where w2 < 0 the plain gradient is there, the other is not."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0]]))
        net[3].weight.copy_(torch.tensor([[2.0, -3, 5, 7], [0.0, 1, -1, 0]]))
        net[3].bias.zero_()
    pixels = torch.tensor([0.5, 0.5, 0.5]).reshape(1, 3, 1, 1)
    plain = class_gradients(Classifier(net), pixels, 0).target_gradient.flatten()
    changed_net = positive_inside(Classifier(net))
    found = class_gradients(changed_net, pixels, 0).target_gradient.flatten()
    assert plain.tolist() == [2, -3, 5]
    assert found.tolist() == [2, 0, 5]
    assert torch.equal(changed_net(pixels), Classifier(net)(pixels))
    assert type(net[2]) is nn.ReLU
    assert positive_inside(Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)))) is None


def test_relu6_is_flat_above_six():
    net = nn.Sequential(nn.Flatten(), nn.Linear(3, 2, bias=False), nn.ReLU6(), nn.Linear(2, 2))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[20.0, 0, 0], [1.0, 0, 0]]))
        net[3].weight.copy_(torch.ones(2, 2))
    changed_net = positive_inside(Classifier(net))
    pixels = torch.full((1, 3, 1, 1), 0.5)
    assert class_gradients(changed_net, pixels, 0).target_gradient.flatten().tolist() == [1, 0, 0]
    assert torch.equal(changed_net(pixels), Classifier(net)(pixels))


FLOOR = Limits(-0.2, 0.2, 0.6)
"""Half way from the floor to an unchanged map is 0.6."""


def step(number, correlation, overlap=None):
    ends = [Interval(sum(pair) / 2, *pair) for pair in (correlation, overlap or correlation)]
    return Step(number, Similarities(*ends), 0.0)


def judge(cascade, alone, second, noise, mean=None, overlap=None):
    return verdict(
        [step(i, pair, overlap) for i, pair in enumerate(cascade, 1)],
        [step(i, pair) for i, pair in enumerate(alone, 1)],
        step(0, mean or cascade[-1]), step(1, second, overlap), step(1, noise, overlap),
        (FLOOR, FLOOR),
    )  # fmt: skip


def test_verdicts_by_hand():
    cascade, alone = [(0.7, 0.8), (0.3, 0.5), (0.1, 0.2)], [(0.5, 0.61), (0.1, 0.3)]
    found = judge(cascade, alone, (0.3, 0.4), (0.8, 0.9))
    assert (found.weights, found.other_class, found.noise) == ("none", "some", "much")
    assert (found.changes_after, found.overlooked) == (2, (1,))
    found = judge([(0.65, 0.7)], [(0.65, 0.7)], (-0.9, -0.8), (0.0, 0.1))
    assert (found.weights, found.other_class, found.noise) == ("much", "none", "none")
    assert found.changes_after is None


def test_what_only_the_first_layer_can_change_does_not_pass():
    quiet = {"alone": [(0.0, 0.1)], "second": (0.0, 0.1), "noise": (0.9, 0.95)}
    found = judge([(0.9, 0.95), (0.9, 0.95), (0.0, 0.1)], mean=(0.62, 0.65), **quiet)
    assert found.weights == "much"
    assert judge([(0.0, 0.1), (0.3, 0.4)], mean=(0.1, 0.2), **quiet).weights == "some"


def test_a_verdict_takes_the_measure_that_speaks_against_the_map():
    found = judge([(0.0, 0.1)], [(0.0, 0.1)], (0.0, 0.1), (0.9, 0.95), overlap=(0.3, 0.4))
    assert (found.weights, found.other_class, found.noise) == ("some", "some", "some")


@pytest.fixture
def data(tmp_path):
    write_parquet(tmp_path / "data" / "test.parquet", class_rows(3, 3, side=12), CLASSES)
    return tmp_path / "data"


CHOSEN = {
    "depths": 2, "orders": 4, "draws": 2, "maps": ("original", "signed"), "batch": 4,
    "resamples": 50,
}  # fmt: skip


def ask(classifier, data, out, **options):
    return check(classifier, data, out, **{**CHOSEN, **options})


@pytest.fixture
def single(toy):
    """The toy in the pixels' own precision."""
    return toy.to(torch.float32)


def rows_in(out):
    return pa.concat_tables(map(parquet.read_table, sorted(out.glob("rows/*")))).to_pylist()


def test_a_check_is_what_one_finds_by_hand(data, single, tmp_path):
    before = state(single.module)
    result = ask(single, data, tmp_path / "out")
    assert changed(before, single.module) == set()
    assert single.module.training
    assert load(tmp_path / "out") == result
    drawn = {
        f"{test}-{method}-{measure}"
        for test in ("cascade", "alone")
        for method in ("gradient", POSITIVE_INSIDE)
        for measure in ("correlation", "overlap")
    }
    files = {file.name for file in (tmp_path / "out").iterdir()}
    assert {"index.html", *(f"{n}.{kind}" for n in drawn for kind in ("png", "svg"))} <= files
    for checked in result.maps:  # the similarity that is shown is the one that decides
        for cell, step in zip(
            verdict_cells(checked)[1:], (checked.other_class, checked.noise), strict=True
        ):
            levels = {
                "rank correlation": checked.correlation_limits.level(step.similarity.correlation),
                "overlap of the highest pixels": checked.overlap_limits.level(
                    step.similarity.overlap
                ),
            }
            verdicts = (checked.verdict.other_class, checked.verdict.noise)
            assert levels[cell[2]] == verdicts[step is checked.noise]
    rows = rows_in(tmp_path / "out")
    # 9 images, 2 methods, 2 maps: 2 x 2 cascade, 2 x 2 alone, 1 class, 2 noise, 4 random.
    assert len(rows) == 9 * 2 * 2 * 15
    assert_row_by_hand(rows, single, data)
    found = next(m for m in result.maps if (m.method, m.map) == _ORIGINAL)
    own = {
        test: [r for r in rows if (r["method"], r["map"], r["test"]) == (*_ORIGINAL, test)]
        for test in ("alone", "cascade", "random")
    }
    second = [r for r in own["alone"] if r["step"] == 2]
    mean = np.mean([r["correlation"] for r in second])
    assert found.alone[1].similarity.correlation.value == pytest.approx(mean, abs=1e-5)
    by_draw = [np.mean([r["correlation"] for r in second if r["draw"] == d]) for d in (0, 1)]
    assert [one[0] for one in found.alone[1].by_draw] == pytest.approx(by_draw, abs=1e-5)
    overlap = found.cascade_mean.similarity.overlap.value
    assert overlap == pytest.approx(np.mean([r["overlap"] for r in own["cascade"]]), abs=1e-5)
    floor = np.quantile([r["overlap"] for r in own["random"]], 0.95)
    assert found.overlap_limits.floor == pytest.approx(floor, abs=1e-5)
    assert found.overlap_limits.middle == pytest.approx((floor + 1) / 2, abs=1e-5)
    frame = result.to_frame()
    assert len(frame) == 4 * (2 + 2 + 3)
    chosen = frame[(frame["method"] == "gradient") & (frame["map"] == "original")]
    assert chosen[chosen["test"] == "alone"]["correlation"].tolist()[1] == (
        found.alone[1].similarity.correlation.value
    )


def assert_row_by_hand(rows, classifier, data):
    """The second-best class of the first image, from the maps themselves."""
    batch = next(read_batches(load_images(data), classifier.framing, 4))
    pixels = torch.from_numpy(batch.pixels[0])[None]
    best, second = classifier(pixels)[0].topk(2).indices.tolist()
    first, other = (
        saliency_maps(class_gradients(classifier, pixels, k), ["original"])["original"].flatten()
        for k in (best, second)
    )
    places = [values.argsort().argsort().double() for values in (first, other)]
    expected = 1 - 6 * (places[0] - places[1]).square().sum() / (144 * (144**2 - 1))
    row = next(
        r for r in rows
        if (r["id"], r["method"], r["map"], r["test"])
        == (batch.ids[0], "gradient", "original", "class")
    )  # fmt: skip
    assert row["correlation"] == pytest.approx(expected.item(), abs=1e-4)
    assert row["predicted"] == best


def test_the_split_into_batches_does_not_matter(data, single, tmp_path):
    one, two = (
        ask(single, data, tmp_path / str(size), batch=size, reference=False).to_frame()
        for size in (9, 2)
    )
    assert one["correlation"].tolist() == pytest.approx(two["correlation"].tolist(), abs=1e-4)


def test_interrupted_and_resumed_it_is_the_same_bytes(data, single, tmp_path):
    def interrupt(done, total, before):
        if done >= 4:
            raise KeyboardInterrupt

    given = {"reference": False, "draws": 1, "threads": 1}
    with pytest.raises(KeyboardInterrupt):
        ask(single, data, tmp_path / "run", progress=interrupt, **given)
    ask(single, data, tmp_path / "run", resume=True, **given)
    ask(single, data, tmp_path / "whole", **given)
    assert bytes_of(tmp_path / "run") == bytes_of(tmp_path / "whole")


class Blind(nn.Module):
    """Weights scale a fixed pattern, so no draw of them changes the order of its pixels."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, x):
        pattern = torch.arange(144.0).view(12, 12)
        return (x.mean(dim=1) * pattern).sum(dim=(1, 2))[:, None] * self.scale.square()


def test_a_map_that_ignores_the_weights_fails(data, tmp_path):
    result = ask(Classifier(Blind(), size=12), data, tmp_path / "out", maps=("original",))
    (found,) = result.maps
    assert found.method == "gradient"
    assert found.cascade[0].similarity.correlation.value == 1
    assert (found.verdict.weights, found.verdict.noise) == ("much", "much")
    assert found.verdict.overlooked == (1,)
    page = (tmp_path / "out" / "index.html").read_text()
    assert "hardly anything changes for original" in page
    assert any("fails: random weights hardly change it" in line for line in lines(result))


def test_broken_images_are_left_out_and_listed(single, tmp_path):
    rows = class_rows(3, 1, side=12)
    rows[1] = (BROKEN, 1)
    write_parquet(tmp_path / "data" / "test.parquet", rows, CLASSES)
    result = ask(single, tmp_path / "data", tmp_path / "out", reference=False)
    assert result.data.images == 2
    assert [one.id for one in result.data.left_out] == ["test#1"]
    assert "Left out: 1" in (tmp_path / "out" / "index.html").read_text()


def test_an_evaluation_shows_the_check_of_its_own_network(data, single, tmp_path):
    checked = ask(single, data, tmp_path / "check", reference=False, draws=1)
    result = evaluate(single, data, tmp_path / "run", check=tmp_path / "check", **FAST)
    assert result.check == checked and result.check_page == "../check/index.html"
    assert load(tmp_path / "run") == result
    page = (tmp_path / "run" / "index.html").read_text()
    assert 'href="../check/index.html"' in page and "Sanity check of the maps" in page
    other = copy.deepcopy(single)
    with torch.no_grad():
        next(other.module.parameters()).add_(1)
    with pytest.raises(ResultError, match="with other weights than those of"):
        evaluate(other, data, tmp_path / "two", check=tmp_path / "check", **FAST)
    with pytest.raises(ResultError, match="no check there"):
        evaluate(single, data, tmp_path / "two", check=tmp_path / "run", **FAST)
    assert not (tmp_path / "two").exists()
    # Without the check, the finished evaluation gets a page without it.
    plain = evaluate(single, data, tmp_path / "run", resume=True, **FAST)
    assert plain.check is None
    assert "Sanity check of the maps" not in (tmp_path / "run" / "index.html").read_text()


def test_a_network_that_random_weights_break_is_named_with_the_layer(data, tmp_path):
    class Fragile(nn.Linear):
        def reset_parameters(self):
            nn.init.constant_(self.weight, float("nan") if hasattr(self, "built") else 0.5)
            nn.init.zeros_(self.bias)
            self.built = True

    net = nn.Sequential(nn.Flatten(), Fragile(432, 4), nn.Linear(4, 3))
    with pytest.raises(ModelError, match="with new random weights in layer 1: the logits of"):
        ask(Classifier(net, size=12), data, tmp_path / "out")


def test_wrong_rivals_and_foreign_folders_are_found_before(data, single, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(ResultError, match="not a chiaroscuro result"):
        ask(single, data, tmp_path / "mine", overwrite=True)
    with pytest.raises(ChoiceError, match="give at least two classes"):
        ask(single, data, tmp_path / "out", rivals="dog")
    with pytest.raises(ChoiceError, match="unknown class 'emu'"):
        ask(single, data, tmp_path / "out", rivals="dog,emu")
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"maps": ("winner",)}, "unknown map 'winner'"),
        ({"methods": ("gradiant",)}, "unknown method 'gradiant'"),
        ({"methods": ()}, "no methods are given"),
        ({"methods": ("gradient", "gradient")}, "two methods are called 'gradient'"),
        ({"draws": 0}, "draws is 0"),
        ({"noise": 0.0}, "noise is 0.0"),
        ({"share": 1.0}, "share is 1.0"),
        ({"rivals": "top:0"}, "give all, top:N"),
    ],
)
def test_other_settings_are_refused(options, message):
    with pytest.raises(ChoiceError, match=message):
        CheckSettings(data="data", **{**CHOSEN, **options})
