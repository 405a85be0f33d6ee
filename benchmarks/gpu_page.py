"""What a GPU showed, as Markdown; without a report, that nothing was measured."""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.algorithms import RIVALS

Report = Mapping[str, Any]

NOT_RUN = """# GPU

**Not run**: no GPU was at hand when this page was written, so no figure of this project is a
GPU's. On a machine with a CUDA GPU `python -m benchmarks.gpu` measures everything, which should
take less than eight minutes, and writes this page.

It compares twelve networks in float64 with plain autograd, and the nodes that attention has on
GPUs (flash, memory-efficient, cuDNN) with PyTorch's own backward pass. Then it computes all five
maps of ViT-B/16, Swin-T, ResNet-50 and ConvNeXt-T with 1000 classes, and of 64 images of 32 px
with ten, by ours, by the published algorithm, by Captum, by `torch.func.jacrev` and by a loop over
the classes, with the peak memory of each. Goals: 20 times as fast as the loop on ViT-B/16, 10
times on ResNet-50.

What is tested without a GPU: the script itself with small networks (`--device cpu --small`); the
rules of the three attention nodes on PyTorch's own nodes, made by stand-in kernels; that the loop
over classes copies nothing to the host; the sizes that follow from free memory; that every worker
process gets a GPU of its own.
"""


def page(report: Report | None) -> str:
    """The whole page."""
    return NOT_RUN if report is None else "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    machine, profile = report["machine"], report["profile"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    tf32 = " and ".join(report["tf32"]) or "nothing"
    yield from ("# GPU", "")
    yield (
        f"`python -m benchmarks.gpu` on {machine['gpu'] or machine['processor']}, {versions}, "
        f"{report['minutes']:.1f} minutes. PyTorch's defaults for everybody: {tf32} in TF32. A "
        f"step takes {profile['chunk_bytes'] >> 20} MiB, a call {profile['budget_bytes'] >> 20} "
        "MiB at most."
    )
    yield from ("", "## Seconds and memory", "")
    yield from (
        "| work | ours | published | captum | jacrev | loop |",
        "|---|---:|---:|---:|---:|---:|",
    )
    for work in report["works"].values():
        cells = [work["title"], *(_cell(work, name) for name in ("ours", *RIVALS))]
        yield f"| {' | '.join(cells)} |"
    yield from ("", "Seconds and peak memory above the model, for all classes; in brackets the ")
    yield "time over ours, and the goal where there is one. With many classes the rivals run some "
    yield "seeded ones and are scaled by their passes, as on the page of speed."
    yield from ("", "## Equal results", "")
    yield from ("| network, float64 | largest difference over the largest gradient |", "|---|---:|")
    for name, gap in report["equal"]:
        yield f"| {name} | {gap:.0e} |"
    yield from (
        "",
        "| node of attention | goes back by | difference | format |",
        "|---|---|---:|---|",
    )
    for name, way, gap, dtype in report["attention"]:
        yield f"| {name} | {way} | {gap:.0e} | {dtype} |"
    yield from ("", "| work | largest difference of our maps to each rival's |", "|---|---|")
    for work in report["works"].values():
        gaps = ", ".join(f"{name} {gap:.0e}" for name, gap in work["differences"].items())
        yield f"| {work['title']} | {gaps} |"
    waits = [work for work in report["works"].values() if work["waits"][0] is not None]
    if waits:
        yield from ("", "## Waiting", "", "| work | times that the host waits: few classes, all |")
        yield "|---|---:|"
        for work in waits:
            yield f"| {work['title']} | {work['waits'][0]}, {work['waits'][1]} |"


def _cell(work: Report, name: str) -> str:
    """Seconds, memory, and how many times longer than ours."""
    about = work[name]
    if not about:
        return "out of memory"
    text = f"{about['seconds']:.3g} s, {about['peak_bytes'] / 1e6:,.0f} MB"
    if name == "ours" or not work["ours"]:
        return text
    goal = f" / {work['goals'][name]:g}x" if name in work["goals"] else ""
    return f"{text} ({about['seconds'] / work['ours']['seconds']:.1f}x{goal})"
