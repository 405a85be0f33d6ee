"""The paper reproduced on tiny sets: trained, evaluated, drawn and written from images alone."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision import models as zoo
from typer.testing import CliRunner

import chiaroscuro.report.evaluation as report
from chiaroscuro.cli import app
from chiaroscuro.data.tables import DATASETS
from chiaroscuro.errors import ChoiceError, InputError
from chiaroscuro.evaluation.metrics import gini, neighbor_correlation
from chiaroscuro.report.pages import interval_text
from chiaroscuro.reproduction import EXPERIMENTS, ReproductionSettings, reproduce
from chiaroscuro.reproduction.experiments import COLUMNS, ExperimentResult
from chiaroscuro.reproduction.tables import answer_claims, make_tables
from chiaroscuro.results import KINDS, load, verify
from chiaroscuro.results.facts import Interval, pick
from chiaroscuro.results.folders import read_marker, write_marker
from chiaroscuro.results.measurements import Line
from chiaroscuro.results.models import TrainingRecord
from tests.evaluation.toy import run
from tests.pictures import class_rows, write_parquet
from tests.test_report import Reader, assert_stands_alone


@pytest.fixture
def root(tmp_path):
    """CIFAR-10 and Imagenette in name: a few pictures of ten classes."""
    for name, test, count in (("cifar10", "test", 10), ("imagenette", "validation", 3)):
        labels = DATASETS[name].labels
        rows = class_rows(10, 1, side=32)[:count]
        for split in ("train", test):
            write_parquet(tmp_path / name / f"{split}.parquet", rows, labels)
    return tmp_path


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """ResNet-18's weights where torchvision looks for them; all other files are out of reach."""

    def refuse(*_args, **_options):
        raise OSError("no internet in this test")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        torch.save(zoo.resnet18().state_dict(), folder / "resnet18-f37072fd.pth")


@pytest.fixture(autouse=True)
def without_run_pages(monkeypatch):
    """The runs' own pages are looked at elsewhere, and take long to draw."""
    monkeypatch.setattr(report, "write", lambda result, folder: None)


@pytest.fixture
def small(monkeypatch):
    """Imagenette's experiments at 32 px, so that a test can train and evaluate them."""
    for name, experiment in EXPERIMENTS.items():
        if experiment.training.data == "imagenette":
            training = replace(experiment.training, size=(32, 32))
            monkeypatch.setitem(EXPERIMENTS, name, replace(experiment, training=training))


def quick(root, *names, **options):
    return ReproductionSettings(experiments=names, data_root=root, quick=True, **options)


def numbers(out, table):
    with (out / "tables" / f"{table}.csv").open() as source:
        return list(csv.DictReader(source))


def test_quick_computes_every_number_from_images(root, tmp_path):
    out = tmp_path / "out"
    result = reproduce(quick(root, "cifar10-cnn"), out)
    assert set(result.missing.values()) == {"not chosen"}
    text = (out / "paper.md").read_text()
    assert "Its numbers mean nothing" in text
    assert "0.6307" in text  # the paper's own
    black = numbers(out, "black")
    assert [row["map"] for row in black] == list(COLUMNS["black"])
    assert [row["paper"] for row in black] == ["0.23", "0.14", "0.15"]
    evaluation = load(out / "runs" / "cifar10-cnn-test")
    for row in black:
        ours = evaluation.curve("paper", row["map"], "black").area.value
        assert row["ours [95 %]"].startswith(f"{ours:.3f} ")
        assert row["difference [95 %]"].startswith(f"{ours - float(row['paper']):+.3f} ")
    gains = numbers(out, "gain")
    assert [(row["fill"], row["map"]) for row in gains] == [
        (fill, name) for fill, maps in COLUMNS.items() for name in maps
    ]
    for row in gains:
        place = {"of": "allegiance", "fill": row["fill"], "map": row["map"]}
        assert row["test [95 %]"] == interval_text(pick(evaluation.gains, **place).gain)
    assert load(out) == result and verify(out) == []
    first = (out / "paper.md").read_text()

    shutil.rmtree(out / "models")
    shutil.rmtree(out / "runs")
    assert reproduce(quick(root, "cifar10-cnn"), out).answers == result.answers
    assert _without_times((out / "paper.md").read_text()) == _without_times(first)

    # Other pictures, other numbers: nothing is stored.
    shutil.rmtree(out)
    labels = DATASETS["cifar10"].labels
    turned = [(data, 9 - label) for data, label in class_rows(10, 2, side=32)][::3]
    write_parquet(root / "cifar10" / "test.parquet", turned, labels)
    other = reproduce(quick(root, "cifar10-cnn"), out)
    assert numbers(out, "accuracy") != [] and other.answers != result.answers


def _without_times(text):
    lines = text.splitlines()
    return [
        line.rsplit("|", 2)[0] if line.startswith("| CIFAR-10, basic") else line for line in lines
    ]


def test_networks_are_kept_reused_and_reported_together(
    root, tmp_path, weights, small, monkeypatch
):
    out = tmp_path / "out"
    names = ("imagenette-resnet18-pretrained", "imagenette-convnext-tiny-pretrained")
    missing = reproduce(quick(root, *names), out).missing
    assert "could not be fetched" in missing["Imagenette, ConvNeXt-Tiny, pre-trained"]
    assert not (out / "models" / "imagenette-convnext-tiny-pretrained.training").exists()
    stamp = (out / "models" / names[0] / "model.safetensors").stat().st_mtime_ns

    # What takes longest may be stopped: the network is reported without it.
    shutil.rmtree(out / "runs" / f"{names[0]}-test-smoothgrad")
    reproduce(quick(root, "imagenette-efficientnet-lite0", method_limit=2), out)
    few = load(out / "runs" / "imagenette-efficientnet-lite0-test-smoothgrad")
    assert (few.settings.method, few.data.limit, few.data.images) == ("smoothgrad", 2, 2)
    assert (out / "models" / names[0] / "model.safetensors").stat().st_mtime_ns == stamp
    rows = numbers(out, "accuracy")
    by_title = {row["network"]: row for row in rows}
    assert len(rows) == len(EXPERIMENTS)
    kept = by_title["Imagenette, ResNet-18, pre-trained"]
    assert kept["paper"] == "0.9733" and "cut short" in kept["epochs"]
    assert by_title["Imagenette, EfficientNet-Lite0, pre-trained"]["paper"] == "-"
    assert by_title["CIFAR-10, basic CNN"]["ours [95 %]"] == "not run: not chosen"
    assert {file.name for file in (out / "figures").iterdir()} == {
        f"{kind}-{name}{end}.png"
        for name in (names[0], "imagenette-efficientnet-lite0")
        for kind, end in (("examples", ""), ("curves", "-paper"), ("curves", "-matched"))
    }
    page = (out / "index.html").read_text()
    assert_stands_alone(Reader(page))
    assert 'src="data:image/png' in page and "Not run (not chosen): " in page
    tex = (out / "tables" / "black.tex").read_text()
    assert tex.startswith("\\begin{table}")
    # Both networks of one data set show the same images.
    chosen = json.loads((out / "examples-imagenette.json").read_text())
    assert chosen and all(id_.startswith("validation#") for id_ in chosen)


def test_a_network_of_other_settings_is_not_taken(root, tmp_path):
    out = tmp_path / "out"
    reproduce(quick(root, "cifar10-cnn"), out)
    folder = out / "models" / "cifar10-cnn"
    marker = read_marker(folder, KINDS["model"])
    marker.result["origin"]["training"]["settings"]["learning_rate"] = 0.1
    write_marker(folder, KINDS["model"], marker)
    shutil.rmtree(out / "runs")
    with pytest.raises(InputError, match="was trained with learning_rate 0.1, cifar10-cnn needs"):
        reproduce(quick(root, "cifar10-cnn"), out)


def test_the_command_says_what_could_not_be_run(root, tmp_path, weights, small):
    out = tmp_path / "out"
    words = ["reproduce", "--quick", "--data-root", str(root), "--out", str(out), "-q"]
    cells = ["--experiment", "cifar10-cnn", "--experiment", "imagenette-convnext-tiny-pretrained"]
    done = CliRunner().invoke(app, [*words, "--precision", "bf16", *cells])
    assert done.exit_code == 1
    *_, said = done.stderr.splitlines()  # after a line of PyTorch's own, in old versions
    assert said.startswith("chiaroscuro: imagenette-convnext-tiny-pretrained: torchvision:")
    assert (out / "index.html").is_file()
    epochs = {row["network"]: row["epochs"] for row in numbers(out, "accuracy")}
    assert epochs["CIFAR-10, basic CNN"] == "4, cut short (paper 50), bf16 mixed"


def test_unknown_experiments_and_none_at_all(tmp_path):
    with pytest.raises(ChoiceError, match="unknown experiment 'cifar10-cn': did you mean"):
        ReproductionSettings(experiments=("cifar10-cn",))
    with pytest.raises(InputError, match="no experiment could be run: "):
        reproduce(quick(tmp_path / "nowhere", "cifar10-cnn"), tmp_path / "out")


def test_the_published_numbers_are_the_papers():
    cnn, resnet = EXPERIMENTS["cifar10-cnn"], EXPERIMENTS["imagenette-resnet18"]
    assert (cnn.accuracy, cnn.areas["active", "black"], cnn.areas["inactive", "white"]) == (
        0.6307, 0.15, 0.15,
    )  # fmt: skip
    assert (resnet.areas["negative", "white"], resnet.areas["inactive", "white"]) == (0.18, 0.16)
    lower = [
        one.areas[name, fill] < one.areas["original", fill]
        for one in EXPERIMENTS.values()
        if one.areas
        for fill, maps in COLUMNS.items()
        for name in maps[1:]
    ]
    assert len(lower) == 24 and all(lower)  # the paper's first claim


def test_measures_of_noise_by_hand():
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(1, 64, 64, generator=generator)
    assert abs(float(neighbor_correlation(noise))) < 0.05
    smooth = torch.linspace(0, 3, 64).sin().expand(1, 64, 64)
    assert float(neighbor_correlation(smooth)) > 0.99
    stripes = torch.tensor([0.0, 1.0]).repeat(32).expand(1, 64, 64)
    assert float(neighbor_correlation(stripes)) == pytest.approx(0, abs=0.02)  # -1 across, +1 along
    values = torch.tensor([[[1.0, 2.0, 3.0, 6.0]]])
    apart = np.abs(np.subtract.outer([1, 2, 3, 6], [1, 2, 3, 6])).sum()
    assert float(gini(values)) == pytest.approx(apart / (2 * 4 * 12))
    assert float(gini(torch.zeros(1, 2, 2))) == 0
    assert float(neighbor_correlation(torch.ones(1, 4, 4))) == 0


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    """A small real run, whose figures tests replace."""
    place = tmp_path_factory.mktemp("evaluated")
    write_parquet(place / "data" / "test.parquet", class_rows(3, 1), ["cat", "dog", "owl"])
    return run(place / "data", place / "run", metrics=("deletion", "sharpness"), fractions=FOUR)


FOUR = (0, 0.3, 0.6, 0.9)


def result_of(evaluation, experiment, difference, p):
    """An experiment in which the first map of every pair is higher by `difference`."""
    ends = Interval(difference, difference - 0.01, difference + 0.01)
    kept = Line((1.0, 0.3, 0.205, 0.2), (0, 0, 0, 0), (1, 1, 1, 1))
    chosen = replace(
        evaluation,
        curves=tuple(
            replace(c, allegiance=kept, changed=(0, 0.2, 0.4, 0.41)) for c in evaluation.curves
        ),
        differences=tuple(
            replace(row, difference=ends, p=p, p_holm=p) for row in evaluation.differences
        ),
        metrics=tuple(replace(m, mean=Interval(0.5, 0.4, 0.6)) for m in evaluation.metrics),
    )
    names = ("test", "train", "sharpness", "test-smoothgrad", "test-integrated-gradients")
    return ExperimentResult(experiment, None, None, dict.fromkeys(names, chosen))


def test_claims_follow_the_numbers(evaluation):
    experiment = EXPERIMENTS["cifar10-cnn"]
    # The map named first in every pair is higher by 0.05, surely: original above positive, ...
    answers = answer_claims([result_of(evaluation, experiment, 0.05, 0.001)])
    assert len(answers) == 7
    assert answers[0].sentences[0] == (
        "test images, paper: lower in 4 of 4 comparisons, higher in 0, not significantly different "
        "in 0."
    )
    assert "lower in 0 of 2 comparisons, higher in 2" in answers[1].sentences[0]
    row = answers[0].table.rows[0]
    assert row[4:] == ("positive - original", "-0.050 [-0.060, -0.040]", "0.0010", "yes")
    flat = {(r[1], r[2]): r for r in answers[2].table.rows}
    assert flat["black", "active"][3:] == ("41 %", "60 %", "0.200")
    unsure = answer_claims([result_of(evaluation, experiment, 0.05, 0.2)])
    assert "not significantly different in 4" in unsure[0].sentences[0]
    assert "more concentrated than original in 0" in unsure[3].sentences[0]


def test_gains_stand_next_to_the_original_s(evaluation):
    """Original is named first in every pair, so its lead is the others' loss."""
    result = result_of(evaluation, EXPERIMENTS["cifar10-cnn"], 0.05, 0.001)
    trained = TrainingRecord(result.experiment.training, 9, 5, 0, 1.0, 0.5, 0.5, 9.0, {})
    table = make_tables([replace(result, training=trained)], {})["gain"]
    rows = {row[1:3]: row[3:] for row in table.rows}
    assert rows["black", "original"][2:] == ("-", "-")
    assert rows["white", "inactive"][2:] == ("-0.050 [-0.060, -0.040], p 0.0010",) * 2
    gain = pick(evaluation.gains, of="allegiance", fill="white", map="inactive").gain
    assert rows["white", "inactive"][:2] == (interval_text(gain),) * 2
    inverted, own = (
        evaluation.curve("matched", name, "white").area.value
        for name in ("inverted:inactive", "inactive")
    )
    assert gain.value == pytest.approx(inverted - own)


def test_the_last_claim_is_about_other_methods(evaluation):
    experiment = EXPERIMENTS["cifar10-cnn"]
    # Original lies above the split in one method, below it in the other.
    above, below = (result_of(evaluation, experiment, d, 0.001).runs for d in (0.05, -0.05))
    runs = {**above, "test-integrated-gradients": below["test-integrated-gradients"]}
    answer = answer_claims([ExperimentResult(experiment, None, None, runs)])[-1]
    assert answer.sentences[0].startswith("test images, smoothgrad, matched: lower in 4 of 4")
    assert answer.sentences[1].startswith("test images, integrated-gradients, matched: lower in 0")
    assert [row[1] for row in answer.table.rows[::4]] == [
        "test images, smoothgrad", "test images, integrated-gradients",
    ]  # fmt: skip
    runs.pop("test-smoothgrad")
    answer = answer_claims([ExperimentResult(experiment, None, None, runs)])[-1]
    assert {row[1] for row in answer.table.rows} == {"test images, integrated-gradients"}
