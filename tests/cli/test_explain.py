"""`chiaroscuro explain` as a user meets it: photos and choices to saved explanations."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from chiaroscuro import Explanation, choices
from chiaroscuro.cli import app
from chiaroscuro.images import packaged_photo
from chiaroscuro.models.folder import basic_cnn
from tests.cli.results import about, entries, write_spec


def test_one_photo(explain, photos, tmp_path):
    code, out, err = explain(photos / "a.png", maps=choices.PAPER_MAPS)
    assert code == 0
    assert err == ""
    line, page = out.splitlines()
    found = Explanation.load(tmp_path / "out" / "a")
    target = found.target
    assert line.startswith(f"a.png: {target.label} {100 * target.probability:.1f} % | pixels in ")
    for name in ("positive", "negative", "active", "inactive"):
        assert f"{name} {100 * found.facts[name].support_pixels:.1f} %" in line
    assert line.endswith("-> out/a")
    assert page == f"page: {(tmp_path / 'out' / 'index.html').resolve()}"
    assert entries(tmp_path / "out") == ["a", "index.html"]
    assert entries(tmp_path / "out" / "a") == [
        "arrays.npz", "chiaroscuro-explanation.json", "index.html", "overview.webp",
    ]  # fmt: skip


def test_maps_are_tested_unless_evidence_is_none(run, photos, tmp_path):
    words = ("explain", photos / "a.png", "--model", write_spec(tmp_path))
    assert run(*words, "--out", "tested")[0] == 0
    assert Explanation.load(tmp_path / "tested/a").evidence.effort == "quick"
    assert run(*words, "--out", "plain", "--evidence", "none")[0] == 0
    assert "evidence" not in about(tmp_path / "plain/a")
    code, _, err = run(*words, "--out", "other", "--evidence", "much")
    assert code == 1 and "unknown evidence 'much'" in err


@pytest.mark.parametrize("kind", ["files", "folder", "glob"])
def test_photos_folders_and_globs(explain, photos, tmp_path, kind):
    (photos / "notes.txt").write_text("no photo")
    sources = {"files": [photos / "a.png", photos / "b.png"], "folder": [photos]}
    code, out, err = explain(*sources.get(kind, [str(photos / "*.png")]))
    assert (code, err) == (0, "")
    assert [line.split(":")[0] for line in out.splitlines()] == ["a.png", "b.png", "page"]
    assert entries(tmp_path / "out") == ["a", "b", "index.html"]


def test_without_a_photo_two_packaged_ones(explain, tmp_path):
    code, out, err = explain()
    assert code == 0
    assert "no image given: two packaged photos, cat.png against all classes" in err
    assert [line.split(":")[0] for line in out.splitlines()] == ["cat.png", "coffee.png", "page"]
    assert about(tmp_path / "out" / "cat")["choices"]["rivals"] == "all"
    assert about(tmp_path / "out" / "coffee")["choices"]["rivals"] == "top:10"


def test_the_default_maps(run, photos, tmp_path):
    spec = write_spec(tmp_path)
    assert run("explain", photos / "a.png", "--model", spec)[0] == 0
    folder = tmp_path / choices.DEFAULT_OUT / "a"
    assert about(folder)["choices"]["maps"] == list(choices.EXPLAIN_MAPS)


def test_the_packaged_cifar10_network_explains_a_packaged_photo(quick, tmp_path):
    words = ["explain", str(packaged_photo("cat")), "--model", "cifar10-cnn", "--target", "cat"]
    found = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out")])
    assert found.exit_code == 0, found.output
    assert found.stdout.startswith("cat.png: cat ")
    saved = Explanation.load(tmp_path / "out" / "cat")
    assert saved.maps["active"].shape == (32, 32)
    page = (tmp_path / "out" / "cat" / "index.html").read_text()
    assert "training test accuracy" in page and "0.6224" in page


def test_maps_are_repeated_options(explain, photos, tmp_path):
    assert explain(photos / "a.png", maps=["winner", "signed"])[0] == 0
    assert list(Explanation.load(tmp_path / "out" / "a").maps) == ["winner", "signed"]


@pytest.mark.parametrize(
    ("words", "rule", "listed"),
    [
        (["--rivals", "mug,3"], "#3,#4", [3, 4]),
        (["--rivals", "top:4"], "top:4", [0, 1, 3, 4]),
        (["--rivals", "all"], "all", [0, 1, 3, 4]),
        ([], "all", [0, 1, 3, 4]),
    ],
)
def test_rivals(explain, photos, tmp_path, words, rule, listed):
    assert explain(photos / "a.png", "--target", "tabby", *words)[0] == 0
    found = about(tmp_path / "out" / "a")
    assert found["choices"]["rivals"] == rule
    assert found["rivals"] == listed


@pytest.mark.parametrize(("target", "index"), [("3", 3), ("Cat", 2), ("crane, machine", 1)])
def test_target_by_index_or_name(explain, photos, tmp_path, target, index):
    assert explain(photos / "a.png", "--target", target)[0] == 0
    assert about(tmp_path / "out" / "a")["target"]["index"] == index


def test_target_predicted(explain, photos, tmp_path):
    assert explain(photos / "a.png", "--target", "predicted")[0] == 0
    found = about(tmp_path / "out" / "a")
    assert found["target"] == found["predictions"][0]
    assert found["choices"]["target"] == "predicted"


def test_fit_and_score(explain, photos, tmp_path):
    words = ("--fit", "stretch", "--score", "log-probability")
    assert explain(photos / "a.png", *words)[0] == 0
    found = about(tmp_path / "out" / "a")
    assert found["choices"]["fit"] == "stretch"
    assert found["choices"]["score"] == "log-probability"
    assert (found["crop"]["left"], found["crop"]["right"]) == (0, 14)


def test_a_shared_scale(explain, photos, tmp_path):
    assert explain(photos, "--scale", "shared")[0] == 0
    shown = [about(tmp_path / "out" / name)["color_limits"] for name in "ab"]
    assert shown[0] == shown[1]
    assert shown[0].keys() == {"active"}


def test_a_figure_on_request(explain, photos, tmp_path):
    assert explain(photos / "a.png", "--figure")[0] == 0
    assert (tmp_path / "out" / "a" / "figure.png").is_file()


def test_threads(explain, photos):
    assert explain(photos / "a.png", "--threads", "2")[0] == 0
    assert torch.get_num_threads() == 2


def test_out(run, photos, tmp_path):
    words = ("--model", write_spec(tmp_path), "--map", "active", "--out", tmp_path / "x" / "y z")
    code, out, _ = run("explain", photos / "a.png", *words)
    assert code == 0
    assert entries(tmp_path / "x" / "y z") == ["a", "index.html"]
    assert out.splitlines()[-1] == f"page: {tmp_path / 'x' / 'y z' / 'index.html'}"


def test_why_this_and_not_that(run, photos, tmp_path):
    spec = write_spec(tmp_path)
    words = ("--target", "dog", "--contrast", "cup", "--out", "out")
    assert run("explain", photos / "a.png", "--model", spec, *words)[0] == 0
    found = about(tmp_path / "out" / "a")
    assert found["rivals"] == [4]
    assert list(found["maps"]) == [*choices.PAPER_MAPS, "margin"]
    saved = Explanation.load(tmp_path / "out" / "a").maps
    np.testing.assert_array_equal(np.maximum(saved["active"], saved["inactive"]), saved["original"])
    assert "and not cup, mug?" in (tmp_path / "out" / "a" / "index.html").read_text()


def test_a_moving_picture_is_read_at_its_first_frame_and_says_so(explain, photos):
    frames = [Image.new("RGB", (9, 9), color) for color in ("red", "blue", "green")]
    frames[0].save(photos / "m.gif", save_all=True, append_images=frames[1:])
    code, out, _ = explain(photos / "m.gif")
    assert code == 0
    assert " | first of 3 frames -> out/m" in out.splitlines()[0]


def test_cmyk_and_exif(explain, photos, tmp_path):
    Image.new("CMYK", (12, 9), (0, 200, 30, 10)).save(photos / "c.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (12, 9), "teal").save(photos / "e.jpg", exif=exif)
    code, out, err = explain(photos / "c.jpg", photos / "e.jpg")
    assert (code, err) == (0, "")
    assert " | converted from CMYK -> " in out.splitlines()[0]
    assert " | turned upright by its EXIF mark -> " in out.splitlines()[1]
    crop = about(tmp_path / "out" / "e")["crop"]
    assert (crop["photo_width"], crop["photo_height"]) == (9, 12)


def test_a_numpy_file_for_a_network_of_thirteen_channels(run, tmp_path):
    (tmp_path / "bands.py").write_text(
        "from chiaroscuro import Classifier\nfrom tests.toys import small_cnn\n"
        "def make(): return Classifier(small_cnn(channels=13), channels=13, shown=(3, 2, 1))\n"
    )
    np.save(tmp_path / "scene.npy", np.random.default_rng(0).random((12, 14, 13), np.float32))
    code, out, err = run("explain", "scene.npy", "--model", "bands.py:make", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["model"]["shown"] == [3, 2, 1]
    assert found["image"]["source"] == "scene.npy"
    code, out, err = run("explain", "--replay", "chiaroscuro-out/scene", "--model", "bands.py:make")
    assert (code, err) == (0, "")
    code, out, err = run("explain", "scene.npy", "--model", "cifar10-cnn", "--force")
    assert code == 1
    assert "pixels have 13 channels (shape (13, 12, 14)): cifar10-cnn expects 3" in err


def test_weights_of_a_training_with_an_architecture(run, photos, tmp_path):
    state = {f"module.{n}": v for n, v in basic_cnn(3).state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "best.pth")
    words = ["--weights", "best.pth", "--architecture", "basic-cnn", "--out", "mine"]
    code, out, err = run("explain", photos / "a.png", *words)
    assert (code, err) == (0, "")
    assert "best.pth: weights are those in state_dict" in out
    assert about(tmp_path / "mine" / "a")["model"]["name"] == "basic-cnn@best.pth"
    code, out, err = run("explain", photos / "a.png", "--weights", "best.pth")
    assert (code, "give both" in err) == (1, True)
