"""The coordinate convention, maps of points and images, millimetres. NumPy and SciPy only.

Points are (x, y) in pixels, x to the right and y down; the centre of the first pixel is (0, 0), so
an image of width W covers x from -0.5 to W - 0.5. Resizing by s maps p to (p + 0.5) * s - 0.5.
What has to do the same within a graph (`resampling`, `views`, `augmentation`) is tested
against the functions below.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

# source pixels by which a target pixel's centre may lie outside the image and count as inside:
# where the image's edge falls on one, as with 1850 x 1600 in 640 x 480, rounding must not decide
EDGE = 0.01
BAND = 128  # rows resampled at once: as many as stay in a processor's cache


class Similarity(NamedTuple):
    """Uniform scale and shift of a frame: `p -> (p + 0.5) * scale + shift - 0.5`.

    scale: target pixels per source pixel. shift_x, shift_y: target pixels.
    """

    scale: float
    shift_x: float
    shift_y: float

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 2) of the source frame, in the target frame. NaN stays NaN."""
        points = np.asarray(points, dtype=np.float64)
        return (points + 0.5) * self.scale + (self.shift_x, self.shift_y) - 0.5

    def invert(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 2) of the target frame, in the source frame. NaN stays NaN."""
        points = np.asarray(points, dtype=np.float64)
        return (points + 0.5 - (self.shift_x, self.shift_y)) / self.scale - 0.5


class Spacing(NamedTuple):
    """The size of a pixel.

    x_mm: millimetres between columns. y_mm: between rows. source: what states it, such as a tag of
    the image's file.
    """

    x_mm: float
    y_mm: float
    source: str


def letterbox(source_shape: tuple[int, int], target_shape: tuple[int, int]) -> Similarity:
    """The similarity that fits an image into a frame, centred, with its aspect ratio kept.

    Args:
        source_shape: (H, W) of the image, in pixels.
        target_shape: (H, W) of the frame, in pixels.

    Returns:
        `Similarity` from image pixels to frame pixels.
    """
    (source_h, source_w), (target_h, target_w) = source_shape, target_shape
    scale = min(target_h / source_h, target_w / source_w)
    return Similarity(scale, (target_w - scale * source_w) / 2, (target_h - scale * source_h) / 2)


def resample(image: np.ndarray, target_shape: tuple[int, int], fit: Similarity) -> np.ndarray:
    """An image under a similarity, anti-aliased linear, float32 with intensities as in the image.

    Args:
        image: (H, W), any real dtype.
        target_shape: (H, W) of the result.
        fit: image pixels to target pixels.

    Returns:
        `target_shape`; 0 outside the image.
    """
    rows = resample_matrix(image.shape[0], target_shape[0], fit.scale, fit.shift_y)
    columns = resample_matrix(image.shape[1], target_shape[1], fit.scale, fit.shift_x).T
    made = np.zeros(target_shape, np.float32)
    for start in range(0, target_shape[0], BAND):
        band = rows[start : start + BAND]
        if band.nnz:
            seen = np.s_[band.indices.min() : band.indices.max() + 1]
            made[start : start + BAND] = band[:, seen] @ image[seen].astype(np.float32) @ columns
    return made


def letterboxed(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A radiograph in the frame of the network, float32, 0 around it.

    Intensities are as in the image, but for 16 bits, which begin at 0: where a file's 12 bits lie
    at the upper end of 16, the 0 around the image would take all contrast.

    Args:
        image: (H, W), any real dtype.
        shape: (H, W) of the frame.
    """
    image = image - image.min() if image.dtype == np.uint16 else image
    return resample(image, shape, letterbox(image.shape, shape))


def resample_matrix(
    source_size: int, target_size: int, scale: float, shift: float
) -> sparse.csr_array:
    """Anti-aliased linear resampling along one axis, as a matrix.

    Row i holds the weights of the source pixels in target pixel i, under the map
    `(p + 0.5) * scale + shift - 0.5`. The kernel is a triangle as wide as the coarser of the two
    grids (as in `tf.image.resize(antialias=True)`); the weights of a row sum to 1 where the target
    pixel's centre lies inside the source, or on its edge, and are all 0 outside.

    Args:
        source_size, target_size: pixels along the axis.
        scale: target pixels per source pixel.
        shift: target pixels.

    Returns:
        (target_size, source_size), float32, sparse.
    """
    centre = (np.arange(target_size, dtype=np.float64) + 0.5 - shift) / scale - 0.5
    reach = max(1.0, 1.0 / scale)
    first = np.floor(centre - reach).astype(np.int64) + 1
    index = first[:, None] + np.arange(int(np.ceil(2 * reach)))
    weight = np.maximum(0.0, 1.0 - np.abs(index - centre[:, None]) / reach)
    inside = (centre > -0.5 - EDGE) & (centre < source_size - 0.5 + EDGE)
    kept = (index >= 0) & (index < source_size) & (weight > 0) & inside[:, None]
    weight = np.where(kept, weight, 0.0)
    weight /= np.maximum(weight.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    ends = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
    shape = (target_size, source_size)
    return sparse.csr_array((weight[kept].astype(np.float32), index[kept], ends), shape=shape)


def rotation(radians: float) -> np.ndarray:
    """The matrix (2, 2) that turns (x, y), clockwise on the screen since y points down."""
    cos, sin = np.cos(radians), np.sin(radians)
    return np.array([[cos, -sin], [sin, cos]])


def as_complex(points: np.ndarray) -> np.ndarray:
    """Points (..., 2) as numbers x + iy, (...,): a product turns and scales them, a sum moves."""
    points = np.asarray(points, np.float64)
    return points[..., 0] + 1j * points[..., 1]


def as_points(numbers: np.ndarray) -> np.ndarray:
    """Numbers x + iy, (...,), as points (..., 2)."""
    return np.stack([numbers.real, numbers.imag], axis=-1)


def mirrored(points: np.ndarray, width: int) -> np.ndarray:
    """Points (..., 2) of an image of that width, in the image turned left to right; pixels."""
    return np.stack([width - 1 - points[..., 0], points[..., 1]], axis=-1)


def mm_per_px(points: np.ndarray, landmarks: tuple[int, int], length_mm: float) -> np.ndarray:
    """Millimetres a pixel from the known length between two landmarks.

    Hand radiographs carry no spacing; the field sets the width of the wrist, landmarks (0, 4)
    counted from zero, to 50 mm.

    Args:
        points: (..., K, 2), pixels.
        landmarks: the two indices.
        length_mm: the distance between them.

    Returns:
        (...,); NaN where one of the two is not annotated or they coincide.
    """
    points = np.asarray(points, dtype=np.float64)
    a, b = landmarks
    width_px = np.linalg.norm(points[..., a, :] - points[..., b, :], axis=-1)
    return length_mm / np.where(width_px > 0, width_px, np.nan)
