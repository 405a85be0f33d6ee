"""How commands end when standard output cannot be written, on Ctrl+C, and on poor terminals."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SAY = "from chiaroscuro.cli.terminal import guarded, say\n"
INTERRUPT = """
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the shell has set
interrupt = lambda: os.kill(os.getpid(), signal.SIGINT)
"""


def python(code, **options):
    """A fresh process: (exit status, standard output, standard error)."""
    options = {"stdout": subprocess.PIPE, "encoding": "utf-8", **options}
    done = subprocess.run(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, timeout=240, check=False, **options
    )
    return done.returncode, done.stdout or "", done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file that is always full")
def test_a_full_disk_behind_standard_output_is_one_line():
    models = "import sys; sys.argv = ['x', 'models']; from chiaroscuro.cli import main; main()"
    with Path("/dev/full").open("wb") as full:
        code, _, err = python(models, stdout=full)
    assert (code, err) == (1, "chiaroscuro: [Errno 28] No space left on device\n")


def test_a_closed_pipe_ends_quietly():
    reading, writing = os.pipe()
    os.close(reading)
    code, _, err = python(
        SAY + "guarded(lambda: [say('x' * 999) for _ in range(9)])", stdout=writing
    )
    os.close(writing)
    assert (code, err) == (141, "")


def test_names_that_a_terminal_cannot_show_or_must_not_obey_are_escaped():
    code = SAY + "guarded(lambda: say('\\u732b caf\\u00e9 \\x1b[2J'))"
    for encoding, cat in (("cp1252", "\\u732b"), ("ascii", "\u732b")):  # ASCII is taken for UTF-8
        poor = {**os.environ, "PYTHONIOENCODING": encoding}
        read = "utf-8" if encoding == "ascii" else encoding
        assert python(code, env=poor, encoding=read) == (0, f"{cat} caf\xe9 \\x1b[2J\n", "")


def test_one_interruption_is_a_line_and_a_second_one_ends_at_once():
    one = SAY + INTERRUPT + "guarded(interrupt)"
    assert python(one) == (130, "", "interrupted\n")
    two = "def run():\n  try: interrupt()\n  finally: interrupt(); say('cleaned up')\n"
    assert python(SAY + INTERRUPT + two + "guarded(run)") == (130, "", "interrupted\n")


def test_a_request_to_end_is_a_line_and_a_status_of_its_own():
    asked = SAY + "import os, signal\nend = lambda: os.kill(os.getpid(), signal.SIGTERM)\n"
    assert python(asked + "guarded(end)") == (143, "", "terminated\n")
    two = "def run():\n  try: end()\n  finally: end(); say('cleaned up')\n"
    assert python(asked + two + "guarded(run)") == (143, "", "terminated\n")


def test_other_system_errors_and_statuses_are_kept():
    assert python(SAY + "guarded(lambda: open('nowhere.txt'))")[::2] == (
        1, "chiaroscuro: [Errno 2] No such file or directory: 'nowhere.txt'\n",
    )  # fmt: skip
