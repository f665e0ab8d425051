"""Keras layers between a raw image and the frame of the network: into it, and back."""

from __future__ import annotations

import math

import keras
import numpy as np
from keras import ops

from kerasland import resampling, settings, shapes
from kerasland.closer_look import LEAST_PX, LEAST_SIZE, MOST_TURNED_DEG

EPSILON = 1e-9
WORTH = 1.1  # how much larger a second look must show a subject that it does not turn
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
        scale, shift_x, shift_y = resampling.letterbox_transform(
            ops.shape(image)[1:3], self.image_shape
        )
        height, width = self.image_shape
        frame = resampling.resample(ops.squeeze(image, axis=-1), height, scale, shift_y)
        frame = resampling.resample(ops.transpose(frame, (0, 2, 1)), width, scale, shift_x)
        return ops.expand_dims(ops.transpose(frame, (0, 2, 1)), -1)  # [..., None] would copy it

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
        scale, shift_x, shift_y = resampling.letterbox_transform(
            ops.shape(image)[1:3], self.image_shape
        )
        return (landmarks + 0.5 - ops.stack([shift_x, shift_y])) / scale - 0.5

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
        (B,), float32; NaN where the confidence of one of the two is 0, see `layers.ShapePrior`.
    """

    def __init__(self, landmarks, length_mm, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})  # whatever the policy
        self.landmarks = tuple(landmarks)
        self.length_mm = length_mm

    def call(self, landmarks, confidence):
        a, b = self.landmarks
        gap = landmarks[:, a] - landmarks[:, b]
        known = ops.minimum(confidence[:, a], confidence[:, b]) > 0
        return ops.where(known, self.length_mm / ops.sqrt(ops.sum(gap * gap, axis=-1)), np.nan)

    def compute_output_shape(self, landmarks_shape, confidence_shape):
        return (landmarks_shape[0],)

    def get_config(self):
        config = {"landmarks": self.landmarks, "length_mm": self.length_mm}
        return {**super().get_config(), **config}


@_register
class CloserBox(keras.layers.Layer):
    """The part of an image worth a second look, because its subject is small in the whole.

    `closer_look.closer` in a graph; of a turned subject, the smallest upright box around it.

    Args:
        image_shape: (H, W) of the network's frame, pixels.
        mean: of `layers.ShapePrior`, (K, 2).
        place: of `layers.ShapePrior`.

    Call arguments:
        landmarks: (B, K, 2), pixels of the image.
        confidence: (B, K).
        image: (B, any H, any W, 1), the raw image.

    Returns:
        (B, 4), float32: left, top, right and bottom edges, whole pixels; those of the whole image
        where its landmarks form no shape, or a second look would show the subject no larger.
    """

    def __init__(self, image_shape, mean, place, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})  # whatever the policy
        self.image_shape = settings.height_and_width(image_shape)
        self.mean = [tuple(map(float, point)) for point in mean]
        self.place = tuple(place)

    def call(self, landmarks, confidence, image):
        size = ops.shape(image)[1:3]
        image_h, image_w = (ops.cast(side, "float32") for side in size)
        height, width = self.image_shape
        scale = resampling.letterbox_transform(size, self.image_shape)[0]
        c, s, x, y = self._frame_onto_image(landmarks, confidence)
        pixels = ops.sqrt(c * c + s * s)  # of the image, per pixel of the frame
        upright = ops.abs(s) <= math.tan(math.radians(MOST_TURNED_DEG)) * c
        usual = (pixels * scale >= LEAST_SIZE) & upright
        # the frame's corners in the image, of what is upright enough as if it were wholly
        c, s = ops.where(upright, pixels, c), ops.where(upright, 0.0, s)
        across = np.array([[0.0, width, 0.0, width]], "float32") - 0.5 - self.place[2]
        down = np.array([[0.0, 0.0, height, height]], "float32") - 0.5 - self.place[3]
        left, right = _ends(x + c * across - s * down + 0.5, image_w)
        top, bottom = _ends(y + s * across + c * down + 0.5, image_h)
        large = ops.minimum(right - left, bottom - top) >= LEAST_PX
        larger = ops.minimum(height / (bottom - top), width / (right - left)) > WORTH * scale
        found = ops.any(confidence > 0.0, axis=1)
        box = ops.stack([left, top, right, bottom], axis=1)
        whole = ops.stack([0.0, 0.0, image_w, image_h])
        return ops.where((found & large & larger & ~usual[:, 0])[:, None], box, whole)

    def _frame_onto_image(self, landmarks, confidence):
        """The similarity c, s, x, y, (B, 1) each, that lays the usual place of a subject onto
        where it is: the frame's point at an offset (u, v) from that place is the image's
        (x + c u - s v, y + s u + c v)."""
        mean = np.array(self.mean, "float32")
        total = ops.sum(confidence, axis=1, keepdims=True)
        weight = (confidence / ops.maximum(total, EPSILON))[..., None]
        middle, centre = (
            ops.sum(weight * points, axis=1, keepdims=True) for points in (mean, landmarks)
        )
        c, s = shapes.similarity(mean - middle, landmarks - centre, weight)
        x = centre[..., 0] - c * middle[..., 0] + s * middle[..., 1]
        y = centre[..., 1] - s * middle[..., 0] - c * middle[..., 1]
        # divided by the usual similarity, which lays the mean shape into the frame
        usual_c, usual_s = self.place[:2]
        square = usual_c**2 + usual_s**2
        c, s = (c * usual_c + s * usual_s) / square, (s * usual_c - c * usual_s) / square
        return c, s, x, y

    def compute_output_shape(self, landmarks_shape, confidence_shape, image_shape):
        return (landmarks_shape[0], 4)

    def get_config(self):
        config = {"image_shape": self.image_shape, "mean": self.mean, "place": self.place}
        return {**super().get_config(), **config}


def _ends(edges, most):
    """The lowest and the highest of edges (B, 4), (B,) each, whole pixels within 0..most."""
    ends = ops.min(edges, axis=1), ops.max(edges, axis=1)
    return [ops.clip(ops.round(end), 0.0, most) for end in ends]
