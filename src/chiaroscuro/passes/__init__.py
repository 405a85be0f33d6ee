"""One pass over an image set: a task makes a part of every batch, and a result of all parts."""

from chiaroscuro.passes.executor import ATTEMPTS, Job, compute
from chiaroscuro.passes.facts import data_facts, images_at_a_time
from chiaroscuro.passes.runner import Progress, Task, part_of, run_pass, silent

__all__ = [
    "ATTEMPTS",
    "Job",
    "Progress",
    "Task",
    "compute",
    "data_facts",
    "images_at_a_time",
    "part_of",
    "run_pass",
    "silent",
]
