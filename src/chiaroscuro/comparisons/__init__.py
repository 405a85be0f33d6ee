"""One photo through several checkpoints, side by side."""

from chiaroscuro.comparisons.change import beside_change
from chiaroscuro.comparisons.comparison import Beside, Comparison, MapPair, Pair
from chiaroscuro.comparisons.single import compare

__all__ = ["Beside", "Comparison", "MapPair", "Pair", "beside_change", "compare"]
