"""kerasland: spatial configuration features for landmark localisation in hand radiographs.

The names below are loaded when they are first used, so that importing the package, or asking the
command line for help, does not start TensorFlow.
"""

from __future__ import annotations

import importlib

from kerasland.registration import register_with_keras

__version__ = "0.1.0"

_HOMES = {
    "unet": "models",
    "pipeline": "models",
    "landmark_names": "models",
    "SpatialEmbedding": "layers",
    "HeatmapDecoder": "layers",
    "ImageStandardization": "layers",
    "DepthToSpace": "layers",
    "Letterbox": "layers",
    "FrameToImage": "layers",
    "HeatmapLoss": "losses",
    "SpatialConfigurationLoss": "losses",
    "RadialError": "metrics",
    "SuccessDetectionRate": "metrics",
    "load_model": "predict",
    "load_pretrained": "predict",
    "Experiment": "experiment",
}
__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__():
    return sorted(__all__)


register_with_keras()
