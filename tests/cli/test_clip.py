"""Classes from text in a shell: a tiny CLIP in a folder, and every command that takes a model."""

import shutil

import pytest

from tests.cli.results import about, assert_one_line, strict
from tests.models import clips

CAT, DOG = "a photo of a cat", "a dog"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips") / "tiny-clip"
    clips.save(folder)
    return folder


@pytest.fixture
def clip(saved):
    return ("--model", f"clip:{saved}")


def test_classes_are_words_up_to_the_next_option(run, clip, photos, tmp_path):
    words = ("--classes", CAT, DOG, "three birds", "--target", "A Dog", "--out", "out", *clip)
    code, out, err = run("explain", photos / "a.png", *words)
    assert (code, err) == (0, "")
    assert out.startswith("a.png: a dog ")
    found = about(tmp_path / "out" / "a")
    assert found["labels"] == {"0": CAT, "1": DOG, "2": "three birds"}
    origin = found["model"]["origin"]
    assert (origin["classes"], origin["templates"]) == ([CAT, DOG, "three birds"], ["{}"])
    page = (tmp_path / "out" / "a" / "index.html").read_text()
    assert "model templates" in page and CAT in page


@pytest.mark.parametrize(
    "words",
    [
        ["--classes", CAT, DOG, "--quiet", "{photo}"],
        [f"--classes={CAT}", f"--classes={DOG}", "{photo}"],
        ["--classes", CAT, "--classes", DOG, "--", "{photo}"],
        ["{photo}", "--classes", "texts.txt"],
    ],
)
def test_forms_of_the_same_classes(run, clip, photos, tmp_path, words):
    (tmp_path / "texts.txt").write_text(f"{CAT}\n{DOG}\n")
    words = [word.format(photo=photos / "a.png") for word in words]
    code, _, err = run("explain", "--out", "out", *clip, *words)
    assert (code, err) == (0, "")
    assert about(tmp_path / "out" / "a")["model"]["origin"]["classes"] == [CAT, DOG]


def test_a_saved_explanation_is_replayed_by_its_own_texts(run, saved, clip, photos, tmp_path):
    words = ("--template", "a photo of a {}", "--template", "{}", "--contrast", "dog")
    texts = ("--classes", "cat", "dog", "--target", "cat")
    code, _, err = run("explain", photos / "a.png", *clip, *texts, *words, "--out", "out")
    assert (code, err) == (0, "")
    code, out, err = run("explain", "--replay", "out/a")
    assert (code, err) == (0, ""), out
    assert out.startswith("out/a: the same")
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(saved, elsewhere)
    code, out, err = run(
        "explain", "--replay", "out/a", "--model", f"clip:{elsewhere}", "--classes", "cat", "bird"
    )
    assert (code, err) == (1, "")
    assert "model origin was" in out and "different" in out


def test_what_if_flip_and_compare(run, clip, photos, tmp_path):
    texts = ("--classes", CAT, DOG, "--target", CAT)
    code, out, err = run("what-if", photos / "a.png", *clip, *texts, "--out", "changes")
    assert (code, err) == (0, "")
    assert f"after: {CAT} " in out or f"after: {DOG} " in out
    words = ("--classes", CAT, DOG, "three birds", "a tree", "red", "--change", "+0.8", "--json")
    code, out, err = run("flip", photos / "a.png", *clip, *words, "--out", "flips")
    assert (code, err) == (0, "")
    flip = strict(out)
    assert flip["reached"] and flip["flipped"] and flip["edits"][0]["minimal"]
    assert {one["label"] for one in flip["before"]} == set(words[1:6])
    own = ("--model", "cifar10-cnn", "--target", "dog", "--classes", "cat", "dog", "--out", "both")
    code, out, err = run("compare", photos / "a.png", *clip, *own)
    assert (code, err) == (0, "")
    assert "target class: dog" in out


def test_sets_of_images(run, clip, photos, tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "set" / name).mkdir(parents=True)
        shutil.copy(photos / "a.png", tmp_path / "set" / name)
    texts = (*clip, "--classes", "cat", "dog", "--json", "--resamples", "5")
    more = {"evaluate": ("--fraction", "0.1", "--fill", "black"), "check": ("--depths", "3")}
    for command, words in more.items():
        code, out, err = run(command, "set", *texts, "--map", "active", "--out", command, *words)
        assert (code, err) == (0, ""), command
        facts = strict(out)
        assert facts["model"]["origin"]["classes"] == ["cat", "dog"]
    layers = [part for layer in facts["layers"] for part in layer["modules"]]
    assert layers[0] == "head" and not any("text" in part for part in layers)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "needs classes: --classes 'a cat' 'a dog', or a file of them"),
        (("--template", "a {}"), "needs classes"),
        (("--classes", "a cat"), "'a cat' is no file of texts"),
        (("--classes", "a cat", "A CAT"), "class 'a cat' is given twice: give it once"),
        (("--classes", "a cat", ""), "none of them empty"),
        (("--classes", CAT, DOG, "--template", "photo"), "template 'photo' has no {}, where"),
        (("--classes", CAT, "dog " * 90), " is 92 tokens long: the text tower reads 77 and"),
        (("--classes", CAT, DOG, "photos/a.png"), "'photos/a.png' is a file: give photos first"),
        (("--classes", CAT, DOG, "photos/"), "'photos/' is a file: give photos first"),
        (("--classes", CAT, "x." * 3000), "tokens long"),
        (("--classes", CAT, DOG, "--target", "bird"), "unknown class 'bird': "),
    ],
)
def test_what_makes_no_classes_is_one_line(run, clip, photos, words, message):
    code, out, err = run("explain", photos / "a.png", *clip, *words)
    assert (code, out) == (1, "")
    assert_one_line(err, message)
    assert len(err) < 400


def test_classes_of_a_model_that_has_its_own_are_refused(run, photos):
    for words in (("--classes", CAT, DOG), ("--template", "a {}")):
        code, out, err = run("explain", photos / "a.png", *words)
        assert (code, out) == (1, "")
        assert_one_line(err, "efficientnet-lite0 has its own classes: classes and templates are")
        code, _, err = run("serve", *words)
        assert code == 1
        assert_one_line(err, "efficientnet-lite0 has its own classes")


def test_a_siglip_is_asked_by_name(run, photos, tmp_path):
    clips.save(tmp_path / "siglip", "siglip2")
    words = ("--model", f"clip:{tmp_path}/siglip", "--classes", CAT, DOG, "--out", "out")
    code, _, err = run("explain", photos / "a.png", *words)
    assert code == 1
    assert_one_line(err, "target")
    code, _, err = run("explain", photos / "a.png", *words, "--target", DOG)
    assert (code, err) == (0, "")
    assert about(tmp_path / "out" / "a")["model"]["multi_label"] is True
