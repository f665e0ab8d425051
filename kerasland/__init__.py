"""kerasland: spatial configuration features for landmark localisation in hand radiographs.

The names below are loaded when they are first used, so that importing the package, or asking the
command line for help, does not start TensorFlow.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import wrapt

if TYPE_CHECKING:
    from kerasland.experiment import Experiment
    from kerasland.image_layers import BatchNormalization, DepthToSpace, ImageStandardization
    from kerasland.inference_models import pipeline
    from kerasland.layers import ExpectedError, HeatmapDecoder, PixelSize, SpatialEmbedding
    from kerasland.looks import Looks
    from kerasland.losses import HeatmapLoss, SpatialConfigurationLoss
    from kerasland.metrics import RadialError, SuccessDetectionRate
    from kerasland.model_files import load_model, load_pretrained, take_weights
    from kerasland.models import landmark_names, unet
    from kerasland.shape_layers import ShapePosterior, ShapePrior

__version__ = "0.1.0"

_HOMES = {
    "unet": "models",
    "pipeline": "inference_models",
    "landmark_names": "models",
    "SpatialEmbedding": "layers",
    "HeatmapDecoder": "layers",
    "ShapePrior": "shape_layers",
    "ShapePosterior": "shape_layers",
    "ExpectedError": "layers",
    "ImageStandardization": "image_layers",
    "BatchNormalization": "image_layers",
    "DepthToSpace": "image_layers",
    "PixelSize": "layers",
    "Looks": "looks",
    "HeatmapLoss": "losses",
    "SpatialConfigurationLoss": "losses",
    "RadialError": "metrics",
    "SuccessDetectionRate": "metrics",
    "load_model": "model_files",
    "load_pretrained": "model_files",
    "take_weights": "model_files",
    "Experiment": "experiment",
}
__all__ = [
    "BatchNormalization",
    "DepthToSpace",
    "ExpectedError",
    "Experiment",
    "HeatmapDecoder",
    "HeatmapLoss",
    "ImageStandardization",
    "Looks",
    "PixelSize",
    "RadialError",
    "ShapePosterior",
    "ShapePrior",
    "SpatialConfigurationLoss",
    "SpatialEmbedding",
    "SuccessDetectionRate",
    "__version__",
    "landmark_names",
    "load_model",
    "load_pretrained",
    "pipeline",
    "take_weights",
    "unet",
]


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name[0] != "_" and importlib.util.find_spec(f"{__name__}.{name}"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)


@wrapt.when_imported("keras")
def _register(keras) -> None:
    """Lets `keras.saving.load_model` find kerasland's classes after `import kerasland` alone.

    Keras looks among the registered classes only, and to register them needs Keras: so they are
    imported as soon as Keras is. A module of kerasland may be half imported at that moment, so
    the seven below use no contents of others that need Keras while they are imported themselves.

    Raises:
        ImportError: if Keras computes with anything but TensorFlow.
    """
    if keras.config.backend() != "tensorflow":
        raise ImportError(
            f"kerasland needs Keras on TensorFlow, here it is on {keras.config.backend()}: set "
            "KERAS_BACKEND=tensorflow in the environment before Keras is imported"
        )
    with_layers = ("layers", "shape_layers", "image_layers", "looks")
    for home in (*with_layers, "losses", "metrics", "optimizers"):
        importlib.import_module(f"{__name__}.{home}")
