"""Epochs on Lightning: AdamW, cross-entropy, a checkpoint and a log row after each."""

import logging
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from chiaroscuro.choices import CHECKPOINT, PRECISIONS
from chiaroscuro.errors import ModelError
from chiaroscuro.settings import TrainingSettings
from chiaroscuro.training.files import LOG, EpochRow, Examples, Watcher, read_log, write_log

Batch = tuple[Tensor, Tensor]


class Learner(NamedTuple):
    """What learns, its forward pass, and the examples to learn from and to test on."""

    network: nn.Module
    forward: Callable[[Tensor], Tensor]
    examples: Examples
    test: Examples | None


def run_epochs(
    learner: Learner,
    settings: TrainingSettings,
    folder: Path,
    *,
    device: str,
    watcher: Watcher,
    callbacks: Sequence[Callback] = (),
) -> list[EpochRow]:
    """Train the network in place, from the folder's checkpoint where there is one.

    Each epoch's random state is drawn from the seed and its number: resumed, weights are the same.
    """
    checkpoint, (_, _, examples, test) = folder / CHECKPOINT, learner
    log = _Log(folder / LOG, watcher, len(examples), len(test) if test else 0)
    saved = ModelCheckpoint(
        folder, checkpoint.stem, save_on_train_epoch_end=True, enable_version_counter=False
    )
    accelerator, _, index = device.partition(":")
    with _quiet(), _interruptible():
        Trainer(
            max_epochs=settings.epochs,
            accelerator=accelerator,
            devices=[int(index)] if index else 1,
            precision=PRECISIONS[settings.precision],  # type: ignore[arg-type]
            callbacks=[log, *callbacks, saved],
            default_root_dir=folder,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            reload_dataloaders_every_n_epochs=1,
        ).fit(
            _Task(learner, settings),
            None,
            _loader(test, torch.arange(len(test)), 256) if test else None,
            ckpt_path=checkpoint if checkpoint.is_file() else None,
            weights_only=True,
        )
    return log.rows


class _Task(LightningModule):
    def __init__(self, learner: Learner, settings: TrainingSettings) -> None:
        super().__init__()
        self.network, self.logits, self.examples, _ = learner
        self.settings = settings

    def configure_optimizers(self) -> torch.optim.Optimizer:
        learning = [p for p in self.network.parameters() if p.requires_grad]
        return torch.optim.AdamW(
            learning, self.settings.learning_rate, weight_decay=self.settings.weight_decay
        )

    def train_dataloader(self) -> DataLoader[Any]:
        """Asked for before every epoch: the order is drawn from the seed and the epoch's number."""
        drawn = torch.Generator().manual_seed(1_000_003 * self.settings.seed + self.current_epoch)
        order = torch.randperm(len(self.examples), generator=drawn)
        return _loader(self.examples, order, self.settings.batch)

    def on_train_epoch_start(self) -> None:
        torch.manual_seed(self.settings.seed + self.current_epoch)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        logits = self.logits(batch[0])
        loss = F.cross_entropy(logits, batch[1])
        if not loss.isfinite():
            raise _diverged(self.trainer, f"the loss is {loss.item()} at step {index + 1}")
        self.log("loss", loss, on_step=False, on_epoch=True, batch_size=len(logits))
        self._count("right", logits, batch[1])
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        self._count("test_right", self.logits(batch[0]), batch[1])

    def _count(self, name: str, logits: Tensor, labels: Tensor) -> None:
        right = (logits.argmax(1) == labels).sum().float()
        self.log(name, right, on_step=False, on_epoch=True, reduce_fx="sum", batch_size=len(labels))


class _Log(Callback):
    """Reports progress, and writes a row after each epoch."""

    def __init__(self, file: Path, watcher: Watcher, images: int, tests: int) -> None:
        self.file, self.watcher, self.images, self.tests = file, watcher, images, tests
        self.rows = read_log(file)

    def on_train_start(self, trainer: Trainer, _: LightningModule) -> None:
        self.rows = [row for row in read_log(self.file) if row.epoch <= trainer.current_epoch]

    def on_train_epoch_start(self, *_: Any) -> None:
        self.start = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, _: Any, __: Any, ___: Any, index: int) -> None:
        epochs, batches = trainer.max_epochs or 0, int(trainer.num_training_batches)
        self.watcher.on_batch(trainer.current_epoch + 1, epochs, index + 1, batches)

    def on_train_epoch_end(self, trainer: Trainer, task: LightningModule) -> None:
        # Before the epoch's checkpoint is written, so that the one of the epoch before stays.
        if not all(bool(weight.isfinite().all()) for weight in task.parameters()):
            raise _diverged(trainer, "weights are NaN or infinite after the last step")
        means = {name: float(value) for name, value in trainer.callback_metrics.items()}
        accuracy = means["test_right"] / self.tests if self.tests else None
        seconds, right = time.perf_counter() - self.start, means["right"] / self.images
        row = EpochRow(trainer.current_epoch + 1, means["loss"], right, accuracy, seconds)
        self.rows.append(row)
        write_log(self.file, self.rows)
        self.watcher.on_epoch(row)


def _diverged(trainer: Trainer, what: str) -> ModelError:
    return ModelError(
        f"training diverged in epoch {trainer.current_epoch + 1}: {what}; give a smaller learning "
        "rate, or 32-bit precision"
    )


def _loader(examples: Examples, order: Tensor, batch: int) -> DataLoader[Any]:
    """Its own generator: a loader draws when it begins, before or after an epoch's random state."""
    return DataLoader(
        examples,  # type: ignore[arg-type]
        batch_size=None,
        sampler=torch.split(order, batch),
        generator=torch.Generator(),
    )


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl+C stays a `KeyboardInterrupt`: Lightning ends the process on it, and turns it off."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as left:
        if not isinstance(left.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, before)
        raise left.__context__ from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's talk of devices and loader workers; mapped files need none."""
    talk = logging.getLogger("lightning.pytorch")
    level = talk.level
    talk.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        try:
            yield
        finally:
            talk.setLevel(level)
