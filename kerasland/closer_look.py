"""Parts of an image: turned, and where they show its subject as large and upright as in training.

Points are complex numbers here (`geometry.as_complex`), a similarity is a product and a sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from kerasland.geometry import as_complex, as_points, letterbox

# none of 112 radiographs of hands is smaller, against the usual size, or turned further
LEAST_SIZE, MOST_TURNED_DEG = 0.85, 10.0
LEAST_PX = 32  # of an image's side, and of a view's
CORNER = 0.5 + 0.5j  # from the edge of an image to the centre of its first pixel


class Place(NamedTuple):
    """Where a shape lies: its point p is at `turn * p + centre`, pixels."""

    turn: complex
    centre: complex

    @classmethod
    def by(cls, numbers: Sequence[float]) -> Place:
        """The place of which `numbers` are the real and imaginary parts."""
        return cls(complex(*numbers[:2]), complex(*numbers[2:]))

    def numbers(self) -> tuple[float, float, float, float]:
        """Its real and imaginary parts, which JSON can hold."""
        return self.turn.real, self.turn.imag, self.centre.real, self.centre.imag


class View(NamedTuple):
    """A turned rectangle of an image: its point p is the image's `turn * p + corner`.

    shape: (H, W), pixels as large as the image's. turn: of length 1.
    """

    shape: tuple[int, int]
    turn: complex
    corner: complex

    def of(self, image: np.ndarray) -> np.ndarray:
        """What an image (H, W) shows there, in its dtype; dark outside of it."""
        x, y = self.corner.real, self.corner.imag
        if self.turn == 1:
            return image[int(y) : int(y) + self.shape[0], int(x) : int(x) + self.shape[1]]
        for turns in (1, 2, 3):
            if self == quarter_turned(image.shape, turns):
                return np.rot90(image, turns)
        cos, sin = self.turn.real, self.turn.imag
        rows = [[cos, sin], [-sin, cos]]  # SciPy has y first
        kept = {"order": 1, "cval": float(image.min()), "output": image.dtype}
        return ndimage.affine_transform(image, rows, (y, x), self.shape, **kept)

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 2) of the image, in the rectangle."""
        return as_points(np.conj(self.turn) * (as_complex(points) - self.corner))

    def invert(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 2) of the rectangle, in the image."""
        return as_points(self.turn * as_complex(points) + self.corner)


def quarter_turned(image_shape: tuple[int, int], turns: int) -> View:
    """A whole image (H, W), turned by so many times 90 degrees against the clock."""
    height, width = image_shape
    right, bottom = width - 1, (height - 1) * 1j
    corner = (0j, right + 0j, right + bottom, bottom)[turns]
    return View((width, height) if turns % 2 else (height, width), 1j**turns, corner)


def laid_onto(mean: np.ndarray, points: np.ndarray, weight: np.ndarray) -> Place:
    """Where a mean shape (K, 2) lies that is laid onto points (K, 2) by weighted least squares."""
    shape, seen, weight = as_complex(mean), as_complex(points), weight / weight.sum()
    middle, centre = weight @ shape, weight @ seen
    shape, seen = shape - middle, seen - centre
    turn = (weight * shape.conj()) @ seen / (weight @ np.abs(shape) ** 2)
    return Place(complex(turn), complex(centre - turn * middle))


def usual_place(mean: np.ndarray, points: np.ndarray) -> Place | None:
    """The mean of the places where training images have a shape.

    Args:
        mean: (K, 2).
        points: (N, K, 2), pixels of one frame; images with an unknown landmark are left out.

    Returns:
        None where more than a tenth of the images would not pass for usual.
    """
    known = points[np.isfinite(points).all(axis=(1, 2))]
    turns, centres = np.transpose([laid_onto(mean, p, np.ones(len(p))) for p in known])
    usual = Place(complex(turns.mean()), complex(centres.mean()))
    return usual if np.mean(_large_and_upright(turns / usual.turn)) >= 0.9 else None


def closer(
    image_shape: tuple[int, int], frame_shape: tuple[int, int], found: Place, usual: Place
) -> View | None:
    """The part of an image in which a subject has its usual size, place and direction.

    Args:
        image_shape: (H, W).
        frame_shape: (H, W) of the network.
        found: where the subject is, pixels of the image.
        usual: where it is in training images, pixels of the frame.

    Returns:
        None where it is large and upright enough in the whole image, or nowhere (NaN).
    """
    relative = found.turn / usual.turn  # turns, and is the image's pixels per pixel of the frame
    usual_already = _large_and_upright(relative * letterbox(image_shape, frame_shape).scale)
    if usual_already or not np.isfinite(relative):
        return None
    size, upright = abs(relative), _upright(relative)
    turn = 1.0 if upright else relative / size
    corner = found.centre - size * turn * (usual.centre + CORNER) + turn * CORNER
    high, wide = (size * side for side in frame_shape)
    if upright:  # whole pixels, which need no interpolation
        left, right = (_edge(x, image_shape[1]) for x in (corner.real, corner.real + wide))
        top, bottom = (_edge(y, image_shape[0]) for y in (corner.imag, corner.imag + high))
        view = View((bottom - top, right - left), 1, left + 1j * top)
    else:
        view = _within(image_shape, turn, corner, (high, wide))
    return view if min(view.shape) >= LEAST_PX else None


def _large_and_upright(relative):
    """Whether so many times the usual turn passes for usual."""
    return (np.abs(relative) >= LEAST_SIZE) & _upright(relative)


def _upright(relative):
    return np.abs(np.degrees(np.angle(relative))) <= MOST_TURNED_DEG


def _edge(at: float, size: int) -> int:
    return round(min(max(at, 0.0), size))


def _within(
    image_shape: tuple[int, int], turn: complex, corner: complex, whole: tuple[float, float]
) -> View:
    """A turned rectangle, less rows and columns that lie wholly beside the image.

    Args:
        turn, corner: as in `View`.
        whole: (H, W) before anything is left out.
    """
    height, width = image_shape
    ends = np.array([0, width, height * 1j, width + height * 1j]) - CORNER
    ends = (ends - corner) * np.conj(turn) + CORNER  # from the upper left edge of the rectangle
    left, right = max(0, round(ends.real.min())), min(round(whole[1]), round(ends.real.max()))
    top, bottom = max(0, round(ends.imag.min())), min(round(whole[0]), round(ends.imag.max()))
    return View((bottom - top, right - left), turn, corner + turn * (left + 1j * top))
