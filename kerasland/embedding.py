"""Spatial feature maps, vectors and correlation maps as plain functions over `keras.ops`.

Shapes: B images, K landmarks, a grid of h x w heatmap cells, C spatial feature maps. Everything
here is computed in float32; `kerasland.heatmaps` says what a cell is.
"""

from __future__ import annotations

import numpy as np
from keras import ops

from kerasland import heatmaps

MAPS = ("cartesian", "polar", "both")
ANGLES = ("unit", "raw")
CORRELATIONS = ("cosine", "pearson", "inner", "distance")


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
    radius = ops.sqrt(x * x + y * y + heatmaps.EPSILON * heatmaps.EPSILON)
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
    features = grid_features(heatmaps.grid_of(logits), maps, angle)
    return _expectation(heatmaps.scaled(logits, beta), features)


@ops.custom_gradient
def _expectation(logits, features):
    """sum over the grid of softmax(logits) * features: (B, h, w, K) and (h * w, C) to (B, K, C).

    The gradient, P * (S g - v g), is one product of small matrices and one pass over the grid.
    """
    height, width, landmarks = logits.shape[1:]
    weight, total, _ = heatmaps.exponentials(logits)
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
            "distance", the Euclidean distance (a dissimilarity: 0.001 on the diagonal, which
            keeps its gradient finite).

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
        vectors = vectors / ops.sqrt(squared + heatmaps.EPSILON)
    product = ops.matmul(vectors, ops.transpose(vectors, (0, 2, 1)))
    if kind != "distance":
        return product
    squared = ops.sum(vectors * vectors, axis=-1)
    squared = squared[:, :, None] + squared[:, None, :] - 2.0 * product
    return ops.sqrt(ops.maximum(squared, 0.0) + heatmaps.EPSILON)
