"""Our maps inside Captum, Quantus and pytorch-grad-cam; each is imported only when it is needed."""

from chiaroscuro.adapters.captum import captum_attribution, captum_picture
from chiaroscuro.adapters.grad_cam import grad_cam_maps, grad_cam_targets, road_scores
from chiaroscuro.adapters.network import PixelNetwork
from chiaroscuro.adapters.quantus import quantus_explain

__all__ = [
    "PixelNetwork",
    "captum_attribution",
    "captum_picture",
    "grad_cam_maps",
    "grad_cam_targets",
    "quantus_explain",
    "road_scores",
]
