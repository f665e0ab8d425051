"""Drawn shapes with known answers: an anti-aliased disc and its centre as the pixels show it."""

import numpy as np


def disc(shape, centre, radius):
    """A disc of height 1 on 0, each pixel the share of its 5 x 5 sub-pixels that lie within.

    shape: (H, W). centre: (x, y), pixels, the centre of the first pixel being (0, 0).
    """
    sub = (np.arange(5) + 0.5) / 5 - 0.5
    x = (np.arange(shape[1])[:, None] + sub).ravel() - centre[0]
    y = (np.arange(shape[0])[:, None] + sub).ravel() - centre[1]
    inside = x[None, :] ** 2 + y[:, None] ** 2 <= radius**2
    return inside.reshape(shape[0], 5, shape[1], 5).mean(axis=(1, 3)).astype(np.float32)


def centroid(image):
    """(x, y) of an image's intensities, pixels."""
    image = np.asarray(image, dtype=np.float64)
    rows, columns = np.indices(image.shape)
    return np.array([(image * columns).sum(), (image * rows).sum()]) / image.sum()
