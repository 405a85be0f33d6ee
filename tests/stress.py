"""`python -m tests.stress [KILLS] [NAME ...] [--write]`: killed runs must end as the same bytes.

One process imports everything and forks. A run over an image set, its worker process or its actor
of Ray gets SIGKILL at a random moment, again and again; what ended is resumed. Then every file is
compared with those of a run that nobody disturbed. Fifty kills each, of all runs or those of a
command or "the process", "a worker", "an actor". Ends with status 1 where one differs; `--write`
puts the figures into docs/results/trust.md.
"""

import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from chiaroscuro import Classifier
from chiaroscuro.checks import check, confusions, localize
from chiaroscuro.errors import ModelError
from chiaroscuro.evaluation import evaluate
from chiaroscuro.evaluation.export import export_maps
from chiaroscuro.explanations import explain_files
from tests.explanations.inputs import plan_photos
from tests.pictures import class_rows, picture, write_parquet
from tests.toys import small_cnn

KILLS, LOST = 50, 75
CLASSES = ["cat", "dog", "owl"]
BATCH = {"batch": 2, "threads": 1, "resamples": 50}


def toy() -> Classifier:
    """The classifier of every run."""
    return Classifier(small_cnn(3), size=12, labels=CLASSES, name="toy")


def write_data(folder: Path, each: int) -> None:
    """Pictures, a box for each, and more photos than are explained between all kills."""
    write_parquet(folder / "test.parquet", class_rows(3, each), CLASSES)
    for n in range(min(6 * each, 360)):
        (folder / "photos").mkdir(exist_ok=True)
        picture(n).save(folder / "photos" / f"{n:03d}.png")
    rows = ["id,left,top,right,bottom", *(f"test#{n},2,2,9,9" for n in range(3 * each))]
    (folder / "boxes.csv").write_text("\n".join(rows))


def run_evaluation(data: Path, out: Path, workers: int, engine: str = "local", **more: Any) -> None:
    """An evaluation with what-ifs."""
    options = {**BATCH, "seed": 5, "flips": 99, "what_if": 0.1, **more}
    evaluate(toy(), data, out, resume=out.exists(), workers=workers, engine=engine, **options)


def run_check(data: Path, out: Path, workers: int, **more: Any) -> None:
    """A sanity check."""
    check(
        toy(), data, out, resume=out.exists(), workers=workers, limit=None, depths=1, draws=1,
        orders=2, maps=("active", "signed"), reference=False, **BATCH, **more,
    )  # fmt: skip


def run_localization(data: Path, out: Path, workers: int, **more: Any) -> None:
    """A localization."""
    localize(
        toy(), data, data / "boxes.csv", out, resume=out.exists(), workers=workers, flips=99,
        **BATCH, **more,
    )  # fmt: skip


def run_confusions(data: Path, out: Path, workers: int, **more: Any) -> None:
    """Which class takes pixels from which."""
    confusions(toy(), data, out, resume=out.exists(), workers=workers, **BATCH, **more)


def run_export(data: Path, out: Path, workers: int, engine: str = "local", **more: Any) -> None:
    """Maps of the set."""
    options = {"batch": 2, "threads": 1, **more}
    export_maps(toy(), data, out, resume=out.exists(), workers=workers, engine=engine, **options)


def run_explanations(data: Path, out: Path, workers: int) -> None:
    """Explanations of a folder of photos."""
    jobs = plan_photos([data / "photos"], {"maps": ("active",)})
    for outcome in explain_files(toy(), jobs, out, resume=True, workers=workers, threads=1):
        assert outcome.error is None, outcome.error


RUNS: dict[str, Callable[..., None]] = {
    "evaluate": run_evaluation,
    "check": run_check,
    "localize": run_localization,
    "confusions": run_confusions,
    "maps": run_export,
    "explain": run_explanations,
}


def finished(out: Path) -> int:
    """How many parts or explanations are whole."""
    parts = [*out.glob("parts/0*.json"), *out.glob("[!.]*/chiaroscuro-explanation.json")]
    return len(parts)


def parts_of(out: Path) -> dict[str, bytes]:
    """Every file of a run but its locks."""
    return {
        file.relative_to(out).as_posix(): file.read_bytes()
        for file in out.rglob("*")
        if file.is_file() and not file.name.startswith(".")
    }


def disturb(name: str, whom: str, data: Path, out: Path, kills: int, chance: random.Random) -> int:
    """Kill a run, its workers or its actors, let it end; how many kills hit."""
    hits, child = 0, 0
    while hits < kills:
        child = begin(name, whom, data, out)
        if whom == "the process":
            before = finished(out)
            wanted = before + chance.randint(0, 2)
            while finished(out) < wanted and not _ended(child):
                time.sleep(0.002)
            time.sleep(chance.random() ** 3 * 0.2)
            os.kill(child, signal.SIGKILL)
        else:
            hits += _kill_below(child, whom, kills - hits, chance)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == 0:
            return hits  # it came to its end
        if status not in (-signal.SIGKILL, LOST):
            raise SystemExit(f"{name} failed")
        hits += whom == "the process"
    child = begin(name, "nobody", data, out)
    if os.waitpid(child, 0)[1]:
        raise SystemExit(f"{name} cannot be resumed")
    return hits


def begin(name: str, whom: str, data: Path, out: Path) -> int:
    """A child that does a run; of forked processes, since importing takes seconds."""
    child = os.fork()
    if child == 0:
        context = multiprocessing.get_context("fork")
        multiprocessing.get_context = lambda method=None: context  # type: ignore[assignment]
        more = {"engine": "ray"} if whom == "an actor" else {}
        try:
            RUNS[name](data, out, 2 if whom in WORKERS else 1, **more)
        except ModelError as error:  # the same batch was lost three times: one line, and resumed
            print(error, flush=True)
            os._exit(LOST if "were lost" in str(error) else 1)
        os._exit(0)
    return child


def _kill_below(child: int, whom: str, kills: int, chance: random.Random) -> int:
    """Kill workers of a run at random moments until it ends, or so many are killed."""
    hits = 0
    while hits < kills and not _ended(child):
        time.sleep(chance.random() * WORKERS[whom])
        if found := below(child, whom):
            with suppress(ProcessLookupError):
                os.kill(chance.choice(found), signal.SIGKILL)
                hits += 1
    return hits


def below(child: int, whom: str) -> list[int]:
    """The workers or the actors that a process has begun."""
    return [pid for pid in _descendants(child) if is_worker(pid, whom)]


def is_worker(pid: int, whom: str) -> bool:
    """Whether a process is there, and is an actor where those are asked for."""
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        return words.startswith(b"ray::_Worker" if whom == "an actor" else b"")
    return False


def _descendants(pid: int) -> list[int]:
    with suppress(OSError):
        own = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [one for n in map(int, own) for one in (n, *_descendants(n))]
    return []


def _ended(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def write_row(begins: str, rest: str) -> None:
    """Put a row into the table of the page, in place of the one that begins so."""
    head, rows, end = re.split(f"({BEGIN}.*?)(?={END})", PAGE.read_text(), flags=re.DOTALL)
    kept = [row for row in rows.splitlines() if not row.startswith(begins)]
    PAGE.write_text("\n".join([f"{head}{kept[0]}", *kept[1:], begins + rest, end]))


def main(kills: int, only: Collection[str], *, write: bool) -> int:
    """Every run, or those of some names or whoms, killed and compared."""
    torch.set_num_threads(1)
    chance, failed = random.Random(0), 0
    place = Path(tempfile.mkdtemp(prefix="chiaroscuro-stress-"))
    chosen = [one for one in KILLED if not only or {*one} & {*only}]
    for each in {each for _, _, each in chosen}:
        write_data(place / f"data-{each}", each)
    for name, whom, each in chosen:
        data, whole = place / f"data-{each}", place / f"{name}-{each}"
        if not whole.exists() and os.waitpid(begin(name, "nobody", data, whole), 0)[1]:
            raise SystemExit(f"{name} failed")
        hits, same, rounds, out = 0, True, 0, place / "killed"
        while hits < kills and same:
            shutil.rmtree(out, ignore_errors=True)  # an earlier run that came to its end
            hits, rounds = hits + disturb(name, whom, data, out, kills - hits, chance), rounds + 1
            same = parts_of(out) == parts_of(whole)
        failed += not same
        files = len(parts_of(whole))
        said = "the same bytes" if same else "DIFFERENT"
        print(f"{name}: {whom} killed {hits} times in {rounds} runs: {said}", flush=True)
        if write:
            write_row(f"| `{name}` | {whom} |", f" {hits} | {rounds} | {files} | {said} |")
    shutil.rmtree(place)
    return int(failed > 0)


WORKERS = {"a worker": 2.0, "an actor": 15.0}
"""Whom workers are, and seconds between kills, at most: an actor that is replaced imports all."""
KILLED = (
    *((name, "the process", 60) for name in RUNS),
    ("evaluate", "a worker", 100),
    ("evaluate", "an actor", 400),
    ("maps", "an actor", 400),
)
PAGE = Path(__file__).parents[1] / "docs/results/trust.md"
BEGIN, END = "<!-- kills -->", "<!-- end of kills -->"


if __name__ == "__main__":
    kills = [int(word) for word in sys.argv[1:] if word.isdigit()] or [KILLS]
    names = [word for word in sys.argv[1:] if not word.isdigit() and word != "--write"]
    sys.exit(main(kills[0], names, write="--write" in sys.argv))
