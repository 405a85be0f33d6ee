"""Folders, Parquet files and data set names as a stream of images with labels and stable ids."""

from chiaroscuro.data.batches import Batch, read_batch, read_batches, read_row
from chiaroscuro.data.images import ImageRow, ImageSet
from chiaroscuro.data.loading import load_images, locate
from chiaroscuro.data.named import DATASETS, DatasetChoice
from chiaroscuro.results import LeftOut

__all__ = [
    "DATASETS",
    "Batch",
    "DatasetChoice",
    "ImageRow",
    "ImageSet",
    "LeftOut",
    "load_images",
    "locate",
    "read_batch",
    "read_batches",
    "read_row",
]
