"""What-ifs of an evaluation: rows against single calls, and figures against the rows."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from chiaroscuro import class_gradients, saliency_maps, what_if
from chiaroscuro.choices import PAPER_MAPS, WHAT_IF_STEPS
from chiaroscuro.data.images import read_batches
from chiaroscuro.data.loading import load_images
from chiaroscuro.edits import filled, tie_priority
from chiaroscuro.errors import ChoiceError
from chiaroscuro.evaluation.deletion import ClassNames
from chiaroscuro.evaluation.what_if import WHAT_IF_SCHEMA, WhatIfSums
from chiaroscuro.settings import EvaluationSettings
from tests.evaluation.toy import bytes_of, rows_of, run, toy_classifier

NAMES = ClassNames((), False, None, "")
ASKED = {"what_if": 0.1, "fills": ("black", "+0.1"), "protocols": ("matched",)}


def what_ifs(out):
    return rows_of(out, "what-if").to_pylist()


def test_rows_are_what_single_calls_give(data, tmp_path):
    toy = toy_classifier()
    run(data, tmp_path / "run", toy, seed=3, **ASKED)
    rows = what_ifs(tmp_path / "run")
    assert len(rows) == 15 * 2 * 6
    (batch,) = read_batches(load_images(data), toy.framing, 15)
    by_key = {(r["id"], r["map"], r["fill"]): r for r in rows}
    assert list(dict.fromkeys(r["id"] for r in rows)) == list(batch.ids)
    for b in (0, 7, 14):
        pixels = np.ascontiguousarray(batch.pixels[b].transpose(1, 2, 0))
        for name in (*PAPER_MAPS, "random"):
            for fill in ("black", "brighter:0.1"):
                row = by_key[batch.ids[b], name, fill]
                single = what_if(toy, pixels, name, 0.1, fill, seed=3)
                assert row["target"] == single.target.index
                assert row["predicted"] == pytest.approx(single.predicted, rel=1e-3, abs=1e-5)
                assert row["actual"][-1] == pytest.approx(single.actual, rel=1e-3, abs=1e-5)
                half = single.path[single.steps.index(0.5)]
                assert row["actual"][2] == pytest.approx(half, rel=1e-3, abs=1e-5)
                assert row["changed"] == single.changed.sum()
                assert row["flips"][-1] == single.flipped
                assert row["predicted_flips"][-1] == (
                    single.expected.index != single.before[0].index
                )


def test_the_predicted_change_is_the_gradient_times_the_change(data, tmp_path):
    toy = toy_classifier()
    run(data, tmp_path / "run", toy, **ASKED)
    by_key = {(r["id"], r["map"], r["fill"]): r for r in what_ifs(tmp_path / "run")}
    (batch,) = read_batches(load_images(data), toy.framing, 15)
    pixels = torch.from_numpy(np.stack(batch.pixels))
    gradients = class_gradients(toy, pixels)
    values = saliency_maps(gradients, "original")["original"].flatten(1)
    change = filled(pixels, "black") - pixels
    order = tie_priority(pixels)
    for b, id_ in enumerate(batch.ids):
        top = values[b].argsort(descending=True)[:14]
        effect = (gradients.target_gradient[b] * change[b]).sum(dim=0).flatten()
        for name, pixels_ in (("original", top), ("random", order[b, :14])):
            expected = float(effect[pixels_].sum())
            assert by_key[id_, name, "black"]["predicted"] == pytest.approx(expected, rel=1e-3)


def test_figures_are_those_of_the_rows(data, tmp_path):
    result = run(data, tmp_path / "run", **ASKED)
    rows = what_ifs(tmp_path / "run")
    assert len(result.what_if) == 6 * 2 * len(WHAT_IF_STEPS)
    for row in result.what_if:
        own = [r for r in rows if (r["map"], r["fill"]) == (row.map, row.fill)]
        s = WHAT_IF_STEPS.index(row.step)
        predicted = row.step * np.array([r["predicted"] for r in own])
        actual = np.array([r["actual"][s] for r in own])
        assert row.images == 15 and row.control == (row.map == "random")
        expected = {
            "direction": np.mean(np.sign(predicted) == np.sign(actual)),
            "tolerated": np.mean([r["tolerated"][s] for r in own]),
            "slope": np.linalg.lstsq(predicted[:, None], actual, rcond=None)[0][0],
            "correlation": np.corrcoef(predicted, actual)[0, 1],
            "predicted": predicted.mean(),
            "actual": actual.mean(),
            "flips": np.mean([r["flips"][s] for r in own]),
            "predicted_flips": np.mean([r["predicted_flips"][s] for r in own]),
        }
        for figure, value in expected.items():
            found = getattr(row, figure)
            assert found.value == pytest.approx(value, rel=1e-6, abs=1e-9), figure
            assert found.low <= found.high


def table(rows):
    return pa.Table.from_pylist(rows, schema=WHAT_IF_SCHEMA)


def one(id_, predicted, actual, changed=3):
    steps = len(WHAT_IF_STEPS)
    return {
        "id": id_, "target": 0, "map": "random", "fill": "black", "predicted": predicted,
        "actual": [actual] * steps, "tolerated": [True] * steps,
        "predicted_flips": [False] * steps, "flips": [True] * steps, "changed": changed,
    }  # fmt: skip


def figures(rows, size=None, resamples=50):
    """The rows of the sums over rows, in tables of `size` images."""
    settings = EvaluationSettings(data="x", resamples=resamples)
    sums = WhatIfSums(table(rows), settings, NAMES)
    for n in range(0, len(rows), size or len(rows)):
        sums.add(table(rows[n : n + (size or len(rows))]))
    return sums.figures().what_if


def test_images_in_which_nothing_changes_count_for_flips_alone():
    last = figures([one("a", 2.0, 1.0), one("b", 0.0, 0.0, changed=0), one("c", -1.0, 1.0)])[-1]
    assert last.images == 2
    assert (last.direction.value, last.tolerated.value) == (0.5, 1.0)
    assert last.slope.value == pytest.approx((2 - 1) / (4 + 1))
    assert last.correlation is None  # the actual change is the same for all
    assert last.flips.value == 1.0


def test_without_any_change_there_is_no_figure():
    last = figures([one("a", 0.0, 0.0, changed=0)])[-1]
    assert last.images == 0
    names = ("direction", "tolerated", "slope", "correlation", "predicted", "actual")
    assert all(getattr(last, name) is None for name in names)


def test_batches_do_not_matter_to_figures():
    rng = np.random.default_rng(0)
    rows = [one(str(n), *rng.normal(size=2).tolist()) for n in range(9)]
    for some, all_ in zip(figures(rows, 2, 40), figures(rows, None, 40), strict=True):
        for name in ("direction", "slope", "correlation", "actual", "flips"):
            assert getattr(some, name).value == pytest.approx(getattr(all_, name).value)


def test_off_by_default_it_leaves_no_trace(data, tmp_path):
    assert run(data, tmp_path / "run").what_if == ()
    plain = bytes_of(tmp_path / "run")
    run(data, tmp_path / "two", what_if=0.05)
    two = bytes_of(tmp_path / "two")
    assert not any(name.startswith("what-if/") for name in plain)
    assert {f"what-if/{n:06d}.parquet" for n in range(4)} <= set(two)
    for name in plain:
        if name.startswith("deletion/"):
            assert plain[name] == two[name]


@pytest.mark.parametrize("share", [0, 1, -0.1, 2])
def test_a_share_is_within_0_and_1(share):
    with pytest.raises(ChoiceError, match="what_if is"):
        EvaluationSettings(data="x", what_if=share)
