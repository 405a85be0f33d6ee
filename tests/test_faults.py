"""What can happen to a run: damage of every kind is noticed, and repaired part by part."""

import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

import chiaroscuro.report.evaluation as report
from chiaroscuro import Classifier, results, save_classifier
from chiaroscuro.cli import actions, main
from chiaroscuro.errors import ResultError
from chiaroscuro.evaluation.run import _EvaluationTask
from chiaroscuro.models.folder import basic_cnn
from chiaroscuro.results import KINDS
from chiaroscuro.results.folders import BEGUN, Marker, read_marker, write_marker
from tests.faulted import COMMANDS, FULL, may_mount
from tests.pictures import BROKEN, class_rows, write_parquet
from tests.stress import parts_of

CLASSES = ["cat", "dog", "owl"]
DAMAGES = 2000
KIND = KINDS["evaluation"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A saved network, and seven images of which one is broken."""
    folder = tmp_path_factory.mktemp("faults")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Classifier(basic_cnn(3), size=32, labels=CLASSES)
    save_classifier(net, folder / "net", architecture="basic-cnn", arguments={"classes": 3})
    rows = class_rows(3, 3, side=32)[:7]
    rows[4] = (BROKEN, 1)
    write_parquet(folder / "data" / "test.parquet", rows, CLASSES)
    return folder


def write_page(result, folder):
    (folder / "p.html").write_text("p")


@pytest.fixture
def chiaroscuro(place, monkeypatch, capsys):
    """Run `chiaroscuro WORDS` where the data are: (exit status, lines, lines on standard error)."""
    monkeypatch.chdir(place)
    monkeypatch.setattr(report, "write", write_page)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["chiaroscuro", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        return left.value.code or 0, said.out.splitlines(), said.err.splitlines()

    return call


@pytest.fixture
def begin(chiaroscuro, tmp_path):
    """A finished run of three parts of a command."""

    def call(command):
        words = ("--model", "net", "--batch", "3", "--threads", "1", *COMMANDS[command])
        code, _, err = chiaroscuro(command, "data", *words, "--out", tmp_path / "r")
        assert code == 3, err  # one image is left out
        return tmp_path / "r"

    return call


@pytest.fixture
def run(begin):
    """A finished evaluation of three parts."""
    return begin("evaluate")


def files_of(run):
    return [run / name for name in sorted(parts_of(run))]


def flipped(file, bit):
    data = bytearray(file.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    file.write_bytes(data)


def is_whole(run):
    try:
        return results.verification(run).whole
    except ResultError:
        return False


@pytest.mark.parametrize("command", COMMANDS)
def test_every_single_bit_damage_is_noticed(command, begin):
    """Bits are drawn over all files of a run: rows, maps, receipts, marker and its copy."""
    run = begin(command)
    assert is_whole(run)
    chance, files = random.Random(0), files_of(run)
    sizes = [file.stat().st_size for file in files]
    for n in range(DAMAGES):
        (file,) = chance.choices(files, sizes)
        bit = chance.randrange(8 * file.stat().st_size)
        flipped(file, bit)
        assert not is_whole(run), (n, file, bit)
        flipped(file, bit)
    assert is_whole(run)


def test_a_number_written_in_another_way_is_damage_too(run):
    marker = read_marker(run, KIND)
    write_marker(run, KIND, Marker(**{**vars_of(marker), "result": {**marker.result, "x": 1e-20}}))
    assert is_whole(run)
    file = run / KIND.marker
    file.write_bytes(file.read_bytes().replace(b"1e-20", b"1E-20"))
    assert results.verification(run).damaged == (KIND.marker,)


def vars_of(marker):
    return {name: getattr(marker, name) for name in ("schema", "files", "config", "result")}


DAMAGE = {
    "deleted": lambda file: file.unlink(),
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-9]),
    "flipped": lambda file: flipped(file, 4 * file.stat().st_size),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_repair_computes_exactly_the_damaged_parts(how, run, chiaroscuro, monkeypatch):
    whole, computed, process = parts_of(run), [], _EvaluationTask.process
    monkeypatch.setattr(
        _EvaluationTask, "process",
        lambda self, net, batch: (computed.append(batch.number), process(self, net, batch))[1],
    )  # fmt: skip
    expected = {"deletion/000001.parquet": [1], "parts/000002.json": [2], BEGUN: [],
                KIND.marker: [], "p.html": []}  # fmt: skip
    for name, parts in expected.items():
        DAMAGE[how](run / name)
        code, lines, _ = chiaroscuro("verify", run)
        assert code == 1
        assert lines[0] in ("evaluation: damaged", "evaluation: not finished")
        assert any(name in line for line in lines), lines
        computed.clear()
        code, lines, err = chiaroscuro("verify", run, "--repair")
        assert (code, lines[0], err) == (0, "evaluation: whole", [])
        assert computed == parts
        assert parts_of(run) == whole
    assert lines == [
        "evaluation: whole",
        "parts: 3 whole, 0 missing or damaged",
        "images: 7 listed, 6 read, 1 reported as left out",
    ]


def test_an_unfinished_run_is_said_and_finished(run, chiaroscuro):
    whole, marker = parts_of(run), read_marker(run, KIND)
    write_marker(run, KIND, Marker(marker.schema, config=marker.config))
    (run / "parts" / "000000.json").unlink()
    code, lines, _ = chiaroscuro("verify", run, "--json")
    told = json.loads(lines[0])
    assert (code, told["whole"], told["finished"], told["missing"]) == (1, False, False, [0])
    assert chiaroscuro("verify", run, "--repair", "--quiet") == (0, [], [])
    assert parts_of(run) == whole


def test_a_repair_stops_by_the_clock_with_counts_and_log_and_goes_on(run, chiaroscuro, tmp_path):
    whole, counts, log = parts_of(run), tmp_path / "counts.prom", tmp_path / "log.jsonl"
    (run / "parts" / "000001.json").unlink()
    words = ("verify", run, "--repair", "--counts", counts, "--log", log)
    code, _, err = chiaroscuro(*words, "--max-time", "0.001s")
    assert (code, err) == (75, ["time is over: repair with the same command"])
    assert chiaroscuro("verify", run, "--quiet")[0] == 1
    assert chiaroscuro(*words, "--max-time", "1h", "--quiet") == (0, [], [])
    assert parts_of(run) == whole
    lines = counts.read_text().splitlines()
    assert 'chiaroscuro_done{command="evaluate",what="images"} 7' in lines
    assert 'chiaroscuro_running{command="evaluate"} 0' in lines
    events = [json.loads(line)["event"] for line in log.read_text().splitlines()]
    assert events[0] == "command begun" and "out of time" in events
    assert events[-1] == "command finished"


@pytest.mark.parametrize("words", [("--max-time", "1h"), ("--log", "a"), ("--counts", "a")])
def test_what_is_for_a_repair_is_refused_without_it(words, run, chiaroscuro):
    code, _, err = chiaroscuro("verify", run, *words)
    assert (code, err) == (1, [f"chiaroscuro: {words[0]} is for --repair: give both"])


def test_counts_that_disagree_are_a_fault(run):
    marker = read_marker(run, KIND)
    data = {**marker.result["data"], "images": 7}
    write_marker(
        run, KIND, Marker(**{**vars_of(marker), "result": {**marker.result, "data": data}})
    )
    (fault,) = results.verification(run).faults
    assert fault == "the result says 7 read and 1 reported; its parts, otherwise"
    config = {**marker.config, "rows": 8}
    write_marker(run, KIND, Marker(**{**vars_of(marker), "config": config}))
    (fault,) = results.verification(run).faults
    assert fault == "8 images are listed, and 6 + 1 were read and reported"


def test_explanations_are_checked_and_not_repaired(chiaroscuro, place, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "photo.png").write_bytes(class_rows(1, 1, side=32)[0][0])
    words = ("--model", "net", "--map", "active", "--out", out, "-q")
    assert chiaroscuro("explain", tmp_path / "photo.png", *words)[0] == 0
    for folder in (out, out / "photo"):
        assert chiaroscuro("verify", folder)[0] == 0
    flipped(out / "photo" / "arrays.npz", 800)
    code, lines, _ = chiaroscuro("verify", out)
    assert (code, lines[1]) == (1, "1 files are gone or damaged: photo/arrays.npz")
    code, lines, (err,) = chiaroscuro("verify", out / "photo", "--repair")
    assert code == 1
    assert "is of kind explanation: this is for runs over image sets, evaluation, check" in err
    code, _, (err,) = chiaroscuro("verify", place)
    assert (code, err) == (1, f"chiaroscuro: {place}: no chiaroscuro result there")


@pytest.mark.parametrize("command", COMMANDS)
def test_faults_of_the_system_are_one_line_and_lose_nothing(command, place):
    """Each hits a run in a process of its own, which is then resumed."""
    with tempfile.TemporaryDirectory() as folder:  # which also nobody reaches
        shutil.copytree(place, folder, dirs_exist_ok=True)
        Path(folder).chmod(0o755)
        done = subprocess.run(
            [sys.executable, "-m", "tests.faulted", folder, command],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[1],
            check=False,
        )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    expected = {
        "SIGTERM": (143, "terminated: resume with the same command and --resume"),
        "files of 9 kB": (1, r"chiaroscuro: .*: cannot be written \(File too large\)"),
        FULL: (1, r"chiaroscuro: .*: cannot be written \(No space left on device\)"),
        "read-only": (1, r"chiaroscuro: .*: cannot be written \(no permission to write in .*\)"),
        "32 open files": (3, None),
        "memory of 99 MiB more": ((1, 3), "chiaroscuro: .*"),
        "memory of 160 MiB more": ((1, 3), "chiaroscuro: .*"),
        "clock set back": (3, None),
        "two at once": (1, "chiaroscuro: .* is being written by another process: wait for it"),
    }
    if not may_mount():
        del expected[FULL]
    assert [one["fault"] for one in found] == [*expected]
    for one in found:
        status, words = expected[one["fault"]]
        assert one["resumed"] == 3 and one["same"], one
        if command == "maps" and "memory" in one["fault"]:
            # Without memory PyTorch's backward pass and the threads of Zarr and Arrow may crash.
            assert one["status"] != 0 and "Traceback" not in "".join(one["said"]), one
            continue
        assert one["status"] in (status if isinstance(status, tuple) else (status,)), one
        assert len(one["said"]) == (one["status"] != 3), one
        assert not one["said"] or re.fullmatch(words, one["said"][0]), one
    if FULL not in expected:
        pytest.skip(
            "no file system may be mounted here, so no disk is full; all others are as said"
        )


def test_a_command_out_of_memory_is_one_line(chiaroscuro, monkeypatch):
    def refuse(*_):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr(actions, "verify", refuse)
    told = "chiaroscuro: out of memory: give a smaller --batch, or fewer --workers"
    assert chiaroscuro("verify", ".") == (1, [], [told])


LIMITED = """
import resource
from pathlib import Path

import torch

from chiaroscuro import Classifier, class_gradients
from chiaroscuro.gradients.probe import Plan
from tests.toys import small_cnn

torch.set_num_threads(1)
torch.manual_seed(0)
net, pixels = Classifier(small_cnn(100)), torch.rand(16, 3, 64, 64)
whole = class_gradients(net, pixels, memory_budget=20_000_000)
halved, plan = [], Plan.halved
Plan.halved = lambda self: (halved.append(self), plan(self))[1]
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + (60 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
found = class_gradients(net, pixels, memory_budget=8 << 30)
names = ("target_gradient", "rival_max", "rival_min")
print(len(halved), all(torch.equal(getattr(found, n), getattr(whole, n)) for n in names))
"""


def test_a_real_limit_of_memory_is_met_by_halving():
    """The budget promises more than the system gives: less is held at a time, for the same bits."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        check=False,
    )
    times, same = done.stdout.split()
    assert int(times) >= 1, done.stderr
    assert same == "True"
