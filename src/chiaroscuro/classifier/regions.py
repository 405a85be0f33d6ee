"""Class scores of one region: of networks that score every position, and of detectors."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from chiaroscuro.classifier.libraries import NO_OBJECT
from chiaroscuro.classifier.reading import part_of, scores_in, to_numpy
from chiaroscuro.errors import ChoiceError, ModelError
from chiaroscuro.guard import as_found
from chiaroscuro.images import regions as geometry
from chiaroscuro.images.regions import Mask, Shape
from chiaroscuro.regions import Corners, Region
from chiaroscuro.results.facts import CropBox, RegionFacts

_NOTHING = ("__background__", NO_OBJECT)
"""Labels of a detector's classes that no box of its list has."""
_MOST, _OVERLAP = 20, 0.5
"""So many boxes are listed; of those of one class that overlap more, the best."""


class Scorer(Protocol):
    """What regions need of a `Classifier`."""

    name: str
    labels: tuple[str, ...] | None

    @property
    def network(self) -> nn.Module:
        """What scores positions or boxes."""

    def module_input(self, pixels: Tensor) -> Tensor:
        """Normalized pixels."""

    def probabilities(self, logits: Tensor) -> Tensor:
        """Of every class."""

    def label(self, index: int) -> str:
        """A class's name."""

    def class_index(self, name: Any) -> int:
        """The class of a name."""


@dataclass(frozen=True)
class Detection:
    """A box that a detector finds: `index` and `label` of its best class, that one's probability as
    `score`, and the `box`: left, top, right, bottom in pixels of the photo.
    """

    index: int
    label: str
    score: float
    box: Corners

    def __str__(self) -> str:
        return f"{self.label} {100 * self.score:.1f} % at {','.join(f'{x:z.0f}' for x in self.box)}"


@dataclass(frozen=True, eq=False)
class Candidates:
    """What a detector has for each image: boxes (N, 4) in its pixels with scores (N, K).

    `scores_of` gives the scores (B, K) of one candidate an image, for autograd to follow.
    """

    boxes: Sequence[Tensor]
    scores: Sequence[Tensor]
    scores_of: Callable[[Sequence[int]], Tensor]


class RegionScores(nn.Module):
    """The scores (B, K) that a network gives one region of every image.

    Positions count by how much of them lies in the region's mask. Without one, the region of an
    image is where the class `label` (None: the most frequent one) has the highest score, or all of
    the image where that is nowhere. Of a detector they are the scores of the candidate whose box
    overlaps the region's most (intersection over union), or else has the nearest middle.
    """

    def __init__(self, network: nn.Module, region: RegionFacts, label: int | None = None) -> None:
        super().__init__()
        self.network, self.region, self.label = network, region, label

    def forward(self, x: Tensor) -> Tensor:
        """Scores (B, K) of what the network takes (B, C, H, W)."""
        output, mask, shape = (
            candidates(self.network, x),
            self.region.mask,
            (x.shape[2], x.shape[3]),
        )
        if isinstance(output, Candidates):
            return output.scores_of([_nearest(each, self.region) for each in output.boxes])
        if mask is not None and mask.shape != shape:
            sizes = " and ".join(f"{width} x {height}" for height, width in (mask.shape, shape))
            raise ModelError(f"region {self.region.asked} and image have {sizes} px")
        masks = _wins(output, self.label, shape) if mask is None else torch.from_numpy(mask)[None]
        rows, columns = (_shares(*sizes) for sizes in zip(shape, output.shape[2:], strict=True))
        parts = rows @ masks.double().cpu() @ columns.mT
        weights = (parts / parts.sum((1, 2), keepdim=True)).to(output)
        return (output * weights[:, None]).sum((2, 3))


def is_detector(network: nn.Module) -> bool:
    """Whether a network is one of torchvision or transformers that finds boxes."""
    theirs = hasattr(network, "roi_heads") or hasattr(network, "anchor_generator")
    return theirs or type(network).__name__.endswith("ForObjectDetection")


def candidates(network: nn.Module, x: Tensor) -> Tensor | Candidates:
    """A detector's candidates, or the scores (B, K, h, w) of a network that has them everywhere."""
    if hasattr(network, "roi_heads"):
        return _two_stages(network, x)
    if hasattr(network, "anchor_generator"):
        return _one_stage(network, x)
    output = network(x)
    boxes, scores = part_of(output, "pred_boxes"), scores_in(output)
    if isinstance(boxes, Tensor) and scores is not None:
        middle, half = boxes.detach()[..., :2], boxes.detach()[..., 2:] / 2
        sides = x.new_tensor([x.shape[3], x.shape[2]] * 2)
        return _gathered(list(torch.cat([middle - half, middle + half], -1) * sides), scores)
    if scores is None or scores.ndim != 4 or len(scores) != len(x):
        kind = f"a {type(output).__name__}" if scores is None else f"shape {tuple(scores.shape)}"
        raise ModelError(
            f"the network returned {kind}: a region needs class scores (B, K, H, W), or a "
            "detector's logits (B, N, K) and pred_boxes (B, N, 4)"
        )
    return torch.cat([-scores / 2, scores / 2], dim=1) if scores.shape[1] == 1 else scores


def _gathered(boxes: Sequence[Tensor], scores: Tensor) -> Candidates:
    def scores_of(places: Sequence[int]) -> Tensor:
        rows = torch.tensor(places, device=scores.device).view(-1, 1, 1)
        return scores.gather(1, rows.expand(-1, 1, scores.shape[2]))[:, 0]

    return Candidates(boxes, list(scores.detach()), scores_of)


def _features(network: Any, x: Tensor) -> tuple[Any, "OrderedDict[str, Tensor]"]:
    """What torchvision's detectors make of images before they look for boxes."""
    images, _ = network.transform(list(x))
    features = network.backbone(images.tensors)
    return images, OrderedDict([("0", features)]) if isinstance(features, Tensor) else features


def _on_input(boxes: Sequence[Tensor], images: Any, x: Tensor) -> list[Tensor]:
    """Boxes on the images as torchvision resized them, in pixels of its input."""
    height, width = x.shape[2:]
    sides = [x.new_tensor([width / w, height / h] * 2) for h, w in images.image_sizes]
    return [each * side for each, side in zip(boxes, sides, strict=True)]


def _two_stages(network: Any, x: Tensor) -> Candidates:
    """Of torchvision's R-CNNs: each proposal, with the box of its best class.

    Proposals carry no gradient there either, so the chosen ones alone are scored for autograd.
    """
    images, features = _features(network, x)
    heads = network.roi_heads

    def scored(proposals: Sequence[Tensor]) -> Any:
        pooled = heads.box_roi_pool(features, proposals, images.image_sizes)
        return heads.box_predictor(heads.box_head(pooled))

    with torch.no_grad():
        proposals, _ = network.rpn(images, features)
        scores, shifts = scored(proposals)
        best = scores[:, 1:].argmax(1) + 1
        boxes = heads.box_coder.decode(shifts, proposals)[torch.arange(len(best)), best]
    counts = list(map(len, proposals))
    return Candidates(
        _on_input(boxes.split(counts), images, x),
        scores.split(counts),
        lambda rows: scored([p[i : i + 1] for p, i in zip(proposals, rows, strict=True)])[0],
    )


def _one_stage(network: Any, x: Tensor) -> Candidates:
    """Of torchvision's RetinaNet, FCOS and SSD: each anchor, with its box."""
    images, features = _features(network, x)
    levels, coder = list(features.values()), network.box_coder
    found, anchors = network.head(levels), network.anchor_generator(images, levels)
    decode = getattr(coder, "decode_single", coder.decode)
    shifts = found["bbox_regression"].detach()
    boxes = [decode(*each) for each in zip(shifts, anchors, strict=True)]
    return _gathered(_on_input(boxes, images, x), found["cls_logits"])


def _nearest(boxes: Tensor, region: RegionFacts) -> int:
    """The box with the highest intersection over union, or, of equal ones, the nearest middle."""
    from torchvision.ops import box_iou

    if region.box is None or not len(boxes):
        raise ModelError(f"region {region.asked} has no box of the detector: choose one by number")
    box = boxes.new_tensor(region.box)[None]
    shares = box_iou(boxes, box)[:, 0].nan_to_num()
    far = (boxes[:, :2] + boxes[:, 2:] - box[:, :2] - box[:, 2:]).square().sum(1)
    return int(torch.where(shares == shares.max(), far, torch.inf).argmin())


def _wins(scores: Tensor, label: int | None, shape: Shape) -> Tensor:
    """The pixels (B, H, W) whose middle lies where a class has the highest of (B, K, h, w)."""
    winners = scores.detach().argmax(1)
    if label is None:
        counts = [each.flatten().bincount(minlength=scores.shape[1]) for each in winners]
        wins = winners == torch.stack(counts).argmax(1)[:, None, None]
    else:
        wins = winners == label
    wins = wins | ~wins.any(2).any(1)[:, None, None]
    rows, columns = (
        ((torch.arange(size, device=wins.device) + 0.5) * (count / size)).long()
        for size, count in zip(shape, wins.shape[1:], strict=True)
    )
    return wins[:, rows][:, :, columns]


def _shares(size: int, count: int) -> Tensor:
    """How much of each of `count` equal cells each of `size` pixels covers: (count, size)."""
    ends = torch.arange(count + 1, dtype=torch.float64) * (size / count)
    pixels = torch.arange(size, dtype=torch.float64)
    overlap = torch.minimum(ends[1:, None], pixels + 1) - torch.maximum(ends[:-1, None], pixels)
    return overlap.clamp(min=0)


def detections(classifier: Scorer, pixels: Tensor, crop: CropBox) -> list[Detection]:
    """The boxes that a detector finds in pixels (1, C, H, W), best first."""
    from torchvision.ops import batched_nms

    found, shape = _asked(classifier, pixels), (pixels.shape[2], pixels.shape[3])
    if not isinstance(found, Candidates):
        raise ModelError(f"{classifier.name} is no detector: choose a region or a mask")
    boxes, chances = found.boxes[0], classifier.probabilities(found.scores[0])
    hidden = [k for k, name in enumerate(classifier.labels or ()) if name in _NOTHING]
    chances[:, hidden] = 0
    scores, best = chances.max(1)
    kept = batched_nms(boxes, scores, best, _OVERLAP)[:_MOST]
    rows = zip(*(each[kept].tolist() for each in (best, scores, boxes)), strict=True)
    return [
        Detection(k, classifier.label(k), score, geometry.box_on_photo(box, crop, shape))
        for k, score, box in rows
    ]


def _asked(classifier: Scorer, pixels: Tensor) -> Tensor | Candidates:
    """What the network itself says of pixels (1, C, H, W)."""
    with as_found(classifier.network), torch.no_grad():
        return candidates(classifier.network, classifier.module_input(pixels))


def placed(
    classifier: Scorer, region: Region, pixels: Tensor, crop: CropBox, source: str
) -> RegionFacts:
    """A region of a photo in the pixels (1, C, H, W) that the network sees of it.

    Raises `ChoiceError` for a region without pixels there, a box that is not on the list, or a
    class that is predicted nowhere.
    """
    if pixels.ndim != 4:
        raise ChoiceError(f"region {region} is a part of a photo: {source} is a volume")
    shape = (pixels.shape[2], pixels.shape[3])
    asked, box = str(region), region.corners
    if region.number is not None:
        listed = dict(enumerate(detections(classifier, pixels, crop)))
        if region.number not in listed:
            known = "; ".join(f"{n}: {each}" for n, each in listed.items()) or "none is found"
            raise ChoiceError(f"choose a box of {source} by its number (--box N): {known}")
        found = listed[region.number]
        asked, box = f"{asked}: {found}", found.box
    if box is not None:
        mask = geometry.box_mask(box, crop, shape)
    elif region.values is not None:
        mask = geometry.photo_mask(mask_of(region.values, Path(source).name), crop, shape, asked)
    else:
        mask = _predicted(classifier, region, pixels)
    if region.number is None and not mask.any():
        ends = ",".join(f"{end:.0f}" for end in (crop.left, crop.top, crop.right, crop.bottom))
        raise ChoiceError(
            f"region {asked} of {source} has no pixel that the network sees: it sees {ends} of the "
            f"{crop.photo_width} x {crop.photo_height} px (left,top,right,bottom)"
        )
    if box is None:
        columns, rows = (np.flatnonzero(mask.any(axis=axis)).tolist() for axis in (0, 1))
        return RegionFacts(asked, mask, (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    return RegionFacts(asked, mask, geometry.box_on_network(box, crop, shape))


def mask_of(values: Any, name: str) -> Mask:
    """A mask from an array, a picture, or a folder's picture for a photo."""
    if isinstance(values, Path):
        file = geometry.mask_file(values, name) if values.is_dir() else values
        if file is None:
            raise ChoiceError(f"{values} has no mask for {name}: expected a PNG file of its name")
        return geometry.read_mask(file)
    mask = to_numpy(values) if isinstance(values, Tensor) else np.asarray(values)
    if mask.ndim != 2:
        raise ChoiceError(f"mask has shape {mask.shape}: expected (H, W)")
    return np.asarray(mask != 0)


def _predicted(classifier: Scorer, region: Region, pixels: Tensor) -> Mask:
    label = None if region.label is None else classifier.class_index(region.label)
    scores = _asked(classifier, pixels)
    if isinstance(scores, Candidates):
        raise ModelError(f"{classifier.name} is a detector: choose a box by its number, as box 0")
    winners = scores[0].argmax(0).flatten()
    if label is not None and not bool((winners == label).any()):
        most = classifier.label(int(winners.bincount().argmax()))
        raise ChoiceError(f"{classifier.label(label)} is predicted nowhere, most often {most}")
    return _wins(scores, label, (pixels.shape[2], pixels.shape[3]))[0].cpu().numpy()


def region_text(region: RegionFacts) -> str:
    """A region in words that tell masks apart."""
    if region.mask is None:
        return region.asked
    digest = hashlib.sha256(np.packbits(region.mask).tobytes()).hexdigest()[:12]
    return f"{region.asked} ({int(region.mask.sum())} pixels, {digest})"
