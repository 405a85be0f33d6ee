"""A task that counts, and jobs that misbehave; module level, so that workers find them."""

import os
import signal
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from chiaroscuro.errors import InputError
from chiaroscuro.passes.runner import data_facts, part_of
from chiaroscuro.results import Kind
from chiaroscuro.results.facts import DataFacts

VISIBLE = "CUDA_VISIBLE_DEVICES"
KIND = Kind("means", f"{__name__}:Means", f"{__name__}:draw")


@dataclass(frozen=True)
class Means:
    """The mean logit of class 0, the ids in order, and the images."""

    mean: float
    ids: tuple[str, ...]
    data: DataFacts


def draw(result: Means, folder: Path) -> None:
    (folder / "index.html").write_text(f"<p>{result.mean}</p>")


@dataclass(frozen=True)
class Settings:
    batch: int | None = 2
    threads: int | None = 1
    rgb_only: bool = False
    seed: int = 0

    def plain(self) -> dict[str, Any]:
        return {"seed": self.seed}


@dataclass(frozen=True)
class MeanTask:
    settings: Settings = field(default_factory=Settings)
    pause: float = 0
    kind: Kind = KIND
    name: str = ""
    killed: str = ""

    def set_up(self, classifier, images):
        return replace(self, name=classifier.name)

    def facts(self):
        return {"name": self.name}

    def process(self, classifier, batch):
        time.sleep(self.pause)
        if self.killed and batch.number == 2 and not Path(self.killed).exists():
            Path(self.killed).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        pixels = [torch.from_numpy(one)[None] for one in batch.pixels]
        logits = [float(classifier(one)[0, 0]) for one in pixels]
        table = pa.table({"id": list(batch.ids), "logit": logits})
        return part_of(batch, {"rows": table}, {f"notes/{batch.number:06d}.txt": b"note"})

    def summarize(self, parts, run, images):
        assert [part.number for part in parts()] == [part.number for part in parts()]
        parts = list(parts())
        assert [part.number for part in parts] == sorted(part.number for part in parts)
        rows = pa.concat_tables(part.tables["rows"] for part in parts)
        left_out = [one for part in parts for one in part.left_out]
        ids = tuple(rows["id"].to_pylist())
        return Means(
            sum(rows["logit"].to_pylist()) / len(rows), ids,
            data_facts(images, len(ids), left_out, self.settings.seed),
        )  # fmt: skip


@dataclass(frozen=True)
class Squares:
    """n squared, up to `last`; `killed`: numbers whose worker dies, once or always."""

    last: int = 10**9
    killed: tuple[int, ...] = ()
    once: str | None = None
    fails: tuple[int, ...] = ()

    def __call__(self, numbers):
        for n in numbers:
            if n > self.last:
                return
            if n in self.fails:
                raise InputError(f"{n} is unlucky")
            if n in self.killed and not (self.once and Path(self.once).exists()):
                if self.once:
                    Path(self.once).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield n, n * n, os.getpid(), torch.get_num_threads(), os.environ.get(VISIBLE)
