"""How the points of one image lie against the mean shape of all, for finding mistakes.

Shapes are complex numbers (`geometry.as_complex`); a similarity (turn, scale, shift) is then
z -> a z + b, and exchanging x and y or left and right is the conjugate, which no similarity can
undo.
"""

from __future__ import annotations

import numpy as np

ROUNDS = 6
FEWEST_IMAGES = 5
FEWEST_POINTS = 4


def align(shape: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, complex]:
    """A shape (K,) moved onto a target (K,) by the best similarity, and its factor a."""
    both = np.isfinite(shape) & np.isfinite(target)
    if both.sum() < 2:
        return np.full_like(shape, np.nan), np.nan
    centred = shape - shape[both].mean()
    goal = target[both] - target[both].mean()
    size = np.vdot(centred[both], centred[both]).real
    factor = np.vdot(centred[both], goal) / size if size > 0 else np.nan
    return factor * centred + target[both].mean(), factor


def mean_shape(shapes: np.ndarray) -> np.ndarray:
    """The robust mean (K,) of shapes (N, K): centred, of unit size, upright as most images are."""
    moved = shapes - np.nanmean(shapes, axis=1, keepdims=True)
    size = np.sqrt(np.nanmean(np.abs(moved) ** 2, axis=1, keepdims=True))
    moved = moved / np.where(size > 0, size, np.nan)
    for _ in range(ROUNDS):
        mean = np.nanmedian(moved.real, axis=0) + 1j * np.nanmedian(moved.imag, axis=0)
        mean = mean - np.nanmean(mean)
        mean = mean / np.sqrt(np.nanmean(np.abs(mean) ** 2))
        moved = np.array([align(shape, mean)[0] for shape in shapes])
    return mean


def misfit(shape: np.ndarray, mean: np.ndarray) -> tuple[float, float]:
    """Root mean square distance from the mean shape after alignment, in the mean shape's size, and
    how far it was turned for that, in radians."""
    moved, factor = align(shape, mean)
    return float(np.sqrt(np.nanmean(np.abs(moved - mean) ** 2))), float(abs(np.angle(factor)))


def exchanged(shape: np.ndarray, mean: np.ndarray) -> str | None:
    """What was exchanged, if the shape fits the mean twice as well after it."""
    as_is, _ = misfit(shape, mean)
    ways = {"x and y": 1j, "left and right": -1, "up and down": 1}
    fits = {what: misfit(way * shape.conj(), mean) for what, way in ways.items()}
    reflected, _ = fits["x and y"]  # a reflection is as good as the next, but for the turn
    return min(fits, key=lambda what: fits[what][1]) if reflected < as_is / 2 else None


def usable(shapes: np.ndarray) -> np.ndarray:
    """(N,) whether a shape has enough points to be compared."""
    return np.isfinite(shapes).sum(axis=1) >= FEWEST_POINTS
