"""Heatmaps as plain functions over `keras.ops`: softmax, targets, losses, sub-pixel landmarks.

Shapes: B images, K landmarks, a grid of h x w heatmap cells. Logits are
(B, h, w, K); points are (B, K, 2) as (x, y) in pixels of the network's input (H, W), NaN where a
landmark is not annotated. A cell (i, j) of the grid stands for the input pixel
((j + 0.5) * W / w - 0.5, (i + 0.5) * H / h - 0.5). Everything here is computed in float32.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from keras import ops

EPSILON = 1e-6


def annotated(points, image_shape: tuple[int, int]):
    """Which landmarks can be learnt from: annotated and inside the image.

    Args:
        points: (B, K, 2), pixels of the image.
        image_shape: (H, W), pixels.

    Returns:
        (B, K), bool.
    """
    height, width = image_shape
    x, y = points[..., 0], points[..., 1]
    # a comparison with NaN is False
    return (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)


def points_of(landmarks: int | None, points, what: str):
    """Checks that points are (B, K, 2): TensorFlow would broadcast others without a word.

    Args:
        landmarks: K; None if a graph does not know it.
        points: a tensor. What a graph does not know of its shape is checked when it runs.
        what: they are, for the message.

    Returns:
        The points, of that shape in the graph too.

    Raises:
        ValueError: if they have another shape.
    """
    wanted, shape = (None, landmarks, 2), tf.TensorShape(points.shape)
    if not shape.is_compatible_with(wanted):
        number = "K" if landmarks is None else landmarks
        raise ValueError(
            f"{what} of shape {shape}: expected the points (x, y) of {number} landmarks, "
            f"(B, {number}, 2)"
        )
    return points if shape[1:].is_fully_defined() else tf.ensure_shape(points, wanted)


def grid_of(logits) -> tuple[int, int]:
    """(h, w) of logits (B, h, w, K).

    Raises:
        ValueError: if a graph does not know it.
    """
    height, width = logits.shape[1:3]
    if height is None or width is None:
        raise ValueError(
            f"heatmaps of shape {tuple(logits.shape)}: a graph must know their height and width; "
            "where a pipeline does not know the size of its images, set it there by "
            "tf.ensure_shape(images, (None, height, width, 1))"
        )
    return height, width


def spatial_softmax(logits, beta=1.0):
    """Attention P = softmax(beta * logits) over the grid.

    Args:
        logits: (B, h, w, K).
        beta: inverse temperature.

    Returns:
        (B, h * w, K), float32; each landmark's sums to 1.
    """
    height, width, landmarks = logits.shape[1:]
    weight, total, _ = exponentials(scaled(logits, beta))
    return ops.reshape(weight / total, (-1, height * width, landmarks))


def scaled(logits, beta):
    """beta * logits, float32."""
    logits = ops.cast(logits, "float32")
    return logits if isinstance(beta, (int, float)) and beta == 1 else logits * beta


def exponentials(logits):
    """exp(logits - highest), its sum over the grid, and the highest, for a stable softmax.

    Without `ops.softmax`, which transposes the grid to the last axis and back. Loss and embedding
    both begin with these operations on the same logits, so that a graph computes them
    once.
    """
    highest = ops.max(logits, axis=(1, 2), keepdims=True)
    weight = ops.exp(logits - highest)
    return weight, ops.sum(weight, axis=(1, 2), keepdims=True), highest


def gaussian_factors(points, image_shape, grid_shape, sigma_px: float, normalized: bool = False):
    """A Gaussian target as the outer product of two vectors a landmark.

    Args:
        points: (B, K, 2), pixels of the image.
        image_shape: (H, W), pixels.
        grid_shape: (h, w), cells.
        sigma_px: standard deviation, pixels of the image.
        normalized: whether each vector has the sum 1, however narrow the Gaussian.

    Returns:
        (B, K, h) and (B, K, w) with a maximum of 1 at the point, unless normalised; 0 for a
        landmark that is not annotated or lies outside the image.
    """
    valid = annotated(points, image_shape)
    factors = []
    for axis, pixels, cells in (
        (1, image_shape[0], grid_shape[0]),
        (0, image_shape[1], grid_shape[1]),
    ):
        centres = (np.arange(cells, dtype="float32") + 0.5) * (pixels / cells) - 0.5
        position = ops.where(valid, ops.cast(points[..., axis], "float32"), 0.0)
        offset = (centres - position[..., None]) / sigma_px
        exponent = -0.5 * offset * offset
        if normalized:  # the nearest cell has at least 1 / cells, not an exponential of 0
            exponent = exponent - ops.max(exponent, axis=-1, keepdims=True)
        factor = ops.exp(exponent)
        if normalized:
            factor = factor / ops.sum(factor, axis=-1, keepdims=True)
        factors.append(factor * ops.cast(valid, "float32")[..., None])
    return factors[0], factors[1]


def cross_entropy(logits, points, image_shape, sigma_px: float):
    """Spatial cross-entropy between softmax(logits) and the Gaussian target of each landmark.

    -sum of q log p over the grid, with q the Gaussian normalised to sum 1. Its least value is the
    entropy of q.

    Args:
        logits: (B, h, w, K).
        points: (B, K, 2), pixels of the image.
        image_shape: (H, W), pixels.
        sigma_px: pixels of the image.

    Returns:
        (B, K) in nats; 0 where there is no target.
    """
    logits = ops.cast(logits, "float32")
    grid_shape = logits.shape[1:3]
    rows, columns = gaussian_factors(points, image_shape, grid_shape, sigma_px, normalized=True)
    valid = ops.cast(annotated(points, image_shape), "float32")
    rows, columns = ops.transpose(rows, (0, 2, 1)), ops.transpose(columns, (0, 2, 1))
    return _outer_cross_entropy(logits, rows, columns) * valid


@ops.custom_gradient
def _outer_cross_entropy(logits, rows, columns):
    """Cross-entropy of softmax(logits) against the outer product of rows and columns.

    Its gradient is softmax(logits) less that product.

    Args:
        logits: (B, h, w, K).
        rows, columns: (B, h, K) and (B, w, K), each of sum 1 along its grid axis.

    Returns:
        (B, K); the targets get no gradient.
    """
    weight, total, highest = exponentials(logits)
    expected = ops.sum(ops.sum(logits * columns[:, None], axis=2) * rows, axis=1)

    def gradient(upstream):
        upstream = upstream[:, None, None]
        push = weight * (upstream / total) - rows[:, :, None] * (columns[:, None] * upstream)
        return push, ops.zeros_like(rows), ops.zeros_like(columns)

    return ops.log(total[:, 0, 0]) + highest[:, 0, 0] - expected, gradient


def squared_error(logits, points, image_shape, sigma_px: float):
    """Squared difference between the heatmap and a Gaussian of height 1, summed over the grid.

    Args and Returns as `cross_entropy`, without unit.
    """
    logits = ops.cast(logits, "float32")
    rows, columns = gaussian_factors(points, image_shape, logits.shape[1:3], sigma_px)
    target = ops.einsum("bkh,bkw->bhwk", rows, columns)
    valid = ops.cast(annotated(points, image_shape), "float32")
    return ops.sum(ops.square(logits - target), axis=(1, 2)) * valid


def masked_mean(values, valid):
    """Mean of the valid entries of each sample: (B, ...) and (B, ...) bool to (B,); 0 if none."""
    axes = tuple(range(1, len(values.shape)))
    weight = ops.cast(valid, "float32")
    kept = ops.where(valid, values, ops.zeros_like(values))
    return ops.sum(kept, axis=axes) / ops.maximum(ops.sum(weight, axis=axes), 1.0)


def decode(logits, image_shape: tuple[int, int], radius_cells: int = 4, beta=1.0):
    """Sub-pixel landmarks: the soft-argmax in a window about each heatmap's highest cell.

    The window makes the estimate robust against mass elsewhere on the map, the expectation within
    it makes it finer than the grid.

    Args:
        logits: (B, h, w, K).
        image_shape: (H, W), pixels.
        radius_cells: the window covers (2 * radius_cells + 1) ** 2 cells.
        beta: inverse temperature.

    Returns:
        landmarks: (B, K, 2), pixels of the image.
        confidence: (B, K), the attention's mass within the window, in [0, 1].
    """
    height, width = grid_of(logits)
    window, rows, columns = _peak_window(logits, radius_cells, beta)
    confidence = ops.sum(window, axis=(2, 3))
    x = ops.sum(ops.sum(window, axis=2) * columns, axis=2) / confidence
    y = ops.sum(ops.sum(window, axis=3) * rows, axis=2) / confidence
    x = (x + 0.5) * (image_shape[1] / width) - 0.5
    y = (y + 0.5) * (image_shape[0] / height) - 0.5
    return ops.stack([x, y], axis=-1), confidence


def peak_covariance(
    logits, landmarks, image_shape: tuple[int, int], radius_cells: int = 4, beta=1.0
):
    """How the attention scatters about points, in the window that `decode` takes.

    Args:
        logits, image_shape, radius_cells, beta: as of `decode`.
        landmarks: (B, K, 2), pixels of the image: what `decode` returns.

    Returns:
        (B, K, 3): xx, xy and yy of the covariance, square pixels.
    """
    height, width = grid_of(logits)
    window, rows, columns = _peak_window(logits, radius_cells, beta)
    window = window / ops.sum(window, axis=(2, 3), keepdims=True)
    cell_x, cell_y = image_shape[1] / width, image_shape[0] / height
    x = (columns + 0.5) * cell_x - 0.5 - landmarks[..., :1]
    y = (rows + 0.5) * cell_y - 0.5 - landmarks[..., 1:]
    along = ops.sum(window * x[:, :, None, :], axis=3)
    xx = ops.sum(ops.sum(window, axis=2) * x * x, axis=2)
    xy = ops.sum(along * y, axis=2)
    yy = ops.sum(ops.sum(window, axis=3) * y * y, axis=2)
    return ops.stack([xx, xy, yy], axis=-1)


def _peak_window(logits, radius_cells: int, beta):
    """The attention about its highest cell, 0 beyond `radius_cells`: rows (B, K, n, w) of the map,
    which rows those are (B, K, n), and the columns (w,)."""
    height, width, landmarks = logits.shape[1:]
    # one map after the other: passes over them are faster, and ONNX's convolutions end like that
    maps = ops.transpose(scaled(logits, beta), (0, 3, 1, 2))
    flat = ops.reshape(maps, (-1, landmarks, height * width))
    attention = ops.reshape(tf.nn.softmax(flat), (-1, landmarks, height, width))
    # ONNX lacks an operation that `ops.argmax` uses
    row = tf.argmax(ops.max(attention, axis=3), axis=2, output_type=tf.int32)[..., None]
    rows = row + np.arange(-radius_cells, radius_cells + 1)
    strip = tf.gather(attention, ops.clip(rows, 0, height - 1), axis=2, batch_dims=2)
    column = tf.argmax(strip[:, :, radius_cells], axis=2, output_type=tf.int32)[..., None]
    columns = np.arange(width)
    near = ops.cast(ops.abs(columns - column) <= radius_cells, "float32")
    inside = ops.cast((rows >= 0) & (rows < height), "float32")
    window = strip * inside[..., None] * near[:, :, None, :]
    return window, ops.cast(rows, "float32"), columns.astype("float32")
