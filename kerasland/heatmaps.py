"""The mathematics of the method as plain functions over `keras.ops`, without state.

Shapes: B images, K landmarks, a grid of h x w heatmap cells, C spatial feature maps. Logits are
(B, h, w, K); points are (B, K, 2) as (x, y) in pixels of the network's input (H, W), NaN where a
landmark is not annotated. A cell (i, j) of the grid stands for the input pixel
((j + 0.5) * W / w - 0.5, (i + 0.5) * H / h - 0.5). Everything here is computed in float32.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from keras import ops

MAPS = ("cartesian", "polar", "both")
ANGLES = ("unit", "raw")
CORRELATIONS = ("cosine", "pearson", "inner", "distance")
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


def spatial_softmax(logits, beta=1.0):
    """Attention P = softmax(beta * logits) over the grid.

    Args:
        logits: (B, h, w, K).
        beta: inverse temperature.

    Returns:
        (B, h * w, K), float32; each landmark's sums to 1.
    """
    height, width, landmarks = logits.shape[1:]
    weight, total, _ = _exponentials(_scaled(logits, beta))
    return ops.reshape(weight / total, (-1, height * width, landmarks))


def _scaled(logits, beta):
    logits = ops.cast(logits, "float32")
    return logits if isinstance(beta, (int, float)) and beta == 1 else logits * beta


def _exponentials(logits):
    """exp(logits - highest), its sum over the grid, and the highest, for a stable softmax.

    Without `ops.softmax`, which transposes the grid to the last axis and back. Loss and embedding
    both begin with these operations on the same logits, so that a graph computes them
    once.
    """
    highest = ops.max(logits, axis=(1, 2), keepdims=True)
    weight = ops.exp(logits - highest)
    return weight, ops.sum(weight, axis=(1, 2), keepdims=True), highest


def _component_names(maps: str, angle: str) -> tuple[str, ...]:
    if maps not in MAPS:
        raise ValueError(f"maps must be one of {MAPS}, not {maps!r}")
    if angle not in ANGLES:
        raise ValueError(f"angle must be one of {ANGLES}, not {angle!r}")
    cartesian = ("x", "y")
    polar = ("radius", "cos", "sin") if angle == "unit" else ("radius", "angle")
    return {"cartesian": cartesian, "polar": polar, "both": cartesian + polar}[maps]


def feature_count(maps: str, angle: str = "unit") -> int:
    """C, the length of a spatial feature vector."""
    return len(_component_names(maps, angle))


def spatial_features(x, y, maps: str = "both", angle: str = "unit"):
    """The spatial feature maps at normalised coordinates.

    Cartesian: x, y. Polar: the radius and the angle about the centre; the angle enters as
    (cos, sin), since the raw angle jumps at pi, or raw and divided by pi with `angle="raw"`.

    Args:
        x, y: arrays of one shape, normalised coordinates about the image's centre (see
            `normalize`), so within [-1, 1].
        maps: "cartesian", "polar" or "both".
        angle: "unit" or "raw".

    Returns:
        The shape of x with an axis of length C appended.

    Raises:
        ValueError: for another name in `maps` or `angle`.
    """
    radius = ops.sqrt(x * x + y * y + EPSILON * EPSILON)
    component = {
        "x": lambda: x,
        "y": lambda: y,
        "radius": lambda: radius,
        "cos": lambda: x / radius,
        "sin": lambda: y / radius,
        "angle": lambda: ops.arctan2(y, x) / np.pi,
    }
    return ops.stack([component[name]() for name in _component_names(maps, angle)], axis=-1)


def normalize(points, image_shape: tuple[int, int]):
    """Pixels to coordinates about the image's centre, in units of half its longer side.

    One scale for both axes, so that angles and distances keep their meaning on an image that is
    not square.

    Args:
        points: (..., 2), pixels.
        image_shape: (H, W), pixels.

    Returns:
        (..., 2), within [-1, 1] for a point of the image.
    """
    height, width = image_shape
    centre = np.array([(width - 1) / 2, (height - 1) / 2], "float32")
    return (ops.cast(points, "float32") - centre) * (2.0 / max(height, width))


def grid_features(grid_shape: tuple[int, int], maps: str = "both", angle: str = "unit"):
    """The spatial feature maps S on the cells of a grid, (h * w, C)."""
    height, width = grid_shape
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    cells = normalize(np.stack([x, y], axis=-1).astype("float32"), grid_shape)
    features = spatial_features(cells[..., 0], cells[..., 1], maps, angle)
    return ops.reshape(features, (height * width, -1))


def embed(logits, maps: str = "both", beta=1.0, angle: str = "unit"):
    """Spatial feature vectors v_k = sum over the grid of softmax(beta * h_k) * S.

    The pair (x, y) within a vector is the soft-argmax of the heatmap.

    Args:
        logits: (B, h, w, K).
        maps, angle: see `spatial_features`.
        beta: inverse temperature of the softmax, a number or a scalar tensor.

    Returns:
        (B, K, C), normalised coordinates.
    """
    features = grid_features(logits.shape[1:3], maps, angle)
    return _expectation(_scaled(logits, beta), features)


@ops.custom_gradient
def _expectation(logits, features):
    """sum over the grid of softmax(logits) * features: (B, h, w, K) and (h * w, C) to (B, K, C).

    The gradient, P * (S g - v g), is one product of small matrices and one pass over the grid.
    """
    height, width, landmarks = logits.shape[1:]
    weight, total, _ = _exponentials(logits)
    flat = ops.reshape(weight, (-1, height * width, landmarks))
    total = ops.reshape(total, (-1, landmarks, 1))
    vectors = ops.matmul(ops.transpose(flat, (0, 2, 1)), features) / total

    def gradient(upstream):
        upstream = upstream / total
        mean = ops.sum(vectors * upstream, axis=-1, keepdims=True)
        slope = ops.concatenate([upstream, -mean], axis=-1)
        basis = ops.concatenate([features, ops.ones_like(features[:, :1])], axis=-1)
        push = ops.matmul(basis, ops.transpose(slope, (0, 2, 1)))
        push = ops.reshape(flat * push, (-1, height, width, landmarks))
        return push, ops.zeros_like(features)

    return vectors, gradient


def embed_points(points, image_shape: tuple[int, int], maps: str = "both", angle: str = "unit"):
    """Spatial feature vectors of annotated points: the same maps, in closed form.

    Args:
        points: (B, K, 2), pixels of the image; NaN where not annotated.
        image_shape: (H, W), pixels.
        maps, angle: see `spatial_features`.

    Returns:
        (B, K, C), NaN where not annotated.
    """
    points = normalize(points, image_shape)
    return spatial_features(points[..., 0], points[..., 1], maps, angle)


def correlation_map(vectors, kind: str = "cosine"):
    """M[k, l], the similarity of the spatial feature vectors of landmarks k and l.

    Args:
        vectors: (B, K, C).
        kind: "cosine", the cosine of the angle between v_k and v_l; "pearson", the same after
            each vector's mean over its C components is taken off; "inner", the inner product;
            "distance", the Euclidean distance (a dissimilarity: 0 on the diagonal).

    Returns:
        (B, K, K), symmetric.

    Raises:
        ValueError: for another kind, and for "pearson" of fewer than three components, where
            every correlation is 1 or -1 and nothing could be learnt.
    """
    if kind not in CORRELATIONS:
        raise ValueError(f"correlation must be one of {CORRELATIONS}, not {kind!r}")
    if kind == "pearson":
        if vectors.shape[-1] < 3:
            raise ValueError(
                "the pearson correlation of vectors of two components is always 1 or -1: "
                "use maps='both' or maps='polar' with angle='unit', or another correlation"
            )
        vectors = vectors - ops.mean(vectors, axis=-1, keepdims=True)
    if kind in ("cosine", "pearson"):
        squared = ops.sum(vectors * vectors, axis=-1, keepdims=True)
        vectors = vectors / ops.sqrt(squared + EPSILON)
    product = ops.matmul(vectors, ops.transpose(vectors, (0, 2, 1)))
    if kind != "distance":
        return product
    squared = ops.sum(vectors * vectors, axis=-1)
    squared = squared[:, :, None] + squared[:, None, :] - 2.0 * product
    return ops.sqrt(ops.maximum(squared, 0.0) + EPSILON)


def gaussian_factors(points, image_shape, grid_shape, sigma_px: float):
    """A Gaussian target as the outer product of two vectors a landmark.

    Args:
        points: (B, K, 2), pixels of the image.
        image_shape: (H, W), pixels.
        grid_shape: (h, w), cells.
        sigma_px: standard deviation, pixels of the image.

    Returns:
        (B, K, h) and (B, K, w) with a maximum of 1 at the point; 0 for a landmark that is not
        annotated or lies outside the image.
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
        factors.append(ops.exp(-0.5 * offset * offset) * ops.cast(valid, "float32")[..., None])
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
    rows, columns = gaussian_factors(points, image_shape, grid_shape, sigma_px)
    rows = rows / ops.maximum(ops.sum(rows, axis=-1, keepdims=True), EPSILON)
    columns = columns / ops.maximum(ops.sum(columns, axis=-1, keepdims=True), EPSILON)
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
    weight, total, highest = _exponentials(logits)
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
    height, width, landmarks = logits.shape[1:]
    # one map after the other: passes over them are faster, and ONNX's convolutions end like that
    maps = ops.transpose(_scaled(logits, beta), (0, 3, 1, 2))
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
    confidence = ops.sum(window, axis=(2, 3))
    x = ops.sum(ops.sum(window, axis=2) * columns.astype("float32"), axis=2) / confidence
    y = ops.sum(ops.sum(window, axis=3) * ops.cast(rows, "float32"), axis=2) / confidence
    x = (x + 0.5) * (image_shape[1] / width) - 0.5
    y = (y + 0.5) * (image_shape[0] / height) - 0.5
    return ops.stack([x, y], axis=-1), confidence
