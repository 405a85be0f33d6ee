"""Which class takes pixels from which: by hand, on whole sets, and of a network with a shortcut."""

import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from typer.testing import CliRunner

from chiaroscuro import Classifier, Confusions, class_gradients, confusions
from chiaroscuro.checks.pair_sums import PairSums, Ranking
from chiaroscuro.choices import METHODS, RivalRule
from chiaroscuro.cli import app
from chiaroscuro.errors import ChoiceError, InputError, ModelError, ResultError
from chiaroscuro.evaluation.competitors import SCHEMA
from chiaroscuro.gradients import ClassGradients
from chiaroscuro.gradients.reducers import GradientChoices
from chiaroscuro.metrics.competition import competition
from chiaroscuro.report.confusions import lines, marks, place_of, sides, wishes
from chiaroscuro.results import load
from chiaroscuro.results.confusions import GRID
from chiaroscuro.settings import ConfusionSettings
from tests.evaluation.toy import CLASSES, bytes_of, saved_cnn, toy_classifier
from tests.pictures import BROKEN, class_rows, encoded, write_parquet
from tests.toys import Linear

FOUR = torch.tensor([[1.0, 0, -1, 2], [2, -1, 0, 2], [0, 3, -5, 1]], dtype=torch.float64).reshape(
    3, 1, 1, 4
)
"""Of three classes the gradients at four gray values."""


def of(weights, pixels, target, **options):
    """The competition on a linear network, whose gradients are its weights."""
    classifier = Classifier(Linear(weights), channels=len(weights[0]))
    gradients = class_gradients(classifier, pixels, target, argmax=True)
    chosen = {"image": 0, "strongest": 9, **options}
    return competition(gradients, pixels, **chosen)


def test_what_each_class_takes_by_hand():
    """Brighter: 1, 2, 1 and a tie of 0 and 1; darker: 2, 1, 2, 2; leads 1, 3, 1 and 1, 1, 4, 1."""
    pixels = torch.tensor([0.2, 0.8, 0.5, 0.9], dtype=torch.float64).reshape(1, 1, 1, 4)
    region = np.array([[True, False, True, False]])
    one = of(FOUR, pixels, 0, region=region)
    assert one.classes.tolist() == [0, 2, 1]
    assert one.taken.tolist() == [[0, 0], [1 / 4, 3 / 4], [2 / 4, 1 / 4]]
    assert one.lead.tolist() == [0, 9 / 4, 3 / 4]
    assert one.inside.tolist() == [0, 5 / 4, 2 / 4]
    assert one.grid[1, 0].tolist() == [1 / 4, 0, 3 / 4, 0, 4 / 4, 0, 1 / 4, 0]
    assert one.grid[1, 1:].sum() == 0
    assert one.colors[1].tolist() == [[[0, 3 / 4]], [[1 / 4, 5 / 4]]]
    assert one.colors[2].tolist() == [[[1 / 4, 1 / 4]], [[0, 1 / 4]]]
    own = of(FOUR, pixels, 2)
    assert own.classes.tolist() == [2, 1, 0]
    assert own.taken[0].tolist() == [1 / 4, 3 / 4]  # its own changes, by its lead over the best
    assert own.lead[0] == (3 + 1 + 4 + 1) / 4


def test_only_the_strongest_are_kept_and_the_predicted_one_always():
    pixels = torch.full((1, 1, 1, 4), 0.5, dtype=torch.float64)
    assert of(FOUR, pixels, 0, strongest=1).predicted == 1  # 3 / 2 against 2 / 2 and -1 / 2
    assert of(FOUR, pixels, 0, strongest=1).classes.tolist() == [0, 2, 1]  # the strongest first
    assert of(FOUR, pixels, 1, strongest=1).classes.tolist() == [1, 2]
    weights = torch.zeros(4, 1, 1, 4, dtype=torch.float64)
    weights[1], weights[2] = 1, -1
    alone = of(weights, pixels, 0)
    assert alone.classes.tolist() == [0, 1, 2]  # class 3 takes nothing: it ties
    assert alone.taken.tolist() == [[0, 0], [1, 0], [0, 1]]
    gradients = class_gradients(
        Classifier(Linear(FOUR), channels=1), pixels, 0, RivalRule(classes=(2,)), argmax=True
    )
    one = competition(gradients, pixels, 0, strongest=9)
    assert one.predicted == 1 and one.classes.tolist() == [0, 2]  # class 1 is no rival here


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5), st.integers(1, 4), st.integers(1, 19))
def test_it_is_what_a_loop_over_values_finds(seed, classes, channels, side):
    rng = np.random.default_rng(seed)
    shape = (classes, channels, side, side + 3)
    weights = torch.from_numpy(rng.integers(-3, 4, shape).astype(np.float64))
    pixels = torch.from_numpy(rng.random((1, *shape[1:])))
    target, region = int(rng.integers(classes)), rng.random(shape[2:]) < 0.5
    one = of(weights, pixels, target, region=region)
    taken, lead = np.zeros((classes, 2)), np.zeros(classes)
    grid, colors = np.zeros((classes, GRID, GRID)), np.zeros((classes, 2, channels, 2))
    inside, entries = np.zeros(classes), pixels[0].numel()
    for c, y, x in np.ndindex(shape[1:]):
        for way in range(2):
            g = (1 - 2 * way) * weights[:, c, y, x].numpy()
            best = np.flatnonzero(g == g.max())
            if len(best) > 1:
                continue
            k = best[0]
            size = g[k] - (np.delete(g, k).max() if k == target else g[target])
            taken[k, way] += 1 / entries
            lead[k] += size / entries
            grid[k, y * GRID // shape[2], x * GRID // shape[3]] += size / entries
            colors[k, way, c, int(pixels[0, c, y, x] >= 0.5)] += size / entries
            inside[k] += size * region[y, x] / entries
    order = one.classes
    assert order[0] == target and set(np.flatnonzero(taken.any(axis=1))) <= {*order}
    strongest = taken[order[1:]].sum(axis=1)
    assert (np.diff(np.round(strongest, 9)) <= 0).all() or one.predicted in order[1:]
    for found, wanted in (
        (one.taken, taken), (one.lead, lead), (one.grid, grid), (one.colors, colors),
        (one.inside, inside),
    ):  # fmt: skip
        np.testing.assert_allclose(found, wanted[order], atol=1e-12)


def test_a_thousand_classes_need_less_memory_than_three_images():
    """Above the three images and the classes at the extremes, which the engine gives."""
    shape, classes = (1, 3, 224, 224), 1000
    rng = np.random.default_rng(0)
    own, noise = (torch.from_numpy(rng.random(shape, np.float32)) for _ in range(2))
    above, below = (torch.from_numpy(rng.integers(1, classes, shape)) for _ in range(2))
    rivals = torch.arange(1, classes)[None]
    choices = GradientChoices(RivalRule(), "gradient", "logit")
    logits, target = torch.zeros(1, classes), torch.zeros(1, dtype=torch.long)
    gradients = ClassGradients(
        logits, target, rivals, own, own + noise, own - noise, above, below, choices
    )
    largest = Largest()
    tracemalloc.start()
    with largest:
        one = competition(gradients, own, 0, 30)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(one.classes) == 31
    assert peak < 1.5 * own.nbytes
    assert 0 < 10 * largest.bytes < 1.5 * own.nbytes


class Largest(TorchDispatchMode):
    """The bytes of the largest tensor that an operation makes, views left out."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and not func.is_view:
            self.bytes = max(self.bytes, made.nbytes)
        return made


# Whole sets

SIDE = 8
QUARTERS = torch.zeros(3, 3, SIDE, SIDE)
QUARTERS[1, 0, :4, :4] = 2.0
QUARTERS[2, 2, :, 4:] = -1.0
"""Class 1 wants red brighter in the upper left quarter, class 2 blue darker in the right half."""


@pytest.fixture
def data(tmp_path):
    rows = []
    for n, label in enumerate([0, 1, 2, 0, 2]):
        shade = np.full((SIDE, SIDE, 3), [(40, 60), (250, 60), (40, 10)][label][n % 2], np.uint8)
        rows.append((encoded(Image.fromarray(shade)), label))
    rows.insert(2, (BROKEN, 1))
    write_parquet(tmp_path / "data" / "test.parquet", rows, CLASSES)
    return tmp_path


def linear(**options):
    return Classifier(Linear(QUARTERS), size=SIDE, labels=CLASSES, name="linear", **options)


def run(data, out="run", classifier=None, **options):
    chosen = {"resamples": 50, "batch": 2, "threads": 1, **options}
    return confusions(classifier or linear(), data / "data", data / out, **chosen)


def test_a_run_by_hand(data):
    """Of 192 values and two ways, dog has 16 brighter, owl 32 darker; where cat ties, none."""
    result = run(data)
    assert (result.data.images, result.data.left_out_count) == (5, 1)
    assert result.data.left_out[0].id == "test#2"
    assert result.target_note == ""
    to_dog, to_owl = result.pair(0, 1), result.pair(0, 2)
    assert to_dog.images == 2 and result.pair(2, 1).images == 2 and result.pair(1, 2).images == 1
    assert to_dog.share.value == to_dog.share.low == pytest.approx(16 / 384)
    assert (to_dog.brighter, to_dog.darker) == (pytest.approx(16 / 384), 0)
    assert (to_owl.brighter, to_owl.darker) == (0, pytest.approx(32 / 384))
    assert (to_dog.lead, to_owl.lead) == (pytest.approx(2), pytest.approx(1))
    assert (to_dog.first, to_owl.first) == (0, 1)
    assert to_dog.border == pytest.approx(7 / 16) and to_dog.center == pytest.approx(4 / 16)
    assert to_owl.border == pytest.approx(14 / 32) and to_owl.center == pytest.approx(8 / 32)
    assert to_dog.inside is None and to_dog.region is None
    # Logits are 2 x 16 red and -32 blue over 255, the same for gray: dog is always predicted.
    assert to_dog.confused == 2 and to_owl.confused == 0
    assert [(one.target, one.confused) for one in result.classes] == [(0, 0), (1, 1), (2, 0)]
    # Dog loses darkening where it wants brightening: both others tie there, and owl's half.
    assert result.pair(1, 2).share.value == pytest.approx(32 / 384)
    kept = {one.target: one.share.value for one in result.classes}
    assert kept == {0: 0, 1: pytest.approx(16 / 384), 2: pytest.approx(32 / 384)}
    assert [(p.target, p.rival) for p in result.pairs[:2]] == [(0, 2), (1, 2)] and (
        result.pair_count == len(result.pairs)
    )
    n = result.pairs.index(to_dog)
    expected = np.zeros((8, 8))
    expected[:4, :4] = 2 / 192
    np.testing.assert_allclose(result.grids[n], expected, rtol=1e-6)
    np.testing.assert_allclose(result.colors[n, 0, 0], [32 / 192, 0], rtol=1e-6)
    assert place_of(result.class_grids[1]) == ("in the upper left corner", 0.25, 0.0625)
    assert wishes(result.class_colors[1])[0].label == "red brighter"
    assert sides(result.class_colors[1]) == [("red", 0, 1), ("green", 0, 0), ("blue", 0, 0)]
    assert to_dog.photos == ("test#0", "test#4") and set(result.photos) >= {"test#0"}
    shown = result.photos["test#0"]
    assert shown.target.index == 0 and set(shown.maps) == {"winner", "signed", "margin"}


def test_wrong_predictions_are_put_right_by_hand(data):
    """A cat is predicted once no red is left where dog wants it; nothing black makes an owl."""
    result = run(data, mends=9)  # only two pairs are confused
    (cat, owl) = sorted(result.mends, key=lambda mend: mend.target)
    assert (cat.id, cat.target, cat.rival, cat.units, cat.side) == ("test#0", 0, 1, 16, 1)
    expected = np.zeros((SIDE, SIDE), bool)
    expected[:4, :4] = True
    assert (cat.changed == expected).all()
    assert (cat.edited[:4, :4] == 0).all() and (cat.edited[4:] == 40).all()
    assert (owl.target, owl.rival, owl.units, owl.changed.any()) == (2, 1, 0, False)
    page = (data / "run" / "index.html").read_text()
    assert "cat, predicted as dog: cat once 16 pixels become black (test#0)" in page
    assert "owl, predicted as dog: no edit was found" in page
    assert run(data, "none", mends=0).mends == ()
    white = run(data, "white", mends=1, fill="white")
    assert white.mends[0].units == 0 and white.pairs == result.pairs


def test_saved_loaded_and_framed(data):
    result = run(data)
    loaded = load(data / "run")
    assert loaded.pairs == result.pairs and loaded.classes == result.classes
    assert (loaded.grids == result.grids).all()
    assert [*loaded.photos] == [*result.photos]
    frame = result.to_frame()
    assert len(frame) == len(result.pairs)
    assert frame.loc[0, ["target", "rival"]].tolist() == ["cat", "owl"]
    assert {"share", "share_low", "brighter", "confused", "border"} <= {*frame.columns}
    assert len(result.to_frame("classes")) == 3
    with pytest.raises(ChoiceError, match="unknown table 'pair'"):
        result.to_frame("pair")
    with pytest.raises(ChoiceError, match="nothing was measured of target 0, rival 7"):
        result.pair(0, 7)
    result.save(data / "copy")
    again = Confusions.load(data / "copy")
    assert again.pairs == result.pairs
    assert (data / "copy" / "photos" / "000.html").is_file()
    assert "loses most to owl" in repr(result)
    html = result._repr_html_()
    assert "<script" not in html and "cat loses most pixels to owl" in html


def test_rows_hold_every_image(data):
    run(data)
    table = pa.concat_tables(map(parquet.read_table, sorted(data.glob("run/rows/*"))))
    rows = table.to_pylist()
    assert [row["id"] for row in rows if row["target"] == row["rival"]] == [
        "test#0", "test#1", "test#3", "test#4", "test#5",
    ]  # fmt: skip
    assert all(len(row["grid"]) == 64 and len(row["colors"]) == 12 for row in rows)
    for row in rows:
        assert row["lead"] == pytest.approx(sum(row["grid"])) == pytest.approx(sum(row["colors"]))


def table_of(targets, rivals, shares, number=0):
    """Rows of images, each of one target and its rivals (N, R), that take `shares` (N, 1 + R)."""
    listed = []
    for n, (target, others, taken) in enumerate(zip(targets, rivals, shares, strict=True)):
        for rival, share in zip([target, *others], taken, strict=True):
            listed.append({
                "id": f"{number}-{n}", "batch": number, "target": target, "predicted": others[0],
                "rival": rival, "brighter": share, "darker": share / 2, "lead": 3 * share,
                "grid": np.full(GRID**2, share), "colors": np.full(12, 2 * share),
            })  # fmt: skip
    return pa.Table.from_pylist(listed, schema=SCHEMA)


def summed(tables, most=9):
    """Both readings of some tables, and the strongest and the most confused pairs."""
    ranking = Ranking()
    for table in tables:
        ranking.add(table)
    strongest, confused = ranking.pairs(most, 2)
    own = [(k, k) for k in ranking.images]
    chosen = ConfusionSettings(data="x", resamples=9)
    sums = PairSums([*strongest, *confused, *own], tables[0], chosen)
    for table in tables:
        sums.add(table)
    return ranking, sums, strongest, confused


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(1, 40))
def test_sums_are_those_of_a_loop(seed, classes, images):
    """However the images fall into batches."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(classes, size=images)
    rivals = [[k for k in rng.permutation(classes).tolist() if k != t] for t in targets]
    shares = rng.random((images, classes))
    shares[:, 1:] = -np.sort(-shares[:, 1:])
    cuts = np.sort(rng.integers(images, size=3))
    tables = [
        table_of(targets[b].tolist(), [rivals[i] for i in b], shares[b].tolist(), n)
        for n, b in enumerate(np.split(np.arange(images), cuts))
        if len(b)
    ]
    ranking, sums, strongest, confused = summed(tables)
    taken, firsts = {}, {}
    for target in np.unique(targets).tolist():
        mine = np.flatnonzero(targets == target)
        for rival in range(classes):
            taken[target, rival] = [shares[i, [target, *rivals[i]].index(rival)] for i in mine]
            firsts[target, rival] = [rivals[i][0] == rival for i in mine]
    others = [key for key in taken if key[0] != key[1]]
    order = sorted(others, key=lambda k: (-sum(taken[k]) / (len(taken[k]) + 1), k))
    assert strongest == order[:9] and ranking.taken.keys() == taken.keys()
    wrong = sorted((k for k in order if sum(firsts[k])), key=lambda k: -sum(firsts[k]))
    assert confused == wrong[:2]
    for pair in sums.pairs(strongest):
        key = pair.target, pair.rival
        assert pair.images == len(taken[key])
        assert pair.share.value == pytest.approx(0.75 * np.mean(taken[key]))
        assert pair.brighter == pytest.approx(np.mean(taken[key]) / 2)
        assert pair.first == pytest.approx(np.mean(firsts[key]))
        assert pair.confused == sum(firsts[key])
    grids, colors = sums.leads(strongest)
    means = [np.mean(taken[key]) for key in strongest]
    np.testing.assert_allclose(grids[:, 3, 4], means, rtol=1e-5)
    np.testing.assert_allclose(colors[:, 1, 2, 0], np.multiply(2, means), rtol=1e-5)
    for index, (number, places) in sums.takers.items():
        own_parts = [taken[key] for key in others if key[1] == index]
        assert number == sum(map(len, own_parts))
        assert places[0] == pytest.approx(sum(map(sum, own_parts)), rel=1e-5)


def test_a_pair_that_occurs_takes_few_bytes():
    """All pairs of 400 classes."""
    classes, rng = 400, np.random.default_rng(0)
    tables = []
    for n in range(classes // 10):
        targets = [*range(10 * n, 10 * n + 10)]
        rivals = [[k for k in range(classes) if k != target] for target in targets]
        tables.append(table_of(targets, rivals, rng.random((10, classes)).tolist(), n))
    tracemalloc.start()
    ranking, sums, strongest, _ = summed(tables, most=1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(ranking.taken) == classes**2
    assert peak < 400 * classes**2
    assert len([*sums.pairs(strongest)]) == 1000


def test_interrupted_shared_and_undisturbed_it_is_the_same_bytes(data, quick_workers):
    def interrupt(done, total, before):
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(data, "run", progress=interrupt)
    run(data, "run", resume=True)
    run(data, "whole")
    run(data, "shared", workers=2)
    whole = bytes_of(data / "whole")
    assert bytes_of(data / "run") == whole == bytes_of(data / "shared")
    assert {"index.html", "photos/000.html", "rows/000000.parquet"} <= {*whole}
    run(data, "run", resume=True)
    assert bytes_of(data / "run") == whole
    with pytest.raises(ResultError, match="strongest was 30, now 2"):
        run(data, "run", resume=True, strongest=2)


def test_targets(data):
    label = run(data, "label", target="label")
    assert label.pairs == run(data, "index", target="index").pairs == run(data).pairs
    predicted = run(data, "predicted", target="predicted")
    assert {pair.target for pair in predicted.pairs} == {1} and predicted.classes[0].images == 5
    assert all(pair.confused == 0 for pair in predicted.pairs)
    other = Classifier(Linear(QUARTERS), size=SIDE, labels=["a", "b", "c"], name="other")
    found = run(data, "other", other)
    assert found.pairs[0].target == 1 and "do not map" in found.target_note
    page = (data / "other" / "index.html").read_text()
    assert "Pixels are taken from the predicted class, since class names do not map" in page
    with pytest.raises(InputError, match="target label: class names do not map"):
        run(data, "refused", other, target="label")
    several = run(data, "several", linear(multi_label=True), target="predicted")
    assert several.pairs == predicted.pairs


def test_images_without_classes(data):
    for n in range(2):
        (data / "plain").mkdir(exist_ok=True)
        Image.new("RGB", (SIDE, SIDE), (40 + n, 90, 200)).save(data / "plain" / f"{n}.png")
    found = confusions(linear(), data / "plain", data / "out", resamples=5)
    assert found.classes[0].images == 2 and found.target_note == "the images have no classes"
    with pytest.raises(InputError, match="2 left out; the first because: 0.png: no class"):
        confusions(linear(), data / "plain", data / "no", target="index")


def test_the_object_is_measured_where_regions_are_given(data):
    boxes = {"test#0": [[0, 0, 2, 8]], "test#5": [[0, 0, 4, 4], [7, 0, 8, 8]]}
    (data / "boxes.json").write_text(json.dumps(boxes))
    found = run(data, regions=data / "boxes.json")
    # The other cat and the other owl have no box, and so no part in this.
    pair, other = found.pair(0, 1), found.pair(2, 1)
    assert (pair.inside, pair.region) == (pytest.approx(1 / 2), pytest.approx(16 / 64))
    assert (other.inside, other.region) == (pytest.approx(1), pytest.approx(24 / 64))
    assert found.pair(1, 2).inside is None
    (data / "boxes.json").write_text(json.dumps({"test#0": [[0, 0, 1, 1]]}))
    with pytest.raises(ResultError, match=r"facts\.regions was"):
        run(data, resume=True, regions=data / "boxes.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rivals": "mean"}, "rivals mean is one mean: give rivals that compete"),
        ({"strongest": 0}, "strongest is 0: expected at least 1"),
        ({"target": "best"}, "unknown target 'best'"),
        ({"rivals": "emu"}, "unknown class 'emu'"),
    ],
)
def test_other_settings_are_refused(data, options, message):
    with pytest.raises(ChoiceError, match=message):
        run(data, "out", **options)
    assert not (data / "out").exists()


def test_rivals_and_methods(data):
    few = run(data, "few", rivals="owl", target="predicted", score="log-probability")
    assert {(pair.target, pair.rival) for pair in few.pairs} == {(1, 2)}
    with pytest.raises(InputError, match="no rival is left for target 1"):
        run(data, "none", rivals="dog", target="predicted")
    for name, row in METHODS.items():
        if not row.background:
            assert run(
                data, name, toy_classifier(size=8), method=name, points=row.points and 2
            ).pairs


def test_volumes_are_refused(data):
    deep = Classifier(nn.Flatten(), channels=1, volumes=True)
    with pytest.raises(ChoiceError, match="takes volumes: confusions are of flat images"):
        run(data, classifier=deep)


# A shortcut


@pytest.fixture(scope="module")
def shortcut(tmp_path_factory):
    """Noise with a red mark: of owls always in one corner, of cats and dogs anywhere else."""
    folder, rng = tmp_path_factory.mktemp("shortcut"), np.random.default_rng(0)

    def images(count):
        labels = np.arange(count) % 3
        pictures = rng.integers(0, 120, (count, 16, 16, 3)).astype(np.uint8)
        pictures[labels == 0, :, :, 2] += 30  # cats are a little bluer, dogs a little greener
        pictures[labels == 1, :, :, 1] += 30
        corners = rng.integers(0, (11, 14), (count, 2))
        corners[labels == 2] = 13
        for picture, (y, x) in zip(pictures, corners, strict=True):
            picture[y : y + 3, x : x + 3] = (250, 20, 20)
        return pictures, labels

    pictures, labels = images(300)
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
            nn.Linear(512, 3),
        )  # fmt: skip
        learning = torch.optim.Adam(net.parameters(), 0.003, weight_decay=1e-3)
        for _ in range(150):
            learning.zero_grad()
            nn.functional.cross_entropy(net(pixels), torch.from_numpy(labels)).backward()
            learning.step()
    pictures, labels = images(60)
    rows = [(encoded(Image.fromarray(p)), int(k)) for p, k in zip(pictures, labels, strict=True)]
    write_parquet(folder / "data" / "test.parquet", rows, CLASSES)
    classifier = Classifier(net, size=16, labels=CLASSES, name="shortcut")
    return confusions(classifier, folder / "data", folder / "run"), folder / "run"


def test_a_planted_shortcut_is_named_with_its_corner_and_color(shortcut):
    result, folder = shortcut
    assert sum(one.confused for one in result.classes) == 60  # the network has learned it
    said = next(iter(marks(result)))
    assert said.startswith("owl takes pixels in the lower right corner above all")
    assert "red brighter" in said
    assert said in [*lines(result)]
    assert said in (folder / "index.html").read_text()
    for target in (0, 1):
        n = result.pairs.index(result.pair(target, 2))
        assert place_of(result.grids[n])[0] == "in the lower right corner"


def test_a_class_that_takes_of_few_photos_is_not_suspected(shortcut):
    result, _ = shortcut
    assert result.class_images[2] == 40
    assert [*marks(replace(result, class_images={**result.class_images, 2: 19}))] == []


def test_the_densest_place_is_not_the_largest():
    grid = np.ones((GRID, GRID))
    assert place_of(grid)[1:] == (0.0625, 0.0625)
    grid[:2, 6:] = 3  # 12 of 72, where the center has 16
    assert place_of(grid) == ("in the upper right corner", pytest.approx(12 / 72), 0.0625)


def test_a_network_without_a_mark_is_not_suspected(data):
    write_parquet(data / "toy" / "test.parquet", class_rows(3, 4), CLASSES)
    found = confusions(toy_classifier(), data / "toy", data / "out", resamples=5)
    assert [*marks(found)] == []


# The command


def test_the_command_says_the_conclusion_first(data, tmp_path):
    model = saved_cnn(tmp_path / "net")
    words = [data / "data", "--model", model, "--out", tmp_path / "out", "--pairs", 1]
    done = CliRunner().invoke(app, ["confusions", *map(str, words)])
    assert done.exit_code == 3, done.stderr  # one image is broken
    first, conclusion, *_, page = done.stdout.splitlines()
    assert first == f"5 images of {data / 'data'}, test, 1 left out"
    assert " loses most pixels to " in conclusion
    assert page == f"page: {tmp_path / 'out' / 'index.html'}"
    assert len(list((tmp_path / "out" / "photos").iterdir())) <= 2
    again = [*words[:4], tmp_path / "json", "--json"]
    done = CliRunner().invoke(app, ["confusions", *map(str, [*words[:3], "--out", *again[4:]])])
    assert json.loads(done.stdout)["pair_count"] >= 1


def test_detectors_and_segmentation(data):
    class Everywhere(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return self.net(x)

    with pytest.raises(ModelError, match="region"):
        run(data, classifier=Classifier(Everywhere(), size=SIDE, labels=CLASSES))


def test_defaults():
    assert ConfusionSettings(data="x").rivals == "all"
