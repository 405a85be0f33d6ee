"""Help and a bare import stay light: asked of fresh processes, since pytest has torch loaded."""

import json
import subprocess
import sys

HEAVY = {"torch", "torchvision", "timm", "matplotlib", "PIL", "numpy", "jinja2", "safetensors"}
HELP = """
import contextlib, io, json, sys
from chiaroscuro.cli.app import main
said = io.StringIO()
codes = []
for words in (
    ["--help"], ["explain", "--help"], ["what-if", "--help"], ["train", "--help"],
    ["models", "--help"], ["--version"],
    ["check", "--help"], ["compare", "--help"], ["localize", "--help"],
):
    sys.argv = ["chiaroscuro", *words]
    with contextlib.redirect_stdout(said):
        try:
            main()
        except SystemExit as left:
            codes.append(left.code)
print(json.dumps({"codes": codes, "said": said.getvalue(), "loaded": sorted(sys.modules)}))
"""
IMPORT = """
import json, sys
import chiaroscuro
names = dir(chiaroscuro)
chiaroscuro.__version__
chiaroscuro.PAPER_MAPS, chiaroscuro.ChoiceError
print(json.dumps({"names": names, "loaded": sorted(sys.modules)}))
"""


def ask(code):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_help_loads_nothing_heavy():
    found = ask(HELP)
    assert found["codes"] == [0] * 9
    assert "explain" in found["said"]
    assert "--rivals" in found["said"]
    assert "torch" not in found["loaded"]
    assert not HEAVY & set(found["loaded"])


def test_import_and_dir_load_nothing_heavy():
    found = ask(IMPORT)
    assert {"explain", "Classifier", "__version__"} <= set(found["names"])
    assert "torch" not in found["loaded"]
    assert not HEAVY & set(found["loaded"])
