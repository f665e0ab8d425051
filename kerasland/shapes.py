"""Where a landmark should be, given all the others: a Gaussian over shapes, learnt from annotation.

Shapes are points without position, rotation and size: each is laid onto the mean shape by the
similarity of least squares (Procrustes). Their covariance is shrunk as Ledoit and Wolf 2004 say,
since there are more coordinates than annotated images.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from keras import ops

LEAST_SHAPES, LEAST_LANDMARKS, LEAST_VARIANCE = 20, 4, 1e-12
LEAST_SURE = 3
ALIGNMENTS = 10
EPSILON = 1e-9


class Shapes(NamedTuple):
    """mean (K, 2) and precision (2K, 2K), the inverse covariance of x0, y0, x1, ...

    The unit is the root mean square distance of the mean's points from their centre, so that the
    precision stays within what float16 holds, which exports may store it in: up to 65504, where a
    point is known from the others to 0.4 % of the unit.
    """

    mean: np.ndarray
    precision: np.ndarray


def fit(points: np.ndarray) -> Shapes | None:
    """The distribution of shapes, or None if there is too little to tell.

    Args:
        points: (N, K, 2), pixels of each image; NaN where unknown. Images with an unknown
            landmark are left out; 20 others and 4 landmarks are needed, not all of one shape.
    """
    from sklearn.covariance import ledoit_wolf

    known = points[np.isfinite(points).all(axis=(1, 2))]
    # a similarity is a product and a sum of complex numbers
    shapes = known[..., 0] + 1j * known[..., 1]
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
    rows = np.stack([laid.real, laid.imag], axis=-1).reshape(len(laid), -1)
    covariance, _ = ledoit_wolf(rows)
    if np.trace(covariance) < LEAST_VARIANCE:
        return None
    return Shapes(rows.mean(axis=0).reshape(-1, 2), np.linalg.inv(covariance))


def corrected(points, confidence, mean, precision, passes: int, doubtful: float, far: float):
    """Points, of which those that are both doubtful and implausible lie where the others say.

    A point is implausible if it is `far` standard deviations or more from its expectation given
    all other points, under the Gaussian. With the precision in blocks of 2 x 2 and x the aligned
    shape less the mean, the difference of point k from that expectation is inv(P_kk) (P x)_k.
    Replaced points count as replaced in the next pass, so that one does not blame its neighbour.
    Nothing is replaced where fewer than half of the points, or fewer than three, are beyond doubt:
    of a picture that shows no such shape the others say nothing.

    Args:
        points: (B, K, 2), pixels.
        confidence: (B, K), within 0..1; also the weights when the shape is laid onto the mean.
        mean, precision: of `Shapes`.
        passes: how often.
        doubtful: a confidence; only points below are replaced.
        far: in standard deviations.

    Returns:
        (B, K, 2).
    """
    landmarks = points.shape[1]
    blocks = ops.reshape(precision, (landmarks, 2, landmarks, 2))
    own = ops.sum(blocks * np.eye(landmarks, dtype="float32")[:, None, :, None], axis=2)
    xx, xy, yy = own[:, 0, 0], own[:, 0, 1], own[:, 1, 1]
    determinant = xx * yy - xy * xy
    # divided before the points come in: alone, the determinant is beyond what float16 exports hold
    ixx, ixy, iyy = yy / determinant, -xy / determinant, xx / determinant
    weight = confidence / (ops.sum(confidence, axis=1, keepdims=True) + EPSILON)
    weight = weight[..., None]
    doubted = confidence < doubtful
    sure = ops.sum(ops.cast(~doubted, "float32"), axis=1, keepdims=True)
    doubted = doubted & (sure >= max(LEAST_SURE, landmarks / 2))
    moved = ops.zeros_like(confidence) > 1.0
    found = points
    for _ in range(passes):
        centre = ops.sum(weight * found, axis=1, keepdims=True)
        middle = ops.sum(weight * mean, axis=1, keepdims=True)
        shape, target = found - centre, mean - middle
        size = ops.sum(weight * shape**2, axis=(1, 2)) + EPSILON
        # the similarity (c, s) turns and scales (x, y) to (c x - s y, s x + c y)
        c = ops.sum(weight * shape * target, axis=(1, 2)) / size
        s = ops.sum(weight[..., 0] * _cross(shape, target), axis=1) / size
        c, s = c[:, None], s[:, None]
        x, y = shape[..., 0], shape[..., 1]
        laid = ops.stack([c * x - s * y, s * x + c * y], axis=-1) + middle
        offset = ops.reshape(laid - mean, (-1, 2 * landmarks))
        pull = ops.reshape(ops.matmul(offset, precision), (-1, landmarks, 2))
        px, py = pull[..., 0], pull[..., 1]
        dx, dy = ixx * px + ixy * py, ixy * px + iyy * py
        distance = dx * px + dy * py  # squared, in standard deviations
        moved = moved | ((distance > far**2) & doubted)
        scale = c * c + s * s + EPSILON
        back = ops.stack([c * dx + s * dy, c * dy - s * dx], axis=-1) / scale[..., None]
        found = ops.where(moved[..., None], found - back, found)
    return found


def _cross(a, b):
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
