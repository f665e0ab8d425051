"""Keras layers of the method: thin classes over `kerasland.heatmaps` and `kerasland.resampling`."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kerasland import heatmaps, resampling, shapes

_register = keras.saving.register_keras_serializable(package="kerasland")


@_register
class SpatialEmbedding(keras.layers.Layer):
    """Turns each heatmap into a spatial feature vector by soft-argmax over spatial feature maps.

    `v_k = sum over the grid of softmax(beta * h_k) * S`, with S the Cartesian maps (x, y), the
    polar maps (radius, cos, sin) about the centre, or both. The pair (x, y) is the soft-argmax.

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
        ValueError: for unknown `maps` or `angle`, or `beta` not above 0.
    """

    def __init__(self, maps="both", angle="unit", beta=1.0, learn_beta=False, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.components = heatmaps.feature_count(maps, angle)
        if beta <= 0:
            raise ValueError(f"beta must be above 0, not {beta}")
        self.maps = maps
        self.angle = angle
        self.beta = beta
        self.learn_beta = learn_beta

    def build(self, input_shape):
        if self.learn_beta:
            self.log_beta = self.add_weight(
                shape=(), initializer=keras.initializers.Constant(_log(self.beta)), name="log_beta"
            )

    def call(self, logits):
        beta = ops.exp(self.log_beta) if self.learn_beta else self.beta
        return heatmaps.embed(logits, self.maps, beta, self.angle)

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
    """

    def __init__(self, image_shape, radius_cells=4, beta=1.0, names=None, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.image_shape = tuple(image_shape)
        self.radius_cells = radius_cells
        self.beta = beta
        self.names = None if names is None else tuple(names)

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
class ShapePrior(keras.layers.Layer):
    """Corrects landmarks that all others contradict, see `kerasland.shapes`.

    Its weights, which are not trained, are the mean shape (K, 2) and the precision (2K, 2K); as
    they start, nothing is corrected.

    Args:
        doubtful: a confidence; points below it are corrected from `far` on.
        far: standard deviations from where the others say.
        absurd: standard deviations from which on a point is corrected whatever its confidence.

    Call arguments:
        landmarks: (B, K, 2), pixels of any frame.
        confidence: (B, K).

    Returns:
        Landmarks (B, K, 2) and confidence (B, K), float32. The confidence is 0 where a landmark was
        corrected, and everywhere where the landmarks are no such shape.
    """

    def __init__(self, doubtful=0.5, far=4.0, absurd=8.0, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.doubtful = doubtful
        self.far = far
        self.absurd = absurd

    def build(self, landmarks_shape, confidence_shape):
        size = 2 * landmarks_shape[1]
        still = {"trainable": False, "initializer": "zeros"}
        self.mean = self.add_weight(shape=landmarks_shape[1:], name="mean", **still)
        still["initializer"] = keras.initializers.Identity()
        self.precision = self.add_weight(shape=(size, size), name="precision", **still)

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
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config):
        """Files of earlier versions lack `absurd`: they corrected doubtful points alone, and do."""
        config = {"absurd": float("inf"), **config}
        config.pop("passes", None)
        return cls(**config)


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
    """

    FLOOR = 1e-3

    def __init__(self, offsets, slope, levels=(), ratios=(), **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.offsets = tuple(float(offset) for offset in offsets)
        self.slope = float(slope)
        self.levels = tuple(float(level) for level in levels)
        self.ratios = tuple(float(ratio) for ratio in ratios)

    def call(self, confidence):
        lacking = ops.maximum(1.0 - confidence, 0.0) + self.FLOOR
        expected = ops.exp(
            ops.convert_to_tensor(self.offsets, "float32") + self.slope * ops.log(lacking)
        )
        return ops.where(confidence > 0.0, expected, float("nan"))

    def ratio(self, level):
        """The multiple of the expected error within which a share `level` of errors lies."""
        return float(np.interp(level, self.levels, self.ratios))

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


@_register
class ImageStandardization(keras.layers.Layer):
    """Each image to mean 0 and standard deviation 1, whatever its range of intensities.

    Call arguments:
        image: (B, H, W, C), any real dtype.

    Returns:
        The same shape, in the layer's compute dtype; computed in float32. An image of one
        constant value becomes 0.
    """

    def __init__(self, **kwargs):
        # a cast to float16 on the way in would overflow on 16-bit images
        super().__init__(**{**kwargs, "autocast": False})

    def call(self, image):
        image = ops.cast(image, "float32")
        image = image - ops.mean(image, axis=(1, 2, 3), keepdims=True)
        deviation = ops.sqrt(ops.mean(image * image, axis=(1, 2, 3), keepdims=True))
        return ops.cast(image / ops.maximum(deviation, 1e-6), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape


@_register
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` by TensorFlow's fused kernel.

    The same function, statistics and weights; on a CPU a third of the time. Where statistics are
    taken over several replicas, Keras's own computation is used.

    Call arguments:
        inputs: (B, H, W, C).
    """

    def call(self, inputs, training=None, mask=None):
        if self.synchronized or mask is not None:
            return super().call(inputs, training=training, mask=mask)
        learn = bool(training) and self.trainable
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma,
            offset=self.beta,
            mean=tf.zeros([0]) if learn else self.moving_mean,
            variance=tf.zeros([0]) if learn else self.moving_variance,
            epsilon=self.epsilon,
            is_training=learn,
        )
        if learn:
            samples = ops.cast(ops.prod(ops.shape(inputs)[:3]), "float32")
            biased = variance * ((samples - 1) / samples)  # as Keras keeps it
            for moving, batch in ((self.moving_mean, mean), (self.moving_variance, biased)):
                moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))
        return outputs


@_register
class DepthToSpace(keras.layers.Layer):
    """Trades channels for resolution: (B, h, w, s * s * C) to (B, h * s, w * s, C).

    Args:
        factor: s.
    """

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs):
        height, width, channels = inputs.shape[1:]
        s = self.factor
        x = ops.reshape(inputs, (-1, height, width, s, s, channels // (s * s)))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (-1, height * s, width * s, channels // (s * s)))

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        s = self.factor
        return (batch, height * s, width * s, channels // (s * s))

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


@_register
class Letterbox(keras.layers.Layer):
    """Fits a raw image of any size into the network's frame, aspect ratio kept, anti-aliased.

    The same map and kernel as `kerasland.geometry.letterbox` and `resample_matrix`: each pixel of
    the frame is a triangle-weighted mean of the pixels it covers. Pixels outside the image are 0.

    Args:
        image_shape: (H, W) of the frame, pixels.

    Call arguments:
        image: (B, any H, any W, 1), any real dtype.

    Returns:
        (B, H, W, 1), float32, intensities as in the image.
    """

    def __init__(self, image_shape, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.image_shape = tuple(image_shape)

    def call(self, image):
        scale, shift_x, shift_y = resampling.letterbox_transform(
            ops.shape(image)[1:3], self.image_shape
        )
        height, width = self.image_shape
        frame = resampling.resample(ops.squeeze(image, axis=-1), height, scale, shift_y)
        frame = resampling.resample(ops.transpose(frame, (0, 2, 1)), width, scale, shift_x)
        return ops.transpose(frame, (0, 2, 1))[..., None]

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.image_shape, 1)

    def get_config(self):
        return {**super().get_config(), "image_shape": self.image_shape}


@_register
class FrameToImage(keras.layers.Layer):
    """Landmarks from the network's frame back to the pixels of the raw image: undoes `Letterbox`.

    Args:
        image_shape: (H, W) of the frame, pixels.

    Call arguments:
        landmarks: (B, K, 2), pixels of the frame.
        image: (B, any H, any W, 1), the raw image.

    Returns:
        (B, K, 2), pixels of the raw image.
    """

    def __init__(self, image_shape, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.image_shape = tuple(image_shape)

    def call(self, landmarks, image):
        scale, shift_x, shift_y = resampling.letterbox_transform(
            ops.shape(image)[1:3], self.image_shape
        )
        return (landmarks + 0.5 - ops.stack([shift_x, shift_y])) / scale - 0.5

    def compute_output_shape(self, landmarks_shape, image_shape):
        return landmarks_shape

    def get_config(self):
        return {**super().get_config(), "image_shape": self.image_shape}


def _log(value):
    return float(ops.log(value))
