"""What the command line prints where: lines, JSON, progress, help."""

import re
import runpy
import shutil
import sys
from dataclasses import fields
from importlib.metadata import version
from io import StringIO

import pytest
from typer.testing import CliRunner

import chiaroscuro
from chiaroscuro.cli import app
from chiaroscuro.cli.commands import COMMANDS
from chiaroscuro.cli.options import flags
from chiaroscuro.settings import option_of
from tests.cli.results import about, assert_one_line, entries, facts, strict


def test_json_is_one_object_per_image(explain, photos, tmp_path):
    (photos / "c.png").write_text("no picture")
    code, out, err = explain(photos, "--json")
    assert code == 1
    one, two, three = map(strict, out.splitlines())
    for found, name in ((one, "a"), (two, "b")):
        assert found.pop("folder") == f"out/{name}"
        assert found == facts(tmp_path / "out" / name)
    assert set(three) == {"source", "error"}
    assert three["source"] == str(photos / "c.png")
    assert "not a picture" in three["error"]
    assert_one_line(err, "c.png: not a picture in a format that is read")


def test_profile_tells_every_stage_on_standard_error(explain, photos):
    status, told, errors = explain(photos / "a.png", "--profile", "--json")
    assert status == 0
    assert len(told.strip().splitlines()) == 1  # standard output stays an object per image
    rows = [line.split() for line in errors.splitlines() if line.startswith("  ")]
    stages = {row[0]: float(row[1]) for row in rows}
    assert stages.keys() == {
        "import", "loading", "decode", "forward", "backward", "maps", "evidence", "drawing",
    }  # fmt: skip
    assert list(stages.values()) == sorted(stages.values(), reverse=True)
    assert 98 <= sum(int(row[3]) for row in rows) <= 103


def test_json_with_a_shared_scale_says_what_was_saved(explain, photos, tmp_path):
    code, out, _ = explain(photos, "--json", "--scale", "shared")
    assert code == 0
    for found, name in zip(map(strict, out.splitlines()), "ab", strict=True):
        assert found["color_limits"] == about(tmp_path / "out" / name)["color_limits"]


HALF = "\N{UPPER HALF BLOCK}"


class Terminal(StringIO):
    encoding = "utf-8"

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


@pytest.fixture
def shown(explain, photos, monkeypatch):
    """What `explain` prints on a color terminal, with words and other variables."""

    def call(*words, maps=("active",), terminal=None, **variables):
        usual = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
        for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in (usual | variables).items():
            monkeypatch.setenv(name, value)
        printed = terminal or Terminal()
        monkeypatch.setattr(sys, "stdout", printed)
        explain(photos / "a.png", "--force", *words, maps=maps)
        return printed.getvalue()

    return call


def test_a_terminal_with_colors_shows_a_picture_and_bars(shown):
    said = shown(maps=("active", "signed"))
    picture, _, bars = said.partition("a.png, signed:\n")[2].rpartition(HALF)
    rows = [line for line in picture.splitlines() if HALF in line]
    assert len(rows) == round(48 * 10 / 14 / 2) and picture.count(HALF) == 48 * len(rows) - 1
    assert re.search(rf"38;2;\d+;\d+;\d+;48;2;\d+;\d+;\d+m{HALF}", picture)
    listed = [line for line in bars.splitlines() if " % " in line]
    assert len(listed) == 5 and listed[0].startswith("\x1b[1m\u2588"), "the target class is bold"
    assert said.splitlines()[-1].startswith("page: ")


def test_a_terminal_of_256_colors_gets_such(shown, photos):
    said = shown(photos / "b.png", COLORTERM="")  # rich keeps the codes of colors it has seen
    assert re.search(rf"38;5;\d+;48;5;\d+m{HALF}", said)


class Ascii(Terminal):
    encoding = "ascii"


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ((), {"NO_COLOR": "1"}),
        ((), {"TERM": "dumb"}),
        ((), {"TERM": "dumb", "FORCE_COLOR": "1"}),
        ((), {"terminal": StringIO()}),
        ((), {"terminal": StringIO(), "FORCE_COLOR": "1"}),
        ((), {"terminal": Ascii()}),
        (["--quiet"], {}),
        (["--json"], {}),
    ],
    ids=["no color", "dumb", "dumb forced", "pipe", "pipe forced", "ascii", "quiet", "json"],
)
def test_no_picture_where_it_was_not_asked_for_or_cannot_be_seen(shown, words, options):
    assert HALF not in shown(*words, **options)


def test_many_photos_have_no_pictures(shown, photos):
    for name in "cde":
        shutil.copy(photos / "a.png", photos / f"{name}.png")
    assert HALF not in shown(*photos.iterdir())


def test_quiet_prints_nothing_but_errors(explain, photos, tmp_path):
    assert explain(photos, "--quiet") == (0, "", "")
    assert entries(tmp_path / "out") == ["a", "b", "index.html"]
    code, out, err = explain(photos / "a.png", "-q")
    assert (code, out) == (1, "")
    assert_one_line(err, "exists already")


def test_quiet_without_a_photo_prints_nothing(explain):
    assert explain("--quiet") == (0, "", "")


def test_models_lists_every_kind(run):
    code, out, err = run("models")
    assert (code, err) == (0, "")
    for spec in (
        "efficientnet-lite0",
        "cifar10-cnn",
        "torchvision:NAME",
        "timm:NAME",
        "hf:NAME",
        "clip:NAME",
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
    expected = {"spec", "loads", "package", "installed", "offline", "takes_classes"}
    assert all(set(row) == expected for row in rows)
    assert [row["spec"] for row in rows if row["takes_classes"]] == ["clip:NAME"]
    assert rows[0]["offline"] is True


def test_version(run):
    code, out, err = run("--version")
    assert (code, err) == (0, "")
    told = dict(line.split(" ", 1) for line in out.splitlines())
    assert next(iter(told.items())) == ("chiaroscuro", chiaroscuro.__version__)
    assert told["torch"] == version("torch")
    assert {"python", "torchvision", "timm", "platform"} <= set(told)


def test_the_package_runs_as_a_module(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["chiaroscuro", "--version"])
    with pytest.raises(SystemExit) as left:
        runpy.run_module("chiaroscuro", run_name="__main__")
    assert not left.value.code
    assert capsys.readouterr().out.startswith(f"chiaroscuro {chiaroscuro.__version__}\n")


@pytest.mark.parametrize("width", [50, 100])
def test_help_names_every_option_whole(width):
    found = CliRunner().invoke(app, ["explain", "-h"], env={"COLUMNS": str(width)})
    (explain,) = (command for command in COMMANDS if command.name == "explain")
    places = [f for cls in explain.groups for f in fields(cls) if option_of(f).flag != ""]
    for field in places:
        assert re.search(rf"{flags(field)[0]}\b", found.output), field.name
    assert max(map(len, found.output.splitlines())) <= width


def test_help_lists_the_subcommands():
    found = CliRunner().invoke(app, ["--help"])
    assert found.exit_code == 0
    assert re.search("explain +Explain photos", found.output)
    assert re.search("models +List what --model takes", found.output)
