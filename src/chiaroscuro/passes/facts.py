"""What a run reads off its classifier and its images."""

from collections.abc import Iterable

from chiaroscuro.classifier import Classifier
from chiaroscuro.data import ImageSet
from chiaroscuro.results import DataFacts, LeftOut

LISTED = 50
"""So many images that were left out are listed; all are counted."""
_VALUES_A_BATCH = 1_200_000
_MOST_IMAGES = 256


def images_at_a_time(classifier: Classifier) -> int:
    """Images at a time: few enough that little is lost with one, enough to keep cores busy."""
    height, width = classifier.size or (224, 224)
    values = classifier.channels * height * width
    return max(1, min(_MOST_IMAGES, round(_VALUES_A_BATCH / values)))


def data_facts(
    images: ImageSet, measured: int, left_out: Iterable[LeftOut], seed: int
) -> DataFacts:
    """How many images of a set were measured, and which could not be."""
    out = tuple(left_out)
    return DataFacts(
        images.source, images.split, measured, images.limit, seed, len(out), out[:LISTED]
    )
