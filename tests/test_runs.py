"""Evaluation runs: rows against single calls, resuming, refusing, and what the summary says."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

import chiaroscuro.runs.config as config
import chiaroscuro.runs.evaluation as evaluation
import chiaroscuro.runs.rows as row_making
from chiaroscuro import Classifier, class_gradients, edit_map, saliency_maps
from chiaroscuro.choices import PAPER_MAPS
from chiaroscuro.data import load_images, read_batches
from chiaroscuro.errors import ChoiceError, InputError, ResultError
from chiaroscuro.fills import filled
from chiaroscuro.gradients import Method
from chiaroscuro.metrics import deletion_curves
from chiaroscuro.runs import EvaluationSettings, evaluate
from chiaroscuro.runs.accuracy import match_classes
from tests.killer import KILLS, toy_run
from tests.pictures import BROKEN, class_rows, encoded, picture, write_classes, write_parquet
from tests.toys import small_cnn

CLASSES = ["cat", "dog", "owl"]


def toy_classifier(**options):
    given = {"size": 12, "labels": CLASSES, "name": "toy", **options}
    return Classifier(small_cnn(3), **given)


def settings(data, **options):
    given = {"batch": 4, "resamples": 60, "flips": 199, **options}
    return EvaluationSettings(str(data), "toy", **given)


@pytest.fixture
def page():
    """For tests that look at figures or page; the others go without drawing them."""


@pytest.fixture(autouse=True)
def drawn(request, monkeypatch):
    if "page" not in request.fixturenames:
        monkeypatch.setattr(evaluation, "write_page", lambda folder, summary: None)


@pytest.fixture
def data(tmp_path):
    write_parquet(tmp_path / "data" / "test.parquet", class_rows(3, 5), CLASSES)
    return tmp_path / "data"


def rows_of(run: Path) -> pa.Table:
    return pa.concat_tables(parquet.read_table(file) for file in sorted(run.glob("rows/*")))


def bytes_of(run: Path) -> dict[str, bytes]:
    skipped = {"manifest.json"}
    files = (file for file in run.rglob("*") if file.is_file() and file.name not in skipped)
    return {file.relative_to(run).as_posix(): file.read_bytes() for file in files}


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
        for (protocol, name), curve in deletion_curves(toy, pixels, maps, fill, seed=3).items():
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
    assert (chosen.points, chosen.sigma, chosen.baseline) == (3, 0.15, None)
    summary = evaluate(toy, chosen, tmp_path / "run")
    assert summary["choices"]["method"] == "smoothgrad"
    rows = {r["id"]: r for r in rows_of(tmp_path / "run").to_pylist() if r["map"] == "active"}
    (batch,) = read_batches(load_images(data), toy.framing, 15)
    pixels = torch.from_numpy(np.stack(batch.pixels))
    method = Method("smoothgrad", points=3, seed=3)
    found = class_gradients(toy, pixels, rivals="softmax", method=method)
    maps = saliency_maps(found, ["active"])
    curves = deletion_curves(toy, pixels, maps, "black", seed=3)
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
        for (protocol, name), curve in deletion_curves(toy, pixels, maps, fill, seed=3).items():
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


def test_edit_maps_go_on_as_the_same_bytes(data, tmp_path):
    def interrupt(done, total, before):
        if done == 8:
            raise KeyboardInterrupt

    given = settings(data, maps=("positive", "partial-edit"), fills=("white", "noise"))
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        evaluate(toy_classifier(), given, run, on_images=interrupt)
    evaluate(toy_classifier(), given, run, resume=True)
    evaluate(toy_classifier(), given, tmp_path / "whole")
    assert bytes_of(run) == bytes_of(tmp_path / "whole")


def test_a_run_is_the_same_bytes_again(data, tmp_path, page):
    for name in ("one", "two"):
        evaluate(toy_classifier(), settings(data), tmp_path / name)
    one, two = bytes_of(tmp_path / "one"), bytes_of(tmp_path / "two")
    assert one == two
    assert {"config.json", "summary.json", "index.html", "curves-paper.svg"} < set(one)


def test_the_manifest_is_last_and_names_every_file(data, tmp_path):
    evaluate(toy_classifier(), settings(data), tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert set(manifest["files"]) == set(bytes_of(tmp_path / "run"))
    newest = max((tmp_path / "run").rglob("*.*"), key=lambda file: file.stat().st_mtime_ns)
    assert newest.name == "manifest.json"


def test_killed_ten_times_the_rows_are_the_same_bytes(tmp_path, page):
    write_parquet(tmp_path / "data" / "test.parquet", class_rows(3, 26), CLASSES)
    toy_run(tmp_path / "data", tmp_path / "whole", resume=False)
    command = [sys.executable, "-m", "tests.killer", tmp_path / "data", tmp_path / "killed", "7"]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stderr
    kills = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(kills) == KILLS
    between = [parts for parts, killed in kills if killed and 1 <= parts < 39]
    assert len(between) >= 8, kills
    assert len(set(between)) >= 5
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "whole")
    assert (tmp_path / "killed" / "manifest.json").is_file()


def test_ctrl_c_leaves_whole_parts_and_resuming_keeps_threads_and_batch(data, tmp_path):
    def interrupt(done, total, before):
        assert total == 15
        if done == 8:
            raise KeyboardInterrupt

    run = tmp_path / "run"
    given = settings(data, batch=None, threads=None)
    before = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        evaluate(toy_classifier(), settings(data, batch=4, threads=1), run, on_images=interrupt)
    assert len(list(run.glob("rows/*.parquet"))) == 2
    assert not (run / "manifest.json").exists()
    told = []
    evaluate(toy_classifier(), given, run, resume=True, on_images=lambda *n: told.append(n))
    assert torch.get_num_threads() == before
    assert told[0] == (8, 15, 8)
    assert told[-1] == (15, 15, 8)
    evaluate(toy_classifier(), settings(data, batch=4, threads=1), tmp_path / "whole")
    assert bytes_of(run) == bytes_of(tmp_path / "whole")


def test_a_torn_part_is_made_again(data, tmp_path):
    run = tmp_path / "run"
    evaluate(toy_classifier(), settings(data), run)
    whole = bytes_of(run)
    (run / "manifest.json").unlink()
    (run / "rows" / "000002.parquet").write_bytes(whole["rows/000002.parquet"][:100])
    (run / "rows" / "000003.new").write_bytes(b"half")
    evaluate(toy_classifier(), settings(data), run, resume=True)
    assert bytes_of(run) == whole


def test_a_full_disk_is_one_line_and_loses_nothing(data, tmp_path, monkeypatch):
    run = tmp_path / "run"
    write_part = evaluation.RunStore.write_part

    def full(store, number, *rest):
        if number == 2:
            raise OSError(28, "No space left on device")
        write_part(store, number, *rest)

    monkeypatch.setattr(evaluation.RunStore, "write_part", full)
    with pytest.raises(ResultError, match=r"run: cannot be written \(No space left on device\)"):
        evaluate(toy_classifier(), settings(data), run)
    monkeypatch.undo()
    monkeypatch.setattr(evaluation, "write_page", lambda folder, summary: None)
    evaluate(toy_classifier(), settings(data), run, resume=True)
    evaluate(toy_classifier(), settings(data), tmp_path / "whole")
    assert bytes_of(run) == bytes_of(tmp_path / "whole")


def test_a_finished_run_is_read_not_made(data, tmp_path, monkeypatch):
    run = tmp_path / "run"
    summary = evaluate(toy_classifier(), settings(data), run)
    monkeypatch.setattr(evaluation, "measure", None)
    assert evaluate(toy_classifier(), settings(data), run, resume=True) == summary


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "seed 0, now 1"),
        ({"fills": ("black",)}, "fills"),
        ({"batch": 5}, "batch 4, now 5"),
        ({"limit": 7}, "limit None, now 7"),
    ],
)
def test_another_configuration_is_refused(data, tmp_path, change, named):
    run = tmp_path / "run"
    evaluate(toy_classifier(), settings(data), run)
    before = bytes_of(run)
    with pytest.raises(ResultError, match=f"another configuration .*{named}"):
        evaluate(toy_classifier(), settings(data, **change), run, resume=True)
    assert bytes_of(run) == before


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("CHUNK_BYTES", "chunk"),
        ("BUSY_BYTES", "busy_chunk"),
        ("BUSY_ROWS", "busy_rows"),
        ("MANY_CLASSES", "many_classes"),
        ("LANES", "lanes"),
    ],
)
def test_what_decides_the_rounding_is_part_of_the_configuration(
    data, tmp_path, monkeypatch, name, told
):
    run = tmp_path / "run"
    evaluate(toy_classifier(), settings(data), run)
    monkeypatch.setattr(config, name, 2 * getattr(config, name))
    with pytest.raises(ResultError, match=rf"another configuration \({told} \d+, now \d+\)"):
        evaluate(toy_classifier(), settings(data), run, resume=True)


def test_other_weights_are_another_configuration(data, tmp_path):
    run = tmp_path / "run"
    evaluate(toy_classifier(), settings(data), run)
    other = toy_classifier()
    with torch.no_grad():
        next(other.module.parameters()).add_(1e-3)
    with pytest.raises(ResultError, match="sha256"):
        evaluate(other, settings(data), run, resume=True)


@pytest.mark.parametrize("kind", ["parquet", "folder"])
def test_other_images_under_the_same_name_are_another_configuration(tmp_path, kind):
    """As many images, of the same classes, under the same word: only the files tell."""
    for root, rows in (("old", class_rows(3, 2)), ("new", class_rows(3, 3)[3:])):
        if kind == "parquet":
            write_parquet(tmp_path / root / "cifar10" / "test.parquet", rows, CLASSES)
            continue
        for n, (image, k) in enumerate(rows):
            file = tmp_path / root / "cifar10" / CLASSES[k] / f"{n}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(image)
    run = tmp_path / "run"
    wanted = settings("cifar10")
    evaluate(toy_classifier(), wanted, run, data_root=tmp_path / "old")
    before = bytes_of(run)
    with pytest.raises(ResultError, match="another configuration .*files .*, now "):
        evaluate(toy_classifier(), wanted, run, resume=True, data_root=tmp_path / "new")
    assert bytes_of(run) == before
    (tmp_path / "old").rename(tmp_path / "moved")
    assert evaluate(toy_classifier(), wanted, run, resume=True, data_root=tmp_path / "moved")


def test_a_run_that_knows_no_files_is_gone_on_with(data, tmp_path):
    run = tmp_path / "run"
    summary = evaluate(toy_classifier(), settings(data), run)
    config = json.loads((run / "config.json").read_text())
    del config["data"]["files"]
    (run / "config.json").write_text(json.dumps(config))
    assert evaluate(toy_classifier(), settings(data), run, resume=True) == summary


def test_folders_are_not_overwritten(data, tmp_path):
    run = tmp_path / "run"
    evaluate(toy_classifier(), settings(data), run)
    with pytest.raises(ResultError, match=r"holds a run: go on with it \(--resume\), or --force"):
        evaluate(toy_classifier(), settings(data), run)
    evaluate(toy_classifier(), settings(data, seed=9), run, overwrite=True)
    assert json.loads((run / "config.json").read_text())["settings"]["seed"] == 9
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(ResultError, match="not one of ours"):
            evaluate(toy_classifier(), settings(data), mine, **options)
    assert [file.name for file in mine.iterdir()] == ["thesis.tex"]


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
        protocols=("matched",), rivals="dog;owl", score="log-probability",
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
        EvaluationSettings("x", "y", maps=("winner",))
    with pytest.raises(ChoiceError, match="unknown fill 'blak': did you mean black"):
        EvaluationSettings("x", "y", fills=("blak",))
    with pytest.raises(ChoiceError, match="resamples is 0"):
        EvaluationSettings("x", "y", resamples=0)
    with pytest.raises(ChoiceError, match="no maps are given"):
        EvaluationSettings("x", "y", maps=())
    assert EvaluationSettings("x", "y", fills=("+0.1", "brighter:0.1")).fills == ("brighter:0.1",)


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
