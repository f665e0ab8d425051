"""Shapes: points without position, rotation and size, and how they vary, learnt from annotation.

Each is laid onto the mean shape by the similarity of least squares (Procrustes). Their covariance
is shrunk as Ledoit and Wolf 2004 say, since there are more coordinates than annotated images.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kerasland.geometry import as_complex, as_points

LEAST_SHAPES, LEAST_LANDMARKS, LEAST_VARIANCE = 20, 4, 1e-12
ALIGNMENTS = 10


class Shapes(NamedTuple):
    """mean (K, 2), precision (2K, 2K), the inverse covariance of x0, y0, x1, ..., and apart (K, K),
    the least distance of each two landmarks in any shape.

    The unit is the root mean square distance of the mean's points from their centre, or a little
    more where shapes vary much, so that the precision stays within what float16 holds, which
    exports may store it in: up to 65504, where a point is known from the others to 0.4 % of it.
    """

    mean: np.ndarray
    precision: np.ndarray
    apart: np.ndarray


def fit(points: np.ndarray) -> Shapes | None:
    """The distribution of shapes, or None if there is too little to tell.

    Args:
        points: (N, K, 2), pixels of each image; NaN where unknown. Images with an unknown
            landmark are left out; 20 others and 4 landmarks are needed, not all of one shape.
    """
    from sklearn.covariance import ledoit_wolf

    known = points[np.isfinite(points).all(axis=(1, 2))].astype(np.float64)
    shapes = as_complex(known)  # of which a similarity is a product and a sum
    shapes = shapes - shapes.mean(axis=1, keepdims=True)
    shapes = shapes[np.linalg.norm(shapes, axis=1) > 0]
    if len(shapes) < LEAST_SHAPES or points.shape[1] < LEAST_LANDMARKS:
        return None
    mean = shapes[0]
    for _ in range(ALIGNMENTS):
        mean = mean / np.sqrt(np.mean(np.abs(mean) ** 2))
        turn = (shapes.conj() @ mean) / np.sum(np.abs(shapes) ** 2, axis=1)
        laid = shapes * turn[:, None]
        mean = laid.mean(axis=0)
    rows = as_points(laid).reshape(len(laid), -1)
    covariance, _ = ledoit_wolf(rows)
    if np.trace(covariance) < LEAST_VARIANCE:
        return None
    apart = np.full(2 * mean.shape, np.inf)
    for shape in laid:
        apart = np.minimum(apart, np.abs(shape[:, None] - shape))
    return Shapes(rows.mean(axis=0).reshape(-1, 2), np.linalg.inv(covariance), apart)
