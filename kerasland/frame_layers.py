"""Keras layers between a raw image and the frame of the network: into it, and back."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from kerasland import resampling, settings

_register = keras.saving.register_keras_serializable(package="kerasland")


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
        super().__init__(**{**kwargs, "dtype": "float32"})  # whatever the policy
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={-1: 1})
        self.image_shape = settings.height_and_width(image_shape)

    def call(self, image):
        return resampling.letterboxed(image, self.image_shape)

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
        super().__init__(**{**kwargs, "dtype": "float32"})  # whatever the policy
        self.image_shape = settings.height_and_width(image_shape)

    def call(self, landmarks, image):
        return resampling.out_of_frame(landmarks, ops.shape(image)[1:3], self.image_shape)

    def compute_output_shape(self, landmarks_shape, image_shape):
        return landmarks_shape

    def get_config(self):
        return {**super().get_config(), "image_shape": self.image_shape}


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
