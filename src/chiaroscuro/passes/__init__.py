"""One pass over an image set: a task makes a part of every batch, and a result of all parts."""

from chiaroscuro.passes.executor import compute as compute
from chiaroscuro.passes.runner import Progress as Progress
from chiaroscuro.passes.runner import data_facts as data_facts
from chiaroscuro.passes.runner import images_at_a_time as images_at_a_time
from chiaroscuro.passes.runner import part_of as part_of
from chiaroscuro.passes.runner import run_pass as run_pass
from chiaroscuro.passes.runner import silent as silent
