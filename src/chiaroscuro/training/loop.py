"""Epochs on Lightning: AdamW, cross-entropy, a checkpoint and a log row after each."""

import logging
import math
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Sampler

from chiaroscuro.choices import CHECKPOINT, PRECISIONS
from chiaroscuro.errors import ModelError
from chiaroscuro.settings import TrainingSettings
from chiaroscuro.training.log import LOG, EpochRow, read_log, write_log

_TEST_BATCH = 256

OnBatch = Callable[[int, int, int, int], object]
"""Called with (epoch, epochs, batch, batches), epochs counted from 1."""


class Examples(Protocol):
    """Inputs and classes by a tensor of indices."""

    def __len__(self) -> int: ...
    def __getitem__(self, chosen: Tensor) -> tuple[Tensor, Tensor]: ...


def run_epochs(
    network: nn.Module,
    forward: Callable[[Tensor], Tensor],
    examples: Examples,
    test: Examples | None,
    settings: TrainingSettings,
    folder: Path,
    *,
    device: str,
    on_batch: OnBatch,
    on_epoch: Callable[[EpochRow], object],
) -> list[EpochRow]:
    """Train `network` in place; from the folder's checkpoint where there is one.

    Every epoch begins with a random state of its own, drawn from the seed and the epoch's number,
    so that an interrupted training ends with the same weights.
    """
    task = _Task(network, forward, settings)
    checkpoint = folder / CHECKPOINT
    log = _Log(folder / LOG, settings.epochs, on_batch, on_epoch)
    with _quiet(), _interruptible():
        trainer = _trainer(settings, folder, device, [log, _checkpoints(folder)])
        trainer.fit(
            task,
            _loader(examples, settings.batch, settings.seed),
            _loader(test, _TEST_BATCH, None) if test else None,
            ckpt_path=checkpoint if checkpoint.is_file() else None,
            weights_only=True,
        )
    return log.rows


def _trainer(
    settings: TrainingSettings, folder: Path, device: str, callbacks: list[Callback]
) -> Trainer:
    accelerator, _, index = device.partition(":")
    return Trainer(
        max_epochs=settings.epochs,
        accelerator=accelerator,
        devices=[int(index)] if index else 1,
        precision=PRECISIONS[settings.precision],  # type: ignore[arg-type]
        callbacks=callbacks,
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


class _Task(LightningModule):
    def __init__(
        self, network: nn.Module, forward: Callable[[Tensor], Tensor], settings: TrainingSettings
    ) -> None:
        super().__init__()
        self.network = network
        self.logits = forward
        self.settings = settings

    def configure_optimizers(self) -> torch.optim.Optimizer:
        learning = [p for p in self.network.parameters() if p.requires_grad]
        return torch.optim.AdamW(
            learning, self.settings.learning_rate, weight_decay=self.settings.weight_decay
        )

    def on_train_epoch_start(self) -> None:
        torch.manual_seed(self.settings.seed + self.current_epoch)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> dict[str, Any]:
        logits, labels = self.logits(batch[0]), batch[1]
        right = (logits.detach().argmax(1) == labels).sum()
        return {"loss": F.cross_entropy(logits, labels), "right": right, "count": len(labels)}

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> dict[str, Any]:
        right = (self.logits(batch[0]).argmax(1) == batch[1]).sum()
        return {"right": right, "count": len(batch[1])}


class _Log(Callback):
    """Sums an epoch's steps, reports progress, writes the row."""

    def __init__(
        self, file: Path, epochs: int, on_batch: OnBatch, on_epoch: Callable[[EpochRow], object]
    ) -> None:
        self.file, self.epochs, self.on_batch, self.on_epoch = file, epochs, on_batch, on_epoch
        self.rows = read_log(file)

    def on_train_start(self, trainer: Trainer, _: LightningModule) -> None:
        self.rows = [row for row in read_log(self.file) if row.epoch <= trainer.current_epoch]

    def on_train_epoch_start(self, *_: Any) -> None:
        self.start = time.perf_counter()
        self.loss = self.right = self.count = 0.0
        self.test_right = self.test_count = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, _: LightningModule, outputs: Any, __: Any, batch_idx: int
    ) -> None:
        if not math.isfinite(loss := float(outputs["loss"])):
            raise _diverged(trainer, f"the loss is {loss} at step {batch_idx + 1}")
        self.loss += loss * outputs["count"]
        self.right += float(outputs["right"])
        self.count += outputs["count"]
        self.on_batch(
            trainer.current_epoch + 1, self.epochs, batch_idx + 1, int(trainer.num_training_batches)
        )

    def on_validation_batch_end(
        self, _: Trainer, __: LightningModule, outputs: Any, *___: Any
    ) -> None:
        self.test_right += float(outputs["right"])
        self.test_count += outputs["count"]

    def on_train_epoch_end(self, trainer: Trainer, task: LightningModule) -> None:
        # Before the epoch's checkpoint is written, so that the one of the epoch before stays.
        if not all(bool(weight.isfinite().all()) for weight in task.parameters()):
            raise _diverged(trainer, "weights are NaN or infinite after the last step")
        self.rows.append(
            EpochRow(
                trainer.current_epoch + 1,
                self.loss / self.count,
                self.right / self.count,
                self.test_right / self.test_count if self.test_count else None,
                time.perf_counter() - self.start,
            )
        )
        write_log(self.file, self.rows)
        self.on_epoch(self.rows[-1])


def _diverged(trainer: Trainer, what: str) -> ModelError:
    return ModelError(
        f"training diverged in epoch {trainer.current_epoch + 1}: {what}; give a smaller learning "
        "rate, or 32-bit precision"
    )


class _Shuffled(Sampler[Tensor]):
    """Batches of indices, in an order drawn from seed and epoch; in file order without a seed."""

    def __init__(self, count: int, batch: int, seed: int | None) -> None:
        self.count, self.batch, self.seed, self.epoch = count, batch, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self.count / self.batch)

    def __iter__(self) -> Iterator[Tensor]:
        """Drawn as the first batch is taken: resuming, Lightning tells the epoch that late."""
        order = torch.arange(self.count)
        if self.seed is not None:
            drawn = torch.Generator().manual_seed(1_000_003 * self.seed + self.epoch)
            order = torch.randperm(self.count, generator=drawn)
        yield from torch.split(order, self.batch)


def _loader(examples: Examples, batch: int, seed: int | None) -> DataLoader[Any]:
    """Its own generator: a loader draws when it begins, before or after an epoch's random state."""
    return DataLoader(
        examples,  # type: ignore[arg-type]
        batch_size=None,
        sampler=_Shuffled(len(examples), batch, seed),
        generator=torch.Generator(),
    )


def _checkpoints(folder: Path) -> ModelCheckpoint:
    return ModelCheckpoint(
        folder,
        filename=CHECKPOINT.removesuffix(".ckpt"),
        save_top_k=1,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
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
        raise KeyboardInterrupt from None


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
