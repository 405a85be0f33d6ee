"""The model and the output folder by default."""

DEFAULT_MODEL = "efficientnet-lite0"
DEFAULT_OUT = "chiaroscuro-out"
