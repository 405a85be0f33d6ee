"""One line for each error, and nothing left behind."""

import pytest
from PIL import Image

from tests.cli.results import assert_one_line, entries, write_spec


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--contrast", "cup", "--rivals", "top:2"), "rivals top:2 and contrast cup: give one"),
        (("--contrast", "cop"), "unknown class 'cop': did you mean cup"),
        (("--method", "vargrad"), "the variance of gradients has no sign"),
        (("--method", "gradient", "--sigma", "0.1"), "method 'gradient' takes no sigma"),
        (("--method", "expected-gradients"), "give some (--background)"),
        (("--rivals", "softmx"), "runner-up, mean[:N], softmax[:N]"),
        (("--rivals", "softmax", "--map", "winner"), "map 'winner' and argmax need rivals"),
    ],
)
def test_refused_methods_and_contrasts(explain, photos, words, told):
    code, out, err = explain(photos / "a.png", *words)
    assert (code, out) == (1, "")
    assert_one_line(err, told)


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
        (["--rivals", "top:0"], "rivals is 'top:0': give all, top:N"),
        (["--rivals", "best"], "unknown class 'best'"),
        (["--rivals", "zebra"], "unknown class 'zebra': "),
        (["--threads", "0"], "threads is 0: expected at least 1"),
        (["--threads", "0", "--fit", "zoom"], "unknown fit 'zoom'"),
        (["--target", "dogg"], "unknown class 'dogg': did you mean dog? "),
        (
            ["--target", "crane"],
            "class 'crane' is ambiguous: give the index, #0 (crane, bird) or #1",
        ),
        (["--target", "9"], "class 9 is out of range: expected 0..4"),
    ],
)
def test_a_wrong_word_is_one_line(explain, photos, tmp_path, words, message):
    code, out, err = explain(photos / "a.png", *words)
    assert (code, out) == (1, "")
    assert_one_line(err, message)
    assert len(err) < 400, "PyTorch's own words can fill a page"
    assert not (tmp_path / "out").exists()


def test_a_file_without_a_factory_and_a_folder_for_one_photo_are_one_line(run, photos, tmp_path):
    (tmp_path / "net.py").write_text("")
    _, _, err = run("explain", photos / "a.png", "--model", "net.py")
    assert_one_line(err, "model 'net.py' is a file: give FILE.py:FACTORY")
    for words in (["what-if"], ["compare", "--model", "cifar10-cnn", "--model", "cifar10-cnn"]):
        _, _, err = run(words[0], photos, *words[1:])
        assert_one_line(err, f"{photos} is a folder: give one photo")


def test_a_wrong_word_is_said_once_for_many_photos(explain, photos):
    code, _, err = explain(photos, "--rivals", "best")
    assert code == 1
    assert_one_line(err, "unknown class 'best'")


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
        ("text", "z.jpg: not a picture in a format that is read"),
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
    assert_one_line(err, "empty: a folder without photos (looked for .apng")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("explain", "--targget", "3"), "no such option: --targget (Possible options: --target)"),
        (("expain",), "no such command 'expain'. Did you mean 'explain'?"),
        (("evaluate",), "missing argument 'DATA'; see "),
        (("explain", "--seed", "x"), "invalid value for '--seed': "),
    ],
)
def test_words_that_are_no_options_are_one_line(run, words, message):
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert_one_line(err, message, f"{words[0]} -h" if len(words) != 1 else " -h")


def test_no_words_show_the_help(run):
    code, out, err = run()
    assert (code, err) == (2, "")
    assert " Usage: " in out and "explain" in out


def test_an_empty_word_for_rivals_is_refused(run, photos):
    code, out, err = run("explain", str(photos / "a.png"), "--rivals", "")
    assert (code, out) == (1, "")
    assert "give all, top:N" in err
