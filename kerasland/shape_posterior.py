"""Where a landmark and all the others together say it is, by how its heatmap is spread."""

from __future__ import annotations

from keras import ops

from kerasland import shape_algebra as algebra

LEAST_SPREAD = 1 / 36  # of the target's variance
LEAST_CONFIDENCE, DOUBT = 0.05, 4


def posterior(points, covariance, mean, precision):
    """Points, each where it and all others together say: the mean of their posterior.

    The aligned shape x has the prior N(m, inv(P)) and was seen as y with an error N(0, R), R in
    blocks of 2 x 2: x solves (inv(R) + P) (x - m) = inv(R) (y - m). Where a heatmap is spread along
    a contour, neighbours decide how far along a point lies. So does a point distribution model
    (Cootes 1995), but each point counts by its own uncertainty.

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
    c, s = algebra.similarity(seen, mean)
    seen = algebra.turned(seen, c, s) - mean
    xx, xy, yy = (covariance[..., i] for i in range(3))
    blurred = (
        c * c * xx - 2.0 * c * s * xy + s * s * yy,
        c * s * (xx - yy) + (c * c - s * s) * xy,
        s * s * xx + 2.0 * c * s * xy + c * c * yy,
    )
    sure = algebra.inverse(blurred)
    own = algebra.inverse(
        tuple(a + b for a, b in zip(sure, algebra.own_blocks(precision, landmarks), strict=True))
    )

    def product(x):
        return algebra.times(sure, x) + algebra.multiplied(precision, x)

    rest = algebra.times(sure, seen) - product(seen)
    found = algebra.solved(product, lambda x: algebra.times(own, x), seen, rest)
    turn = c * c + s * s
    back = centre + algebra.turned(found + mean, c, -s) / (turn + algebra.EPSILON)[..., None]
    return ops.where((turn > algebra.EPSILON)[..., None], back, points)


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
    stretch = (ops.maximum(middle + root, least) - narrow) / (2.0 * root + algebra.SMALL)
    parts = (xx - middle + root, xy, yy - middle + root)
    xx, xy, yy = (stretch * part for part in parts)
    return ops.stack([xx + narrow, xy, yy + narrow], axis=-1)


def doubted(covariance, confidence):
    """Covariances (B, K, 3), larger where the heatmap has peaks elsewhere too: divided by the
    confidence (B, K) to the power `DOUBT`."""
    return covariance / ops.maximum(confidence, LEAST_CONFIDENCE)[..., None] ** DOUBT
