"""Killed ten times, a run over an image set ends as the same bytes; `tests.stress` kills more."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.killer import KILLS
from tests.stress import RUNS, parts_of, write_data


@pytest.mark.parametrize("name", ["evaluate", "maps"])
def test_killed_ten_times_it_is_the_same_bytes(tmp_path, name):
    write_data(tmp_path / "data", 20)
    RUNS[name](tmp_path / "data", tmp_path / "whole", 1)
    command = [sys.executable, "-m", "tests.killer", name, tmp_path / "data", tmp_path / "killed"]
    root = Path(__file__).parents[2]
    done = subprocess.run([*command, "7"], capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stderr
    kills = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(kills) == KILLS
    between = [parts for parts, killed in kills if killed and parts < 30]
    assert len(between) >= 8, kills
    assert len(set(between)) >= 5
    assert parts_of(tmp_path / "killed") == parts_of(tmp_path / "whole")
