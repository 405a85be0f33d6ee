"""Maps as functions of class gradients, and edit maps, which choose where gradients are taken."""

from chiaroscuro.maps.edit_maps import EDIT_MAPS as EDIT_MAPS
from chiaroscuro.maps.edit_maps import Question as Question
from chiaroscuro.maps.edit_maps import edit_map as edit_map
from chiaroscuro.maps.saliency import MAPS as MAPS
from chiaroscuro.maps.saliency import SaliencyMap as SaliencyMap
from chiaroscuro.maps.saliency import SaliencyMaps as SaliencyMaps
from chiaroscuro.maps.saliency import Support as Support
from chiaroscuro.maps.saliency import active_mask as active_mask
from chiaroscuro.maps.saliency import channel_largest as channel_largest
from chiaroscuro.maps.saliency import channel_max as channel_max
from chiaroscuro.maps.saliency import inactive_mask as inactive_mask
from chiaroscuro.maps.saliency import needs_classes as needs_classes
from chiaroscuro.maps.saliency import saliency_maps as saliency_maps
from chiaroscuro.maps.saliency import scale as scale
