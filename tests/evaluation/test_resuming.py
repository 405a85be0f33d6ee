"""Evaluations that stop and resume as the same bytes, and refuse to be mixed with others."""

from dataclasses import replace

import pytest

from chiaroscuro.device import DeviceProfile, device_profile, profile_in_use
from chiaroscuro.errors import ResultError
from chiaroscuro.results import KINDS, load
from chiaroscuro.results.folders import read_marker, write_marker
from tests.evaluation.toy import CLASSES, MARKER, bytes_of, run, toy_classifier
from tests.pictures import class_rows, write_parquet


def interrupt(done, total, before):
    if done >= 8:
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    "options",
    [
        {"maps": ("positive", "partial-edit"), "fills": ("white", "noise")},
        {"what_if": 0.1, "metrics": ("deletion", "sharpness")},
    ],
)
def test_interrupted_and_resumed_it_is_the_same_bytes(data, tmp_path, page, options):
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "run", progress=interrupt, **options)
    assert len(list((tmp_path / "run").glob("parts/0*.json"))) == 2
    run(data, tmp_path / "run", resume=True, **options)
    run(data, tmp_path / "whole", **options)
    whole = bytes_of(tmp_path / "whole")
    assert bytes_of(tmp_path / "run") == whole
    assert {MARKER, "index.html", "curves-matched-white.svg", "examples/00000001.npz"} < set(whole)


def test_two_workers_write_the_same_bytes(data, tmp_path, page, quick_workers):
    alone = run(data, tmp_path / "one", what_if=0.1, threads=1)
    shared = run(data, tmp_path / "two", what_if=0.1, threads=1, workers=2)
    assert alone == shared
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")


def test_a_truncated_example_is_a_part_that_is_computed_once_more(data, tmp_path, page):
    run(data, tmp_path / "run")
    whole = bytes_of(tmp_path / "run")
    file = tmp_path / "run" / "examples" / "00000001.npz"
    file.write_bytes(file.read_bytes()[:100])
    run(data, tmp_path / "run", resume=True)
    assert bytes_of(tmp_path / "run") == whole


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "seed was 0, now 1"),
        ({"fills": ("black",)}, "fills was"),
        ({"batch": 5}, "batch was 4, now 5"),
        ({"limit": 7}, "limit was None, now 7"),
        ({"what_if": 0.2}, r"what_if was None, now 0\.2"),
    ],
)
def test_another_configuration_is_refused(data, tmp_path, change, named):
    run(data, tmp_path / "run")
    before = bytes_of(tmp_path / "run")
    with pytest.raises(ResultError, match=f"another configuration .*{named}"):
        run(data, tmp_path / "run", resume=True, **change)
    assert bytes_of(tmp_path / "run") == before


def test_what_decides_the_rounding_is_part_of_the_configuration(data, tmp_path):
    run(data, tmp_path / "run")
    facts = device_profile().describe()
    for name in ("chunk_bytes", "busy_rows", "budget_bytes", "forward_bytes", "lanes"):
        wanted = rf"profile\.{name} was {facts[name]}, now {2 * facts[name]}"
        with (
            profile_in_use(DeviceProfile(**facts | {name: 2 * facts[name]})),
            pytest.raises(ResultError, match=wanted),
        ):
            run(data, tmp_path / "run", resume=True)
    with profile_in_use(DeviceProfile(**facts)):
        run(data, tmp_path / "run", resume=True)


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
    run("cifar10", tmp_path / "run", data_root=tmp_path / "old")
    before = bytes_of(tmp_path / "run")
    with pytest.raises(ResultError, match="another configuration .*files was .*, now "):
        run("cifar10", tmp_path / "run", resume=True, data_root=tmp_path / "new")
    assert bytes_of(tmp_path / "run") == before
    (tmp_path / "old").rename(tmp_path / "moved")
    assert run("cifar10", tmp_path / "run", resume=True, data_root=tmp_path / "moved")


def test_force_replaces_runs_of_ours_alone(data, tmp_path):
    first = run(data, tmp_path / "run")
    with pytest.raises(ResultError, match=r"resume it \(resume=True, --resume\) or replace it"):
        run(data, tmp_path / "run")
    run(data, tmp_path / "run", overwrite=True, seed=9)
    assert load(tmp_path / "run").settings.seed == 9
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "run", overwrite=True, progress=interrupt)
    (old,) = [f for f in tmp_path.iterdir() if f.name not in ("run", "data")]
    assert load(old).settings.seed == 9  # it stays until the new one is whole
    run(data, tmp_path / "run", resume=True)
    assert load(tmp_path / "run") == first and not old.exists()


@pytest.mark.parametrize("files", [{"thesis.tex": "years"}, {"config.json": "{}"}])
@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"resume": True}])
def test_foreign_folders_stay(data, tmp_path, files, options):
    mine = tmp_path / "mine"
    mine.mkdir()
    for name, text in files.items():
        (mine / name).write_text(text)
    with pytest.raises(ResultError, match="not a chiaroscuro result"):
        run(data, mine, **options)
    assert {file.name: file.read_text() for file in mine.iterdir()} == files


def test_a_linked_folder_is_replaced_where_it_lies(data, tmp_path):
    run(data, tmp_path / "run")
    (tmp_path / "link").symlink_to(tmp_path / "run")
    run(data, tmp_path / "link", overwrite=True, seed=9)
    assert (tmp_path / "link").is_symlink()
    assert load(tmp_path / "run").settings.seed == 9


def test_what_is_recorded_is_what_was(data, tmp_path):
    toy = toy_classifier()
    result = run(data, tmp_path / "run", toy, threads=1)
    assert (result.model.name, result.model.device, result.model.dtype) == ("toy", "cpu", "float32")
    assert (result.settings.threads, result.settings.batch) == (1, 4)
    assert load(tmp_path / "run") == result


def test_images_of_a_folder_whose_name_is_no_unicode(tmp_path, page):
    folder = tmp_path / "bad\udcff"
    for n, (image, k) in enumerate(class_rows(3, 1)):
        (folder / CLASSES[k]).mkdir(parents=True)
        (folder / CLASSES[k] / f"{n}.png").write_bytes(image)
    run(folder, tmp_path / "run")
    result = load(tmp_path / "run")
    assert (result.data.images, result.data.source) == (3, f"{tmp_path}/bad\\udcff")
    assert run(folder, tmp_path / "run", resume=True)


def test_what_an_older_program_summarized_is_summarized_once_more(data, tmp_path):
    result = run(data, tmp_path / "run")
    kind = KINDS["evaluation"]
    marker = read_marker(tmp_path / "run", kind)
    curves = [{k: v for k, v in c.items() if k != "logit_area"} for c in marker.result["curves"]]
    older = replace(marker, result=marker.result | {"curves": curves})
    write_marker(tmp_path / "run", kind, older)
    with pytest.raises(ResultError, match="not a readable evaluation"):
        load(tmp_path / "run")
    assert run(data, tmp_path / "run", resume=True) == result == load(tmp_path / "run")
