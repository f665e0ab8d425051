"""Keras layers after heatmaps: spatial feature vectors, landmarks, their errors, millimetres."""

from __future__ import annotations

import math

import keras
import numpy as np
from keras import ops

from kerasland import embedding, heatmaps, settings

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
        beyond the `levels` that are known."""
        if not self.levels:
            return math.nan
        known = np.interp(level, self.levels, self.ratios, left=math.nan, right=math.nan)
        return float(known)

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


@_register
class PixelSize(keras.layers.Layer):
    """Millimetres a pixel, from two landmarks of a known distance.

    Args:
        landmarks: the two, counted from 0.
        length_mm: their distance.

    Call arguments:
        landmarks: (B, K, 2), pixels.
        confidence: (B, K).

    Returns:
        (B,), float32; NaN where the confidence of one of the two is 0, see `ShapePrior`, or both
        are on one point.
    """

    def __init__(self, landmarks, length_mm, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})  # whatever the policy
        self.landmarks = tuple(landmarks)
        self.length_mm = length_mm

    def call(self, landmarks, confidence):
        a, b = self.landmarks
        gap = landmarks[:, a] - landmarks[:, b]
        length = ops.sqrt(ops.sum(gap * gap, axis=-1))
        known = (ops.minimum(confidence[:, a], confidence[:, b]) > 0) & (length > 0)
        return ops.where(known, self.length_mm / length, np.nan)

    def compute_output_shape(self, landmarks_shape, confidence_shape):
        return (landmarks_shape[0],)

    def get_config(self):
        config = {"landmarks": self.landmarks, "length_mm": self.length_mm}
        return {**super().get_config(), **config}
