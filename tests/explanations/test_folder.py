"""Many photos into one folder of explanations."""

import copy
import logging
import os
import re
import shutil
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch

from chiaroscuro import (
    ChiaroscuroError,
    ChoiceError,
    Classifier,
    Explanation,
    ImageError,
    ModelError,
    Region,
    ResultError,
    explain,
)
from chiaroscuro.choices import MethodOptions
from chiaroscuro.explanations import explain_files, folder, single
from chiaroscuro.images import find_photos
from chiaroscuro.images.finding import safe_name
from chiaroscuro.render.sheets import save_sheet
from chiaroscuro.report import explanation as view
from chiaroscuro.report.explanation import color_limits
from chiaroscuro.results import KINDS, load, verify
from chiaroscuro.results.explanations import Gallery
from tests.explanations.inputs import Broken, picture, plan_photos, snapshot
from tests.toys import small_cnn


@pytest.fixture
def album(tmp_path):
    folder = tmp_path / "album"
    folder.mkdir()
    for seed, name in enumerate(["a", "b", "c"]):
        picture(seed=seed).save(folder / f"{name}.png")
    return folder


def jobs(paths, **options):
    return plan_photos(paths, {"maps": ["active"], **options})


def test_a_bad_photo_does_not_stop_the_others(toy, album, tmp_path):
    (album / "b.png").write_text("no picture")
    seen = []
    outcomes = list(
        explain_files(
            toy, jobs(sorted(album.iterdir())), tmp_path / "out", on_image=lambda *n: seen.append(n)
        )
    )
    assert [outcome.source.name for outcome in outcomes] == ["a.png", "b.png", "c.png"]
    assert [outcome.error is None for outcome in outcomes] == [True, False, True]
    assert isinstance(outcomes[1].error, ImageError)
    assert "b.png: not a picture in a format that is read" in str(outcomes[1].error)
    assert outcomes[1].folder is None
    assert [(done, total, path.name) for done, total, path in seen] == [
        (0, 3, "a.png"), (1, 3, "b.png"), (2, 3, "c.png"),
    ]  # fmt: skip
    names = sorted(entry.name for entry in (tmp_path / "out").glob("[!.]*"))
    assert names == ["a", "c", "chiaroscuro-gallery.json", "index.html"]
    for outcome in (outcomes[0], outcomes[2]):
        alone = explain(toy, outcome.source, maps=["active"])
        loaded = Explanation.load(outcome.folder)
        assert np.array_equal(loaded.maps["active"], alone.maps["active"])
        assert outcome.explanation.image == loaded.image


def test_the_gallery_links_every_explanation_of_the_folder(toy, album, tmp_path):
    out = tmp_path / "out"
    list(explain_files(toy, jobs([album / "b.png"]), out))
    list(explain_files(toy, jobs([album / "a.png"]), out))
    page = (out / "index.html").read_text()
    assert 'href="a/index.html"' in page
    assert 'href="b/index.html"' in page
    assert page.index('href="a/') < page.index('href="b/')
    assert "a.png: why" in page


@pytest.mark.parametrize("content", ["{", "[]", '{"schema": "other"}'])
def test_a_strange_folder_in_the_way_does_not_break_the_gallery(toy, album, tmp_path, content):
    strange = tmp_path / "out" / "strange"
    strange.mkdir(parents=True)
    marker = KINDS["explanation"].marker
    (strange / marker).write_text(content)
    (outcome,) = explain_files(toy, jobs([album / "a.png"]), tmp_path / "out")
    assert outcome.error is None
    assert 'href="a/index.html"' in (tmp_path / "out" / "index.html").read_text()
    assert (strange / marker).read_text() == content


def test_photos_with_one_stem_get_folders_of_their_own(toy, album, tmp_path):
    (album / "more").mkdir()
    picture(seed=5).save(album / "more" / "a.png")
    picture(seed=6).save(album / "a.bmp")
    paths = [album / "a.png", album / "more" / "a.png", album / "a.bmp"]
    outcomes = list(explain_files(toy, jobs(paths), tmp_path / "out"))
    assert [outcome.folder.name for outcome in outcomes] == ["a", "a-2", "a-3"]
    sources = [Explanation.load(outcome.folder).image.source for outcome in outcomes]
    assert sources == [str(path) for path in paths]


def test_a_photo_named_like_the_gallery_leaves_its_place_free(toy, album, tmp_path):
    path = album / "index.html.png"
    picture().save(path)
    (outcome,) = explain_files(toy, jobs([path]), tmp_path / "out")
    assert outcome.folder.name == "index.html-2"
    assert 'href="index.html-2/index.html"' in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_photo_named_like_a_numbered_folder_keeps_its_own(toy, album, tmp_path, overwrite):
    (album / "more").mkdir()
    paths = [album / "a-2.png", album / "a.png", album / "more" / "a.png"]
    for seed, path in enumerate(paths):
        picture(seed=seed).save(path)
    outcomes = list(explain_files(toy, jobs(paths), tmp_path / "out", overwrite=overwrite))
    assert [outcome.error for outcome in outcomes] == [None] * 3
    sources = [Explanation.load(outcome.folder).image.source for outcome in outcomes]
    assert sources == [str(path) for path in paths]


def test_a_shared_scale_draws_all_on_the_largest_limits(toy, album, tmp_path):
    paths = sorted(album.iterdir())
    own = [color_limits(explain(toy, path, maps=["active"]))["active"] for path in paths]
    list(explain_files(toy, jobs(paths), tmp_path / "out", scale="shared"))
    expected = [max(fine for fine, _ in own), max(soft for _, soft in own)]
    assert len({fine for fine, _ in own}) == 3, "the images differ, so sharing shows"
    for path in paths:
        shown = Explanation.load(tmp_path / "out" / path.stem).color_limits
        assert shown == {"active": tuple(expected)}
    names = sorted(f.name for f in (tmp_path / "out").glob("[!.]*"))
    assert names == ["a", "b", "c", "chiaroscuro-gallery.json", "index.html"]


def test_a_scale_per_image_keeps_each_images_limits(toy, album, tmp_path):
    paths = sorted(album.iterdir())
    list(explain_files(toy, jobs(paths), tmp_path / "out"))
    for path in paths:
        explanation = Explanation.load(tmp_path / "out" / path.stem)
        assert explanation.color_limits is None
        fine, soft = color_limits(explanation)["active"]
        page = (tmp_path / "out" / path.stem / "index.html").read_text()
        assert f"active {fine:.3g} (smoothed {soft:.3g})" in page


def test_an_existing_folder_is_an_outcome_and_the_others_are_done(toy, album, tmp_path):
    out = tmp_path / "out"
    list(explain_files(toy, jobs([album / "a.png"]), out))
    before = snapshot(out / "a")
    outcomes = list(explain_files(toy, jobs([album / "a.png", album / "b.png"], target=1), out))
    assert isinstance(outcomes[0].error, ResultError)
    assert (
        "a exists already: choose another place, or overwrite it (overwrite=True, --force)"
        in str(outcomes[0].error)
    )
    assert outcomes[1].error is None
    assert snapshot(out / "a") == before
    again = list(explain_files(toy, jobs([album / "a.png"], target=1), out, overwrite=True))
    assert again[0].error is None
    assert Explanation.load(out / "a").target.index == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "zebra"}, "unknown class 'zebra'"),
        ({"target": 7}, r"class 7 is out of range: expected 0\.\.4"),
        ({"rivals": ["dog", "zebra"]}, "unknown class 'zebra'"),
    ],
)
def test_an_unknown_class_raises_before_any_work(toy, album, tmp_path, options, message):
    seen = []
    with pytest.raises(ChoiceError, match=message):
        list(
            explain_files(
                toy,
                [*jobs([album / "a.png"]), *jobs([album / "b.png"], **options)],
                tmp_path / "out",
                on_image=lambda *n: seen.append(n),
            )
        )
    assert not seen
    assert not (tmp_path / "out").exists()


def test_an_error_of_an_array_names_its_file(toy, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 12, 14)))
    (outcome,) = explain_files(toy, jobs([tmp_path / "a.npy"]), tmp_path / "out")
    assert isinstance(outcome.error, ImageError)
    assert str(outcome.error).startswith(f"{tmp_path / 'a.npy'}: pixels have 14 channels")


@pytest.mark.parametrize("form", [np.asarray, torch.from_numpy, np.ndarray.tolist])
def test_a_mask_of_any_form_is_resumed_with_the_same_pixels_only(album, tmp_path, form):
    photo, values = album / "a.png", np.zeros(picture().size[::-1], np.uint8)
    values[2:5, 3:6] = 1
    scores = Classifier(torch.nn.Conv2d(3, 4, 1))

    def explained(values):
        planned = jobs([photo], region=Region.mask(form(values)))
        (outcome,) = explain_files(scores, planned, tmp_path / "out", resume=True)
        return outcome

    assert explained(values).error is None
    assert explained(values).error is None
    assert "an explanation of another configuration" in str(explained(1 - values).error)


def test_a_failing_model_leaves_no_trace(album, tmp_path):
    (outcome,) = explain_files(
        Classifier(Broken(float("nan")), size=12), jobs([album / "a.png"]), tmp_path / "out"
    )
    assert isinstance(outcome.error, ModelError)
    assert isinstance(outcome.error, ChiaroscuroError)
    assert "NaN or infinite" in str(outcome.error)
    assert not (tmp_path / "out").exists()


def raw(folder, *names):
    """Photos of these names, which may be bytes."""
    paths = []
    for seed, name in enumerate(names):
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(seed=seed).save(path, "PNG")
        paths.append(path)
    return paths


def test_class_folders_are_kept(tmp_path):
    raw(
        tmp_path / "in",
        "tench/a.jpg",
        "dog/a.jpg",
        "tench.jpg",
        "tench/more/a.jpg",
        "index.html.png",
    )
    folders = sorted(str(job.folder) for job in plan_photos([tmp_path / "in"]))
    assert folders == ["dog/a", "index.html-2", "tench-2", "tench/a", "tench/more/a"]
    (alone,) = plan_photos([tmp_path / "in" / "tench" / "a.jpg"])
    assert str(alone.folder) == "a"


def test_no_folder_lies_inside_another_photos_folder(toy, tmp_path):
    raw(tmp_path / "in", "a.png", "a/b.png", "a/b/c.png")
    planned = plan_photos([tmp_path / "in"], {"maps": ["active"]})
    assert sorted(str(job.folder) for job in planned) == ["a-2", "a/b-2", "a/b/c"]
    assert [o.error for o in explain_files(toy, planned, tmp_path / "out")] == [None] * 3
    raw(tmp_path / "deep", "a.png", "a/b/c.png")
    deep = plan_photos([tmp_path / "deep"])
    assert sorted(str(job.folder) for job in deep) == ["a-2", "a/b/c"]


def test_names_of_any_bytes_and_any_length_work(toy, tmp_path):
    names = [b"bad\xff.png", b"bad\xfe.png", ("\u732b" * 83 + ".png").encode(), b"." * 3 + b"x.png"]
    paths = raw(tmp_path / "in", *names[:3])
    paths += raw(tmp_path / "more", "x" * 251 + ".png")
    planned = plan_photos([tmp_path / "in", *paths[3:], paths[3]], {"maps": ["active"]})
    outcomes = list(explain_files(toy, planned, tmp_path / "out"))
    assert [outcome.error for outcome in outcomes] == [None] * 4
    written = {outcome.folder.name for outcome in outcomes}
    assert written == {"bad\ufffd", "bad\ufffd-2", "\u732b" * 83, "x" * 251}
    page = (tmp_path / "out" / "index.html").read_text()
    assert "bad%EF%BF%BD/index.html" in page
    assert "bad\\udcff.png" in page


def test_a_name_that_grows_too_long_is_cut(tmp_path):
    names = ["y" * 251 + ".png", "y" * 251 + ".bmp"]
    folders = [job.folder.name for job in plan_photos(raw(tmp_path, *names))]
    assert folders == ["y" * 251, "y" * 251 + "-2"]
    assert safe_name("\u732b" * 100, "-2") == "\u732b" * 84 + "-2"


def test_any_error_of_a_photo_is_one_line_and_its_trace_is_logged(
    toy, album, tmp_path, monkeypatch, caplog
):
    real = single.read_image

    def broken(classifier, image, fit):
        if image.name == "b.png":
            raise NotImplementedError("a decoder\nof two lines")
        return real(classifier, image, fit)

    monkeypatch.setattr(single, "read_image", broken)
    with caplog.at_level(logging.INFO, "chiaroscuro"):
        outcomes = list(explain_files(toy, jobs(sorted(album.iterdir())), tmp_path / "out"))
    assert [outcome.error is None for outcome in outcomes] == [True, False, True]
    assert str(outcomes[1].error) == f"{album / 'b.png'}: NotImplementedError: a decoder"
    assert "Traceback" in caplog.text and "of two lines" in caplog.text


def test_a_page_that_is_no_gallery_of_ours_is_never_overwritten(toy, album, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "index.html").write_text("my own page")
    with pytest.raises(ResultError, match=r"index.html is not the page of a chiaroscuro gallery"):
        list(explain_files(toy, jobs([album / "a.png"]), out, overwrite=True))
    assert [entry.name for entry in out.iterdir()] == ["index.html"]
    (out / "index.html").unlink()
    list(explain_files(toy, jobs([album / "a.png"]), out))
    (out / "index.html").write_text("my own page")
    with pytest.raises(ResultError, match=r"or was changed: move it away"):
        list(explain_files(toy, jobs([album / "b.png"]), out))
    assert (out / "index.html").read_text() == "my own page"


def test_the_gallery_lists_what_is_there_and_no_photo_is_lost_to_it(toy, album, tmp_path):
    out = album
    list(explain_files(toy, jobs([album / "a.png", album / "b.png"]), out))
    shutil.rmtree(out / "a")
    list(explain_files(toy, jobs([album / "c.png"]), out))
    gallery = load(out, KINDS["gallery"])
    assert isinstance(gallery, Gallery)
    assert [entry.folder for entry in gallery.entries] == ["b", "c"]
    assert [path.name for path in find_photos([out])] == ["a.png", "b.png", "c.png"]


# resuming, and worker processes


def stamps(out):
    return {f: f.stat().st_mtime_ns for f in out.rglob("chiaroscuro-explanation.json")}


def test_resume_keeps_what_is_there_and_computes_the_rest(toy, album, tmp_path):
    out, paths = tmp_path / "out", sorted(album.iterdir())
    list(explain_files(toy, jobs(paths[:2]), out))
    before = stamps(out)
    outcomes = list(explain_files(toy, jobs(paths), out, resume=True))
    assert [outcome.error for outcome in outcomes] == [None] * 3
    after = stamps(out)
    assert {file: after[file] for file in before} == before
    assert len(after) == 3
    assert all((out / f"{p.stem}/index.html").is_file() for p in paths)


def repainted(album, toy):
    picture(seed=9).save(album / "a.png")
    return toy, {}


def retrained(album, toy):
    other = copy.deepcopy(toy)
    with torch.no_grad():
        other.module[-1].bias.add_(1e-3)
    return other, {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (repainted, "photo was .*, now "),
        (retrained, "model.sha256 was .*, now "),
        (lambda album, toy: (toy, {"rivals": "top:2"}), "options.rivals was all, now top:2"),
        (lambda album, toy: (toy, {"target": 1}), "options.target was None, now 1"),
        (
            lambda album, toy: (toy, {"method": MethodOptions("smoothgrad", 3, 0.1)}),
            "options.method was gradient, now ",
        ),
    ],
    ids=["photo", "weights", "rivals", "target", "method"],
)
def test_resume_goes_by_photo_options_and_weights(toy, album, tmp_path, change, said):
    out = tmp_path / "out"
    list(explain_files(toy, jobs([album / "a.png"], method="gradient"), out))
    before = snapshot(out / "a")
    classifier, options = change(album, toy)
    planned = jobs([album / "a.png"], **{"method": "gradient", **options})
    (outcome,) = explain_files(classifier, planned, out, resume=True)
    assert isinstance(outcome.error, ResultError)
    assert re.search(f"an explanation of another configuration .*{said}", str(outcome.error))
    assert snapshot(out / "a") == before
    (outcome,) = explain_files(classifier, planned, out, resume=True, overwrite=True)
    assert outcome.error is None
    (outcome,) = explain_files(classifier, planned, out, resume=True)
    assert outcome.error is None


def test_resume_computes_damaged_explanations_once_more(toy, album, tmp_path):
    out = tmp_path / "out"
    list(explain_files(toy, jobs([album / "a.png"]), out))
    whole = snapshot(out / "a")
    (out / "a" / "overview.webp").write_bytes(b"half")
    (outcome,) = explain_files(toy, jobs([album / "a.png"]), out, resume=True)
    assert outcome.error is None
    assert snapshot(out / "a") == whole


def test_resume_draws_a_missing_figure_without_computing(toy, album, tmp_path, monkeypatch):
    out, planned = tmp_path / "out", jobs([album / "a.png"])
    list(explain_files(toy, planned, out))
    assert not (out / "a" / "figure.png").exists()
    monkeypatch.setattr(folder, "explain", None)
    for _ in range(2):  # drawn, then kept
        (outcome,) = explain_files(toy, planned, out, resume=True, figure=True)
        assert outcome.error is None
        assert (out / "a" / "figure.png").is_file()
    list(explain_files(toy, planned, out, resume=True, scale="shared"))
    assert (out / "a" / "figure.png").is_file(), "drawn once more"


@pytest.fixture
def steps(monkeypatch):
    """What is computed and drawn, in order, with what to call at each."""
    done, calls = [], {}

    def noted(name, function):
        def call(*arguments, **options):
            source = arguments[1] if name == "computed" else arguments[0].image.source
            step = f"{name} {Path(source).stem}"
            calls.get(step, lambda: None)()
            result = function(*arguments, **options)
            done.append(step)
            return result

        return call

    monkeypatch.setattr(folder, "explain", noted("computed", folder.explain))
    monkeypatch.setattr(view, "write", noted("drawn", view.write))
    return done, calls


def test_the_next_photo_is_computed_while_one_is_drawn_and_no_more(toy, album, tmp_path, steps):
    done, calls = steps
    reached = Event()
    calls["computed b"] = reached.set
    calls["drawn a"] = lambda: reached.wait(20) or pytest.fail("b waits for the pictures of a")
    calls["computed c"] = lambda: pytest.fail("two behind") if "drawn a" not in done else None
    outcomes = explain_files(toy, jobs(sorted(album.iterdir())), tmp_path / "out")
    assert [(o.source.stem, o.error) for o in outcomes] == [("a", None), ("b", None), ("c", None)]
    assert sorted(done) == sorted(
        f"{what} {name}" for what in ("computed", "drawn") for name in "abc"
    )


def test_an_error_while_drawing_is_that_photos_own(toy, album, tmp_path, steps):
    def fail():
        raise OSError(28, "No space left on device")

    steps[1]["drawn b"] = fail
    outcomes = list(explain_files(toy, jobs(sorted(album.iterdir())), tmp_path / "out"))
    assert [o.error is None for o in outcomes] == [True, False, True]
    assert re.search("b: cannot be written .*No space left", str(outcomes[1].error))
    left = sorted(f.name for f in (tmp_path / "out").iterdir())
    assert left == [".chiaroscuro-lock", "a", "c", "chiaroscuro-gallery.json", "index.html"]


def test_an_interruption_leaves_what_is_being_written_whole(toy, album, tmp_path, steps):
    reached = Event()

    def interrupt():
        reached.set()
        raise KeyboardInterrupt

    steps[1]["drawn a"] = lambda: reached.wait(20)
    steps[1]["computed b"] = interrupt
    with pytest.raises(KeyboardInterrupt):
        list(explain_files(toy, jobs(sorted(album.iterdir())), tmp_path / "out"))
    assert [f.name for f in (tmp_path / "out").iterdir()] == ["a"]
    assert verify(tmp_path / "out" / "a") == []


def test_resume_draws_what_has_another_scale(toy, album, tmp_path):
    out, paths = tmp_path / "out", sorted(album.iterdir())
    list(explain_files(toy, jobs(paths), out))
    own = {path.stem: snapshot(out / path.stem) for path in paths}
    list(explain_files(toy, jobs(paths), out, resume=True, scale="shared"))
    shared = stamps(out)
    limits = [Explanation.load(out / path.stem).color_limits for path in paths]
    assert limits[0] is not None and limits == [limits[0]] * 3
    list(explain_files(toy, jobs(paths), out, resume=True, scale="shared"))
    assert stamps(out) == shared
    list(explain_files(toy, jobs(paths), out, resume=True))
    assert {path.stem: snapshot(out / path.stem) for path in paths} == own


def test_worker_processes_write_what_one_writes(album, tmp_path, monkeypatch):
    """A network whose class a worker can import, real figures, one photo that is none."""
    monkeypatch.setattr(view, "save_sheet", save_sheet)
    classifier = Classifier(small_cnn().float(), mean=0.5, std=0.25, size=12, name="cnn")
    (album / "b.png").write_text("no picture")
    paths = sorted(album.iterdir())
    started = []
    trees = []
    for workers in (1, 2):
        out = tmp_path / str(workers)
        outcomes = list(
            explain_files(
                classifier, jobs(paths), out, workers=workers, threads=1, figure=True,
                on_image=lambda *told: started.append(told),
            )
        )  # fmt: skip
        assert [o.error is None for o in sorted(outcomes, key=lambda o: o.source)] == [
            True, False, True,
        ]  # fmt: skip
        trees.append(
            {
                file.relative_to(out): file.read_bytes()
                for file in out.rglob("[!.]*")
                if file.is_file()
            }
        )
    assert len(started) == 6
    assert trees[0].keys() == trees[1].keys()
    assert [name for name in trees[0] if trees[0][name] != trees[1][name]] == []
