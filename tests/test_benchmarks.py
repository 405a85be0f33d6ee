"""The rivals' maps, what is scaled, and what is counted: no seconds."""

import subprocess

import numpy as np
import pytest
import torch

from benchmarks import any_change, gpu, gpu_page, precision, smallest, waiting
from benchmarks.algorithms import ALGORITHMS, OURS, RIVALS, algorithm
from benchmarks.edit_maps import Work
from benchmarks.gradients import scaled
from benchmarks.limit import needs, one_pass
from benchmarks.machine import describe
from benchmarks.page import page
from benchmarks.works import WORKS, chosen_classes
from chiaroscuro import Classifier
from chiaroscuro.gradients.backward.program import Program
from chiaroscuro.gradients.backward.tape import Tape
from tests.toys import eager_net, random_pixels, small_cnn

TARGETS = {"own classes": [0, 2, 1, 2], "one class": [1, 1, 1, 1]}


def oracle(module, pixels, target, classes):
    """One row and class at a time, in float64."""
    maps = []
    for x, own in zip(pixels, target, strict=True):
        leaf = x[None].requires_grad_(True)
        logits = module(leaf)[0]
        g = torch.stack([torch.autograd.grad(s, leaf, retain_graph=True)[0][0] for s in logits])
        rivals = g[[k for k in classes if k != own]]
        mine = g[own]
        active = torch.where((mine > rivals).all(dim=0), mine.abs(), 0.0).amax(dim=0)
        inactive = torch.where((mine < rivals).all(dim=0), mine.abs(), 0.0).amax(dim=0)
        maps.append((active, inactive))
    return [torch.stack(found) for found in zip(*maps, strict=True)]


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("name", [*ALGORITHMS, "jacrev"])
def test_every_algorithm_gives_the_same_maps(name, target):
    module = small_cnn().double().eval()
    pixels = random_pixels(4, 3, 10, 10)
    classes = list(range(module(pixels).shape[1]))
    chosen = torch.tensor(target)
    maps = algorithm(name, 2).run(module, pixels, classes, chosen)
    active, inactive = oracle(module, pixels, target, classes)
    assert maps.keys() == {"original", "positive", "negative", "active", "inactive"}
    assert active.any()
    assert inactive.any()
    torch.testing.assert_close(maps["active"], active, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(maps["inactive"], inactive, rtol=1e-9, atol=1e-12)
    larger = torch.maximum(maps["positive"], maps["negative"])
    torch.testing.assert_close(maps["original"], larger, rtol=1e-9, atol=1e-12)


def test_policies_take_turns_there_and_back_each_in_its_environment(monkeypatch):
    asked = []

    def run(command, env, **_):
        asked.append(env.get("OMP_WAIT_POLICY"))
        told = f'{{"wall": {len(asked)}, "cpu": {10 * len(asked)}}}\n'
        return subprocess.CompletedProcess(command, 0, told, "")

    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    monkeypatch.setattr(subprocess, "run", run)
    wall, cpu = waiting.measure(2, 5)
    assert asked == [None, "passive", "passive", None]
    assert wall == {"active": [1, 4], "passive": [2, 3]}
    assert cpu == {"active": [10, 40], "passive": [20, 30]}
    assert waiting.ratio(wall) == "1.38x (0.75-2.00)"


def test_seconds_are_scaled_by_passes_and_a_single_forward_stays():
    told = {"seconds": 6.0, "forward": 1.0, "classes": 50, "peak_bytes": 7}
    name = "resnet18-224px-k1000"
    assert scaled(told, name, "loop")["seconds"] == 1 + 5 * 20
    whole = scaled({**told, "forward": 0.0}, name, "published")
    assert whole["seconds"] == pytest.approx(6 * 2003 / 103)
    assert whole["peak_bytes"] == 7
    jacobian = scaled(told, name, "jacrev", 5)
    assert jacobian["peak_bytes"] == 7 + 950 * 3 * 224 * 224 * 4


def test_the_page_has_goals_for_the_rivals_that_have_one():
    seconds = {OURS[0]: 1, OURS[1]: 1, **dict.fromkeys(RIVALS, 3)}
    turn = {
        name: {"seconds": value, "measured_seconds": value, "passes": 1, "peak_bytes": 0}
        for name, value in seconds.items()
    }
    name = "swin-224px-k1000"
    work = {"turns": [turn], "differences": {}, "chunks": {}, "one class": [1]}
    report = {
        "machine": describe(), "runs": 1, "works": {"cpu": {name: work}},
        "rates": {"convolution": 5.2, "copy": 1, "shape": ""},
        "needs": {name: {"operations": 3, "bytes": 1}},
    }  # fmt: skip
    text = page(report)
    assert "| 3.0x (3.0-3.0) | 3.0x (3.0-3.0) | 3.0x (3.0-3.0) | 3.0x (3.0-3.0) / 2.6x |" in text
    assert "| 0 | 0 | 58 % | 50 % |" in text, "share for the loop's goal alone: 3 * 2.6 / 3 of 5.2"


def test_a_single_image_competes_in_what_is_drawn():
    work = WORKS["resnet18-224px-k1000"]
    drawn = chosen_classes(work, 50, torch.tensor([987]))
    assert len(set(drawn)) == 50
    assert 987 in drawn
    assert drawn == chosen_classes(work, 50, torch.tensor([987]))
    assert chosen_classes(work, 1000, torch.tensor([3])) == list(range(1000))


def test_operations_and_bytes_by_hand():
    found = needs("cnn-32px-k10")
    assert found["passes"] == 10
    # Multiply-adds: 7x7 over 16x16 outputs, 3x3 over 8, 4, 4, 4, 2, 2, 2, 1, 1 wide, linear.
    macs = 32 * 3 * 49 * 256 + 10 * 128
    for before, width, side in (
        (32, 32, 8), (32, 32, 4), (32, 32, 4), (32, 64, 4), (64, 64, 2), (64, 64, 2),
        (64, 128, 2), (128, 128, 1), (128, 128, 1),
    ):  # fmt: skip
        macs += before * width * 9 * side**2
    assert found["operations"] == 128 * 2 * macs * 11


@pytest.mark.parametrize(("classes", "on"), [(10, 32), (40, 16)])
def test_what_carries_nothing_is_not_counted(classes, on):
    """A convolution, a product and a convolution of 25 pixels; half of 32 channels are off."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 32, 1), torch.nn.ReLU(), torch.nn.Conv2d(32, 2, 1), torch.nn.Flatten()
    ).requires_grad_(False)  # fmt: skip
    module[0].weight.abs_()
    module[0].bias.copy_(torch.arange(32) % 2 * 2e3 - 1e3)
    leaf = torch.rand(2, 3, 5, 5).requires_grad_(True)
    logits = module(leaf)
    program = Program(Tape.of(logits, leaf), 1 << 20, classes, 1 << 20)
    operations, moved = one_pass(program, logits.detach())
    assert operations == 2 * 2 * 25 * (2 * on + on * 3)
    taken, product, given = 2 + on, 2 * on, on + 3
    assert moved == 4 * 2 * 25 * (taken + product + given)


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # of jacrev's
def test_the_script_for_gpus_runs_without_one():
    report = gpu.measure("cpu", gpu.SMALL, lambda line: None)
    assert all(gap < 1e-9 for _, gap in report["equal"])
    assert [row[1] for row in report["attention"]] == ["a rule"]
    assert all(row[2] < 1e-5 for row in report["attention"])
    for work in report["works"].values():
        assert all(gap < 1e-3 for gap in work["differences"].values())
        assert work["jacrev"]["chunk"] in gpu.SMALL.chunks
    text = gpu_page.page(report)
    assert "| a small ViT, K = 40 |" in text
    assert text.count("x)") == 4 * len(report["works"])


def test_the_page_of_gpus_says_that_nothing_was_measured_or_is_measured():
    text = gpu.PAGE.read_text()
    assert text == gpu_page.page(None) or "## Seconds and memory" in text


def test_the_page_of_precision_has_every_network():
    row = precision.measure(*precision.WORKS["cnn"])
    assert len(row) == 15
    assert float(row[4].rstrip("%")) < 2
    text = precision.PAGE.read_text()
    assert all(title in text for title, _, _ in precision.WORKS.values())
    assert "\n".join(precision._bfloat16_lines([row])).count("| basic CNN") == 1


def test_the_table_of_rounding_says_what_differs_from_what():
    rows = [*precision.rounding(*precision.ROUNDED["cnn"])]
    assert {len(row) for row in rows} == {3 + len(precision.MASKS)}
    again = next(row for row in rows if row[1] == "once more")
    assert again[2] == "0" and {*again[3:]} == {"0.0000%"}  # the same bits
    text = "\n".join(precision._rounding_lines(rows))
    assert text.count("| basic CNN") == len(rows) == 8
    assert precision._differing(torch.tensor([True, True]), torch.tensor([True, False])) == 0.5


@pytest.mark.parametrize("keep", [False, True])
def test_every_way_to_a_small_edit_reaches_what_it_counts(keep):
    classifier, pixels = Classifier(eager_net(75)), random_pixels(3, 3, 5, 5)
    target = classifier(pixels).argmax(dim=1)
    start, end = (torch.zeros_like(pixels), pixels) if keep else (pixels, torch.zeros_like(pixels))
    question = smallest.Question(budget=8, keep=keep)
    ways = smallest.every_way(question)
    assert len(ways) == (8 if keep else 13)
    for name, way in ways.items():
        searches = smallest.edits_of(classifier, pixels, target, question, way)
        found = smallest.found_by(searches, way)
        for n, (one, search) in enumerate(zip(found, searches, strict=True)):
            assert search.gradients <= 8, name
            if one.size is None:
                continue
            mask = torch.zeros(25, dtype=torch.bool)
            mask[search.units] = True
            edited = torch.where(mask.view(1, 1, 5, 5), end[n : n + 1], start[n : n + 1])
            assert (classifier(edited).argmax() == target[n]) == keep, name
            assert int(mask.sum()) == one.size, name
        assert "| 0 / 3 / 0 |" in smallest.line(name, found, [*found], 25, 1.0)


def test_rows_of_small_edits_are_kept_and_only_missing_ones_are_added(tmp_path):
    classifier, pixels = Classifier(eager_net(75)), random_pixels(5, 3, 5, 5)
    target = classifier(pixels).argmax(dim=1)
    work = Work(classifier, pixels, target, (0.0,), by_range=False, batch=2)
    file, names = tmp_path / "rows", [smallest.OURS, "one gradient"]
    question = smallest.Question(budget=4)
    smallest.measure(work, question, names, file, "a question")
    rows = file.read_text().splitlines(keepends=True)
    assert len(rows) == 2 * 3
    file.write_text("".join(rows[:5]))  # stopped before the last row
    read = smallest.read(file, "a question")
    assert "4 images of 25 pixels" in smallest.table(read, names, "a question")
    smallest.measure(work, question, names, file, "a question")
    assert len(file.read_text().splitlines()) == len(rows)
    read = smallest.read(file, "a question")
    assert "5 images of 25 pixels" in smallest.table(read, names, "a question")
    assert not smallest.read(file, "another question")


def test_a_map_is_better_where_deletion_is_lower_and_the_others_are_higher():
    low, high = np.zeros((40, 8)), np.ones((40, 8))
    gain, p = any_change.better(low, high)
    assert gain.tolist() == [-1.0] * 5 + [1.0] * 3 and p.max() < 0.05
    scores = {"low": low, "high": high}
    assert any_change.best_in(scores, "low") == ["black", "white", "mean", "blur", "ROAD"]
    assert any_change.best_in(scores, "high") == ["insertion", "keep", "gain"]
    assert any_change.best_in({"low": low, "same": low.copy()}, "low") == [*any_change.SCORES]
