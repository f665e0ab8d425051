"""Every public Layer, Loss and Metric in its variants, with inputs, for the contract's tests."""

import keras
import numpy as np

from kerasland import image_layers, layers, looks, losses, metrics, shape_layers

SHAPE = (12, 16)
_rng = np.random.default_rng(0)
LOGITS = _rng.normal(0, 2, (3, 6, 8, 4)).astype("float32")
IMAGES = _rng.uniform(0, 255, (3, 12, 16, 1)).astype("float32")
RAW = _rng.uniform(0, 255, (3, 31, 22, 1)).astype("float32")
POINTS = _rng.uniform(0, 11, (3, 4, 2)).astype("float32")
POINTS[1, 2] = np.nan
POINTS[2, 0] = (40, 5)
FOUND = (np.nan_to_num(POINTS, nan=5.0) + _rng.normal(0, 1, POINTS.shape)).astype("float32")


def _network():
    """A network whose weights do not depend on chance."""
    image = keras.Input((*SHAPE, 1))
    kernel = keras.initializers.GlorotUniform(seed=0)
    settings = {"padding": "same", "kernel_initializer": kernel, "dtype": "float32"}
    heatmaps = keras.layers.Conv2D(4, 3, strides=2, **settings)
    decoded = layers.HeatmapDecoder(SHAPE)(heatmaps(image))
    landmarks, confidence = shape_layers.ShapePrior(name="shape_prior")(*decoded)
    return keras.Model(image, {"landmarks": landmarks, "confidence": confidence}, name="network")


# name: (constructor, its inputs)
LAYERS = {
    "embedding": (layers.SpatialEmbedding, (LOGITS,)),
    "embedding cartesian": (lambda: layers.SpatialEmbedding("cartesian", beta=2.0), (LOGITS,)),
    "embedding polar raw": (lambda: layers.SpatialEmbedding("polar", "raw"), (LOGITS,)),
    "embedding learn_beta": (
        lambda: layers.SpatialEmbedding(beta=1.5, learn_beta=True, name="with_beta"),
        (LOGITS,),
    ),
    "decoder": (
        lambda: layers.HeatmapDecoder(SHAPE, 2, beta=0.7, names=("a", "b", "c", "d")),
        (LOGITS,),
    ),
    "shape prior": (
        lambda: shape_layers.ShapePrior(0.4, far=3.0, absurd=6.0, place=(9.0, 0.1, 5.0, 6.0)),
        (FOUND, _rng.uniform(0, 1, (3, 4)).astype("float32")),
    ),
    "shape posterior": (
        lambda: shape_layers.ShapePosterior(SHAPE, 2.5, 2, beta=0.7),
        (FOUND, LOGITS, _rng.uniform(0, 1, (3, 4)).astype("float32")),
    ),
    "expected error": (
        lambda: layers.ExpectedError((0.1, -0.5, 0.0, 1.0), 0.3, (0.5, 0.9), (0.9, 1.9)),
        (_rng.uniform(0, 1, (3, 4)).astype("float32") * (LOGITS[:, 0, 0] > -1),),  # some are 0
    ),
    "standardization": (image_layers.ImageStandardization, (IMAGES,)),
    "batch normalization": (image_layers.BatchNormalization, (LOGITS,)),
    "depth to space": (lambda: image_layers.DepthToSpace(2), (LOGITS,)),
    "pixel size": (
        lambda: layers.PixelSize((0, 3), 50.0),
        (FOUND, np.array([[1, 1, 1, 1], [0, 1, 1, 1], [0.5, 0, 0, 0.2]], "float32")),
    ),
    "looks": (lambda: looks.Looks(_network(), "shape_prior"), (RAW,)),
}
HALF_LAYERS = ("standardization", "batch normalization", "depth to space")
FLOAT32_LAYERS = [name for name in LAYERS if name not in HALF_LAYERS]


def _vectors(maps, angle="unit"):
    return np.array(layers.SpatialEmbedding(maps, angle)(LOGITS))


LOSSES = {
    "cross entropy": (lambda **kw: losses.HeatmapLoss(SHAPE, **kw), LOGITS),
    "squared error": (
        lambda **kw: losses.HeatmapLoss(SHAPE, 1.7, "squared_error", **kw),
        LOGITS,
    ),
    **{
        f"configuration {maps} {angle} {kind} {difference}": (
            lambda maps=maps, angle=angle, kind=kind, difference=difference, **kw: (
                losses.SpatialConfigurationLoss(SHAPE, maps, angle, kind, difference, **kw)
            ),
            _vectors(maps, angle),
        )
        for maps, angle, kind, difference in (
            ("both", "unit", "cosine", "absolute"),
            ("cartesian", "unit", "cosine", "squared"),
            ("polar", "unit", "pearson", "absolute"),
            ("both", "raw", "inner", "absolute"),
            ("polar", "raw", "distance", "squared"),
        )
    },
}
METRICS = {
    "error": lambda: metrics.RadialError(scale_landmarks=(0, 3)),
    "error other wrist": lambda: metrics.RadialError((1, 3), 40.0, name="error"),
    "error mm_per_px": lambda: metrics.RadialError(mm_per_px=0.3),
    "error px": lambda: metrics.RadialError(scale_landmarks=None),
    "sdr": lambda: metrics.SuccessDetectionRate(2.5, scale_landmarks=(1, 3)),
    "sdr px": lambda: metrics.SuccessDetectionRate(1.5, scale_landmarks=None, name="within"),
}


def flat(outputs):
    """Outputs of a layer as a list of arrays, single precision."""
    return [np.array(keras.ops.cast(one, "float32")) for one in keras.tree.flatten(outputs)]


def around(layer, arrays, sizes="fixed"):
    """A functional model about a layer; `sizes="any"` leaves the size of images open."""
    inputs = [
        keras.Input((None, None, 1) if sizes == "any" and a is RAW else a.shape[1:]) for a in arrays
    ]
    return keras.Model(inputs, layer(*inputs))
