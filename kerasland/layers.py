"""Keras layers of the method: thin classes over `embedding`, `heatmaps` and `shapes`."""

from __future__ import annotations

import math

import keras
import numpy as np
from keras import ops

from kerasland import embedding, heatmaps, settings, shapes

_register = keras.saving.register_keras_serializable(package="kerasland")


@_register
class SpatialEmbedding(keras.layers.Layer):
    """Turns each heatmap into a spatial feature vector by soft-argmax over spatial feature maps.

    `v_k = sum over the grid of softmax(beta * h_k) * S`, with S the Cartesian maps (x, y), the
    polar maps (radius, cos, sin) about the centre, or both. The pair (x, y) is the soft-argmax.
    Cells are taken as square.

    Args:
        maps: "cartesian" (C = 2), "polar" (C = 3) or "both" (C = 5).
        angle: "unit" for (cos, sin); "raw" for the angle divided by pi, one component less.
        beta: inverse temperature of the softmax, above 0.
        learn_beta: whether beta is trained; it is kept positive as an exponential.

    Call arguments:
        logits: (B, h, w, K).

    Returns:
        (B, K, C), float32, in units of half the longer side.

    Raises:
        ValueError: for unknown `maps` or `angle`, or `beta` not above 0; when called, for heatmaps
            whose size a graph does not know.
    """

    def __init__(self, maps="both", angle="unit", beta=1.0, learn_beta=False, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})  # whatever the policy
        self.input_spec = keras.layers.InputSpec(ndim=4)
        self.components = embedding.feature_count(maps, angle)
        self.maps = maps
        self.angle = angle
        self.beta = settings.above_0("beta", beta)
        self.learn_beta = learn_beta

    def build(self, input_shape):
        if self.learn_beta:
            start = keras.initializers.Constant(math.log(self.beta))
            self.log_beta = self.add_weight(shape=(), initializer=start, name="log_beta")

    def call(self, logits):
        beta = ops.exp(self.log_beta) if self.learn_beta else self.beta
        return embedding.embed(logits, self.maps, beta, self.angle)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[3], self.components)

    def get_config(self):
        config = {
            "maps": self.maps,
            "angle": self.angle,
            "beta": self.beta,
            "learn_beta": self.learn_beta,
        }
        return {**super().get_config(), **config}


@_register
class HeatmapDecoder(keras.layers.Layer):
    """Sub-pixel landmarks and their confidence, see `kerasland.heatmaps.decode`.

    Args:
        image_shape: (H, W) of the network's input, pixels.
        radius_cells: the soft-argmax covers a window of (2 * radius_cells + 1) ** 2 cells about
            the highest one.
        beta: inverse temperature of the softmax.
        names: K names of the landmarks, which travel with the model.

    Call arguments:
        logits: (B, h, w, K).

    Returns:
        landmarks (B, K, 2), (x, y) in pixels of the network's input, and confidence (B, K), the
        share of the heatmap's mass within the window; float32.

    Raises:
        ValueError: for impossible numbers; when called, for names of another number than heatmaps,
            or heatmaps whose size a graph does not know.
    """

    def __init__(self, image_shape, radius_cells=4, beta=1.0, names=None, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})  # whatever the policy
        self.input_spec = keras.layers.InputSpec(ndim=4)
        self.image_shape = settings.height_and_width(image_shape)
        self.radius_cells = settings.whole("radius_cells", radius_cells, least=0)
        self.beta = settings.above_0("beta", beta)
        self.names = None if names is None else tuple(names)

    def build(self, input_shape):
        if self.names is not None and len(self.names) != input_shape[3]:
            raise ValueError(
                f"{self.name}: {len(self.names)} names of landmarks for {input_shape[3]} heatmaps"
            )

    def call(self, logits):
        return heatmaps.decode(logits, self.image_shape, self.radius_cells, self.beta)

    def compute_output_shape(self, input_shape):
        batch, landmarks = input_shape[0], input_shape[3]
        return (batch, landmarks, 2), (batch, landmarks)

    def get_config(self):
        config = {
            "image_shape": self.image_shape,
            "radius_cells": self.radius_cells,
            "beta": self.beta,
            "names": self.names,
        }
        return {**super().get_config(), **config}


class ShapeLayer(keras.layers.Layer):
    """Has the mean shape (K, 2) and the precision (2K, 2K) as weights, which are not trained."""

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})  # whatever the policy

    def _add_shapes(self, landmarks_shape):
        size = 2 * landmarks_shape[1]
        still = {"trainable": False, "initializer": "zeros"}
        self.mean = self.add_weight(shape=landmarks_shape[1:], name="mean", **still)
        still["initializer"] = keras.initializers.Identity()
        self.precision = self.add_weight(shape=(size, size), name="precision", **still)


@_register
class ShapePrior(ShapeLayer):
    """Corrects landmarks that all others contradict, see `kerasland.shapes`.

    Its weights, which are not trained, are the mean shape (K, 2) and the precision (2K, 2K); as
    they start, nothing is corrected.

    Args:
        doubtful: a confidence; points below it are corrected from `far` on.
        far: standard deviations from where the others say.
        absurd: standard deviations from which on a point is corrected whatever its confidence.
        place: where the mean shape lies in training images, see `closer_look.Place.numbers`,
            pixels of the network's frame; for `localizers` and `looks`, which look closer.

    Call arguments:
        landmarks: (B, K, 2), pixels of any frame.
        confidence: (B, K).

    Returns:
        Landmarks (B, K, 2) and confidence (B, K), float32. The confidence is 0 where a landmark was
        corrected, and everywhere where the landmarks are no such shape.
    """

    def __init__(self, doubtful=0.5, far=4.0, absurd=8.0, place=None, **kwargs):
        super().__init__(**kwargs)
        self.doubtful = doubtful
        self.far = far
        self.absurd = absurd
        self.place = None if place is None else tuple(place)

    def build(self, landmarks_shape, confidence_shape):
        self._add_shapes(landmarks_shape)

    def call(self, landmarks, confidence):
        return shapes.corrected(
            landmarks,
            confidence,
            self.mean,
            self.precision,
            self.doubtful,
            self.far,
            self.absurd,
        )

    def compute_output_shape(self, landmarks_shape, confidence_shape):
        return landmarks_shape, confidence_shape

    def get_config(self):
        config = {"doubtful": self.doubtful, "far": self.far, "absurd": self.absurd}
        return {**super().get_config(), **config, "place": self.place}


@_register
class ShapePosterior(ShapeLayer):
    """Weighs each landmark against all others, for those along contours: `shapes.posterior`.

    Its weights, which are not trained, are the mean shape (K, 2) and the precision (2K, 2K); as
    they start, no landmark moves.

    Args:
        image_shape: (H, W) of the network's input, pixels.
        sigma_px: standard deviation of the Gaussian that the heatmaps were trained towards.
        radius_cells, beta: of the `HeatmapDecoder`.

    Call arguments:
        landmarks: (B, K, 2), what the decoder returns.
        logits: (B, h, w, K).

    Returns:
        Landmarks (B, K, 2), float32.
    """

    def __init__(self, image_shape, sigma_px, radius_cells=4, beta=1.0, **kwargs):
        super().__init__(**kwargs)
        self.image_shape = settings.height_and_width(image_shape)
        self.sigma_px = settings.above_0("sigma_px", sigma_px)
        self.radius_cells = settings.whole("radius_cells", radius_cells, least=0)
        self.beta = settings.above_0("beta", beta)

    def build(self, landmarks_shape, logits_shape):
        self._add_shapes(landmarks_shape)

    def call(self, landmarks, logits):
        seen = heatmaps.peak_covariance(
            logits, landmarks, self.image_shape, self.radius_cells, self.beta
        )
        covariance = shapes.unblurred(seen, self.sigma_px**2)
        return shapes.posterior(landmarks, covariance, self.mean, self.precision)

    def compute_output_shape(self, landmarks_shape, logits_shape):
        return landmarks_shape

    def get_config(self):
        config = {
            "image_shape": self.image_shape,
            "sigma_px": self.sigma_px,
            "radius_cells": self.radius_cells,
            "beta": self.beta,
        }
        return {**super().get_config(), **config}


@_register
class ExpectedError(keras.layers.Layer):
    """The expected error of each landmark, see `kerasland.calibration`.

    `exp(offset_k + slope * log(1 - confidence + FLOOR))`; NaN where the confidence is 0, which
    `ShapePrior` sets: of such landmarks nothing was learnt.

    Args:
        offsets: K numbers.
        slope: of the logarithm of what the confidence lacks to 1.
        levels, ratios: with probability levels[i] an error is within ratios[i] times the expected
            one; they travel with the model.

    Call arguments:
        confidence: (B, K).

    Returns:
        (B, K), mm, float32.

    Raises:
        ValueError: when called with another K.
    """

    FLOOR = 1e-3

    def __init__(self, offsets, slope, levels=(), ratios=(), **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})  # whatever the policy
        self.offsets = tuple(float(offset) for offset in offsets)
        self.slope = float(slope)
        self.levels = tuple(float(level) for level in levels)
        self.ratios = tuple(float(ratio) for ratio in ratios)

    def build(self, input_shape):
        if len(self.offsets) != input_shape[1]:
            raise ValueError(
                f"{self.name}: offsets of {len(self.offsets)} landmarks for {input_shape[1]}"
            )

    def call(self, confidence):
        lacking = ops.maximum(1.0 - confidence, 0.0) + self.FLOOR
        expected = ops.exp(
            ops.convert_to_tensor(self.offsets, "float32") + self.slope * ops.log(lacking)
        )
        return ops.where(confidence > 0.0, expected, float("nan"))

    def ratio(self, level):
        """The multiple of the expected error within which a share `level` of errors lies; NaN
        where no `levels` are known."""
        return float(np.interp(level, self.levels, self.ratios)) if self.levels else math.nan

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        config = {
            "offsets": self.offsets,
            "slope": self.slope,
            "levels": self.levels,
            "ratios": self.ratios,
        }
        return {**super().get_config(), **config}


def layer_of(model, kind):
    """The layer of a kind, such as `ShapePrior`, of which models have one; None without."""
    return next((layer for layer in model.layers if isinstance(layer, kind)), None)
