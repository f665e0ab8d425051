"""Where a landmark should be, given all the others: a Gaussian over shapes, learnt from annotation.

Shapes are points without position, rotation and size: each is laid onto the mean shape by the
similarity of least squares (Procrustes). Their covariance is shrunk as Ledoit and Wolf 2004 say,
since there are more coordinates than annotated images.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from keras import ops

from kerasland.geometry import as_complex, as_points

LEAST_SHAPES, LEAST_LANDMARKS, LEAST_VARIANCE = 20, 4, 1e-12
MORE_PASSES = 30  # than points may move: what the others say settles slowly
SURE = 1.1  # a bit more than the highest confidence, which else would never be suspected
ALIGNMENTS = 10
EPSILON = 1e-9
SMALL = 1e-6  # which float16 exports do not turn into 0
STEPS = 24  # of conjugate gradients; 20 bring 120 landmarks to 0.01 pixels
LEAST_SPREAD = 1 / 36  # of the target's variance
NEAR = 0.5  # of the least distance of two landmarks in training: nearer ones are on one spot


class Shapes(NamedTuple):
    """mean (K, 2), precision (2K, 2K), the inverse covariance of x0, y0, x1, ..., and apart (K, K),
    the least distance of each two landmarks in any shape.

    The unit is the root mean square distance of the mean's points from their centre, so that the
    precision stays within what float16 holds, which exports may store it in: up to 65504, where a
    point is known from the others to 0.4 % of the unit.
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


def most_moved(landmarks: int) -> int:
    """How many of so many landmarks the others may correct: a sixth, 2 of 6 to 17, 1 of fewer."""
    return max(1 if landmarks < 6 else 2, landmarks // 6)


def corrected(
    points, confidence, mean, precision, apart, doubtful: float, far: float, absurd: float
):
    """Points, of which those that all others contradict lie where the others say.

    A point contradicts the others if it is more than a limit of standard deviations from its
    expectation given them, under the Gaussian: `far` if its confidence is low, `absurd` whatever
    its confidence. With the precision in blocks of 2 x 2 and x the aligned shape less the mean, the
    difference of point k from that expectation is inv(P_kk) (P x)_k.

    Each pass takes out the point that contradicts most, by its distance times what its confidence
    lacks to `SURE`, and asks the others again; a point that was taken out and does not contradict
    them any more comes back. So a wrong point does not accuse its neighbour for long. Where points
    still contradict in the last pass, or more than `most_moved` would move, they are no such shape,
    and none is moved. What becomes of an image does not depend on others in its batch.

    Where a part can't be seen, its heatmaps may have a sure peak on the next such part: a finger
    that is cut off on its neighbour. But two points can't be on one spot. Where two still are when
    the others agree, the one that is further from where they say is not trusted any more, as if its
    confidence were 0, and all is asked once more.

    Args:
        points: (B, K, 2), pixels.
        confidence: (B, K), within 0..1; also the weights when the shape is laid onto the mean.
        mean, precision, apart: of `Shapes`.
        doubtful: a confidence, below which `far` is the limit.
        far, absurd: in standard deviations.

    Returns:
        Points (B, K, 2) and their confidence (B, K), which is 0 for those that were moved, since
        their heatmaps say otherwise, for those that are still on one spot with another, and for all
        points of what is no such shape.
    """
    landmarks = points.shape[1]
    precision = ops.convert_to_tensor(precision)  # read once, so that exports hold it once
    xx, xy, yy = own = _own_blocks(precision, landmarks)
    # before the points come in: alone, its determinant is beyond what float16 exports hold
    conditional = _inverse(own)
    most = most_moved(landmarks)

    def asked(found, trust):
        """Where the others, of whom each counts by its trust, expect each point, and how many
        standard deviations it is from there, squared."""
        weight = trust / (ops.sum(trust, axis=1, keepdims=True) + EPSILON)
        weight = weight[..., None]
        target = mean - ops.sum(weight * mean, axis=1, keepdims=True)
        size = ops.sum(weight * target**2, axis=(1, 2))
        centre = ops.sum(weight * found, axis=1, keepdims=True)
        shape = found - centre
        # the similarity (c, s) turns and scales (x, y) to (c x - s y, s x + c y); the inverse of
        # that which lays the mean onto the shape, on which a point far off pulls less
        c = ops.sum(weight * shape * target, axis=(1, 2))
        s = ops.sum(weight[..., 0] * _cross(shape, target), axis=1)
        inverse = size / (c * c + s * s + EPSILON)
        c, s = (c * inverse)[:, None], (s * inverse)[:, None]
        offset = ops.reshape(_turned(shape, c, s) - target, (-1, 2 * landmarks))
        pull = ops.reshape(ops.matmul(offset, precision), (-1, landmarks, 2))
        residual = _times(conditional, pull)
        back = _turned(residual, c, -s) / (c * c + s * s + EPSILON)[..., None]
        expected = found - back
        gap = _turned(points - expected, c, s)
        x, y = gap[..., 0], gap[..., 1]
        return expected, xx * x * x + 2.0 * xy * x * y + yy * y * y

    def settled(trust, live):
        """Points, which of them were moved, and whether the others then agree, of images that are
        `live`, (B, 1); of others nothing is moved."""
        # of two numbers Keras would make its floatx
        limit = ops.cast(ops.where(trust < doubtful, far**2, absurd**2), "float32")

        def again(found, moved, contradicts):
            live = ops.any(moved | contradicts, axis=1, keepdims=True)
            expected, distance = asked(found, ops.where(moved, confidence, trust))
            beyond = (distance > limit) & live
            moved = moved & beyond
            contradicts = beyond & ~moved
            suspicion = ops.where(contradicts, distance * (SURE - trust) ** 2, 0.0)
            worst = contradicts & (suspicion >= ops.max(suspicion, axis=1, keepdims=True))
            moved = moved | worst
            found = ops.where(moved[..., None], expected, points)
            return found, moved, contradicts

        def unsettled(_, moved, contradicts):
            return ops.any(moved | contradicts)  # of most batches nothing from the first pass on

        nothing = ops.zeros_like(confidence) > 1.0
        found, moved, contradicts = ops.while_loop(
            unsettled,
            again,
            (points, nothing, ~nothing & live),
            maximum_iterations=most + MORE_PASSES,
        )
        amount = ops.sum(ops.cast(moved, "float32"), axis=1, keepdims=True)
        agreed = ~ops.any(contradicts, axis=1, keepdims=True) & (amount <= most)
        return ops.where((moved & agreed)[..., None], found, points), moved, agreed

    first = settled(confidence, ops.ones_like(confidence[:, :1]) > 0)
    found, moved, agreed = first
    distance = asked(found, confidence)[1]
    further = distance[:, :, None] >= distance[:, None]
    misplaced = ops.any(_on_one_spot(found, mean, apart) & further, axis=-1) & agreed
    anew = ops.any(misplaced, axis=1, keepdims=True)
    second = settled(ops.where(misplaced, 0.0, confidence), anew)
    found = ops.where(anew[..., None], second[0], first[0])
    moved, agreed = (ops.where(anew, b, a) for a, b in zip(first[1:], second[1:], strict=True))
    unknown = moved | ~agreed | ops.any(_on_one_spot(found, mean, apart), axis=-1)
    return found, ops.where(unknown, 0.0, confidence)


def _on_one_spot(points, mean, apart):
    """Which two of the points (B, K, 2) are much nearer than they ever were: (B, K, K)."""
    centred = points - ops.mean(points, axis=1, keepdims=True)
    c, s = similarity(centred, mean - ops.mean(mean, axis=0))
    x, y = (centred[:, :, None, axis] - centred[:, None, :, axis] for axis in (0, 1))
    squared = (x * x + y * y) * (c * c + s * s)[..., None]
    return squared < (NEAR * ops.convert_to_tensor(apart)) ** 2


def posterior(points, covariance, mean, precision):
    """Points, each where it and all others together say: the mean of their posterior.

    The aligned shape x has the prior N(m, inv(P)) and was seen as y with an error N(0, R), R in
    blocks of 2 x 2: x solves (inv(R) + P) (x - m) = inv(R) (y - m), here by conjugate gradients,
    since ONNX and LiteRT solve no equations. Where a heatmap is spread along a contour, neighbours
    decide how far along a point lies. So does a point distribution model (Cootes 1995), but each
    point counts by its own uncertainty.

    Args:
        points: (B, K, 2), pixels.
        covariance: (B, K, 3): xx, xy, yy of each point's error, square pixels.
        mean, precision: of `Shapes`. A mean of zeros knows no shape: the points stay.

    Returns:
        Points (B, K, 2).
    """
    landmarks = points.shape[1]
    precision = ops.convert_to_tensor(precision)
    centre = ops.mean(points, axis=1, keepdims=True)
    seen = points - centre
    c, s = similarity(seen, mean)
    seen = _turned(seen, c, s) - mean
    xx, xy, yy = (covariance[..., i] for i in range(3))
    blurred = (
        c * c * xx - 2.0 * c * s * xy + s * s * yy,
        c * s * (xx - yy) + (c * c - s * s) * xy,
        s * s * xx + 2.0 * c * s * xy + c * c * yy,
    )
    sure = _inverse(blurred)
    own = _inverse(
        tuple(a + b for a, b in zip(sure, _own_blocks(precision, landmarks), strict=True))
    )

    def product(x):
        others = ops.matmul(ops.reshape(x, (-1, 2 * landmarks)), precision)
        return _times(sure, x) + ops.reshape(others, (-1, landmarks, 2))

    def dot(a, b):
        return ops.sum(a * b, axis=(1, 2), keepdims=True)

    def step(x, rest, towards, length):
        changed = product(towards)
        share = length / (dot(towards, changed) + SMALL)
        rest = rest - share * changed
        eased = _times(own, rest)
        longer = dot(rest, eased)
        onwards = eased + longer / (length + SMALL) * towards
        return x + share * towards, rest, onwards, longer

    rest = _times(sure, seen) - product(seen)
    towards = _times(own, rest)
    state = (seen, rest, towards, dot(rest, towards))
    found = ops.while_loop(lambda *_: True, step, state, maximum_iterations=STEPS)[0]
    turn = c * c + s * s
    back = centre + _turned(found + mean, c, -s) / (turn + EPSILON)[..., None]
    return ops.where((turn > EPSILON)[..., None], back, points)


def similarity(points, others, weight=1.0):
    """The similarity of least squares that lays points onto others, both less their centres.

    Args:
        points, others: (B, K, 2) or (K, 2).
        weight: (B, K, 1), of their squares.

    Returns:
        c and s, (B, 1): it turns and scales (x, y) to (c x - s y, s x + c y).
    """
    size = ops.sum(weight * points * points, axis=(-2, -1)) + EPSILON
    c = ops.sum(weight * points * others, axis=(-2, -1)) / size
    s = ops.sum(weight * _cross(points, others)[..., None], axis=(-2, -1)) / size
    return c[:, None], s[:, None]


def unblurred(covariance, variance: float):
    """What is left of covariances when the target's own variance is taken off them.

    A heatmap that was trained towards a Gaussian is as spread as that Gaussian where the landmark
    is certain.

    Args:
        covariance: (B, K, 3): xx, xy, yy, square pixels.
        variance: of the target along each axis, square pixels.

    Returns:
        The same shape; a point is at least `LEAST_SPREAD` of the variance uncertain in any
        direction.
    """
    xx, xy, yy = covariance[..., 0] - variance, covariance[..., 1], covariance[..., 2] - variance
    middle, half = (xx + yy) / 2.0, (xx - yy) / 2.0
    root = ops.sqrt(half * half + xy * xy)
    least = LEAST_SPREAD * variance
    narrow = ops.maximum(middle - root, least)
    stretch = (ops.maximum(middle + root, least) - narrow) / (2.0 * root + SMALL)
    parts = (xx - middle + root, xy, yy - middle + root)
    xx, xy, yy = (stretch * part for part in parts)
    return ops.stack([xx + narrow, xy, yy + narrow], axis=-1)


def _own_blocks(precision, landmarks: int):
    """xx, xy, yy of each landmark's block (2, 2) on the diagonal of (2K, 2K)."""
    blocks = ops.reshape(precision, (landmarks, 2, landmarks, 2))
    own = ops.sum(blocks * np.eye(landmarks, dtype="float32")[:, None, :, None], axis=2)
    return own[:, 0, 0], own[:, 0, 1], own[:, 1, 1]


def _inverse(blocks):
    """Of symmetric blocks (2, 2) as xx, xy, yy."""
    xx, xy, yy = blocks
    determinant = xx * yy - xy * xy
    return yy / determinant, -xy / determinant, xx / determinant


def _times(blocks, points):
    """Points (B, K, 2), each multiplied by a symmetric block."""
    xx, xy, yy = blocks
    x, y = points[..., 0], points[..., 1]
    return ops.stack([xx * x + xy * y, xy * x + yy * y], axis=-1)


def _turned(points, c, s):
    """Points (B, K, 2) turned and scaled by the similarities (c, s), each (B, 1)."""
    x, y = points[..., 0], points[..., 1]
    return ops.stack([c * x - s * y, s * x + c * y], axis=-1)


def _cross(a, b):
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
