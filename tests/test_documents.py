"""What the documents say works: snippets run, options exist, links lead somewhere."""

import re
import shlex
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import chiaroscuro
from chiaroscuro import (
    catalog,
    choices,
    edits,
    evaluation,
    gradients,
    load_result,
    maps,
    models,
    settings,
)
from chiaroscuro.cli import app
from chiaroscuro.data.images import read_batches
from chiaroscuro.data.loading import load_images
from chiaroscuro.errors import ChoiceError, ModelError
from chiaroscuro.images import Framing, packaged_photo
from tests.evaluation.toy import CLASSES, run, toy_classifier
from tests.models import clips
from tests.pictures import class_rows, write_classes, write_parquet
from tests.test_layers import LAYERS
from tests.toys import all_class_gradients, random_pixels
from tools.readme_figures import BEGIN, END, home, updated

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *PAGES])


def snippets(document, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)


def test_the_readme_python_runs(tmp_path, monkeypatch, capsys):
    first, second = snippets("README.md", "python")
    Image.open(packaged_photo("coffee")).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    exec(first, {})
    assert re.fullmatch(r"class \d \(32, 32\)\n", capsys.readouterr().out)
    assert {file.name for file in (tmp_path / "why").iterdir()} == {
        "arrays.npz", "chiaroscuro-explanation.json", "index.html", "overview.webp",
    }  # fmt: skip
    scope = {}
    exec(second, scope)
    assert scope["explanation"].target.label == "espresso"
    assert scope["maps"]["active"].shape == (2, 224, 224)
    predicted, actual = map(float, capsys.readouterr().out.split())
    assert predicted < 0 and actual < 0


def test_the_figures_of_the_readme_are_those_of_the_page_of_speed():
    readme = (ROOT / "README.md").read_text()
    assert updated(readme, (ROOT / "docs" / "results" / "speed.md").read_text()) == readme
    block = readme.partition(BEGIN)[2].partition(END)[0]
    assert block.count("|") > 20
    for figure in (r"\d+(\.\d+)?x\b", r"\b\d+ MB\b", r"\b\d+(\.\d+)? s\b"):
        assert not re.search(figure, readme.replace(block, "")), figure


def test_the_home_page_begins_with_the_readme():
    page = (ROOT / "docs" / "index.md").read_text()
    assert home((ROOT / "README.md").read_text(), page) == page
    assert page.count("![") == 1


def test_the_quickstart_runs(tmp_path, monkeypatch):
    factory, notebook, pictures = snippets("docs/quickstart.md", "python")
    Image.open(packaged_photo("cat")).convert("RGB").save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(factory)
    scope = {}
    exec(notebook + pictures, scope)
    assert scope["picture"].size == (451, 300)
    assert scope["active"].shape == (64, 64)
    shell = "".join(snippets("docs/quickstart.md", "sh"))
    commands = shell.replace("\\\n", " ").splitlines()
    assert commands[0] == "pip install -e '.[web]'"
    assert commands[-1] == "chiaroscuro serve"
    for command in commands[1:-1]:
        done = CliRunner().invoke(app, shlex.split(command)[1:])
        assert done.exit_code == 0, f"{command}: {done.output} {done.stderr}"
    for page in ("chiaroscuro-out/photo", "contrast/photo", "mine/photo", "why"):
        assert (tmp_path / page / "index.html").is_file()


def options_of(command):
    shown = CliRunner().invoke(app, [command, "--help"]).stdout.partition("Examples:")[0]
    return set(re.findall(r"--[a-z-]*[a-z]", shown)) - {"--help"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_option_in_a_command_is_one(document):
    """Every `chiaroscuro COMMAND --option` that a document shows."""
    text = document.read_text().replace("\\\n", " ")
    for command, words in re.findall(
        r"chiaroscuro (explain|what-if|flip|evaluate|train|reproduce|check|compare|localize|"
        r"confusions|maps|merge|convert) ([^`\n#]*)",
        text,
    ):
        used = set(re.findall(r"(?<!\S)--[a-z-]*[a-z]", words)) - {"--help"}
        assert used <= options_of(command), f"{document.name}: {command} {words}"


def test_the_how_to_of_evaluating_runs(capsys):
    reading, snippet = snippets("docs/how-to/evaluate.md", "python")
    assert "read_parquet" in reading
    exec(snippet, {})
    assert "'inverted:active'" in capsys.readouterr().out


def test_the_how_to_of_the_adapters_runs(capsys):
    captum, quantus, grad_cam = snippets(
        "docs/how-to/use-with-captum-quantus-grad-cam.md", "python"
    )
    scopes = [{}, {}, {}]
    for snippet, scope in zip((captum, quantus, grad_cam), scopes, strict=True):
        exec(snippet, scope)
    assert scopes[0]["found"].shape == scopes[0]["averaged"].shape == (2, 3, 32, 32)
    assert scopes[1]["scores"].keys() == scopes[1]["metrics"].keys()
    assert scopes[2]["cams"].shape == (2, 32, 32)
    assert scopes[2]["chosen"].tolist() == [3, 5]
    assert "'Sparseness'" in capsys.readouterr().out


def test_the_how_to_of_a_change_runs(tmp_path, monkeypatch, capsys):
    (snippet,) = snippets("docs/how-to/what-if.md", "python")
    monkeypatch.chdir(tmp_path)
    exec(snippet, {})
    assert "torch.Size([8, 10])" in capsys.readouterr().out
    assert {file.name for file in (tmp_path / "brighter").iterdir()} == {
        "arrays.npz", "chiaroscuro-what-if.json", "figure.png", "index.html",
    }  # fmt: skip


def test_the_how_to_of_the_smallest_edit_runs(tmp_path, monkeypatch, capsys):
    (snippet,) = snippets("docs/how-to/flip.md", "python")
    monkeypatch.chdir(tmp_path)
    exec(snippet, {})
    assert "torch.Size([8, 32, 32])" in capsys.readouterr().out
    assert (tmp_path / "flipped" / "chiaroscuro-smallest-edit.json").exists()


def test_the_how_to_of_believing_runs(tmp_path, monkeypatch, capsys):
    (snippet,) = snippets("docs/how-to/believe-a-map.md", "python")
    Image.open(packaged_photo("cat")).convert("RGB").save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    exec(snippet, {})
    change, *label, _chance, sign, _pixels = capsys.readouterr().out.splitlines()[1].split()
    assert float(change) < 0 and label and sign == "%"  # what a region costs, and who gains


def test_the_how_to_of_looking_runs(tmp_path, monkeypatch):
    (snippet,) = snippets("docs/how-to/look-at-maps.md", "python")
    Image.open(packaged_photo("cat")).convert("RGB").save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    exec(snippet, {})
    page = (tmp_path / "viewer.html").read_text("utf-8")
    assert '"name":"cat · ' in page and '"name":"dog · ' in page


def test_the_how_to_of_inputs_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (20, 10), "teal").save(tmp_path / "photo.jpg")
    exec("".join(snippets("docs/how-to/inputs.md", "python")), {})
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "pictures show channels 3, 2, 1 of 0 to 12, as red, green and blue; maps take all",
        "True True",
        "(30, 40)", "(64, 24)", "(10, 20)",
        "(16, 32, 32)",
        "(16, 32, 32) 328",
    ]  # fmt: skip
    assert all((tmp_path / name / "index.html").is_file() for name in ("scene", "scan"))


def test_the_how_to_of_several_classes_runs(tmp_path, monkeypatch, capsys):
    several, reducer = snippets("docs/how-to/several-classes.md", "python")
    Image.open(packaged_photo("coffee")).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    scope = {}
    exec(several, scope)
    exec(reducer, scope)
    assert (
        capsys.readouterr().out
        == "".join(f"{k} torch.Size([1, 32, 32])\n" for k in (3, 5, 5))
        + "torch.Size([1, 3, 32, 32])\n"
    )
    exact = all_class_gradients(scope["classifier"].logits, scope["pixels"])
    torch.testing.assert_close(
        scope["spread"], exact.std(dim=1, correction=0), rtol=1e-3, atol=1e-3
    )


def test_the_how_to_of_edit_maps_runs(capsys):
    (snippet,) = snippets("docs/how-to/edit-maps.md", "python")
    exec(snippet, {})
    assert "'partial-edit'" in capsys.readouterr().out


def test_the_how_to_of_comparing_runs(tmp_path, monkeypatch, capsys):
    (snippet,) = snippets("docs/how-to/compare-checkpoints.md", "python")
    monkeypatch.chdir(tmp_path)
    exec(snippet, {})
    assert "'active': " in capsys.readouterr().out
    assert (tmp_path / "both" / "2" / "chiaroscuro-explanation.json").is_file()


def test_the_how_to_of_following_a_training_runs(tmp_path, monkeypatch, capsys):
    (snippet,) = snippets("docs/how-to/follow-a-training.md", "python")
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on loaders
        exec(snippet, {})
    assert re.search(r"active +0 ", capsys.readouterr().out)
    assert (tmp_path / "probe" / "index.html").is_file()


def test_the_how_to_of_checking_runs(tmp_path, monkeypatch):
    (snippet,) = snippets("docs/how-to/check-maps.md", "python")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    Image.open(packaged_photo("cat")).save(tmp_path / "photos" / "cat.png")
    scope = {}
    exec(snippet, scope)
    assert [one.map for one in scope["result"].maps] == ["original", "active"] * 2
    assert (tmp_path / "check" / "index.html").is_file()


def test_the_how_to_of_confusions_runs(tmp_path, monkeypatch, capsys):
    (snippet,) = snippets("docs/how-to/confusions.md", "python")
    monkeypatch.chdir(tmp_path)
    write_classes(tmp_path / "photos", ["cat", "dog"], 2, 32)
    exec(snippet, {})
    assert " loses most to " in capsys.readouterr().out
    assert (tmp_path / "confusions" / "index.html").is_file()


def test_the_how_to_of_kept_maps_runs(tmp_path, monkeypatch, capsys):
    """The last snippet writes what the first three, which are for other libraries, read."""
    *readers, writer = snippets("docs/how-to/keep-maps.md", "python")
    monkeypatch.chdir(tmp_path)
    write_classes(tmp_path / "photos", ["cat", "dog"], 2, 32)
    exec(writer, {})
    assert len(readers) == 3
    for snippet in readers:
        assert len(snippet.strip().splitlines()) <= 4
        exec(snippet, {})
    said = capsys.readouterr().out
    assert "(4, 2, 32, 32) ['active', 'inactive']" in said
    assert "predicted_label" in said
    assert len([*(tmp_path / "pictures").glob("*/*.png")]) == 8


def test_the_page_for_those_who_come_from_other_libraries_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    scope = {}
    for snippet in snippets("docs/coming-from.md", "python"):
        exec(snippet, scope)
    assert {"positive", "active", "random", "inverted:active"} <= eval(
        capsys.readouterr().out
    ).keys()
    assert scope["cams"].shape == (2, 32, 32)
    assert scope["picture"].size == (32, 32)
    assert (tmp_path / "why" / "index.html").is_file()


@pytest.mark.parametrize("document", ["docs/reference/settings.md", "docs/reference/errors.md"])
def test_the_snippets_of_the_reference_run(document, capsys):
    (snippet,) = snippets(document, "python")
    exec(snippet, {})
    assert re.match(r"\('black', 'white'\) 0.95|ChoiceError unknown model", capsys.readouterr().out)


@pytest.mark.parametrize("document", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_says_first_what_it_is_for(document):
    """A heading, then a sentence and not a table, a list or code."""
    text = document.read_text().strip()
    if included := re.fullmatch('--8<-- "(.+)"', text):
        text = (ROOT / included[1]).read_text().strip()
    heading, first = re.split(r"\n\s*\n", text, maxsplit=2)[:2]
    assert heading.startswith("# ")
    assert re.match(r"(?:\*\*|`|\[)?\w", first) and first.count(" ") >= 7, first


ANCHOR = re.compile(r"\]\(([^)#\s]*)#([\w.-]+)\)")


def anchors(page):
    """The ids of a page's headings, as MkDocs makes them."""
    named = re.findall(r"^#+ .*\{#([\w.]+)\}$", page, re.MULTILINE)
    for heading in re.findall(
        r"^#+ (.*)$", re.sub(r"```.*?```", "", page, flags=re.DOTALL), re.MULTILINE
    ):
        words = re.sub(r"[^\w\s-]", "", re.sub(r"\]\(.*?\)", "]", heading)).strip().lower()
        named.append(re.sub(r"[-\s]+", "-", words))
    return named


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_headings(document):
    for target, anchor in ANCHOR.findall(document.read_text()):
        if not target.startswith("http"):
            page = (document.parent / target).resolve() if target else document
            assert anchor in anchors(page.read_text()), f"{document.name}: {target}#{anchor}"


def test_the_figures_of_the_method_are_drawn_by_its_script():
    drawn = re.findall(r'"(method-[\w.]+)"', (ROOT / "tools/method_figures.py").read_text())
    shown = re.findall(r"images/(method-[\w.]+)", (ROOT / "docs/method.md").read_text())
    files = [file.name for file in (ROOT / "docs/images").glob("method-*")]
    assert sorted(drawn) == sorted(set(shown)) == sorted(files)


def test_every_page_is_in_the_contents():
    listed = re.findall(r"([\w/-]+\.md)", (ROOT / "mkdocs.yml").read_text())
    assert sorted(listed) == sorted(str(page.relative_to(ROOT / "docs")) for page in PAGES)


def test_the_citation_file_names_this_version():
    text = (ROOT / "CITATION.cff").read_text()
    assert f"version: {chiaroscuro.__version__}\n" in text
    title = "A matter of attitude: Focusing on positive and active gradients to boost saliency maps"
    assert title in text and title in " ".join((ROOT / "docs/cite.md").read_text().split())


def test_the_how_to_of_a_map_works(toy, monkeypatch):
    """Its rows pasted where it says so and its lines at run time: one map, the oracle's."""
    for table in (choices.MAPS, maps.MAPS):
        monkeypatch.setitem(table, "runner", None)  # so that the row is gone afterwards
    snippet, listing, row, oracle = snippets("docs/how-to/add-a-map.md", "python")
    exec(snippet, {})
    (listed,) = re.findall(r"^ +(MapChoice\(.*\)),$", listing, re.MULTILINE)
    assert eval(listed, {**vars(choices)}) == choices.MAPS["runner"]
    pixel = eval(f"{{{oracle}}}")["runner"]
    pixels = random_pixels(1, 3, 12, 12)
    gradients = all_class_gradients(toy, pixels)[0]
    found = chiaroscuro.class_gradients(toy, pixels, 2, rivals=[0, 1])
    expected = [
        [pixel([(float(g[2]), [float(g[0]), float(g[1])]) for g in at.mT]) for at in across]
        for across in gradients.permute(2, 3, 0, 1)
    ]
    at_run_time = maps.saliency_maps(found, "runner")
    maps.MAPS |= eval(f"{{{row}}}", {**vars(maps)})
    pasted = maps.saliency_maps(found, "runner")
    for made in (at_run_time, pasted):
        np.testing.assert_allclose(made["runner"][0], expected, rtol=1e-9, atol=1e-15)
        support = np.mean(np.greater(expected, 0))
        assert made.support["runner"].pixels.item() == pytest.approx(support, abs=1e-6)
    assert 0 < support < 1
    for kind in (settings.EvaluationSettings, settings.CheckSettings):
        assert kind(data="x", maps="runner").maps == ("runner",)
    assert settings.CompareSettings(maps="runner").maps == ("runner",)
    assert settings.WhatIfSettings(map="runner").map == "runner"
    curves = chiaroscuro.deletion_curve(toy, pixels, pasted, "black", protocol="matched")
    assert curves["runner"].allegiance.shape == (1, len(curves["runner"].fractions))


def test_the_how_to_of_a_method_works(toy, monkeypatch):
    for table in (choices.METHODS, gradients.METHODS):
        monkeypatch.setitem(table, "dimmed", None)
    (snippet,) = snippets("docs/how-to/add-a-method.md", "python")
    exec(snippet, {})
    pixels = random_pixels(1, 3, 12, 12)
    made = chiaroscuro.class_gradients(toy, pixels, 2, method=gradients.Method("dimmed", points=2))
    expected = sum(all_class_gradients(toy, pixels * step)[0, 2] for step in (0.5, 1.0)) / 2
    torch.testing.assert_close(made.target_gradient[0], expected)
    assert settings.ExplainSettings(method="dimmed", points=3).method_options.points == 3


def test_the_how_to_of_a_fill_works(monkeypatch):
    for table in (choices.FILLS, edits.FILLS):
        monkeypatch.setitem(table, "negative", None)
    (snippet,) = snippets("docs/how-to/add-a-fill.md", "python")
    exec(snippet, {})
    pixels = random_pixels(1, 3, 4, 4)
    torch.testing.assert_close(edits.filled(pixels, "negative"), 1 - pixels)
    assert settings.EvaluationSettings(data="x", fills="negative:0.5").fills == ("negative:0.5",)


def test_the_how_to_of_a_model_source_works(tmp_path, monkeypatch):
    monkeypatch.setitem(catalog.SOURCES, "ours:NAME", None)
    monkeypatch.setitem(models.LIBRARIES, "ours", None)
    (snippet,) = snippets("docs/how-to/add-a-model-source.md", "python")
    monkeypatch.chdir(tmp_path)
    torch.save({"1.weight": torch.ones(10, 3072), "1.bias": torch.zeros(10)}, "linear.pt")
    scope = {}
    exec(snippet, scope)
    assert scope["classifier"].name == "ours:linear"
    catalog.check_spec("ours:linear")
    shown = CliRunner().invoke(app, ["models"]).stdout
    assert "weights of our group" in shown
    with pytest.raises(ModelError, match="^ours:none: its weights are not on this machine"):
        chiaroscuro.load_classifier("ours:none")
    with pytest.raises(ChoiceError, match="known are efficientnet-lite0, .*, ours:NAME$"):
        chiaroscuro.load_classifier("theirs:linear")


def test_the_how_to_of_classes_from_text_runs(tmp_path, monkeypatch, capsys):
    """A tiny CLIP lies in a folder that is called as the one on the hub."""
    clips.save(tmp_path / "openai" / "clip-vit-base-patch32")
    Image.open(packaged_photo("cat")).convert("RGB").save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    (snippet,) = snippets("docs/how-to/classes-from-text.md", "python")
    exec(snippet, {})
    assert capsys.readouterr().out == f"cat ({clips.SIDE}, {clips.SIDE})\n"
    (shell,) = snippets("docs/how-to/classes-from-text.md", "sh")
    done = CliRunner().invoke(app, shlex.split(shell.splitlines()[1])[1:])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "chiaroscuro-out" / "photo" / "index.html").is_file()


def test_the_how_to_of_a_metric_works(tmp_path, monkeypatch):
    for table in (choices.METRICS, evaluation.METRICS):
        monkeypatch.setitem(table, "support", None)
    (snippet,) = snippets("docs/how-to/add-a-metric.md", "python")
    scope = {}
    exec(snippet, scope)
    write_parquet(tmp_path / "data" / "test.parquet", class_rows(3, 2), CLASSES)
    given = {"metrics": ("deletion", "support"), "maps": ("active", "positive")}
    result = run(tmp_path / "data", tmp_path / "one", **given)
    (batch,) = read_batches(load_images(tmp_path / "data"), Framing(size=(12, 12)), 6)
    found = chiaroscuro.class_gradients(toy_classifier(), torch.from_numpy(np.stack(batch.pixels)))
    for row in result.metrics:
        values = maps.saliency_maps(found, [row.map])[row.map]
        assert row.mean.value == pytest.approx(float((values != 0).double().mean()))
        assert row.mean.low <= row.mean.value <= row.mean.high
    assert [(row.metric, row.map) for row in result.metrics] == [
        ("support", "active"), ("support", "positive"),
    ]  # fmt: skip
    assert load_result(tmp_path / "one") == result
    own = evaluation.number_metric("own", scope["support"])
    other = run(tmp_path / "data", tmp_path / "two", **given | {"metrics": (own,)})
    assert [row.mean for row in other.metrics] == [row.mean for row in result.metrics]
    assert load_result(tmp_path / "two").metrics == other.metrics


def test_the_how_to_of_regions_runs(tmp_path, monkeypatch, capsys):
    dense, embeddings = snippets("docs/how-to/regions.md", "python")
    monkeypatch.chdir(tmp_path)
    exec(dense, {})
    first, change = capsys.readouterr().out.splitlines()
    assert first.startswith("espresso ")
    assert float(change) < 0
    assert 'id="region"' in (tmp_path / "cup" / "index.html").read_text()
    exec(embeddings, {})
    assert capsys.readouterr().out.startswith("(32, 32)\n[")


def test_the_how_to_of_methods_runs(capsys):
    scope = {}
    for snippet in snippets("docs/how-to/choose-a-method.md", "python"):
        exec(snippet, scope)
    said = capsys.readouterr().out
    assert said == "torch.Size([4, 32, 32]) 20\npoints\ncaptum:Saliency\n"


def test_the_how_to_of_methods_names_them_all():
    text = (ROOT / "docs/how-to/choose-a-method.md").read_text()
    rows = re.findall(r"^\| `([\w-]+)` \|", text, re.MULTILINE)
    assert rows[: len(choices.METHODS)] == list(choices.METHODS)
    for row in choices.METHODS.values():
        (line,) = re.findall(rf"^\| `{row.name}` \|.*$", text, re.MULTILINE)
        assert row.points is None or f"`--points` {row.points}" in line
        assert row.sigma is None or f"`--sigma` {row.sigma}" in line
        assert ("Captum" in line) == row.captum


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#\s]+)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_no_address_of_a_registry_in_the_constraints():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    rows = [line for line in lines if not line.startswith("#")]
    assert len(rows) > 50
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.+-]+", row) for row in rows)


def test_the_architecture_page_has_every_layer():
    text = (ROOT / "docs/design/architecture.md").read_text()
    table = text.split("## Modules")[1].split("##")[0]
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", table, re.MULTILINE)
    assert [re.findall(r"\w+", row) for row in rows] == LAYERS


PRIVATE_WORDS = (
    r"foret[eo]l|\banew\b|\bbeside\b|told (?:apart|from)|likeness|\balike\b|per cent|the article|"
    r"explained class|pip install '?chiaroscuro"
)


@pytest.mark.parametrize(
    "document",
    DOCUMENTS,
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_documents_use_the_terms_of_the_field(document):
    assert not re.findall(PRIVATE_WORDS, document.read_text(), re.IGNORECASE)
