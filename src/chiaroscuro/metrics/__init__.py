"""What a map is worth: deletion, linearity, localization, similarity, and intervals of means."""

from chiaroscuro.metrics.agreement import Localization as Localization
from chiaroscuro.metrics.agreement import Similarity as Similarity
from chiaroscuro.metrics.agreement import localization as localization
from chiaroscuro.metrics.agreement import map_similarity as map_similarity
from chiaroscuro.metrics.deletion import DeletionCurve as DeletionCurve
from chiaroscuro.metrics.deletion import curves_by_fill as curves_by_fill
from chiaroscuro.metrics.deletion import deletion_curve as deletion_curve
from chiaroscuro.metrics.deletion import relevance_gain as relevance_gain
from chiaroscuro.metrics.linearity import Linearity as Linearity
from chiaroscuro.metrics.linearity import linearity as linearity
