"""The smallest edit: the fewest pixels, cells or superpixels whose change turns a prediction."""

from chiaroscuro.smallest.batch import SmallestEdits as SmallestEdits
from chiaroscuro.smallest.batch import smallest_edits as smallest_edits
