"""Rows of a run against single calls, and what the result says; which images it takes."""

import numpy as np
import pytest
import torch

import chiaroscuro.evaluation.stacks as stacks
from chiaroscuro import class_gradients, edit_map, saliency_maps
from chiaroscuro.choices import CURVES, PAPER_MAPS
from chiaroscuro.data.images import read_batches
from chiaroscuro.data.loading import load_images
from chiaroscuro.edits import filled
from chiaroscuro.errors import ChoiceError, InputError, ResultError
from chiaroscuro.evaluation.comparisons import chance_notes
from chiaroscuro.evaluation.deletion import match_classes
from chiaroscuro.gradients import Method
from chiaroscuro.metrics import curves_by_fill
from chiaroscuro.metrics.intervals import SignFlips, holm
from chiaroscuro.results.facts import Interval
from chiaroscuro.results.measurements import Difference, Gain
from chiaroscuro.settings import EvaluationSettings
from tests.evaluation.toy import CLASSES, rows_of, run, toy_classifier
from tests.pictures import BROKEN, class_rows, encoded, picture, write_classes, write_parquet


def whole(data, classifier):
    """All images in one batch, as pixels."""
    (batch,) = read_batches(load_images(data), classifier.framing, 15)
    return batch, torch.from_numpy(np.stack(batch.pixels))


def curves_by(classifier, pixels, maps, fill, **options):
    return curves_by_fill(classifier, pixels, maps, [fill], **options)[fill]


def test_rows_are_what_single_calls_give(data, tmp_path):
    toy = toy_classifier()
    run(data, tmp_path / "run", seed=3)
    rows = rows_of(tmp_path / "run").to_pylist()
    assert len(rows) == 15 * 2 * (5 + 11)
    by_key = {(r["id"], r["protocol"], r["map"], r["fill"]): r for r in rows}
    batch, pixels = whole(data, toy)
    gradients = class_gradients(toy, pixels)
    maps = saliency_maps(gradients, PAPER_MAPS)
    for fill in ("black", "white"):
        for (protocol, name), curve in curves_by(toy, pixels, maps, fill, seed=3).items():
            for b, id_ in enumerate(batch.ids):
                row = by_key[id_, protocol, name, fill]
                assert row["allegiance"] == curve.allegiance[b].tolist()
                assert row["probability"] == pytest.approx(curve.probability[b].tolist(), abs=1e-5)
                assert row["logit"] == pytest.approx(curve.logit[b].tolist(), abs=1e-4)
                assert row["changed"] == curve.changed[b].tolist()
                assert row["predicted"] == row["target"] == int(gradients.logits[b].argmax())
                assert row["label"] == batch.labels[b]
                assert row["pixels"] == 144


def test_rows_by_another_method_and_contrast(data, tmp_path):
    toy = toy_classifier()
    same = {
        "seed": 3, "rivals": "softmax", "maps": ("active",), "fills": ("black",),
        "protocols": ("matched",),
    }  # fmt: skip
    result = run(data, tmp_path / "run", method="smoothgrad", points=3, **same)
    assert (result.settings.method, result.settings.points) == ("smoothgrad", 3)
    rows = {r["id"]: r for r in rows_of(tmp_path / "run").to_pylist() if r["map"] == "active"}
    batch, pixels = whole(data, toy)
    method = Method("smoothgrad", points=3, seed=3)
    gradients = class_gradients(toy, pixels, rivals="softmax", method=method)
    curves = curves_by(toy, pixels, saliency_maps(gradients, ["active"]), "black", seed=3)
    for b, id_ in enumerate(batch.ids):
        curve = curves["matched", "active"]
        assert rows[id_]["logit"] == pytest.approx(curve.logit[b].tolist(), abs=1e-4)
    with pytest.raises(ResultError, match=r"method was smoothgrad, now gradient"):
        run(data, tmp_path / "run", resume=True, **same)


def test_figures_are_the_rows_means(data, tmp_path):
    result = run(data, tmp_path / "run")
    rows = rows_of(tmp_path / "run").to_pylist()
    for curve in result.curves:
        key = (curve.protocol, curve.map, curve.fill)
        own = [r for r in rows if (r["protocol"], r["map"], r["fill"]) == key]
        kept = np.array([r["allegiance"] for r in own], float)
        assert curve.allegiance.mean == pytest.approx(kept.mean(0).tolist())
        area = np.trapezoid(kept.mean(0), result.settings.fractions)
        assert curve.area.value == pytest.approx(area)
        assert curve.area_by_range.value == pytest.approx(area / 0.9)
        assert curve.area.low <= curve.area.value <= curve.area.high
        assert curve.changed[-1] == pytest.approx(np.mean([r["changed"][-1] for r in own]) / 144)
        for of, found in (("probability", curve.probability_area), ("logit", curve.logit_area)):
            wanted = np.trapezoid([r[of] for r in own], result.settings.fractions).mean()
            assert found.value == pytest.approx(wanted, abs=1e-9)
            assert found.low <= found.value <= found.high
        assert result.curve(*key) is curve
    first = {r["id"]: r for r in rows}.values()
    assert result.accuracy.value == pytest.approx(
        np.mean([r["label"] == r["predicted"] for r in first])
    )
    assert_differences_are_those_of_the_scores(result)
    assert sum(row.images for row in result.classes) == 15
    assert [row.name for row in result.classes] == CLASSES
    own = [r for r in rows if r["label"] == 1]
    for j, curve in enumerate(result.curves):
        key = (curve.protocol, curve.map, curve.fill)
        kept = [r["allegiance"] for r in own if (r["protocol"], r["map"], r["fill"]) == key]
        area = np.trapezoid(np.mean(kept, axis=0), result.settings.fractions)
        assert result.classes[1].areas[j] == pytest.approx(area)


def assert_differences_are_those_of_the_scores(result):
    scores = {("gain", g.of, "matched", g.fill, g.map): g.gain.value for g in result.gains}
    for c in result.curves:
        for of, area in zip(CURVES, (c.area, c.probability_area, c.logit_area), strict=True):
            scores["area", of, c.protocol, c.fill, c.map] = area.value
    families = {}
    for row in result.differences:
        place = row.score, row.of, row.protocol, row.fill
        first, second = scores[*place, row.map], scores[*place, row.against]
        assert row.difference.value == pytest.approx(first - second, abs=1e-9)
        best = (min if row.score == "area" else max)(first, second)
        assert row.difference.value == 0 or scores[*place, row.better] == best
        families.setdefault((row.score, row.of), []).append(row)
    assert {key: len(rows) for key, rows in families.items()} == {
        (score, of): count for score, count in (("area", 2 * 25), ("gain", 2 * 10)) for of in CURVES
    }
    for rows in [*families.values(), *([g for g in result.gains if g.of == of] for of in CURVES)]:
        assert [r.p_holm for r in rows] == pytest.approx(holm([r.p for r in rows]), abs=1e-11)


def test_gains_are_areas_of_inverted_orders_less_those_of_maps(data, tmp_path):
    result = run(data, tmp_path / "run")
    rows = rows_of(tmp_path / "run").to_pylist()

    def areas(of, name, fill):
        own = [
            r[of] for r in rows if (r["protocol"], r["map"], r["fill"]) == ("matched", name, fill)
        ]
        return np.trapezoid(np.array(own, float), result.settings.fractions)

    assert [(g.of, g.fill, g.map) for g in result.gains] == [
        (of, fill, name) for of in CURVES for fill in ("black", "white") for name in PAPER_MAPS
    ]
    for g in result.gains:
        each = areas(g.of, f"inverted:{g.map}", g.fill) - areas(g.of, g.map, g.fill)
        assert g.gain.value == pytest.approx(each.mean(), abs=1e-9)
        assert g.gain.low <= g.gain.value <= g.gain.high
        flips = SignFlips(1, result.settings.flips, result.settings.seed)
        flips.add(each[:, None])
        assert g.p == pytest.approx(flips.p_values()[0])
    frame = result.to_frame("gains")
    assert frame["gain"].tolist() == [g.gain.value for g in result.gains]
    assert run(data, tmp_path / "paper", protocols=("paper",)).gains == ()


def test_maps_that_chance_equals_are_noted(data, tmp_path):
    result = run(data, tmp_path / "run")
    for fill in ("black", "white"):
        unsure = [
            g.map for g in result.gains
            if (g.of, g.fill) == ("allegiance", fill) and g.p_holm >= 0.05
        ]  # fmt: skip
        note = (
            f"under {fill}, not significantly different from their inverted order: "
            f"{', '.join(unsure)}; this run does not rank them"
        )
        assert (note in result.notes) == bool(unsure)
        assert any(
            n.startswith(f"under {fill}, not significantly different from a random")
            for n in result.notes
        )


def difference(name, p, score="area", of="allegiance"):
    ends = Interval(-0.1, -0.2, -0.05)
    return Difference("matched", "black", name, "random", ends, p, p, score, of)


def test_only_what_does_not_differ_is_noted():
    sure, unsure = difference("a", 0.04), difference("b", 0.05)
    other = difference("c", 0.9, of="logit")
    gains = [
        Gain(of, "white", "a", Interval(0, 0, 0), p, p)
        for of, p in (("allegiance", 0.2), ("logit", 0.9))
    ]
    assert [*chance_notes([sure, unsure, other], gains)] == [
        "under black, not significantly different from a random order: b; this run does not rank "
        "them",
        "under white, not significantly different from their inverted order: a; this run does not "
        "rank them",
    ]


def test_frames_are_tidy(data, tmp_path):
    result = run(data, tmp_path / "run", what_if=0.1, metrics=("deletion", "sharpness"))
    curves = result.to_frame()
    assert len(curves) == len(result.curves) * len(result.settings.fractions)
    chosen = curves[(curves["map"] == "active") & (curves["fill"] == "white")]
    assert chosen[chosen["protocol"] == "paper"]["allegiance"].tolist() == list(
        result.curve("paper", "active", "white").allegiance.mean
    )
    assert result.to_frame("areas")["area_high"].tolist() == [c.area.high for c in result.curves]
    assert len(result.to_frame("classes")) == 3 * len(result.curves)
    assert set(result.to_frame("metrics")["measure"]) == {"gini", "neighbors"}
    assert len(result.to_frame("differences")) == len(result.differences)
    assert len(result.to_frame("what_if")) == len(result.what_if)
    with pytest.raises(ChoiceError, match="unknown table 'curve': did you mean curves"):
        result.to_frame("curve")


def test_edit_maps_are_computed_for_each_fill(data, tmp_path):
    toy = toy_classifier()
    chosen = ("original", "partial-edit", "expected-effect")
    run(data, tmp_path / "run", seed=3, maps=chosen, fills=("black", "noise"))
    table = rows_of(tmp_path / "run").to_pylist()
    assert len(table) == 15 * 2 * (3 + 7)
    rows = {(r["id"], r["protocol"], r["map"], r["fill"]): r for r in table}
    batch, pixels = whole(data, toy)
    for fill in ("black", "noise"):
        changed = filled(pixels, fill, seed=3)
        maps = {
            name: edit_map(toy, pixels, changed, name, generator=torch.Generator().manual_seed(3))
            for name in chosen[1:]
        }
        for (protocol, name), curve in curves_by(toy, pixels, maps, fill, seed=3).items():
            for b, id_ in enumerate(batch.ids):
                found = rows[id_, protocol, name, fill]["probability"]
                assert found == pytest.approx(curve.probability[b].tolist(), abs=1e-5)


def test_any_change_is_computed_once_for_all_fills(data, tmp_path, monkeypatch):
    computed = []

    def counting(*arguments, **options):
        computed.append(arguments[3])
        return edit_map(*arguments, **options)

    monkeypatch.setattr(stacks, "edit_map", counting)
    names, fills = ("any-change", "partial-edit"), ("black", "+0.2")
    run(data, tmp_path / "run", maps=names, fills=fills)
    assert computed.count("partial-edit") == 2 * computed.count("any-change")


def test_edit_maps_alone_run_no_rivals(data, tmp_path, page, monkeypatch):
    monkeypatch.setattr(stacks, "class_gradients", None)
    result = run(data, tmp_path / "run", maps=("partial-edit",), fills=("black", "+0.2"))
    assert {c.map for c in result.curves if not c.control} == {"partial-edit"}
    page = (tmp_path / "run" / "index.html").read_text()
    assert "It is fitted to this very edit" in page
    assert "partial-edit, black" in page and "partial-edit, brighter:0.2" in page


def test_broken_images_are_counted_named_and_left_out(tmp_path, page):
    rows = class_rows(3, 3)
    rows[2], rows[7] = (BROKEN, 2), (b"", 1)
    write_parquet(tmp_path / "data" / "test.parquet", rows, CLASSES)
    result = run(tmp_path / "data", tmp_path / "run")
    assert (result.data.images, result.data.left_out_count) == (7, 2)
    assert [one.id for one in result.data.left_out] == ["test#2", "test#7"]
    page = (tmp_path / "run" / "index.html").read_text()
    assert "test#2" in page and "test#7" in page


def test_nothing_but_broken_images_is_an_error(tmp_path):
    write_parquet(tmp_path / "data" / "test.parquet", [(BROKEN, 0)] * 3, CLASSES)
    with pytest.raises(InputError, match=r"no image of test can be used \(3 left out; the first"):
        run(tmp_path / "data", tmp_path / "run")


def test_mixed_sizes_stay_in_their_order(tmp_path):
    rows = [(encoded(picture(n, side=12 + 4 * (n % 3))), n % 3) for n in range(7)]
    write_parquet(tmp_path / "data" / "test.parquet", rows, CLASSES)
    run(tmp_path / "data", tmp_path / "run", toy_classifier(size=None), batch=7)
    table = rows_of(tmp_path / "run")
    assert list(dict.fromkeys(table["id"].to_pylist())) == [f"test#{n}" for n in range(7)]
    sizes = dict(zip(table["id"].to_pylist(), table["pixels"].to_pylist(), strict=True))
    assert [sizes[f"test#{n}"] for n in range(3)] == [144, 256, 400]


def test_images_without_classes_are_listed_by_prediction(tmp_path):
    for n in range(4):
        (tmp_path / "data").mkdir(exist_ok=True)
        picture(n).save(tmp_path / "data" / f"{n}.png")
    result = run(tmp_path / "data", tmp_path / "run")
    assert result.accuracy is None
    assert result.accuracy_note == "the images have no classes"
    assert sum(row.images for row in result.classes) == 4
    nameless = run(tmp_path / "data", tmp_path / "two", toy_classifier(labels=None))
    assert nameless.classes == ()


def test_labels_outside_the_names_are_left_out_and_counted(tmp_path):
    write_parquet(tmp_path / "data" / "test.parquet", class_rows(4, 1), CLASSES)
    data = run(tmp_path / "data", tmp_path / "run").data
    assert (data.images, data.left_out_count) == (3, 1)
    assert data.left_out[0].id == "test#3" and "none of the 3 known" in data.left_out[0].reason


def test_a_multi_label_classifier_is_measured_for_its_highest_class(data, tmp_path):
    toy = toy_classifier(multi_label=True)
    result = run(data, tmp_path / "run", toy, what_if=0.1)
    batch, pixels = whole(data, toy)
    best = toy(pixels).argmax(dim=1)
    rows = {r["id"]: r for r in rows_of(tmp_path / "run").to_pylist() if r["map"] == "active"}
    assert [rows[id_]["target"] for id_ in batch.ids] == best.tolist()
    maps = saliency_maps(class_gradients(toy, pixels, best), ["active"])
    curve = curves_by(toy, pixels, maps, "white", target=best)["matched", "active"]
    found = [rows[id_]["probability"] for id_ in batch.ids]  # the last row of an image is white
    assert np.allclose(found, curve.probability.numpy(), atol=1e-5)
    assert result.model.multi_label


def test_class_folders_other_maps_fills_and_one_protocol(tmp_path, page):
    write_classes(tmp_path / "data", CLASSES, 2)
    result = run(
        tmp_path / "data", tmp_path / "run", maps=("signed", "margin"), fills=("blur:0.2", "+0.1"),
        protocols=("matched",), rivals="dog,owl", score="log-probability",
    )  # fmt: skip
    found = {(c.protocol, c.map, c.fill) for c in result.curves}
    assert ("matched", "inverted:margin", "brighter:0.1") in found
    assert len(found) == 5 * 2
    assert result.classes[0].name == "cat"


def test_one_image_is_a_run_too(tmp_path, page):
    write_parquet(tmp_path / "data" / "test.parquet", class_rows(1, 1), CLASSES)
    assert run(tmp_path / "data", tmp_path / "run").data.images == 1


def test_only_ranking_maps_and_known_words_are_taken():
    with pytest.raises(ChoiceError, match="unknown map 'winner'"):
        EvaluationSettings(data="x", maps=("winner",))
    with pytest.raises(ChoiceError, match="unknown fill 'blak': did you mean black"):
        EvaluationSettings(data="x", fills=("blak",))
    with pytest.raises(ChoiceError, match="unknown metric 'delete'"):
        EvaluationSettings(data="x", metrics=("delete",))
    with pytest.raises(ChoiceError, match="no maps are given"):
        EvaluationSettings(data="x", maps=())
    assert EvaluationSettings(data="x", fills=("+0.1", "brighter:0.1")).fills == ("brighter:0.1",)


def test_wrong_classes_and_places_are_found_before_anything_is_computed(data, tmp_path):
    def never(done, total, before):
        raise AssertionError("computed")

    with pytest.raises(ChoiceError, match="unknown class 'emu'"):
        run(data, tmp_path / "run", rivals="emu", progress=never)
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultError, match="is not a folder"):
        run(data, tmp_path / "file" / "run", progress=never)
    with pytest.raises(ChoiceError, match=r"confidence is 7.*fractions"):
        run(data, tmp_path / "run", confidence=7, fractions=(3, 2), progress=never)
    assert not (tmp_path / "run").exists()


def test_class_names_are_matched_by_any_of_their_words():
    toy = toy_classifier(labels=["tabby, house cat", "owl", "hound, dog"])
    matched = match_classes(toy, ["Dog", "house cat", "owl"])
    assert matched.target.tolist() == [2, 0, 1]
    missing = match_classes(toy, ["dog", "emu", "owl"])
    assert missing.target is None
    assert "class names do not map" in missing.note and "emu" in missing.note
    assert "two are one of the model's" in match_classes(toy, ["dog", "hound"]).note
    digits = match_classes(toy_classifier(labels=["a", "b", "c"]), ["0", "1", "2"])
    assert digits.target is None  # a label that is a number is no index
