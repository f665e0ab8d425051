"""Raw images of any size into the frame of a network: `kerasland.geometry` within a graph.

Everything here is computed in float32, by operations that TensorFlow, ONNX and LiteRT all have.
"""

from __future__ import annotations

import math

import numpy as np
from keras import ops

from kerasland.geometry import EDGE

ROWS = 8  # of a block: the fastest; fewer gather more rows twice, more multiply more zeros
EPSILON = 1e-6


def letterbox_transform(source_shape, target_shape: tuple[int, int]):
    """`kerasland.geometry.letterbox` in a graph.

    Args:
        source_shape: (H, W) as ints or scalar int tensors, pixels.
        target_shape: (H, W), pixels.

    Returns:
        scale, shift_x, shift_y: scalar float32 tensors.
    """
    source_h = ops.cast(source_shape[0], "float32")
    source_w = ops.cast(source_shape[1], "float32")
    target_h, target_w = target_shape
    scale = ops.minimum(target_h / source_h, target_w / source_w)
    return scale, (target_w - scale * source_w) / 2, (target_h - scale * source_h) / 2


def letterboxed(image, target_shape: tuple[int, int], begin_at_0: bool = False):
    """Raw images in the frame of a network: `kerasland.geometry.letterboxed` in a graph.

    Args:
        image: (B, any H, any W, 1), any real dtype.
        target_shape: (H, W) of the frame, pixels.
        begin_at_0: whether the darkest intensity of each image is taken off, as NumPy's twin does
            of 16 bits; the image then is of floats.

    Returns:
        (B, H, W, 1), float32, intensities as in the image.
    """
    if begin_at_0:
        image = image - ops.min(image, axis=(1, 2, 3), keepdims=True)
    scale, shift_x, shift_y = letterbox_transform(ops.shape(image)[1:3], target_shape)
    height, width = target_shape
    frame = resample(ops.squeeze(image, axis=-1), height, scale, shift_y)
    frame = resample(ops.transpose(frame, (0, 2, 1)), width, scale, shift_x)
    return ops.expand_dims(ops.transpose(frame, (0, 2, 1)), -1)  # [..., None] would copy it


def out_of_frame(points, source_shape, target_shape: tuple[int, int]):
    """Points (..., 2) of the frame, pixels, in the raw image that `letterboxed` put there.

    Args:
        source_shape, target_shape: of `letterbox_transform`.
    """
    scale, shift_x, shift_y = letterbox_transform(source_shape, target_shape)
    return (points + 0.5 - ops.stack([shift_x, shift_y])) / scale - 0.5


def resample(image, target_size: int, scale, shift):
    """The rows of images by `kerasland.geometry.resample_matrix`, for a source of any size.

    A row of that matrix weighs a few neighbours only. Cut into blocks of rows, each block is a
    small matrix over the source rows that it touches. Every export format can express it, and an
    8-bit image becomes float after its rows are gathered.

    Args:
        image: (B, H, n), any real dtype.
        target_size: h, pixels.
        scale: target pixels per source pixel, float or scalar tensor.
        shift: target pixels, float or scalar tensor.

    Returns:
        (B, h, n), float32.
    """
    batch, size, columns = ops.shape(image)
    block = math.gcd(target_size, ROWS)
    last = ops.cast(size, "float32") - 1.0
    step = 1.0 / scale
    reach = ops.maximum(1.0, step)
    target = np.arange(0.5, target_size, dtype="float32").reshape(-1, block)
    centre = (target - shift) * step - 0.5
    # the places, of weight 0, just outside the reach of a block's first and last row are left out
    taps = ops.minimum(ops.ceil((block - 1) * step + 2.0 * reach) + 1.0, last + 1.0)
    # and no place is outside: a picture of few rows, much enlarged, would be mostly those
    start = ops.clip(ops.floor(centre[:, :1] - reach) + 1.0, 0.0, last + 1.0 - taps)
    place = start + ops.arange(taps)
    weight = ops.maximum(0.0, 1.0 - ops.abs(place[:, None, :] - centre[:, :, None]) / reach)
    inside = _within(centre, -0.5 - EDGE, last + 0.5 + EDGE)
    share = inside / ops.maximum(ops.sum(weight, axis=2), EPSILON)
    rows = ops.cast(ops.take(image, ops.cast(place, "int32"), axis=1), "float32")
    return ops.reshape(ops.matmul(weight * share[..., None], rows), (batch, target_size, columns))


def _within(values, low, high):
    return ops.cast((values >= low) & (values <= high), "float32")
