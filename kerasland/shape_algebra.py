"""Algebra of shapes within a graph: similarities of the plane, symmetric blocks of 2 x 2."""

from __future__ import annotations

import numpy as np
from keras import ops

EPSILON = 1e-9
SMALL = 1e-6  # which float16 exports do not turn into 0
STEPS = 24  # of conjugate gradients; 20 bring 120 landmarks to 0.01 pixels


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
    s = ops.sum(weight * cross(points, others)[..., None], axis=(-2, -1)) / size
    return c[:, None], s[:, None]


def own_blocks(precision, landmarks: int):
    """xx, xy, yy of each landmark's block (2, 2) on the diagonal of (2K, 2K)."""
    blocks = ops.reshape(precision, (landmarks, 2, landmarks, 2))
    own = ops.sum(blocks * np.eye(landmarks, dtype="float32")[:, None, :, None], axis=2)
    return own[:, 0, 0], own[:, 0, 1], own[:, 1, 1]


def inverse(blocks):
    """Of symmetric blocks (2, 2) as xx, xy, yy."""
    xx, xy, yy = blocks
    determinant = xx * yy - xy * xy
    return yy / determinant, -xy / determinant, xx / determinant


def times(blocks, points):
    """Points (B, K, 2), each multiplied by a symmetric block."""
    xx, xy, yy = blocks
    x, y = points[..., 0], points[..., 1]
    return ops.stack([xx * x + xy * y, xy * x + yy * y], axis=-1)


def multiplied(matrix, points):
    """Points (B, K, 2), multiplied as x0, y0, x1, ... by a symmetric matrix (2K, 2K)."""
    landmarks = points.shape[1]
    rows = ops.matmul(ops.reshape(points, (-1, 2 * landmarks)), matrix)
    return ops.reshape(rows, (-1, landmarks, 2))


def turned(points, c, s):
    """Points (B, K, 2) turned and scaled by the similarities (c, s), each (B, 1)."""
    x, y = points[..., 0], points[..., 1]
    return ops.stack([c * x - s * y, s * x + c * y], axis=-1)


def cross(a, b):
    """x y' - y x' of points (..., 2)."""
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def solved(product, own, start, rest, wanted=True):
    """What solves equations with a symmetric matrix, by `STEPS` of conjugate gradients, since ONNX
    and LiteRT solve no equations.

    Args:
        product: of the matrix with points (B, K, 2).
        own: of points with the inverses of the matrix's blocks (2, 2).
        start: (B, K, 2).
        rest: (B, K, 2), of the right side less the product with the start.
        wanted: a scalar; False: the start will do.

    Returns:
        (B, K, 2).
    """

    def dot(a, b):
        return ops.sum(a * b, axis=(1, 2), keepdims=True)

    def step(x, rest, towards, length):
        changed = product(towards)
        share = length / (dot(towards, changed) + SMALL)
        rest = rest - share * changed
        eased = own(rest)
        longer = dot(rest, eased)
        onwards = eased + longer / (length + SMALL) * towards
        return x + share * towards, rest, onwards, longer

    towards = own(rest)
    state = (start, rest, towards, dot(rest, towards))
    return ops.while_loop(lambda *_: wanted, step, state, maximum_iterations=STEPS)[0]
