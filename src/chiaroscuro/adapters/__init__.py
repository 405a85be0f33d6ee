"""Our maps inside Captum, Quantus and pytorch-grad-cam; each is imported only when it is needed."""

from chiaroscuro.adapters.peers import captum_attribution as captum_attribution
from chiaroscuro.adapters.peers import captum_picture as captum_picture
from chiaroscuro.adapters.peers import grad_cam_maps as grad_cam_maps
from chiaroscuro.adapters.peers import grad_cam_targets as grad_cam_targets
from chiaroscuro.adapters.peers import quantus_explain as quantus_explain
from chiaroscuro.adapters.peers import road_scores as road_scores
from chiaroscuro.adapters.question import PixelNetwork as PixelNetwork
