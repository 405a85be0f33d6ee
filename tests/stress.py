"""`python -m tests.stress [KILLS]`: runs killed fifty times each must end as the same bytes.

Each command over an image set is run by two workers in a child process that gets SIGKILL at a
random moment, resumed, and killed again; then its files are compared with those of a run that
nobody disturbed. Ends with status 1 where one differs.
"""

import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from chiaroscuro import Classifier
from chiaroscuro.checks import check, confusions, localize
from chiaroscuro.evaluation import evaluate
from chiaroscuro.evaluation.export import export_maps
from chiaroscuro.explanations import explain_files
from tests.explanations.inputs import plan_photos
from tests.pictures import class_rows, picture, write_parquet
from tests.toys import small_cnn

KILLS = 50
CLASSES = ["cat", "dog", "owl"]
BATCH = {"batch": 2, "threads": 1, "resamples": 50}


def toy() -> Classifier:
    """The classifier of every run."""
    return Classifier(small_cnn(3), size=12, labels=CLASSES, name="toy")


def write_data(folder: Path, each: int) -> None:
    """Pictures, a box for each, and more photos than are explained between all kills."""
    write_parquet(folder / "test.parquet", class_rows(3, each), CLASSES)
    for n in range(6 * each):
        (folder / "photos").mkdir(exist_ok=True)
        picture(n).save(folder / "photos" / f"{n:03d}.png")
    rows = ["id,left,top,right,bottom", *(f"test#{n},2,2,9,9" for n in range(3 * each))]
    (folder / "boxes.csv").write_text("\n".join(rows))


def run_evaluation(data: Path, out: Path, workers: int) -> None:
    """An evaluation with what-ifs."""
    evaluate(
        toy(), data, out, resume=out.exists(), workers=workers, seed=5, flips=99, what_if=0.1,
        **BATCH,
    )  # fmt: skip


def run_check(data: Path, out: Path, workers: int) -> None:
    """A sanity check."""
    check(
        toy(), data, out, resume=out.exists(), workers=workers, limit=None, depths=1, draws=1,
        orders=2, maps=("active", "signed"), reference=False, **BATCH,
    )  # fmt: skip


def run_localization(data: Path, out: Path, workers: int) -> None:
    """A localization."""
    localize(
        toy(), data, data / "boxes.csv", out, resume=out.exists(), workers=workers, flips=99,
        **BATCH,
    )  # fmt: skip


def run_confusions(data: Path, out: Path, workers: int) -> None:
    """Which class takes pixels from which."""
    confusions(toy(), data, out, resume=out.exists(), workers=workers, **BATCH)


def run_export(data: Path, out: Path, workers: int) -> None:
    """Maps of the set."""
    export_maps(toy(), data, out, resume=out.exists(), workers=workers, batch=2, threads=1)


def run_explanations(data: Path, out: Path, workers: int) -> None:
    """Explanations of a folder of photos."""
    jobs = plan_photos([data / "photos"], {"maps": ("active",)})
    for outcome in explain_files(toy(), jobs, out, resume=True, workers=workers, threads=1):
        assert outcome.error is None, outcome.error


RUNS: dict[str, Callable[[Path, Path, int], None]] = {
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


def disturb(name: str, data: Path, out: Path, kills: int, chance: random.Random) -> int:
    """Kill a run again and again, then let it end; the number of kills that hit it."""
    hits = 0
    command = [sys.executable, "-m", "tests.stress", name, str(data), str(out)]
    while hits < kills:
        before = finished(out)
        child = subprocess.Popen(command)
        wanted = before + chance.randint(0, 2)
        while child.poll() is None and finished(out) < wanted:
            time.sleep(0.002)
        time.sleep(chance.random() ** 3 * 0.2)
        child.send_signal(signal.SIGKILL)
        if child.wait() == 0:
            break  # it was faster
        if child.returncode != -signal.SIGKILL:
            raise SystemExit(f"{name} failed before it was killed")
        hits += 1
    subprocess.run(command, check=True)
    return hits


def main(kills: int = KILLS) -> int:
    """Every run, killed and compared."""
    torch.set_num_threads(1)
    chance = random.Random(0)
    place = Path(tempfile.mkdtemp(prefix="chiaroscuro-stress-"))
    write_data(place / "data", 100)
    failed = 0
    for name, run in RUNS.items():
        run(place / "data", place / f"{name}-whole", 1)
        hits, same, whole = 0, True, parts_of(place / f"{name}-whole")
        while hits < kills and same:
            shutil.rmtree(place / name, ignore_errors=True)  # an earlier run that came to its end
            hits += disturb(name, place / "data", place / name, kills - hits, chance)
            same = parts_of(place / name) == whole
        failed += not same
        said = "the same bytes" if same else "DIFFERENT"
        print(f"{name}: killed {hits} times, {said}", flush=True)
    shutil.rmtree(place)
    return int(failed > 0)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        RUNS[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]), 2)
    else:
        sys.exit(main(*map(int, sys.argv[1:])))
