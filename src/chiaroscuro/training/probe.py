"""A Lightning callback that follows the maps of a few images while a network learns."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from chiaroscuro.catalog import versions
from chiaroscuro.choices import parse_rivals
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import InputError
from chiaroscuro.explanations.single import make_method
from chiaroscuro.gradients import class_gradients
from chiaroscuro.maps import saliency_maps
from chiaroscuro.metrics import deletion_curve, relevance_gain
from chiaroscuro.metrics.agreement import average_ranks, ranks_correlation
from chiaroscuro.results import KINDS, check_free, save
from chiaroscuro.results.models import ProbedTraining
from chiaroscuro.settings import ProbeSettings, settings_from, takes


@dataclass(frozen=True, slots=True)
class Look:
    """What was found after an epoch: maps (B, M, H, W), their scores (B, M), chances (B, K)."""

    epoch: int
    maps: Tensor
    gain: Tensor
    area: Tensor
    chances: Tensor


class MapProbe(Callback):
    """Maps of a few images, and scores of them, after chosen epochs of a training.

    `classifier` holds the very module that learns: `Classifier(task.network, size=32)`. Looked at
    are `pixels` (B, C, H, W) in [0, 1], for one `target` class each, which the page calls by their
    `ids`; `settings`: a `ProbeSettings`, which `options` replace in part. The network as it begins
    and as it ends is always looked at. When the training ends, the result and its page are written
    to the folder `out`, where `overwrite` allows an older one; `result()` gives it at any time. A
    Lightning checkpoint keeps what was seen, and a resumed training adds to it.

    Weights, gradients, modes, BatchNorm statistics and random states of the training are the same
    bits with the callback and without it. In a loop of your own, call `look(epoch)`.

    Raises `ImageError`, `InputError`, `ChoiceError`, or `ResultError` when `out` is taken.

    >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(75, 3))
    >>> probe = MapProbe(Classifier(network), torch.rand(2, 3, 5, 5), [0, 2], maps="active")
    >>> probe.look(0)
    >>> probe.result().last.tolist()
    [[[1.0], [1.0]]]
    """

    @takes(ProbeSettings)
    def __init__(
        self,
        classifier: Classifier,
        pixels: Tensor,
        target: Sequence[int],
        out: str | Path | None = None,
        *,
        ids: Sequence[str] | None = None,
        overwrite: bool = False,
        settings: ProbeSettings | None = None,
        **options: Any,
    ) -> None:
        self.settings = settings_from(ProbeSettings, settings, options)
        classifier.check_pixels(pixels)
        self.ids = tuple(ids or (f"image {b}" for b in range(len(pixels))))
        self.target = torch.tensor([classifier.class_index(k) for k in target])
        if not len(self.ids) == len(self.target) == len(pixels):
            counts = f"{len(self.target)} targets and {len(self.ids)} ids"
            raise InputError(f"{counts} for {len(pixels)} images: give one for each")
        if out is not None:
            check_free(out, KINDS["probe"], overwrite=overwrite)
        self.classifier, self.pixels = classifier, pixels.detach().cpu().clone()
        self.out, self.overwrite = out, overwrite
        self.method = make_method(self.settings.method_options, classifier)
        self.looks: list[Look] = []

    def look(self, epoch: int) -> None:
        """Keep maps and scores of the network as it is, after so many epochs."""
        chosen, classifier = self.settings, self.classifier
        pixels = self.pixels.to(classifier.device, classifier.dtype)
        target = self.target.to(classifier.device)
        rule = parse_rivals(chosen.rivals).resolve(classifier.class_index)
        gradients = class_gradients(
            classifier, pixels, target, rivals=rule, method=self.method, score=chosen.score
        )
        maps = saliency_maps(gradients, chosen.maps)
        how: dict[str, Any] = {"target": target, "seed": chosen.seed}
        edits = chosen.fill, chosen.fractions, "matched"
        curves = deletion_curve(classifier, pixels, maps, *edits, **how)
        areas = {name: curves[name].areas(of="probability") for name in maps}
        scores = maps, relevance_gain(curves, of="probability"), areas
        found = [torch.stack([of[name] for name in chosen.maps], 1) for of in scores]
        found.append(classifier.probabilities(gradients.logits))
        self.looks.append(Look(epoch, *(tensor.detach().cpu() for tensor in found)))

    def result(self) -> ProbedTraining:
        """What was seen until now; raises `InputError` before the first look."""
        if not self.looks:
            raise InputError("no epoch was looked at: train first, or call look(epoch)")
        tensors = zip(
            *((look.maps, look.gain, look.area, look.chances) for look in self.looks), strict=True
        )
        maps, gain, area, chances = map(torch.stack, tensors)
        before, last = torch.cat([maps[:1], maps[:-1]]), maps[-1:].expand_as(maps)
        return ProbedTraining(
            settings=self.settings,
            network=self.classifier.name,
            ids=self.ids,
            labels=tuple(map(self.classifier.label, self.target.tolist())),
            epochs=tuple(look.epoch for look in self.looks),
            shown=self.classifier.shown,
            pixels=self.pixels.float().numpy(),
            maps=maps.float().numpy(),
            probability=chances[:, range(len(self.ids)), self.target].double().numpy(),
            right=(chances.argmax(dim=2) == self.target).numpy(),
            gain=gain.numpy(),
            area=area.numpy(),
            share=(maps != 0).flatten(3).double().mean(dim=3).numpy(),
            previous=torch.stack([*map(_similarity, maps, before)]).numpy(),
            last=torch.stack([*map(_similarity, maps, last)]).numpy(),
            versions=versions(),
        )

    # Lightning

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        """Look at the network as it begins."""
        self._look(trainer, 0, wanted=trainer.current_epoch == 0)

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        """Look, if the epoch is one of those chosen."""
        epoch = trainer.current_epoch + 1
        self._look(trainer, epoch, wanted=self.settings.is_chosen(epoch))

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        """Look at the network as it ends, and write the result."""
        self._look(trainer, trainer.current_epoch)
        if self.out is not None and trainer.is_global_zero:
            save(self.result(), self.out, overwrite=self.overwrite)

    def _look(self, trainer: Trainer, epoch: int, *, wanted: bool = True) -> None:
        seen = [look.epoch for look in self.looks]
        if wanted and epoch not in seen and trainer.is_global_zero:
            self.look(epoch)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"looks": [asdict(look) for look in self.looks]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.looks = [Look(**look) for look in state_dict["looks"]]


def _similarity(first: Tensor, second: Tensor) -> Tensor:
    """Rank correlations (B, M) of maps (B, M, H, W)."""
    ranks = (average_ranks(maps.flatten(0, 1).flatten(1)) for maps in (first, second))
    return ranks_correlation(*ranks).view(first.shape[:2])
