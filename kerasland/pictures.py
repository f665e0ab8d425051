"""Radiographs as pictures: grey values for the eye, and landmarks as discs. NumPy and Pillow only.

`predict` draws with it, which then need not wait for Matplotlib.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kerasland import geometry

PREDICTED = "#E69F00"
ANNOTATED = "#56B4E9"
_DRAWN_PX = 1000
_DISC_PX, _EDGE_PX, _LETTERS_PX = 3.9, 0.9, 13.0  # where the longer side is 1000
_SAMPLED_ROWS = 300
_SURE = 0.5  # below this confidence a landmark is drawn as a ring
_RING = 1.6  # radius of a ring, of a disc's


class Drawing:
    """A radiograph in grey to draw landmarks on, in a small part of the time of a figure
    (`overlays.overlay`); it does not keep the image.

    Args:
        image: (H, W) or (H, W, 1), any number type; shown as by `scaled`, in 8 bits. The longer
            side of the picture is 1000 pixels, or, of larger images, 750 to 1500, a whole number of
            times smaller.
    """

    def __init__(self, image: np.ndarray):
        self.image_shape = np.shape(image)[:2]
        longer = max(self.image_shape)
        whole = max(1, round(longer / _DRAWN_PX))
        self._scale = 1.0 / whole if longer > _DRAWN_PX else _DRAWN_PX / longer
        self._grey = in_8_bits(_resized(image, self._scale))

    def marked(
        self,
        points: np.ndarray,
        confidence: np.ndarray | None = None,
        names: Sequence[str] | None = None,
    ) -> Image.Image:
        """The picture with landmarks as discs.

        Args:
            points: (K, 2), pixels of the image; those outside or with NaN are left out.
            confidence: (K,); landmarks with less than 0.5 are rings instead, which are larger.
            names: K texts to write beside them, see `shown_names`.
        """
        canvas = self._grey.convert("RGB")
        radius, edge = np.array([_DISC_PX, _EDGE_PX]) * max(canvas.size) / _DRAWN_PX
        points, limits = np.asarray(points), np.array(self.image_shape[::-1]) - 0.5
        within = ((points >= -0.5) & (points <= limits)).all(axis=-1)
        sure = np.ones(len(points)) if confidence is None else np.asarray(confidence)
        places = geometry.Similarity(self._scale, 0.0, 0.0).apply(points[within])
        corners = np.rint(places).astype(int) - (int(np.ceil(_RING * radius)) + 2)
        doubtful = sure[within] < _SURE
        outer = np.where(doubtful, _RING, 1.0) * radius
        hole = np.where(doubtful, outer - 3 * edge, -1.0)
        black, orange = (_rings(places - corners, size, hole) for size in (outer, outer - edge))
        if names is not None:
            readable = shown_names(names, _has)
            shown = [name for name, here in zip(readable, within, strict=True) if here]
            _write(canvas, shown, places, 2 * radius)
        for corner, edge_mask, disc_mask in zip(corners.tolist(), black, orange, strict=True):
            canvas.paste("black", tuple(corner), Image.fromarray(edge_mask))
            canvas.paste(PREDICTED, tuple(corner), Image.fromarray(disc_mask))
        return canvas


def _write(canvas: Image.Image, names: Sequence[str], places: np.ndarray, gap: float) -> None:
    """Names to the right of places (N, 2), or to the left where the picture ends."""
    size = _LETTERS_PX * max(canvas.size) / _DRAWN_PX
    pen, font = ImageDraw.Draw(canvas), _font(size)
    for name, (x, y) in zip(names, places.tolist(), strict=True):
        fits = x + gap + font.getlength(name) <= canvas.width
        place = (x + gap, y) if fits else (x - gap, y)
        how = {"anchor": "lm" if fits else "rm", "stroke_width": max(1, round(size / 8))}
        pen.text(place, name, "white", font, stroke_fill="black", **how)


def shown_names(names: Sequence[object], has: Callable[[str], bool]) -> list[str]:
    """Names as a picture can show them: one with a letter that the font has not, as `has` says, is
    the number of its landmark, from 0."""
    return [
        name if all(has(letter) for letter in name if letter.isprintable()) else str(k)
        for k, name in enumerate(map(str, names))
    ]


def _font(size: float) -> ImageFont.FreeTypeFont:
    """Matplotlib's, found without its import; where it is kept elsewhere, as by some systems,
    Pillow's own, which has fewer letters."""
    matplotlib = Path(importlib.util.find_spec("matplotlib").origin).parent
    path = matplotlib / "mpl-data/fonts/ttf/DejaVuSans.ttf"
    if not path.exists():
        return ImageFont.load_default(size)
    return ImageFont.truetype(path, size)


@functools.cache
def _has(letter: str) -> bool:
    """Whether the font has a letter: it does not look like U+FFFF, which is none."""
    font = _font(20)
    return bytes(font.getmask(letter)) != bytes(font.getmask("\uffff"))


def _rings(centres: np.ndarray, outer: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """How much of each pixel N rings cover, 0 to 255, in squares with the centres in their middle.

    Args:
        centres: (N, 2), (x, y), pixels of the squares.
        outer, hole: (N,), radii, pixels; a hole below 0 is none.

    Returns:
        (N, S, S), uint8.
    """
    pixels = np.arange(2 * int(centres.max(initial=0.0) + 0.5) + 1)
    x, y = (centres[:, i, None, None] for i in (0, 1))
    distance = np.hypot(pixels - x, pixels[:, None] - y)
    outer, hole = outer[:, None, None], hole[:, None, None]
    cover = np.clip(outer + 0.5 - distance, 0.0, 1.0) - np.clip(hole + 0.5 - distance, 0.0, 1.0)
    return np.rint(255 * cover).astype(np.uint8)


def scaled(image: np.ndarray, scale: float) -> np.ndarray:
    """A radiograph at another scale, its contrast stretched between two percentiles.

    Args:
        image: (H, W) or (H, W, 1), any number type.
        scale: pixels of the result a pixel of the image.

    Returns:
        Grey, float32, 0..1.
    """
    image = _resized(image, scale)
    return _stretched(image, *_limits(image))


def _resized(image: np.ndarray, scale: float) -> np.ndarray:
    image = np.asarray(image)
    image = image[..., 0] if image.ndim == 3 else image
    if scale == 1.0:
        return image
    rows, columns = (max(1, int(size * scale + 1e-6)) for size in image.shape)
    whole = round(1.0 / scale)
    if image.dtype == np.uint8 and whole * scale == 1.0 and whole <= min(image.shape):
        box = (0, 0, whole * columns, whole * rows)
        return np.asarray(Image.fromarray(image).reduce(whole, box))  # five times as fast
    return geometry.resample(image, (rows, columns), geometry.Similarity(scale, 0.0, 0.0))


def _limits(image: np.ndarray) -> tuple[float, float]:
    """The values to be shown as black and as white."""
    step = max(1, image.shape[0] // _SAMPLED_ROWS)
    sample = image[::step, ::step].astype(np.float32)
    dark, bright = np.percentile(sample, (0.5, 99.5))
    return (dark, bright) if bright > dark else (float(image.min()), float(image.max()))


def _stretched(values: np.ndarray, dark: float, bright: float) -> np.ndarray:
    """Grey, float32, 0..1."""
    grey = values.astype(np.float32) - np.float32(dark)
    flat = bright - dark <= 1e-5 * abs(bright)  # but for what resampling rounds
    grey *= np.float32(0.0 if flat else 1.0 / (bright - dark))
    return np.clip(grey, 0.0, 1.0, out=grey)


def in_8_bits(image: np.ndarray) -> Image.Image:
    """A radiograph (H, W) as a grey picture of that size, its contrast stretched between two
    percentiles."""
    # of 8 bits by a table, in a third of the time
    limits, by_table = _limits(image), image.dtype == np.uint8
    values = np.arange(256) if by_table else image
    grey = (255 * _stretched(values, *limits) + 0.5).astype(np.uint8)
    return Image.fromarray(image).point(grey.tolist()) if by_table else Image.fromarray(grey)
