"""The wheel and the sdist, each installed into a bare environment, and what runs from there.

    python -m tools.packages [--extra NAME ...] [--folder DIR]

The sdist is built from the clone and the wheel from the sdist, as an index would do it. Each is
installed into a new environment that has PyTorch and torchvision (linked from this one, since they
are gigabytes) and nothing else; pip adds what the package asks for. There the README's commands
run on a photo, and commands that need an extra must say which, in one line. With `--extra` the
wheel is installed once more with each named extra (`every` for all); what the extra is for must
import, and what the core refuses without it must run, as must what follows from there. Nothing asks
the network but pip. The table lists megabytes besides PyTorch, and the seconds of the installation,
of an import and of the help.
Exit status 1 if anything failed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
LINKED = ("torch", "torchvision")
COMMANDS = (
    "models",
    "explain {photo} --out why",
    "explain --replay why/photo",
    "explain {photo} --target tabby --rivals top:10 --model efficientnet-lite0 --out ten",
    "what-if {photo} --map positive --fraction 0.05 --fill -0.1 --out changed",
    "flip {photo} --change black --cells 16 --out flipped",
    "compare {photo} --model cifar10-cnn --model before --out compared",
)
"""What the core runs; of the README."""
ENABLED: Mapping[str, Sequence[str]] = {
    "data": (
        "evaluate {folder} --model cifar10-cnn --out run",
        "check {folder} --model cifar10-cnn --out checked",
    ),
    "train": ("train {folder} --epochs 2 --size 32 --out mine",),
    "maps": ("maps {folder} --model cifar10-cnn --strongest 3 --out kept",),
    "adapters": ("explain {photo} --model cifar10-cnn --method deeplift --out by-captum",),
    "weights": ("explain {photo} --model efficientnet-lite1 --out lite1",),
}
"""What the core refuses, and an extra makes possible."""
REFUSED = {command: extra for extra, commands in ENABLED.items() for command in commands} | {
    "serve": "web",
    "explain {photo} --model hf:microsoft/resnet-18": "hf",
}
"""What needs an extra, and which; the last two would stay, or ask the hub."""
FOLLOWING: Mapping[str, Sequence[str]] = {
    "data": ("verify run", "copy run copied", "verify copied"),
    "train": ("verify mine", "explain {photo} --model mine --out by-mine"),
    "maps": ("verify kept", "confusions kept --out taken", "convert kept --to virelay"),
    "scale": (
        "evaluate {folder} --model cifar10-cnn --out by-ray --engine ray --workers 2",
        "verify by-ray",
    ),
    "cloud": ("explain {photo} --out sent", "copy sent/photo memory://sent"),
}
"""What else must run with an extra, after what is enabled."""
IMPORTS: Mapping[str, str] = {
    "data": "import datasets, pyarrow, chiaroscuro.evaluation",
    "train": "import chiaroscuro.training.probe",
    "hf": "import transformers, sentencepiece",
    "adapters": "import captum, quantus, pytorch_grad_cam, chiaroscuro.adapters",
    "notebook": "import anywidget, chiaroscuro.notebook",
    "weights": "import chiaroscuro; chiaroscuro.load_classifier('efficientnet-lite1')",
    "web": "import chiaroscuro.web.app, uvicorn",
    "cloud": "import s3fs; from chiaroscuro import copy_result",
    "scale": "import ray, datasets, pyarrow, chiaroscuro.passes.cluster",
    "maps": "import zarr, pyarrow, chiaroscuro.evaluation.export",
    "docs": "import mkdocs",
    "all": "import lightning, captum, starlette, mkdocs",
}
"""What shows that an extra is there."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment with one of our packages in it."""

    name: str
    folder: Path

    def run(self, *words: str, inside: Path) -> subprocess.CompletedProcess[str]:
        """A program of the environment, without this one's settings of Python."""
        mine = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
        program = self.folder / "bin" / words[0]
        return subprocess.run(
            [program, *words[1:]], cwd=inside, env=mine, capture_output=True, text=True, check=False
        )


@dataclass(frozen=True)
class Row:
    """What was measured of an environment."""

    name: str
    megabytes: float
    install: float
    import_: float
    help: float


def main() -> int:
    """Build, install, run, and print what was measured and what failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--extra", action="append", default=[])
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    failed: list[str] = []
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as held:
        place = Path(held)
        wheel, sdist = build(place)
        for file, extra in plan(wheel, sdist, arguments.extra):
            row, wrong = try_one(place, file, extra)
            rows.append(row)
            failed += wrong
    print("| package | MB besides PyTorch | install, s | import, s | help, s |")
    print("|---|---:|---:|---:|---:|")
    for row in rows:
        seconds = f"{row.install:.0f} | {row.import_:.2f} | {row.help:.2f}"
        print(f"| {row.name} | {row.megabytes:.0f} | {seconds} |")
    print("\n".join(failed), file=sys.stderr)
    return bool(failed)


def plan(wheel: Path, sdist: Path, extras: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """Packages to install, each with an extra or ''."""
    yield wheel, ""
    yield sdist, ""
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for name in known if extras == ["every"] else extras:
        yield wheel, name


def build(place: Path) -> tuple[Path, Path]:
    """A wheel and the sdist that it is built from."""
    out = place / "dist"
    words = [sys.executable, "-m", "build", "--outdir", str(out), str(ROOT)]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return next(out.glob("*.whl")), next(out.glob("*.tar.gz"))


def try_one(place: Path, file: Path, extra: str) -> tuple[Row, list[str]]:
    """Install a package, run what should run, and measure."""
    kind = "wheel" if file.suffix == ".whl" else "sdist"
    name = f"{kind} with {extra}" if extra else kind
    environment = Environment(name, place / name.replace(" ", "-"))
    venv.create(environment.folder, with_pip=True)
    packages = next(environment.folder.glob("lib/python*/site-packages"))
    bare = size_of(packages)
    for target in linked_files(LINKED):
        if not (packages / target.name).exists():
            (packages / target.name).symlink_to(target)
    wanted = f"{file}[{extra}]" if extra else str(file)
    start = time.perf_counter()
    words = ("pip", "install", "--quiet", "--no-compile", "-c", str(ROOT / "constraints.txt"))
    done = environment.run(*words, wanted, inside=place)
    install = time.perf_counter() - start
    if done.returncode:
        return Row(name, 0, install, 0, 0), [f"{name}: pip: {done.stderr}"]
    work = Path(tempfile.mkdtemp(dir=place))
    wrong = [*checks(environment, work, extra)]
    seconds = [
        timed(environment, work, *words)
        for words in (("python", "-c", "import chiaroscuro"), ("chiaroscuro", "--help"))
    ]
    return Row(name, size_of(packages) - bare, install, *seconds), wrong


def checks(environment: Environment, work: Path, extra: str) -> Iterator[str]:
    """What fails: of the core every command, of an extra what it is for."""
    where = environment.run("python", "-c", _WHERE, inside=work)
    about = json.loads(where.stdout or "{}")
    if str(environment.folder) not in about.get("photo", ""):
        yield f"{environment.name}: chiaroscuro is not that of the environment: {where.stderr}"
        return
    photo, places = Path(about["photo"]).read_bytes(), {"photo": "photo.png", "folder": "photos"}
    for name in ("photo.png", "photos/cat/1.png", "photos/dog/1.png"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_bytes(photo)
    shutil.copytree(Path(about["photo"]).parents[1] / "models/weights/cifar10-cnn", work / "before")
    if extra:
        done = environment.run("python", "-c", IMPORTS[extra], inside=work)
        if done.returncode:
            yield f"{environment.name}: {IMPORTS[extra]}: {done.stderr.strip()}"
    for command in enabled(extra) if extra else COMMANDS:
        done = environment.run("chiaroscuro", *command.format(**places).split(), inside=work)
        if done.returncode:
            yield f"{environment.name}: {command}: {done.returncode}: {done.stderr.strip()}"
    for command, needed in () if extra else REFUSED.items():
        done = environment.run("chiaroscuro", *command.format(**places).split(), inside=work)
        lines = done.stderr.strip().splitlines()
        if not done.returncode or len(lines) != 1 or f"[{needed}]" not in lines[0]:
            yield f"{environment.name}: {command}: does not name {needed}: {done.stderr.strip()}"


def enabled(extra: str) -> list[str]:
    """What must run with an extra, in order; with "all" what must run with any."""
    names = [*IMPORTS] if extra == "all" else [extra]
    return [words for name in names for of in (ENABLED, FOLLOWING) for words in of.get(name, ())]


_WHERE = """
import json
import chiaroscuro
from pathlib import Path
photo = Path(chiaroscuro.__file__).parent / "photos" / "cat.png"
print(json.dumps({"photo": str(photo)}))
"""


def timed(environment: Environment, work: Path, *words: str) -> float:
    """The shortest of three runs, in seconds."""
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        environment.run(*words, inside=work)
        taken.append(time.perf_counter() - start)
    return min(taken)


def linked_files(names: Sequence[str]) -> set[Path]:
    """What lies in this environment's packages of distributions and of all that they ask for."""
    found, todo, known = set[Path](), [*names], set[str]()
    while todo:
        name = todo.pop().lower()
        if name in known:
            continue
        known.add(name)
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # of another platform
        base = Path(str(distribution.locate_file("")))
        tops = {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
        found |= {base / top for top in tops if (base / top).exists()}
        wanted = map(Requirement, distribution.requires or ())
        todo += [w.name for w in wanted if not w.marker or w.marker.evaluate({"extra": ""})]
    return found


def size_of(folder: Path) -> float:
    """Megabytes of a folder's own files; links count nothing."""
    files = (Path(at) / name for at, _, names in os.walk(folder) for name in names)
    return sum(file.lstat().st_size for file in files if not file.is_symlink()) / 1e6


if __name__ == "__main__":
    raise SystemExit(main())
