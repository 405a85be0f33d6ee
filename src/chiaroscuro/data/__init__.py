"""Folders, Parquet files and data set names as a stream of images with labels and stable ids."""

from chiaroscuro.data.images import Batch as Batch
from chiaroscuro.data.images import ImageRow as ImageRow
from chiaroscuro.data.images import ImageSet as ImageSet
from chiaroscuro.data.images import read_batches as read_batches
from chiaroscuro.data.images import read_row as read_row
from chiaroscuro.data.loading import load_images as load_images
from chiaroscuro.data.loading import locate as locate
from chiaroscuro.data.tables import DATASETS as DATASETS
