"""What-ifs of an evaluation: rows against single calls, figures against the rows, and resuming."""

import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

import chiaroscuro.runs.evaluation as evaluation
from chiaroscuro import class_gradients, saliency_maps, what_if
from chiaroscuro.choices import PAPER_MAPS, WHAT_IF_STEPS
from chiaroscuro.data import load_images, read_batches
from chiaroscuro.edits import filled, tie_priority
from chiaroscuro.errors import ChoiceError, ResultError
from chiaroscuro.runs import EvaluationSettings, evaluate
from chiaroscuro.runs.promises import WhatIfSums
from chiaroscuro.runs.what_if import WHAT_IF_SCHEMA
from tests.pictures import BROKEN, class_rows, encoded, picture, write_parquet
from tests.runs.toy import CLASSES, bytes_of, settings, toy_classifier

FILLS = ("black", "+0.1")


@pytest.fixture
def data(tmp_path):
    write_parquet(tmp_path / "data" / "test.parquet", class_rows(3, 5), CLASSES)
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def drawn(request, monkeypatch):
    if "page" not in request.fixturenames:
        monkeypatch.setattr(evaluation, "write_page", lambda folder, summary: None)


@pytest.fixture
def page():
    """For tests that look at figures or page."""


def asked(data, **options):
    given = {"what_if": 0.1, "fills": FILLS, "protocols": ("matched",), **options}
    return settings(data, **given)


def rows_of(run):
    return pa.concat_tables(
        parquet.read_table(f) for f in sorted(run.glob("what-if/*"))
    ).to_pylist()


def test_rows_are_what_single_calls_give(data, tmp_path):
    toy = toy_classifier()
    evaluate(toy, asked(data, seed=3), tmp_path / "run")
    rows = rows_of(tmp_path / "run")
    assert len(rows) == 15 * 2 * 6
    (batch,) = read_batches(load_images(data), toy.framing, 15)
    by_key = {(r["id"], r["map"], r["fill"]): r for r in rows}
    assert list(dict.fromkeys(r["id"] for r in rows)) == list(batch.ids)
    for b in (0, 7, 14):
        pixels = np.ascontiguousarray(batch.pixels[b].transpose(1, 2, 0))
        for name in (*PAPER_MAPS, "random"):
            for fill in ("black", "brighter:0.1"):
                row = by_key[batch.ids[b], name, fill]
                found = what_if(toy, pixels, name, 0.1, fill, seed=3)
                assert row["explained"] == found.target.index
                assert row["foretold"] == pytest.approx(found.predicted, rel=1e-3, abs=1e-5)
                assert row["real"][-1] == pytest.approx(found.actual, rel=1e-3, abs=1e-5)
                half = found.path[found.steps.index(0.5)]
                assert row["real"][2] == pytest.approx(half, rel=1e-3, abs=1e-5)
                assert row["changed"] == found.changed.sum()
                assert row["flipped"][-1] == found.flipped
                assert row["flip_foretold"][-1] == found.flip_predicted


def test_the_foretold_change_is_the_gradient_times_the_change(data, tmp_path):
    toy = toy_classifier()
    evaluate(toy, asked(data), tmp_path / "run")
    by_key = {(r["id"], r["map"], r["fill"]): r for r in rows_of(tmp_path / "run")}
    (batch,) = read_batches(load_images(data), toy.framing, 15)
    pixels = torch.from_numpy(np.stack(batch.pixels))
    found = class_gradients(toy, pixels)
    values = saliency_maps(found, "original")["original"].flatten(1)
    change = filled(pixels, "black") - pixels
    order = tie_priority(pixels)
    for b, id_ in enumerate(batch.ids):
        top = values[b].argsort(descending=True)[:14]
        told = (found.target_gradient[b] * change[b]).sum(dim=0).flatten()
        expected = float(told[top].sum())
        assert by_key[id_, "original", "black"]["foretold"] == pytest.approx(expected, rel=1e-3)
        expected = float(told[order[b, :14]].sum())
        assert by_key[id_, "random", "black"]["foretold"] == pytest.approx(expected, rel=1e-3)


def test_the_summary_is_the_rows_figures(data, tmp_path):
    summary = evaluate(toy_classifier(), asked(data), tmp_path / "run")
    rows = rows_of(tmp_path / "run")
    assert len(summary["what_if"]) == 6 * 2 * len(WHAT_IF_STEPS)
    for found in summary["what_if"]:
        own = [r for r in rows if (r["map"], r["fill"]) == (found["map"], found["fill"])]
        s = WHAT_IF_STEPS.index(found["step"])
        told = found["step"] * np.array([r["foretold"] for r in own])
        real = np.array([r["real"][s] for r in own])
        assert found["images"] == 15 and found["control"] == (found["map"] == "random")
        expected = {
            "direction": np.mean(np.sign(told) == np.sign(real)),
            "kept": np.mean([r["kept"][s] for r in own]),
            "slope": np.linalg.lstsq(told[:, None], real, rcond=None)[0][0],
            "correlation": np.corrcoef(told, real)[0, 1],
            "foretold": told.mean(),
            "real": real.mean(),
            "flipped": np.mean([r["flipped"][s] for r in own]),
            "flip_foretold": np.mean([r["flip_foretold"][s] for r in own]),
        }
        for figure, value in expected.items():
            assert found[figure]["value"] == pytest.approx(value, rel=1e-6, abs=1e-9), figure
            assert found[figure]["low"] <= found[figure]["high"]
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == summary


def table(rows):
    return pa.Table.from_pylist(rows, schema=WHAT_IF_SCHEMA)


def one(id_, told, real, changed=3):
    steps = len(WHAT_IF_STEPS)
    return {
        "id": id_, "explained": 0, "map": "random", "fill": "black", "foretold": told,
        "real": [real] * steps, "kept": [True] * steps, "flip_foretold": [False] * steps,
        "flipped": [True] * steps, "changed": changed,
    }  # fmt: skip


def test_images_in_which_nothing_changed_count_for_flips_alone():
    rows = [one("a", 2.0, 1.0), one("b", 0.0, 0.0, changed=0), one("c", -1.0, 1.0)]
    sums = WhatIfSums(table(rows), EvaluationSettings(data="x", resamples=50))
    sums.add(table(rows))
    last = sums.figures()[-1]
    assert last["images"] == 2
    assert (last["direction"]["value"], last["kept"]["value"]) == (0.5, 1.0)
    assert last["slope"]["value"] == pytest.approx((2 - 1) / (4 + 1))
    assert last["correlation"] is None  # what came was the same for all
    assert last["flipped"]["value"] == 1.0


def test_without_any_change_there_is_no_figure():
    rows = [one("a", 0.0, 0.0, changed=0)]
    sums = WhatIfSums(table(rows), EvaluationSettings(data="x", resamples=50))
    sums.add(table(rows))
    last = sums.figures()[-1]
    assert last["images"] == 0
    none = ("direction", "kept", "slope", "correlation", "foretold", "real")
    assert all(last[name] is None for name in none)


def test_batches_do_not_matter_to_figures():
    rng = np.random.default_rng(0)
    rows = [one(str(n), *rng.normal(size=2).tolist()) for n in range(9)]
    settings_ = EvaluationSettings(data="x", resamples=40)
    whole, parts = (WhatIfSums(table(rows), settings_) for _ in range(2))
    whole.add(table(rows))
    for n in range(0, 9, 2):
        parts.add(table(rows[n : n + 2]))
    for one_, other in zip(parts.figures(), whole.figures(), strict=True):
        for name in ("direction", "slope", "correlation", "real", "flipped"):
            assert one_[name] == pytest.approx(other[name])


def test_off_by_default_it_leaves_no_trace(data, tmp_path):
    summary = evaluate(toy_classifier(), settings(data), tmp_path / "run")
    assert "what_if" not in summary
    assert not (tmp_path / "run" / "what-if").exists()
    plain = bytes_of(tmp_path / "run")
    evaluate(toy_classifier(), settings(data, what_if=0.05), tmp_path / "two")
    two = bytes_of(tmp_path / "two")
    for name in plain:
        if name.startswith("rows/"):
            assert plain[name] == two[name]
    assert {f"what-if/{n:06d}.parquet" for n in range(4)} <= set(two)


@pytest.mark.parametrize("between", [0, 1])
def test_cut_between_the_two_tables_it_goes_on_to_the_same_bytes(
    data, tmp_path, monkeypatch, page, between
):
    run, calls = tmp_path / "run", []
    write = evaluation.RunStore._write

    def cut(store, kind, number, rows):
        if number == 2 and len(calls) == 4 + between:
            raise KeyboardInterrupt
        calls.append(kind)
        write(store, kind, number, rows)

    monkeypatch.setattr(evaluation.RunStore, "_write", cut)
    with pytest.raises(KeyboardInterrupt):
        evaluate(toy_classifier(), asked(data), run)
    monkeypatch.setattr(evaluation.RunStore, "_write", write)
    assert calls == ["what-if", "rows"] * 2 + ["what-if"] * between
    assert len(evaluation.RunStore(run, what_if=True).parts()) == 2
    evaluate(toy_classifier(), asked(data), run, resume=True)
    evaluate(toy_classifier(), asked(data), tmp_path / "whole")
    assert bytes_of(run) == bytes_of(tmp_path / "whole")
    assert "curves-what-if-direction.svg" in bytes_of(run)


def test_a_torn_what_if_part_is_made_again(data, tmp_path):
    run = tmp_path / "run"
    evaluate(toy_classifier(), asked(data), run)
    whole = bytes_of(run)
    (run / "manifest.json").unlink()
    (run / "what-if" / "000001.parquet").write_bytes(whole["what-if/000001.parquet"][:90])
    evaluate(toy_classifier(), asked(data), run, resume=True)
    assert bytes_of(run) == whole


def test_another_share_is_another_run(data, tmp_path):
    run = tmp_path / "run"
    evaluate(toy_classifier(), asked(data), run)
    with pytest.raises(ResultError, match=r"what_if 0\.1, now 0\.2"):
        evaluate(toy_classifier(), asked(data, what_if=0.2), run, resume=True)


@pytest.mark.parametrize("share", [0, 1, -0.1, 2])
def test_a_share_is_within_0_and_1(share):
    with pytest.raises(ChoiceError, match="what_if is"):
        EvaluationSettings(data="x", what_if=share)


def test_mixed_sizes_and_broken_images_stay_in_order(tmp_path):
    rows = [(encoded(picture(n, side=12 + 4 * (n % 3))), n % 3) for n in range(7)]
    rows[2] = (BROKEN, 1)
    write_parquet(tmp_path / "data" / "test.parquet", rows, CLASSES)
    toy = toy_classifier(size=None)
    evaluate(toy, asked(tmp_path / "data", batch=7), tmp_path / "run")
    ids = list(dict.fromkeys(row["id"] for row in rows_of(tmp_path / "run")))
    assert ids == [f"test#{n}" for n in (0, 1, 3, 4, 5, 6)]


def test_the_page_shows_them(data, tmp_path, page):
    evaluate(toy_classifier(), asked(data), tmp_path / "run")
    text = (tmp_path / "run" / "index.html").read_text()
    assert "What if: foretold and real changes" in text
    assert "Black-deletion of the top 10 %: the target logit moves as first order" in text
    names = {"direction", "kept", "flipped"}
    assert {f"curves-what-if-{n}.png" for n in names} <= {
        f.name for f in (tmp_path / "run").iterdir()
    }
