"""The viewer's files, and the viewer as a part of a page or as a page of its own."""

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from functools import cache
from importlib import resources

from chiaroscuro.results.explanations import Explanation
from chiaroscuro.viewer.feed import Feed, make_feed

_MOUNT = """
for (const box of document.querySelectorAll(".chiaroscuro-viewer")) {
  const { feed, state } = JSON.parse(box.querySelector("script").textContent);
  mount(box, feed, state).ready.then(() => box.setAttribute("data-ready", ""));
}
"""


@cache
def script() -> str:
    """The source of the viewer, an ES module without imports."""
    return (resources.files("chiaroscuro.viewer") / "viewer.js").read_text("utf-8")


@cache
def style() -> str:
    """The style sheet of the viewer."""
    return (resources.files("chiaroscuro.viewer") / "viewer.css").read_text("utf-8")


@cache
def page_script() -> str:
    """The script of a page: it mounts a viewer in each element that `viewer_html` made."""
    return script() + _MOUNT


def script_hash() -> str:
    """What a page's content security policy names to allow `page_script` and no other script."""
    digest = hashlib.sha256(page_script().encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def viewer_html(feed: Feed, state: Mapping[str, object] | None = None, still: str = "") -> str:
    """The element of one viewer, with its feed inside; `page_script` brings it to life.

    `still` is HTML that is seen until then, or where scripts do not run.
    """
    wish = json.dumps(dict(state or {})).replace("<", "\\u003c")
    return (
        '<div class="chiaroscuro-viewer"><script type="application/json">'
        f'{{"feed": {feed.json()}, "state": {wish}}}</script>{still}</div>'
    )


def viewer_page(shown: Explanation | Feed, state: Mapping[str, object] | None = None) -> str:
    """A page with one viewer, which opens from a file and asks for nothing else."""
    feed = shown if isinstance(shown, Feed) else make_feed(shown)
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {script_hash()}"
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{html.escape(feed.title)}</title>
<style>
body {{ margin: 0; padding: 1rem; background: #fbfbf9; }}
main {{ max-width: 1240px; margin: 0 auto; }}
@media (prefers-color-scheme: dark) {{ body {{ background: #131519; }} }}
{style()}</style>
</head>
<body><main>
{viewer_html(feed, state)}
</main>
<script type="module">{page_script()}</script>
</body>
</html>
"""
