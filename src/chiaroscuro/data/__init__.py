"""Folders, Parquet files and data set names as a stream of images with labels and stable ids."""

from chiaroscuro.data.batches import Batch, Broken, read_batches
from chiaroscuro.data.images import ImageRow, ImageSet, load_images
from chiaroscuro.data.sets import DATASETS, DatasetChoice
from chiaroscuro.data.sources import TEST_SPLITS

__all__ = [
    "DATASETS",
    "TEST_SPLITS",
    "Batch",
    "Broken",
    "DatasetChoice",
    "ImageRow",
    "ImageSet",
    "load_images",
    "read_batches",
]
