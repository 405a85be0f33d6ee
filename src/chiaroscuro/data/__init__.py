"""Folders, Parquet files and data set names as a stream of images with labels and stable ids."""

from chiaroscuro.data.batches import Batch, read_batches
from chiaroscuro.data.images import ImageRow, ImageSet, load_images
from chiaroscuro.data.sets import DATASETS, DatasetChoice
from chiaroscuro.data.sources import TEST_SPLITS
from chiaroscuro.results import LeftOut

__all__ = [
    "DATASETS",
    "TEST_SPLITS",
    "Batch",
    "DatasetChoice",
    "ImageRow",
    "ImageSet",
    "LeftOut",
    "load_images",
    "read_batches",
]
