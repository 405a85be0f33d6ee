"""The command line: what it prints where, what it writes, and one line for each error."""

import json
import re
import sys
from io import StringIO

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import chiaroscuro
from chiaroscuro import Explanation, choices
from chiaroscuro.cli.app import app, main
from chiaroscuro.explanations import storage
from chiaroscuro.images import packaged_photo

SPEC = """
import torch
from torch import nn
from chiaroscuro import Classifier

def make(factor={factor}, classes={classes}):
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.Tanh(), nn.Linear(16, classes))
    with torch.no_grad():
        for part in net.parameters():
            part.copy_(torch.sin(torch.arange(part.numel()) * 1.7).view_as(part) * 0.3)
        net[3].weight.mul_(factor)
    labels = ["crane, bird", "crane, machine", "cat, tabby", "dog", "cup, mug"]
    return Classifier(net, size=8, labels=labels[:classes])

def broken():
    return make(factor=float("nan"))
"""


def quick_figure(sheet, path):
    Image.fromarray(sheet.seen).save(path, "PNG")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """One thread for small tensors, and a stand-in for the figure, which takes most of a second."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(storage, "draw_figure", quick_figure)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run `chiaroscuro WORDS` through `main`: (exit status, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["chiaroscuro", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        return left.value.code or 0, said.out, said.err

    return call


def write_spec(tmp_path, factor=1.0, classes=5):
    (tmp_path / "net.py").write_text(SPEC.format(factor=factor, classes=classes))
    return f"{tmp_path / 'net.py'}:make"


@pytest.fixture
def explain(run, tmp_path):
    """Run `chiaroscuro explain` with a tiny network, one map and ./out."""
    spec = write_spec(tmp_path)

    def call(*words, maps=("active",)):
        chosen = [word for name in maps for word in ("--map", name)]
        return run("explain", "--model", spec, "--out", "out", *chosen, *words)

    return call


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed, name in enumerate(("a.png", "b.png")):
        values = np.random.default_rng(seed).integers(0, 256, (10, 14, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / name)
    return folder


def entries(folder):
    return sorted(entry.name for entry in folder.iterdir())


def about(folder):
    return json.loads((folder / "explanation.json").read_text())


def strict(line):
    """JSON as the standard has it: no NaN, no Infinity."""

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(line, parse_constant=refuse)


def assert_one_line(err, *words):
    assert err.startswith("chiaroscuro: ")
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    for word in words:
        assert word in err


# what is explained


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
        "explanation.json", "figure.png", "index.html", "maps.npz",
    ]  # fmt: skip


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


def test_the_packaged_cifar10_network_explains_a_packaged_photo(tmp_path):
    words = ["explain", str(packaged_photo("cat")), "--model", "cifar10-cnn", "--target", "cat"]
    found = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out")])
    assert found.exit_code == 0, found.output
    assert found.stdout.startswith("cat.png: cat ")
    saved = Explanation.load(tmp_path / "out" / "cat")
    assert saved.maps["active"].shape == (32, 32)
    page = (tmp_path / "out" / "cat" / "index.html").read_text()
    assert "training test accuracy" in page and "0.6224" in page


# choices


def test_maps_are_repeated_options(explain, photos, tmp_path):
    assert explain(photos / "a.png", maps=["winner", "signed"])[0] == 0
    assert list(Explanation.load(tmp_path / "out" / "a").maps) == ["winner", "signed"]


@pytest.mark.parametrize(
    ("words", "rule", "listed"),
    [
        (["--rival", "mug", "--rival", "3"], "3,4", [3, 4]),
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
    shown = [about(tmp_path / "out" / name)["display"] for name in "ab"]
    assert shown[0] == shown[1]
    assert shown[0]["scale"] == "shared"


def test_threads(explain, photos):
    assert explain(photos / "a.png", "--threads", "2")[0] == 0
    assert torch.get_num_threads() == 2
    code, _, err = explain(photos / "a.png", "--threads", "0")
    assert code == 2
    assert "Invalid value for '--threads'" in err


def test_out(run, photos, tmp_path):
    words = ("--model", write_spec(tmp_path), "--map", "active", "--out", tmp_path / "x" / "y z")
    code, out, _ = run("explain", photos / "a.png", *words)
    assert code == 0
    assert entries(tmp_path / "x" / "y z") == ["a", "index.html"]
    assert out.splitlines()[-1] == f"page: {tmp_path / 'x' / 'y z' / 'index.html'}"


def test_existing_results_need_force(explain, photos, tmp_path):
    assert explain(photos / "a.png", "--target", "3")[0] == 0
    code, out, err = explain(photos, "--target", "4")
    assert code == 1
    assert_one_line(err, "out/a exists already: choose another place, or overwrite (--force)")
    assert [line.split(":")[0] for line in out.splitlines()] == ["b.png", "page"]
    assert about(tmp_path / "out" / "a")["target"]["index"] == 3
    assert about(tmp_path / "out" / "b")["target"]["index"] == 4
    code, _, err = explain(photos, "--target", "4", "--force")
    assert (code, err) == (0, "")
    assert about(tmp_path / "out" / "a")["target"]["index"] == 4


def test_force_never_replaces_what_is_not_ours(explain, photos, tmp_path):
    (tmp_path / "out" / "a").mkdir(parents=True)
    (tmp_path / "out" / "a" / "thesis.txt").write_text("years of work")
    code, _, err = explain(photos / "a.png", "--force")
    assert code == 1
    assert_one_line(err, "holds no explanation.json: not one of ours")
    assert entries(tmp_path / "out" / "a") == ["thesis.txt"]


# output


def test_json_is_one_object_per_image(explain, photos, tmp_path):
    (photos / "c.png").write_text("no picture")
    code, out, err = explain(photos, "--json")
    assert code == 1
    one, two, three = map(strict, out.splitlines())
    for found, name in ((one, "a"), (two, "b")):
        assert found.pop("folder") == f"out/{name}"
        assert found == about(tmp_path / "out" / name)
    assert set(three) == {"source", "error"}
    assert three["source"] == str(photos / "c.png")
    assert "not a picture" in three["error"]
    assert_one_line(err, "c.png: not a picture in a format that Pillow reads")


def test_profile_tells_every_stage_on_standard_error(explain, photos):
    status, told, errors = explain(photos / "a.png", "--profile", "--json")
    assert status == 0
    assert len(told.strip().splitlines()) == 1  # standard output stays an object per image
    rows = [line.split() for line in errors.splitlines() if line.startswith("  ")]
    stages = {row[0]: float(row[1]) for row in rows}
    assert stages.keys() == {
        "import", "loading", "decode", "forward", "backward", "maps", "drawing",
    }  # fmt: skip
    assert list(stages.values()) == sorted(stages.values(), reverse=True)
    assert 98 <= sum(int(row[3]) for row in rows) <= 103


def test_json_with_a_shared_scale_says_what_was_saved(explain, photos, tmp_path):
    code, out, _ = explain(photos, "--json", "--scale", "shared")
    assert code == 0
    for found, name in zip(map(strict, out.splitlines()), "ab", strict=True):
        assert found["display"] == about(tmp_path / "out" / name)["display"]


class Terminal(StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("as_json", [True, False])
def test_on_a_terminal_results_still_go_to_standard_output(
    explain, photos, monkeypatch, as_json, tmp_path
):
    """A progress bar lives on standard error; standard output may be a file or a pipe."""
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    code, out, _ = explain(photos, *(["--json"] if as_json else []))
    assert code == 0
    assert "images" in terminal.getvalue(), "there was a progress bar"
    if as_json:
        assert [strict(line)["folder"] for line in out.splitlines()] == ["out/a", "out/b"]
    else:
        assert [line.split(":")[0] for line in out.splitlines()] == ["a.png", "b.png", "page"]


def test_quiet_prints_nothing_but_errors(explain, photos, tmp_path):
    assert explain(photos, "--quiet") == (0, "", "")
    assert entries(tmp_path / "out") == ["a", "b", "index.html"]
    code, out, err = explain(photos / "a.png", "-q")
    assert (code, out) == (1, "")
    assert_one_line(err, "exists already")


def test_quiet_without_a_photo_prints_nothing(explain):
    assert explain("--quiet") == (0, "", "")


# methods and contrasts


def test_a_method_is_kept_and_repeated(explain, run, photos, tmp_path):
    words = ("--method", "smoothgrad", "--points", "3", "--sigma", "0.2", "--rivals", "softmax")
    assert explain(photos / "a.png", *words, maps=["active", "margin"])[0] == 0
    kept = about(tmp_path / "out" / "a")["choices"]
    assert (kept["method"], kept["rivals"]) == ("smoothgrad", "softmax")
    assert kept["method_settings"] == {"points": 3, "sigma": 0.2, "seed": 0}
    code, out, err = run("explain", "--again", "out/a")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "out/a: the same"


def test_expected_gradients_read_a_folder(explain, run, photos, tmp_path):
    words = ("--method", "expected-gradients", "--points", "2", "--background", photos)
    assert explain(photos / "a.png", *words)[0] == 0
    kept = about(tmp_path / "out" / "a")["choices"]["method_settings"]
    assert kept["background_images"] == 2 and kept["background"] == str(photos)
    assert run("explain", "--again", "out/a", "-q")[0] == 0


def test_why_this_and_not_that(run, photos, tmp_path):
    spec = write_spec(tmp_path)
    words = ("--target", "dog", "--why-not", "cup", "--out", "out")
    assert run("explain", photos / "a.png", "--model", spec, *words)[0] == 0
    found = about(tmp_path / "out" / "a")
    assert found["rivals"] == [4]
    assert list(found["maps"]) == [*choices.PAPER_MAPS, "margin"]
    saved = Explanation.load(tmp_path / "out" / "a").maps
    np.testing.assert_array_equal(np.maximum(saved["active"], saved["inactive"]), saved["original"])
    assert "and not cup, mug?" in (tmp_path / "out" / "a" / "index.html").read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--why-not", "cup", "--rivals", "all"), "--rivals and --why-not exclude each other"),
        (("--why-not", "cup", "--rival", "dog"), "--rival and --why-not exclude each other"),
        (("--why-not", "cop"), "unknown class 'cop': did you mean cup"),
        (("--method", "vargrad"), "the variance of gradients has no sign"),
        (("--method", "gradient", "--sigma", "0.1"), "method 'gradient' takes no sigma"),
        (("--method", "expected-gradients"), "give some (--background)"),
        (("--rivals", "softmx"), "runner-up, mean, softmax"),
        (("--rivals", "softmax", "--map", "winner"), "map 'winner' and argmax need rivals"),
    ],
)
def test_refused_methods_and_contrasts(explain, photos, words, told):
    code, out, err = explain(photos / "a.png", *words)
    assert (code, out) == (1, "")
    assert_one_line(err, told)


# again


def test_again_the_same(explain, run, photos, tmp_path):
    assert explain(photos / "a.png", "--target", "dog", maps=["active", "winner"])[0] == 0
    code, out, err = run("explain", "--again", "out/a")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "out/a: the same"
    assert "logits: differ by 0 of their size" in out
    assert "active: differ by 0 of their size" in out
    assert run("explain", "--again", "out/a", "--quiet") == (0, "", "")
    code, out, err = run("explain", "--again", "out/a", "--json")
    assert (code, err) == (0, "")
    assert strict(out) == {
        "maps": {"active": 0.0, "winner": 0.0}, "logits": 0.0, "facts": [], "same": True,
    }  # fmt: skip


def test_again_different(explain, run, photos, tmp_path):
    assert explain(photos / "a.png", "--target", "dog")[0] == 0
    write_spec(tmp_path, factor=1.25)
    code, out, err = run("explain", "--again", "out/a")
    assert (code, err) == (1, "")
    assert out.splitlines()[0] == "out/a: different"
    code, out, err = run("explain", "--again", "out/a", "--json")
    assert (code, err) == (1, "")
    found = strict(out)
    assert found["same"] is False
    assert found["logits"] > 0
    assert found["maps"]["active"] == pytest.approx(0.25, abs=0.01)


def test_again_says_what_changed(explain, run, photos):
    assert explain(photos / "a.png")[0] == 0
    (photos / "a.png").unlink()
    _, out, _ = run("explain", "--again", "out/a")
    assert "a.png is gone: the saved pixels were explained" in out


def test_again_json_with_another_number_of_classes_is_json(explain, run, photos, tmp_path):
    assert explain(photos / "a.png", "--target", "dog")[0] == 0
    write_spec(tmp_path, classes=4)
    code, out, _ = run("explain", "--again", "out/a", "--json")
    assert code == 1
    assert "classes: 5 then, 4 now" in strict(out)["facts"]


def test_again_without_an_explanation(run, tmp_path):
    code, out, err = run("explain", "--again", tmp_path / "nothing")
    assert (code, out) == (1, "")
    assert_one_line(err, "nothing: no explanation there")


# errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--map", "activ"], "unknown map 'activ': did you mean active"),
        (["--model", "resnet"], "unknown model 'resnet': "),
        (["--model", "gone.py:make"], "gone.py:make: no such file gone.py"),
        (["--fit", "zoom"], "unknown fit 'zoom': known are crop, pad, stretch"),
        (["--scale", "log"], "unknown scale 'log': known are image, shared"),
        (["--score", "softmax"], "unknown score 'softmax': known are logit, log-probability"),
        (["--device", "toaster"], "device 'toaster' cannot be used here: "),
        (["--device", "cuda:99"], "device 'cuda:99' cannot be used here: "),
        (["--device", "meta"], "device 'meta' cannot be used here: "),
        (["--device", "vulkan"], "device 'vulkan' cannot be used here: "),
        (["--device", "hpu"], "device 'hpu' cannot be used here: "),
        (["--rivals", "top:0"], "rivals is 'top:0': give all, top:N with N >= 1"),
        (["--rivals", "best"], "rivals is 'best': give all, top:N with N >= 1"),
        (["--rivals", "all", "--rival", "dog"], "--rival and --rivals exclude each other"),
        (["--rival", "zebra"], "unknown class 'zebra': "),
        (["--target", "dogg"], "unknown class 'dogg': did you mean dog? "),
        (["--target", "crane"], "class 'crane' is ambiguous: give the index, 0 (crane, bird) or 1"),
        (["--target", "9"], "class 9 is out of range: expected 0..4"),
    ],
)
def test_a_wrong_word_is_one_line(explain, photos, tmp_path, words, message):
    code, out, err = explain(photos / "a.png", *words)
    assert (code, out) == (1, "")
    assert_one_line(err, message)
    assert len(err) < 400, "PyTorch's own words can fill a page"
    assert not (tmp_path / "out").exists()


def test_a_wrong_word_is_said_once_for_many_photos(explain, photos):
    code, _, err = explain(photos, "--rivals", "best")
    assert code == 1
    assert_one_line(err, "rivals is 'best'")


def test_a_model_with_nan_logits_is_one_line(run, photos, tmp_path):
    spec = write_spec(tmp_path).replace(":make", ":broken")
    code, out, err = run("explain", photos / "a.png", "--model", spec, "--out", "out")
    assert (code, out) == (1, "")
    assert_one_line(err, "NaN or infinite")
    assert not (tmp_path / "out").exists()


def broken_photo(path, kind):
    whole = path.parent / "a.png"
    if kind == "text":
        path.write_text("no picture")
    elif kind == "truncated":
        path.write_bytes(whole.read_bytes()[:200])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "tiny":
        Image.new("RGB", (1, 1)).save(path, "PNG")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "z.jpg: no such file"),
        ("text", "z.jpg: not a picture in a format that Pillow reads"),
        ("truncated", "z.jpg: broken or truncated picture"),
        ("empty", "z.jpg: the file is empty (0 bytes)"),
        ("tiny", "z.jpg: 1x1 pixels, too small to explain; expected at least 2 a side"),
    ],
)
def test_a_bad_photo_is_one_line(explain, photos, tmp_path, kind, message):
    bad = photos / "z.jpg"
    broken_photo(bad, kind)
    code, out, err = explain(bad)
    assert (code, out) == (1, "")
    assert_one_line(err, message)
    assert not (tmp_path / "out").exists()
    code, out, err = explain(bad, photos / "a.png")
    assert code == 1
    assert_one_line(err, message)
    assert out.startswith("a.png: ")
    assert entries(tmp_path / "out") == ["a", "index.html"]


def test_a_folder_without_photos_is_one_line(explain, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, err = explain(tmp_path / "empty")
    assert code == 1
    assert_one_line(err, "empty: a folder without photos (looked for .avif")


def test_a_moving_picture_is_read_at_its_first_frame_and_says_so(explain, photos):
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue", "green")]
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


# the other words


def test_models_lists_every_kind(run):
    code, out, err = run("models")
    assert (code, err) == (0, "")
    for spec in (
        "efficientnet-lite0",
        "cifar10-cnn",
        "torchvision:NAME",
        "timm:NAME",
        "hf:NAME",
        "FOLDER",
    ):
        assert f"\n{spec} " in f"\n{out}"
    assert "works offline]" in out
    assert f"[chiaroscuro {chiaroscuro.__version__}; works offline]" in out


def test_models_as_json(run):
    code, out, err = run("models", "--json")
    assert (code, err) == (0, "")
    rows = [strict(line) for line in out.splitlines()]
    assert [row["spec"] for row in rows][:2] == ["efficientnet-lite0", "cifar10-cnn"]
    assert all(set(row) == {"spec", "loads", "package", "installed", "offline"} for row in rows)
    assert rows[0]["offline"] is True


def test_version(run):
    assert run("--version") == (0, f"chiaroscuro {chiaroscuro.__version__}\n", "")


def test_help_lists_the_subcommands():
    found = CliRunner().invoke(app, ["--help"])
    assert found.exit_code == 0
    assert re.search("^  explain +Explain photos", found.output, re.MULTILINE)
    assert re.search("^  models +List what --model takes", found.output, re.MULTILINE)


def test_help_of_explain_names_every_map_and_option():
    found = CliRunner().invoke(app, ["explain", "--help"])
    assert found.exit_code == 0
    words = "".join(found.output.split())
    assert f"Known:{','.join(choices.MAPS)}." in words
    assert f"Default:{','.join(choices.EXPLAIN_MAPS)}." in words
    for name in (
        "model", "target", "map", "rival", "rivals", "fit", "score", "scale", "device", "threads",
        "out", "force", "again", "json", "quiet", "why-not", "method", "points", "sigma",
        "baseline", "background",
    ):  # fmt: skip
        assert f"--{name} " in found.output


def test_an_unknown_option_is_a_usage_error(run):
    code, out, err = run("explain", "--targget", "3")
    assert (code, out) == (2, "")
    assert "No such option: --targget" in err
    assert "Traceback" not in err


def test_an_empty_word_for_rivals_is_refused(run, photos):
    code, out, err = run("explain", str(photos / "a.png"), "--rivals", "")
    assert (code, out) == (1, "")
    assert "give all, top:N" in err
