"""Parts of an image within a graph, turned or close up: `kerasland.closer_look` for exports.

A view is a row of six numbers: the cosine and sine of its turn, the x and y of its corner, its
height and width, see `closer_look.View`. All by operations that TensorFlow, ONNX and LiteRT have.
"""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf
from keras import ops

from kerasland import resampling, shape_algebra
from kerasland.closer_look import LEAST_PX, LEAST_SIZE, MOST_TURNED_DEG

SMALL = 1e-6  # which float16 exports do not turn into 0, as they would cut off numbers over 65504
MOST_PX = 2000  # squared, of a turned view, which takes ten numbers a pixel while it is made


def quarter_turned(image_size):
    """Views (3, 6) of a whole image (H, W), turned by 90, 180 and 270 degrees against the clock."""
    height, width = (ops.cast(side, "float32") for side in image_size)
    right, bottom = width - 1.0, height - 1.0
    rows = [
        (0.0, 1.0, right, 0.0, width, height),
        (-1.0, 0.0, right, bottom, height, width),
        (0.0, -1.0, 0.0, bottom, width, height),
    ]
    return ops.stack([ops.stack(row) for row in rows])


def closer(points, confidence, mean, place, image_size, frame_shape):
    """`closer_look.closer` of landmarks that `closer_look.laid_onto` finds a place for.

    Args:
        points: (B, K, 2), pixels of the image.
        confidence: (B, K), weights; where all are 0, points count alike.
        mean, place: of `ShapePrior`.
        image_size: (H, W) as scalar int tensors.
        frame_shape: (H, W) of the network.

    Returns:
        Views (B, 6), and (B,) of bool: whether there is one.
    """
    image_h, image_w = (ops.cast(side, "float32") for side in image_size)
    height, width = frame_shape
    seen = ops.any(confidence > 0.0, axis=1, keepdims=True)
    weight = ops.where(seen, confidence, 1.0)
    weight = (weight / ops.sum(weight, axis=1, keepdims=True))[..., None]
    middle, centre = (ops.sum(weight * p, axis=1, keepdims=True) for p in (mean, points))
    c, s = (n[:, 0] for n in shape_algebra.similarity(mean - middle, points - centre, weight))
    middle_x, middle_y = middle[:, 0, 0], middle[:, 0, 1]
    x = centre[:, 0, 0] - c * middle_x + s * middle_y
    y = centre[:, 0, 1] - s * middle_x - c * middle_y
    usual_c, usual_s, usual_x, usual_y = place
    square = usual_c**2 + usual_s**2
    c, s = (c * usual_c + s * usual_s) / square, (s * usual_c - c * usual_s) / square
    pixels = ops.sqrt(c * c + s * s)  # of the image, per pixel of the frame
    upright = ops.abs(s) <= math.tan(math.radians(MOST_TURNED_DEG)) * c
    scale = resampling.letterbox_transform(image_size, frame_shape)[0]
    usual = upright & (pixels * scale >= LEAST_SIZE)
    length = ops.maximum(pixels, SMALL)
    c, s = ops.where(upright, 1.0, c / length), ops.where(upright, 0.0, s / length)
    across, down = pixels * (usual_x + 0.5) - 0.5, pixels * (usual_y + 0.5) - 0.5
    x, y = x - c * across + s * down, y - s * across - c * down
    wide, high = pixels * width, pixels * height
    # where the image's corners are in the view
    across = np.array([0.0, 1.0, 0.0, 1.0], "float32") * image_w - 0.5 - x[:, None]
    down = np.array([0.0, 0.0, 1.0, 1.0], "float32") * image_h - 0.5 - y[:, None]
    to_c, to_s = c[:, None], s[:, None]
    left, right = _ends(to_c * across + to_s * down + 0.5, wide, upright, x, image_w)
    top, bottom = _ends(to_c * down - to_s * across + 0.5, high, upright, y, image_h)
    x = ops.where(upright, left, x + c * left - s * top)
    y = ops.where(upright, top, y + s * left + c * top)
    view = ops.stack([c, s, x, y, bottom - top, right - left], axis=1)
    return view, ~usual & (ops.minimum(bottom - top, right - left) >= LEAST_PX)


def _ends(corners, size, upright, start, most):
    """First and last pixel of a view along an axis, (B,) each, less what is beside the image: of
    the image where it is upright, else of the view."""
    first, last = (ops.round(ops.clip(end, 0.0, most)) for end in (start, start + size))
    within = ops.maximum(0.0, ops.round(ops.min(corners, axis=1)))
    until = ops.minimum(ops.round(size), ops.round(ops.max(corners, axis=1)))
    return ops.where(upright, first, within), ops.where(upright, last, until)


def step(view):
    """Every how many pixels of a turned view (6,) are looked at: 1, but for huge ones."""
    return ops.maximum(1.0, ops.ceil(ops.sqrt(view[4] / MOST_PX * (view[5] / MOST_PX))))


def turned(image, view, step=1.0):
    """What an image (H, W) shows in a turned view (6,), by linear interpolation at full
    resolution, in its dtype; as dark as its darkest outside of it.

    Args:
        step: a pixel is made of so many of the view along each axis, whole ones.
    """
    height, width = ops.shape(image)
    c, s, left, top = (view[i] for i in range(4))
    down, across = (step * (ops.arange(ops.ceil(view[i] / step)) + 0.5) - 0.5 for i in (4, 5))
    down = down[:, None]
    x, y = left + c * across - s * down, top + s * across + c * down
    right, bottom = ops.cast(width - 1, "float32"), ops.cast(height - 1, "float32")
    inside = (x >= 0.0) & (x <= right) & (y >= 0.0) & (y <= bottom)
    column = ops.clip(ops.floor(x), 0.0, ops.maximum(right - 1.0, 0.0))
    row = ops.clip(ops.floor(y), 0.0, ops.maximum(bottom - 1.0, 0.0))
    place = ops.cast(row, "int32") * width + ops.cast(column, "int32")
    to_right, to_bottom = ops.minimum(width - 1, 1), ops.minimum(height - 1, 1) * width
    flat = ops.reshape(image, (-1,))

    def at(moved):
        # `ops.take` would look for negative places first, in three more passes over the view
        return ops.cast(tf.gather(flat, place + moved), "float32")

    def between(a, b, share):
        return a + share * (b - a)

    upper = between(at(0), at(to_right), x - column)
    lower = between(at(to_bottom), at(to_bottom + to_right), x - column)
    dark = ops.min(ops.cast(image, "float32"))  # LiteRT has none of 8 bits
    value = ops.where(inside, between(upper, lower, y - row), dark)
    whole = np.issubdtype(np.dtype(image.dtype.name), np.integer)
    return ops.cast(ops.floor(value + 0.5) if whole else value, image.dtype)


def in_image(points, view):
    """Points (..., 2) of a view (6,), in the image."""
    x, y = points[..., 0], points[..., 1]
    c, s = view[0], view[1]
    return ops.stack([view[2] + c * x - s * y, view[3] + s * x + c * y], axis=-1)
