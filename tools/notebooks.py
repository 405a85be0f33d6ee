"""The tutorials' outputs, made by running them: `python -m tools.notebooks [NAME...]`."""

import base64
import io
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient
from PIL import Image

ROOT = Path(__file__).parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"
Notebook = Any


@contextmanager
def kernel() -> Iterator[KernelManager]:
    """One kernel for several notebooks, since importing torch takes longer than running them."""
    manager = KernelManager(kernel_name="python3", transport="ipc")
    ours = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    manager.start_kernel(env=os.environ | ours)
    try:
        yield manager
    finally:
        manager.shutdown_kernel(now=True)


def executed(file: Path, manager: KernelManager, folder: str | Path) -> Notebook:
    """A notebook with new outputs, run in an empty folder, paths as seen from the repository.

    Raises `CellExecutionError`.
    """
    notebook = nbformat.read(file, as_version=4)
    start = f"import os\nos.chdir({str(folder)!r})\n%reset -f"
    notebook.cells.insert(0, nbformat.v4.new_code_cell(start))
    client = NotebookClient(notebook, km=manager, timeout=200, coalesce_streams=True)
    client.execute()
    assert client.kc is not None
    client.kc.stop_channels()
    del notebook.cells[0]
    for count, cell in enumerate(code_cells(notebook), 1):
        cell.metadata.pop("execution", None)
        cell.execution_count = count
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = count
            if "image/png" in output.get("data", {}):
                _make_small(output.data)
    return nbformat.reads(nbformat.writes(notebook).replace(f"{ROOT}/", ""), as_version=4)


def code_cells(notebook: Notebook) -> list[Any]:
    """The cells that are run."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _make_small(data: dict[str, str]) -> None:
    """A picture as PNG with 256 colors or as JPEG, whichever is smaller."""
    picture = Image.open(io.BytesIO(base64.b64decode(data.pop("image/png"))))
    white = Image.new("RGBA", picture.size, "white")
    flat = Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
    forms = {}
    for form, image, options in (
        ("image/png", flat.quantize(256, dither=Image.Dither.NONE), {"optimize": True}),
        ("image/jpeg", flat, {"quality": 85, "optimize": True}),
    ):
        buffer = io.BytesIO()
        image.save(buffer, form.partition("/")[2], **options)
        forms[form] = base64.b64encode(buffer.getvalue()).decode()
        data.pop(form, None)
    form = min(forms, key=lambda form: len(forms[form]))
    data[form] = forms[form]


def main(names: Iterable[str]) -> None:
    """Run tutorials and write them back."""
    files = [TUTORIALS / f"{name}.ipynb" for name in names] or sorted(TUTORIALS.glob("*.ipynb"))
    with kernel() as manager:
        for file in files:
            with tempfile.TemporaryDirectory() as folder:
                nbformat.write(executed(file, manager, folder), file)


if __name__ == "__main__":
    main(sys.argv[1:])
