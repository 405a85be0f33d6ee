"""Commands that meet a fault of the system, each in a forked child; run as a program.

One process imports everything once. Every fault hits a run of its own, which is then resumed
without it. Prints a line of JSON for each: exit statuses, what was said, whether the files
are those of a run that nobody disturbed.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zoneinfo  # noqa: F401  # nobody may not import where Python lies in a folder of root's
from collections.abc import Callable
from pathlib import Path

import torch

import chiaroscuro.report.evaluation as report
from chiaroscuro.cli import main as run_command
from chiaroscuro.passes import runner
from tests.stress import parts_of


def limit(what: int, value: int) -> None:
    """Let the system refuse more than so much."""
    resource.setrlimit(what, (value, value))


def slowly() -> None:
    """Every part takes a tenth of a second more."""
    made = runner._process
    runner._process = lambda *given: (time.sleep(0.1), made(*given))[1]


def memory(more: int) -> None:
    """So much address space as there is, and so many MiB more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit(resource.RLIMIT_AS, pages * resource.getpagesize() + (more << 20))


def clock_set_back() -> None:
    """It is twenty years ago; what is there was written in the future.

    Libfaketime tells so; where it is not installed (`make browser` does), Python's own clock.
    """
    if not shutil.which("faketime"):
        assert "CI" not in os.environ
        time.time = lambda: 315_532_800.0
        time.time_ns = lambda: 315_532_800 * 10**9
        return
    command = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r}); "
    command += "from tests.faulted import report, run_command; report.write = lambda *_: None; "
    command += "run_command()"
    words = ["faketime", "-f", "-20y", sys.executable, "-c", command, *sys.argv[1:]]
    os.execvp(words[0], words)


def mounted(folder: Path, options: str) -> bool:
    """Whether a file system in memory is there now, or has other options."""
    words = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def may_mount() -> bool:
    """Whether this process may have a small disk of its own, to fill it."""
    with tempfile.TemporaryDirectory() as folder:
        if not mounted(Path(folder), "size=64k"):
            return False
        subprocess.run(["umount", folder], check=True)
        return True


def nobody() -> None:
    """Root may write anywhere; nobody may not."""
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)


FULL = "disk full"
FAULTS: dict[str, Callable[[], object]] = {
    "SIGTERM": slowly,
    "files of 9 kB": lambda: limit(resource.RLIMIT_FSIZE, 9_000),
    FULL: lambda: None,
    "read-only": nobody,
    "32 open files": lambda: limit(resource.RLIMIT_NOFILE, 32),
    "memory of 99 MiB more": lambda: memory(99),
    "memory of 160 MiB more": lambda: memory(160),
    "clock set back": clock_set_back,
    "two at once": slowly,
}


def begin(words: list[str], said: Path, fault: Callable[[], object] = lambda: None) -> int:
    """A child that runs a command under a fault, what it says in a file."""
    child = os.fork()
    if child:
        return child
    target = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for stream in (1, 2):
        os.dup2(target, stream)
    sys.argv = ["chiaroscuro", *words]
    status = 70
    try:
        fault()
        run_command()
    except SystemExit as left:
        status = int(left.code or 0)
    except BaseException:
        traceback.print_exc()  # which no command should ever show
    finally:
        os._exit(status)


def end(child: int) -> int:
    """A child's exit status; negative for the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def wait_for_a_part(out: Path) -> None:
    """Until the first part of a run is there."""
    while not list(out.glob("parts/0*.json")):
        time.sleep(0.005)


COMMANDS = {
    "evaluate": ("--flips", "9", "--resamples", "9", "--fill", "black"),
    "maps": ("--map", "active", "--map", "signed", "--strongest", "2"),
}
"""What the faults hit, with options of its own."""


def main(place: Path, command: str) -> None:
    """Every fault of the table, in a folder that holds `net` and `data`."""
    torch.set_num_threads(1)
    os.chdir(place)
    report.write = lambda result, folder: None
    words = [
        command,
        "data",
        "--model",
        "net",
        "--batch",
        "3",
        "--threads",
        "1",
        *COMMANDS[command],
        "--quiet",
        "--out",
    ]
    assert end(begin([*words, "whole"], place / "said")) == 3, (place / "said").read_text()
    for name, fault in FAULTS.items():
        out = place / name.replace(" ", "-") / "run"
        out.parent.mkdir()
        if name == FULL:
            if not may_mount():
                continue
            mounted(out.parent, "size=64k")
        out.parent.chmod(0o555 if name == "read-only" else 0o755)
        if name == "clock set back":
            stopped = begin([*words, str(out)], place / "said", slowly)
            wait_for_a_part(out)
            os.kill(stopped, signal.SIGTERM)
            end(stopped)
            child = begin([*words, str(out), "--resume"], place / "said", fault)
        else:
            child = begin([*words, str(out)], place / "said", fault)
        if name in ("SIGTERM", "two at once"):
            wait_for_a_part(out)
        second = None
        if name == "SIGTERM":
            os.kill(child, signal.SIGTERM)
        elif name == "two at once":
            second = end(begin([*words, str(out), "--resume"], place / "second"))
        status = end(child)
        told = (place / ("said" if second is None else "second")).read_text().splitlines()
        out.parent.chmod(0o755)
        if name == FULL:
            mounted(out.parent, "remount,size=64m")
        resumed = end(begin([*words, str(out), "--resume"], place / "resumed"))
        same = parts_of(out) == parts_of(place / "whole")
        found = {"fault": name, "status": status if second is None else second, "said": told}
        print(json.dumps({**found, "resumed": resumed, "same": same}), flush=True)
        if name == FULL:
            subprocess.run(["umount", str(out.parent)], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
