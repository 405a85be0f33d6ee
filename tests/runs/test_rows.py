"""Rows of a run against single calls, and what the summary says; which images it takes."""

import numpy as np
import pytest
import torch

import chiaroscuro.runs.rows as row_making
from chiaroscuro import class_gradients, edit_map, saliency_maps
from chiaroscuro.choices import PAPER_MAPS
from chiaroscuro.data import load_images, read_batches
from chiaroscuro.edits import filled
from chiaroscuro.errors import ChoiceError, InputError, ResultError
from chiaroscuro.gradients import Method
from chiaroscuro.metrics import curves_by_fill
from chiaroscuro.runs import EvaluationSettings, evaluate
from chiaroscuro.runs.accuracy import match_classes
from tests.pictures import BROKEN, class_rows, encoded, picture, write_classes, write_parquet
from tests.runs.toy import CLASSES, rows_of, settings, toy_classifier


def test_rows_are_what_single_calls_give(data, tmp_path):
    toy = toy_classifier()
    evaluate(toy, settings(data, seed=3), tmp_path / "run")
    rows = rows_of(tmp_path / "run").to_pylist()
    assert len(rows) == 15 * 2 * (5 + 11)
    by_key = {(r["id"], r["protocol"], r["map"], r["fill"]): r for r in rows}
    batches = read_batches(load_images(data), toy.framing, 15)
    (batch,) = batches
    pixels = torch.from_numpy(np.stack(batch.pixels))
    found = class_gradients(toy, pixels)
    maps = saliency_maps(found, PAPER_MAPS)
    for fill in ("black", "white"):
        for (protocol, name), curve in curves_by_fill(toy, pixels, maps, [fill], seed=3)[
            fill
        ].items():
            for b, id_ in enumerate(batch.ids):
                row = by_key[id_, protocol, name, fill]
                assert row["allegiance"] == curve.allegiance[b].tolist()
                assert row["probability"] == pytest.approx(curve.probability[b].tolist(), abs=1e-5)
                assert row["logit"] == pytest.approx(curve.logit[b].tolist(), abs=1e-4)
                assert row["changed"] == curve.changed[b].tolist()
                assert row["predicted"] == row["explained"] == int(found.logits[b].argmax())
                assert row["label"] == batch.labels[b]
                assert row["pixels"] == 144


def test_rows_by_another_method_and_contrast(data, tmp_path):
    toy = toy_classifier()
    same = {
        "seed": 3, "rivals": "softmax", "maps": ("active",), "fills": ("black",),
        "protocols": ("matched",),
    }  # fmt: skip
    chosen = settings(data, method="smoothgrad", points=3, **same)
    assert [chosen.plain()[key] for key in ("points", "sigma", "baseline")] == [3, 0.15, None]
    summary = evaluate(toy, chosen, tmp_path / "run")
    assert summary["choices"]["method"] == "smoothgrad"
    rows = {r["id"]: r for r in rows_of(tmp_path / "run").to_pylist() if r["map"] == "active"}
    (batch,) = read_batches(load_images(data), toy.framing, 15)
    pixels = torch.from_numpy(np.stack(batch.pixels))
    method = Method("smoothgrad", points=3, seed=3)
    found = class_gradients(toy, pixels, rivals="softmax", method=method)
    maps = saliency_maps(found, ["active"])
    curves = curves_by_fill(toy, pixels, maps, ["black"], seed=3)["black"]
    for b, id_ in enumerate(batch.ids):
        curve = curves["matched", "active"]
        assert rows[id_]["logit"] == pytest.approx(curve.logit[b].tolist(), abs=1e-4)
    with pytest.raises(ResultError, match="method smoothgrad, now gradient"):
        evaluate(toy, settings(data, **same), tmp_path / "run", resume=True)


def test_the_summary_is_the_rows_mean(data, tmp_path):
    summary = evaluate(toy_classifier(), settings(data), tmp_path / "run")
    rows = rows_of(tmp_path / "run").to_pylist()
    fractions = summary["choices"]["fractions"]
    for curve in summary["curves"]:
        own = [
            r for r in rows
            if (r["protocol"], r["map"], r["fill"])
            == (curve["protocol"], curve["map"], curve["fill"])
        ]  # fmt: skip
        kept = np.array([r["allegiance"] for r in own], float)
        assert curve["allegiance"]["mean"] == pytest.approx(kept.mean(0).tolist())
        assert curve["area"]["value"] == pytest.approx(np.trapezoid(kept.mean(0), fractions))
        assert curve["area_by_range"]["value"] == pytest.approx(curve["area"]["value"] / 0.9)
        assert curve["area"]["low"] <= curve["area"]["value"] <= curve["area"]["high"]
        assert curve["changed"][-1] == pytest.approx(np.mean([r["changed"][-1] for r in own]) / 144)
    first = {r["id"]: r for r in rows}.values()
    right = np.mean([r["label"] == r["predicted"] for r in first])
    assert summary["accuracy"]["value"] == pytest.approx(right)
    areas = {(c["protocol"], c["fill"], c["map"]): c["area"]["value"] for c in summary["curves"]}
    for row in summary["differences"]:
        place = row["protocol"], row["fill"]
        assert row["difference"] == pytest.approx(
            areas[*place, row["map"]] - areas[*place, row["against"]], abs=1e-9
        )
        assert row["p"] <= row["p_holm"] <= 1
    assert len(summary["differences"]) == 2 * (10 + 15)
    assert sum(row["images"] for row in summary["classes"]) == 15
    assert [row["class"] for row in summary["classes"]] == CLASSES


def test_edit_maps_are_made_for_each_fill(data, tmp_path):
    toy = toy_classifier()
    chosen = ("original", "partial-edit", "expected-effect")
    evaluate(toy, settings(data, seed=3, maps=chosen, fills=("black", "noise")), tmp_path / "run")
    table = rows_of(tmp_path / "run").to_pylist()
    assert len(table) == 15 * 2 * (3 + 7)
    rows = {(r["id"], r["protocol"], r["map"], r["fill"]): r for r in table}
    (batch,) = read_batches(load_images(data), toy.framing, 15)
    pixels = torch.from_numpy(np.stack(batch.pixels))
    for fill in ("black", "noise"):
        changed = filled(pixels, fill, seed=3)
        maps = {
            name: edit_map(toy, pixels, changed, name, generator=torch.Generator().manual_seed(3))
            for name in chosen[1:]
        }
        for (protocol, name), curve in curves_by_fill(toy, pixels, maps, [fill], seed=3)[
            fill
        ].items():
            for b, id_ in enumerate(batch.ids):
                found = rows[id_, protocol, name, fill]["probability"]
                assert found == pytest.approx(curve.probability[b].tolist(), abs=1e-5)


def test_edit_maps_alone_run_no_rivals_and_say_what_they_are(data, tmp_path, page, monkeypatch):
    monkeypatch.setattr(row_making, "class_gradients", None)
    chosen = settings(data, maps=("partial-edit",), fills=("black", "+0.2"))
    summary = evaluate(toy_classifier(), chosen, tmp_path / "run")
    assert {c["map"] for c in summary["curves"] if not c["control"]} == {"partial-edit"}
    page = (tmp_path / "run" / "index.html").read_text()
    assert "It is made for this very edit" in page
    assert "partial-edit, black" in page and "partial-edit, brighter:0.2" in page


def test_broken_images_are_counted_named_and_left_out(tmp_path, page):
    rows = class_rows(3, 3)
    rows[2], rows[7] = (BROKEN, 2), (b"", 1)
    write_parquet(tmp_path / "data" / "test.parquet", rows, CLASSES)
    summary = evaluate(toy_classifier(), settings(tmp_path / "data"), tmp_path / "run")
    assert summary["data"]["images"] == 7
    assert summary["data"]["broken_count"] == 2
    assert [one["id"] for one in summary["data"]["broken"]] == ["test#2", "test#7"]
    page = (tmp_path / "run" / "index.html").read_text()
    assert "test#2" in page and "test#7" in page


def test_nothing_but_broken_images_is_an_error(tmp_path):
    write_parquet(tmp_path / "data" / "test.parquet", [(BROKEN, 0)] * 3, CLASSES)
    with pytest.raises(InputError, match=r"no image of test can be used \(3 left out\)"):
        evaluate(toy_classifier(), settings(tmp_path / "data"), tmp_path / "run")
    assert not (tmp_path / "run" / "manifest.json").exists()


def test_mixed_sizes_stay_in_their_order(tmp_path):
    rows = [(encoded(picture(n, side=12 + 4 * (n % 3))), n % 3) for n in range(7)]
    write_parquet(tmp_path / "data" / "test.parquet", rows, CLASSES)
    toy = toy_classifier(size=None)
    evaluate(toy, settings(tmp_path / "data", batch=7), tmp_path / "run")
    table = rows_of(tmp_path / "run")
    assert list(dict.fromkeys(table["id"].to_pylist())) == [f"test#{n}" for n in range(7)]
    sizes = dict(zip(table["id"].to_pylist(), table["pixels"].to_pylist(), strict=True))
    assert [sizes[f"test#{n}"] for n in range(3)] == [144, 256, 400]


def test_images_without_classes_are_listed_by_prediction(tmp_path):
    for n in range(4):
        (tmp_path / "data").mkdir(exist_ok=True)
        picture(n).save(tmp_path / "data" / f"{n}.png")
    summary = evaluate(toy_classifier(), settings(tmp_path / "data"), tmp_path / "run")
    assert summary["accuracy"] is None
    assert summary["accuracy_note"] == "the images have no classes"
    assert sum(row["images"] for row in summary["classes"]) == 4
    nameless = toy_classifier(labels=None)
    assert evaluate(nameless, settings(tmp_path / "data"), tmp_path / "two")["classes"] == []


def test_class_folders_other_maps_fills_and_one_protocol(tmp_path, page):
    write_classes(tmp_path / "data", CLASSES, 2)
    given = settings(
        tmp_path / "data", maps=("signed", "margin"), fills=("blur:0.2", "+0.1"),
        protocols=("matched",), rivals="dog,owl", score="log-probability",
    )  # fmt: skip
    summary = evaluate(toy_classifier(), given, tmp_path / "run")
    found = {(c["protocol"], c["map"], c["fill"]) for c in summary["curves"]}
    assert ("matched", "inverted:margin", "brighter:0.1") in found
    assert len(found) == 5 * 2
    assert summary["classes"][0]["class"] == "cat"


def test_one_image_is_a_run_too(tmp_path, page):
    write_parquet(tmp_path / "data" / "test.parquet", class_rows(1, 1), CLASSES)
    summary = evaluate(toy_classifier(), settings(tmp_path / "data"), tmp_path / "run")
    assert summary["data"]["images"] == 1


def test_only_ranking_maps_and_known_words_are_taken():
    with pytest.raises(ChoiceError, match="unknown map 'winner'"):
        EvaluationSettings(data="x", maps=("winner",))
    with pytest.raises(ChoiceError, match="unknown fill 'blak': did you mean black"):
        EvaluationSettings(data="x", fills=("blak",))
    with pytest.raises(ChoiceError, match="resamples is 0"):
        EvaluationSettings(data="x", resamples=0)
    with pytest.raises(ChoiceError, match="no maps are given"):
        EvaluationSettings(data="x", maps=())
    assert EvaluationSettings(data="x", fills=("+0.1", "brighter:0.1")).fills == ("brighter:0.1",)


def test_class_names_are_matched_by_any_of_their_words():
    toy = toy_classifier(labels=["tabby, house cat", "owl", "hound, dog"])
    found = match_classes(toy, ["Dog", "house cat", "owl"])
    assert found.target.tolist() == [2, 0, 1]
    missing = match_classes(toy, ["dog", "emu", "owl"])
    assert missing.target is None
    assert "class names do not map" in missing.note and "emu" in missing.note
    assert "two are one of the model's" in match_classes(toy, ["dog", "hound"]).note
    digits = match_classes(toy_classifier(labels=["a", "b", "c"]), ["0", "1", "2"])
    assert digits.target is None  # a label that is a number is no index
