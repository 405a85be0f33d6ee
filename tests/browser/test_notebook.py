"""A notebook run by the real Jupyter, its outputs in a browser, and the widget's script."""

import json

import nbclient
import nbformat
import numpy as np
from nbconvert import HTMLExporter
from PIL import Image

from chiaroscuro import explain
from chiaroscuro.viewer import script, style
from tests.browser.conftest import ROOT

CELLS = (
    "import torch\n"
    "from chiaroscuro import Classifier, compare, explain, overlay, what_if\n"
    "torch.manual_seed(0)\n"
    "net = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3), torch.nn.ReLU(),\n"
    "                          torch.nn.Flatten(), torch.nn.Linear(600, 4))\n"
    "classifier = Classifier(net, size=12)",
    "explanation = explain(classifier, 'photo.png')\nexplanation",
    "what_if(classifier, 'photo.png', 'active', 0.1)",
    "compare([classifier, classifier], 'photo.png')",
    "explanation.overlay('signed')",
    "_ = explanation.plot(['active', 'signed'])",
    "explanation.widget()",
)


def run_notebook(folder):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in CELLS])
    client = nbclient.NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    return client.execute()


def test_results_are_seen_in_a_notebook(open_page, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    notebook = run_notebook(tmp_path)
    outputs = [cell.outputs for cell in notebook.cells]
    for one in outputs[1:4]:
        assert "<script" not in one[0]["data"]["text/html"]
    assert "image/png" in outputs[4][0]["data"]
    assert "image/png" in outputs[5][0]["data"]
    assert "application/vnd.jupyter.widget-view+json" in outputs[6][0]["data"]
    # The widget's manager is fetched from elsewhere in an exported page; it is tested below.
    notebook.cells = notebook.cells[:6]
    notebook.metadata.pop("widgets", None)
    exporter = HTMLExporter(template_name="basic")
    page = open_page(f"<meta charset='utf-8'>{exporter.from_notebook_node(notebook)[0]}")
    for size in page.evaluate("[...document.images].map(i => [i.naturalWidth, i.complete])"):
        assert size[0] > 0
        assert size[1]
    assert page.locator("text=photo.png: why").count() >= 1
    page.set_viewport_size({"width": 600, "height": 800})
    assert page.evaluate("document.querySelector('figure').getBoundingClientRect().width") <= 160


STUB = """
const listeners = {}, saved = [];
const values = { feed: FEED, state: {map: "active"} };
const model = {
  get: name => values[name],
  set: (name, value) => { values[name] = value; },
  save_changes: () => saved.push(values.state),
  on: (name, act) => { listeners[name] = act; },
  off: name => { delete listeners[name]; },
};
const el = document.getElementById("cell");
const leave = render({ model, el });
window.widget = { values, saved, listeners, leave, el };
"""


def test_the_widget_keeps_state_in_both_directions(open_page, toy, tmp_path):
    pixels = np.random.default_rng(0).random((12, 12, 3))
    explained = explain(toy, pixels, maps=["active", "signed"])
    feed = json.dumps(explained.widget().feed).replace("<", "\\u003c")
    page = open_page(
        f"<!doctype html><meta charset='utf-8'><style>{style()}</style><div id='cell'></div>"
        f"<script type='module'>{script()}{STUB.replace('FEED', feed)}</script>"
    )
    select = page.locator("#cell select:visible").last
    page.wait_for_selector("#cell canvas")
    assert page.evaluate("widget.el.querySelector('canvas') !== null")
    page.evaluate("widget.values.state = {map: 'signed'}; widget.listeners['change:state']()")
    page.wait_for_function(
        "[...document.querySelectorAll('#cell select')].some(s => s.value === 'signed')"
    )
    select.select_option("active")
    page.wait_for_function("widget.saved.length > 0")
    assert page.evaluate("widget.saved.at(-1).map") == "active"
    page.evaluate("widget.leave()")
    assert page.locator("#cell canvas").count() == 0
    assert page.evaluate("Object.keys(widget.listeners).length") == 0
