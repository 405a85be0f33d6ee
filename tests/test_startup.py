"""Help and a bare import stay light: asked of fresh processes, since pytest has torch loaded."""

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "torchvision", "timm", "matplotlib", "PIL", "numpy", "jinja2", "safetensors"}
COMMANDS = """
import contextlib, io, json, sys
from chiaroscuro.cli import main
out, err = io.StringIO(), io.StringIO()
codes = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["chiaroscuro", *words]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as left:
            codes.append(left.code)
said = out.getvalue(), err.getvalue()
print(json.dumps({"codes": codes, "said": said, "loaded": sorted(sys.modules)}))
"""
HELP = [
    ["--help"], ["models"], ["--version"], ["explain", "-h"], ["what-if", "-h"], ["flip", "-h"],
    ["train", "-h"], ["check", "-h"], ["compare", "-h"], ["localize", "-h"], ["evaluate", "-h"],
    ["reproduce", "-h"], ["confusions", "-h"], ["maps", "-h"], ["merge", "-h"],
    ["convert", "-h"],
]  # fmt: skip
WRONG = [
    ["explain", "--tolerance", "0.1"], ["explain", "--replay", "nowhere"],
    ["explain", "nowhere.jpg"], ["explain", "--model", "resnet"], ["explain", "--map", "activ"],
    ["explain", "--rivals", "top:0", "--fit", "zoom"], ["explain", "--model", "gone.py:make"],
    ["what-if", "nowhere.jpg"], ["flip", "nowhere.jpg"], ["flip", "nowhere.jpg", "--cells", "x"],
    ["compare", "nowhere.jpg", "--model", "cifar10-cnn"],
    ["compare", "nowhere.jpg", "--model", "cifar10-cnn", "--model", "cifar10-cnn"],
    ["evaluate", "nowhere"], ["evaluate", "cifar10", "--confidence", "7"],
    ["evaluate", "cifar10", "--out", "/dev/null/x"], ["check", "cifar10", "--out", "/dev/null/x"],
    ["train", "cifar10", "--out", "/dev/null/x"], ["check", "nowhere"],
    ["localize", "nowhere", "--regions", "x.csv"], ["confusions", "nowhere"],
    ["confusions", "cifar10", "--rivals", "mean"], ["maps", "nowhere"],
    ["maps", "cifar10", "--map", "winner", "--dtype", "int8"], ["convert", "x", "--to", "onnx"],
    ["train", "nowhere", "--out", "x"], ["train", "cifar10", "--out", "x", "--precision", "8"],
]  # fmt: skip
"""Commands that can be seen to be wrong before torch is loaded."""
IMPORT = """
import json, sys
import chiaroscuro
names = dir(chiaroscuro)
chiaroscuro.__version__
chiaroscuro.PAPER_MAPS, chiaroscuro.ChoiceError
print(json.dumps({"names": names, "loaded": sorted(sys.modules)}))
"""


def ask(code, *words):
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_help_loads_nothing_heavy():
    found = ask(COMMANDS, json.dumps(HELP))
    assert found["codes"] == [0] * len(HELP)
    assert "explain" in found["said"][0] and "--rivals" in found["said"][0]
    assert not HEAVY & set(found["loaded"])


def test_what_is_wrong_is_said_before_torch_is_loaded():
    found = ask(COMMANDS, json.dumps(WRONG))
    out, err = found["said"]
    assert (found["codes"], out) == ([1] * len(WRONG), "")
    assert [line.split(": ")[0] for line in err.splitlines()] == ["chiaroscuro"] * len(WRONG)
    assert "torch" not in found["loaded"]


def test_import_and_dir_load_nothing_heavy():
    found = ask(IMPORT)
    assert {"explain", "Classifier", "__version__"} <= set(found["names"])
    assert "torch" not in found["loaded"]
    assert not HEAVY & set(found["loaded"])


STOP_AT_TORCH = """
import json, os, sys

class Stop:
    def find_spec(self, name, *_):
        if name == "torch":
            print(json.dumps(os.environ.get("OMP_WAIT_POLICY")), flush=True)
            os._exit(0)

sys.meta_path.insert(0, Stop())
from chiaroscuro.cli import main
sys.argv = ["chiaroscuro", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize(
    ("words", "before", "policy"),
    [
        (["explain"], None, None),
        (["explain", "--passive"], None, "passive"),
        (["explain", "--passive"], "active", "active"),
        (["serve", "--passive"], None, "passive"),
    ],
)
def test_threads_sleep_from_the_start_where_asked(monkeypatch, words, before, policy):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if before:
        monkeypatch.setenv("OMP_WAIT_POLICY", before)
    assert ask(STOP_AT_TORCH, *words) == policy
