"""Radiographs as pictures: grey values for the eye, and landmarks as discs. NumPy and Pillow only.

`predict` draws with it, which then need not wait for Matplotlib.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageColor

from kerasland import geometry

PREDICTED = "#E69F00"
ANNOTATED = "#56B4E9"
_DRAWN_PX = 1000
_DISC_PX, _EDGE_PX = 3.9, 0.9  # where the longer side is 1000
_SAMPLED_ROWS = 300
_SURE = 0.5  # below this confidence a landmark is drawn as a ring
_RING = 1.6  # radius of a ring, of a disc's


def draw(
    image: np.ndarray, points: np.ndarray, confidence: np.ndarray | None = None
) -> Image.Image:
    """The radiograph in grey with its landmarks as discs, in a small part of the time of a figure
    (`overlays.overlay`).

    Args:
        image: (H, W) or (H, W, 1), any number type; shown as by `scaled`.
        points: (K, 2), landmarks, pixels of the image; those outside or with NaN are left out.
        confidence: (K,); landmarks with less than 0.5 are rings instead, which are larger.

    Returns:
        A picture in the shape of the image. Its longer side is 1000 pixels, or, of larger images,
        750 to 1500, a whole number of times smaller.
    """
    longer = max(np.shape(image)[:2])
    whole = max(1, round(longer / _DRAWN_PX))
    grey, scale = scaled(image, 1.0 / whole if longer > _DRAWN_PX else _DRAWN_PX / longer)
    height, width = grey.shape
    radius, edge = np.array([_DISC_PX, _EDGE_PX]) * max(height, width) / _DRAWN_PX
    reach = int(np.ceil(_RING * radius)) + 2
    canvas = np.array(Image.fromarray((255 * grey + 0.5).astype(np.uint8)).convert("RGB"))
    points, limits = np.asarray(points), np.array(np.shape(image)[1::-1]) - 0.5
    within = ((points >= -0.5) & (points <= limits)).all(axis=-1)
    sure = np.ones(len(points)) if confidence is None else np.asarray(confidence)
    places = geometry.Similarity(scale, 0.0, 0.0).apply(points[within])
    for (x, y), doubtful in zip(places, sure[within] < _SURE, strict=True):
        rows = np.arange(max(0, round(y) - reach), min(height, round(y) + reach + 1))
        columns = np.arange(max(0, round(x) - reach), min(width, round(x) + reach + 1))
        distance = np.hypot(rows[:, None] - y, columns - x)[..., None]
        place = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        patch = canvas[place].astype(np.float64)
        outer = _RING * radius if doubtful else radius
        hole = outer - 3 * edge if doubtful else -1.0
        for size, color in ((outer, "black"), (outer - edge, PREDICTED)):
            cover = np.clip(size + 0.5 - distance, 0.0, 1.0)
            cover -= np.clip(hole + 0.5 - distance, 0.0, 1.0)
            patch += cover * (np.array(ImageColor.getrgb(color)) - patch)
        canvas[place] = np.rint(patch)
    return Image.fromarray(canvas)


def scaled(image: np.ndarray, scale: float) -> tuple[np.ndarray, float]:
    """A radiograph at another scale, its contrast stretched between two percentiles.

    Args:
        image: (H, W) or (H, W, 1), any number type.
        scale: pixels of the result a pixel of the image.

    Returns:
        Grey, float32, 0..1, and the scale.
    """
    image = np.asarray(image)
    image = image[..., 0] if image.ndim == 3 else image
    if scale != 1.0:
        rows, columns = (max(1, int(size * scale + 1e-6)) for size in image.shape)
        whole = round(1.0 / scale)
        if image.dtype == np.uint8 and whole * scale == 1.0 and whole <= min(image.shape):
            box = (0, 0, whole * columns, whole * rows)
            image = np.asarray(Image.fromarray(image).reduce(whole, box))  # five times as fast
        else:
            fit = geometry.Similarity(scale, 0.0, 0.0)
            image = geometry.resample(image, (rows, columns), fit)
    image = image.astype(np.float32, copy=False)
    step = max(1, image.shape[0] // _SAMPLED_ROWS)
    dark, bright = np.percentile(image[::step, ::step], (0.5, 99.5))
    if bright <= dark:
        dark, bright = image.min(), image.max()
    grey = image - np.float32(dark)
    flat = bright - dark <= 1e-5 * abs(bright)  # but for what resampling rounds
    grey *= np.float32(0.0 if flat else 1.0 / (bright - dark))
    return np.clip(grey, 0.0, 1.0, out=grey), scale
