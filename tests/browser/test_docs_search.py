"""Search in the documentation's pages when they are opened as files."""

from pathlib import Path

SHIM = Path(__file__).parents[2] / "docs" / "javascripts" / "iframe-worker.js"
PAGE = """<!doctype html><html lang="en"><title>Search</title><main><h1 id="heard">heard</h1></main>
<script src="iframe-worker.js"></script><script>
const worker = new Worker("worker.js");
worker.addEventListener("message", (event) => { heard.textContent += " " + event.data; });
worker.postMessage("early");
setTimeout(() => worker.postMessage("late"), 300);
</script></html>"""
WORKER = 'addEventListener("message", (event) => postMessage(`${event.data}!`)); postMessage("up");'


def test_a_worker_runs_in_a_page_that_is_a_file(open_page, tmp_path):
    for name, text in {
        "iframe-worker.js": SHIM.read_text(), "page.html": PAGE, "worker.js": WORKER,
    }.items():  # fmt: skip
        (tmp_path / name).write_text(text)
    page = open_page(tmp_path / "page.html")
    page.wait_for_function("heard.textContent.includes('late')")
    assert page.locator("#heard").inner_text() == "heard up early! late!"
