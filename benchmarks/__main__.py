"""Every benchmark in turn, into benchmarks/out/speed.json and, with --write, docs/results/speed.md.

    python -m benchmarks [--only works photos limit memory deletion] [--work NAME] [--runs 3]
                         [--full] [--data-root DIR] [--write]

`--only` measures some parts again and takes the others from the last report. `--full` also runs the
published algorithm and the loop over all classes once, on EfficientNet-Lite0.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks import deletion, gradients, limit, memory, photos
from benchmarks.machine import describe
from benchmarks.page import page
from benchmarks.works import WORKS

OUT = Path(__file__).parent / "out" / "speed.json"
PAGE = Path(__file__).parent.parent / "docs" / "results" / "speed.md"
PARTS = ("works", "photos", "limit", "memory", "deletion")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--work", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument(
        "--data-root", type=Path, help="a folder with cifar10/ and imagenet-sample/"
    )
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    arguments = parser.parse_args()
    console = Console()
    OUT.parent.mkdir(exist_ok=True)
    report = _measure(arguments, console)
    OUT.write_text(json.dumps(report, indent=2) + "\n")
    text = page(report)
    console.print(text, highlight=False, markup=False)
    console.print(f"written: {OUT}")
    if arguments.write:
        PAGE.write_text(text)
        console.print(f"written: {PAGE}")


def _measure(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """The report: what is asked for measured now, the rest as it was."""
    start = time.perf_counter()
    report: dict[str, Any] = json.loads(OUT.read_text()) if OUT.is_file() else {}
    report |= {"machine": describe(), "runs": arguments.runs}
    wanted = arguments.only
    for device in ("cpu", *(("cuda",) if torch.cuda.is_available() else ())):
        works = report.setdefault("works", {}).setdefault(device, {})
        for name in arguments.work if "works" in wanted else ():
            works[name] = gradients.measure(
                name, arguments.runs, device, full=arguments.full, log=console.print
            )
            OUT.write_text(json.dumps(report, indent=2) + "\n")
    if "photos" in wanted and arguments.data_root is not None:
        report["photos"] = photos.measure(arguments.data_root)
        console.print(f"photos: {report['photos']}")
    if "limit" in wanted:
        report["rates"] = limit.measured("rates")
        report["needs"] = {name: limit.measured(name) for name in WORKS}
        console.print(f"best rates: {report['rates']}")
    if "memory" in wanted:
        report["memory"] = memory.measure()
        console.print(f"memory at budgets: {report['memory']}")
    if "deletion" in wanted:
        try:
            report["deletion"] = deletion.measure(
                arguments.images, arguments.runs, arguments.data_root
            )
        except RuntimeError as error:  # no CIFAR-10 here and no network: the rest stands
            report["deletion"] = None
            console.print(f"deletion left out: {str(error).splitlines()[-1]}")
    report["minutes"] = (time.perf_counter() - start) / 60
    return report


if __name__ == "__main__":
    main()
