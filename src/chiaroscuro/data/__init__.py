"""Folders, Parquet files and data set names as a stream of images with labels and stable ids."""

from chiaroscuro.data.batches import Batch as Batch
from chiaroscuro.data.batches import read_batch as read_batch
from chiaroscuro.data.batches import read_batches as read_batches
from chiaroscuro.data.batches import read_row as read_row
from chiaroscuro.data.images import ImageRow as ImageRow
from chiaroscuro.data.images import ImageSet as ImageSet
from chiaroscuro.data.loading import load_images as load_images
from chiaroscuro.data.loading import locate as locate
from chiaroscuro.data.named import DATASETS as DATASETS
from chiaroscuro.data.named import DatasetChoice as DatasetChoice
from chiaroscuro.results import LeftOut as LeftOut
