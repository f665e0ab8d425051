"""Augmentation of a training image: pixels and points move together, then intensities change.

Stateless: a seed decides everything. Written as few operations on whole planes, since it runs on
the cores that the network wants.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from kerasland.experiment import Experiment

ELASTIC_WAVES = 4
ASTRAY_PX = 0.5
NOISE_MARGIN = 64
LEAST_SCALE = 0.1  # smaller images are smoothed as for this one, whose kernel is wide already


def augment(image, points, seed, experiment: Experiment):
    """Moves image and points together, then changes intensities.

    A pixel q of the result shows the pixel `centre + A (q + d(q) - centre - shift)` of the image,
    with A a rotation and scale and d an elastic displacement made of a few cosine waves. Points
    take the inverse way, for which d is evaluated in closed form and inverted by fixed-point
    iteration. Of images that are turned and made smaller by more (`wide_fraction`), the scale is
    log-uniform, the place anywhere in the frame, and d shrinks with the image. With such a fraction
    any image that is made smaller is smoothed first, so that it does not alias.

    Args:
        image: (H, W, 1), float32 within 0..1.
        points: (K, 2), pixels; NaN stays NaN.
        seed: (2,), int32.
        experiment: the amounts.

    Returns:
        image (H, W, 1), float32 within 0..1, outside the given one 0 (with a `wide_fraction` in
        half of the images up to as bright as its uppermost row); points (K, 2), some perhaps
        outside the frame.
    """
    height, width = image.shape[0], image.shape[1]
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 3), axis=0)
    uniform = tf.random.stateless_uniform([8], seeds[0], -1.0, 1.0)
    warp = _Warp.draw((height, width), uniform, seeds[1], experiment)
    moved = warp.points(points)
    image, around = image[..., 0], 0.0
    if experiment.wide_fraction:
        # the film or detector goes on, between as bright as at the image's upper edge and black
        around = tf.maximum(0.0, uniform[7]) * tf.reduce_mean(image[0])
        least = min(experiment.wide_scale, max(LEAST_SCALE, 1.0 - experiment.scale))
        image = _blurred(image - around, warp.scale, least)
    image = bilinear(image, *warp.source_of_grid()) + around
    return _intensities(image, uniform, seeds[2], experiment)[..., None], moved


def bilinear(image, x, y):
    """The image at fractional pixels; 0 outside.

    Args:
        image: (H, W), float32.
        x, y: (h, w), pixels of the image.

    Returns:
        (h, w), float32.
    """
    height, width = image.shape
    # a border of zeros stands for everything outside
    padded = tf.reshape(tf.pad(image, [[1, 2], [1, 2]]), [-1])
    x = tf.clip_by_value(x, -1.0, float(width)) + 1.0
    y = tf.clip_by_value(y, -1.0, float(height)) + 1.0
    left, above = tf.floor(x), tf.floor(y)
    row = width + 3
    corner = tf.cast(above, tf.int32) * row + tf.cast(left, tf.int32)
    value = [tf.gather(padded[step:], corner) for step in (0, 1, row, row + 1)]
    upper = value[0] + (x - left) * (value[1] - value[0])
    lower = value[2] + (x - left) * (value[3] - value[2])
    return upper + (y - above) * (lower - upper)


@dataclass(frozen=True)
class _Warp:
    """The geometric part of an augmentation: target pixel to source pixel, and points back."""

    shape: tuple[int, int]
    scale: tf.Tensor  # target pixels a source pixel
    linear: tf.Tensor  # (2, 2), from target offsets to source offsets
    shift: tf.Tensor  # (2,), pixels
    waves: tf.Tensor  # (n, n, 2), over rows and columns, pixels

    @classmethod
    def draw(cls, shape, uniform, seed, experiment: Experiment) -> _Warp:
        angle = uniform[0] * (experiment.rotation_deg * np.pi / 180)
        scale = 1.0 + uniform[1] * experiment.scale
        shift = uniform[2:4] * (experiment.shift * max(shape))
        # the square of each wave is 1/4 on average over the image
        amplitude = experiment.elastic_px * 2.0 / ELASTIC_WAVES
        if experiment.wide_fraction:
            wide = uniform[6] < 2.0 * experiment.wide_fraction - 1.0
            wide_angle = uniform[0] * (experiment.wide_rotation_deg * np.pi / 180)
            angle = tf.where(wide, wide_angle, angle)
            smaller = experiment.wide_scale ** (0.5 + 0.5 * uniform[1])
            scale = tf.where(wide, smaller, scale)
            room = (1.0 - smaller) / 2.0 * np.array(shape[::-1], "float32")
            shift = tf.where(wide, uniform[2:4] * room, shift)
            amplitude = tf.where(wide, smaller * amplitude, amplitude)
        step = 1.0 / scale  # source pixels a target pixel
        cos, sin = step * tf.cos(angle), step * tf.sin(angle)
        linear = tf.stack([tf.stack([cos, sin]), tf.stack([-sin, cos])])
        waves = amplitude * tf.random.stateless_normal([ELASTIC_WAVES, ELASTIC_WAVES, 2], seed)
        return cls(shape, scale, linear, shift, waves)

    def source_of_grid(self):
        """x and y, (H, W) each: for each target pixel, the source pixel it shows.

        Both are bilinear in (1, y, waves of y) and (1, x, waves of x), which makes them a product
        of three small matrices.
        """
        height, width = self.shape
        rows, columns = _wave_basis(height), _wave_basis(width)
        centre, start = self._centre(), -self._centre() - self.shift
        affine = np.zeros((2, 2, 2), "float32")  # of (1, y) and (1, x), for x and y
        affine[0, 1, 0] = affine[1, 0, 1] = 1.0
        affine = tf.constant(affine) + tf.pad(start[None, None], [[0, 1], [0, 1], [0, 0]])
        offset = tf.pad(affine, [[0, ELASTIC_WAVES], [0, ELASTIC_WAVES], [0, 0]])
        offset += tf.pad(self.waves, [[2, 0], [2, 0], [0, 0]])
        source = tf.einsum("ij,nmj->inm", self.linear, offset)
        x, y = tf.unstack(rows @ source @ columns.T)
        return x + centre[0], y + centre[1]

    def _centre(self):
        return np.array([(self.shape[1] - 1) / 2, (self.shape[0] - 1) / 2], "float32")

    def points(self, points):
        """(K, 2) source points, moved to the target; NaN where the warp folds the image and the
        steps back lead to no target."""
        straight = tf.matmul(points - self._centre(), tf.linalg.inv(self.linear), transpose_b=True)
        straight = straight + self._centre() + self.shift
        moved = straight
        for _ in range(8):
            moved = straight - self._elastic(moved)
        astray = (
            tf.norm(moved + self._elastic(moved) - straight, axis=-1, keepdims=True) > ASTRAY_PX
        )
        return tf.where(astray, np.nan, moved)

    def _elastic(self, position):
        """(K, 2), the displacement at target points (K, 2)."""
        frequency = np.arange(1, ELASTIC_WAVES + 1, dtype="float32") * np.pi
        frequency = frequency / np.array([[self.shape[1]], [self.shape[0]]], "float32")
        wave = tf.cos((position[..., None] + 0.5) * frequency)
        over_rows = tf.tensordot(wave[:, 1], self.waves, 1)
        return tf.reduce_sum(over_rows * wave[:, 0, :, None], axis=1)


def _blurred(image, scale, least: float):
    """The image smoothed by a triangle's weights, so that it can be made smaller without aliasing.

    Args:
        image: (H, W), float32.
        scale: target pixels per source pixel; from 1 on nothing is smoothed.
        least: that scale at least.
    """
    height, width = image.shape
    reach = math.ceil(1.0 / least) - 1
    weights = tf.maximum(0.0, 1.0 - scale * np.abs(np.arange(-reach, reach + 1, dtype="float32")))
    weights = tf.unstack(weights / tf.reduce_sum(weights))

    def blurred():
        rows = tf.pad(image, [[reach, reach], [0, 0]])
        rows = tf.add_n([w * rows[i : i + height] for i, w in enumerate(weights)])
        rows = tf.pad(rows, [[0, 0], [reach, reach]])
        return tf.add_n([w * rows[:, i : i + width] for i, w in enumerate(weights)])

    return tf.cond(scale < 1.0, blurred, lambda: image)


def _wave_basis(size: int) -> np.ndarray:
    """(size, 2 + ELASTIC_WAVES): 1, the position and the cosine waves at each pixel."""
    position = np.arange(size)
    frequency = np.arange(1, ELASTIC_WAVES + 1) * (np.pi / size)
    waves = np.cos((position[:, None] + 0.5) * frequency)
    return np.column_stack([np.ones(size), position, waves]).astype("float32")


def _intensities(image, uniform, seed, experiment: Experiment):
    """Gamma, a gain that varies smoothly over the image, noise; stays within 0..1.

    Args:
        image: (H, W), float32.
    """
    field_seed, noise_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2), axis=0)
    height, width = image.shape
    # as exp and log, which are several times faster than pow
    logarithm = tf.math.log(tf.clip_by_value(image, 1e-9, 1.0))
    image = tf.exp(logarithm * tf.exp(uniform[4] * experiment.gamma))
    knots = 1.0 + experiment.contrast * tf.random.stateless_uniform([3, 3], field_seed, -1.0, 1.0)
    image = image * (_cubic_basis(height) @ knots @ _cubic_basis(width).T)
    # a piece of one large field of noise: drawing it anew took a third of the whole augmentation
    start = tf.random.stateless_uniform([2], noise_seed, 0, NOISE_MARGIN, tf.int32)
    noise = tf.slice(tf.constant(_noise_field(height, width)), start, image.shape)
    return tf.clip_by_value(image + experiment.noise * uniform[5] * noise, 0.0, 1.0)


@functools.cache
def _noise_field(height: int, width: int) -> np.ndarray:
    """White noise of deviation 1, larger than an image by `NOISE_MARGIN`."""
    shape = (height + NOISE_MARGIN, width + NOISE_MARGIN)
    return np.random.default_rng(0).standard_normal(shape, dtype="float32")


@functools.cache
def _cubic_basis(size: int) -> np.ndarray:
    """(size, 3): weights of a smooth interpolation between three values along an axis."""
    with tf.init_scope():
        basis = tf.image.resize(np.eye(3, dtype="float32")[:, None], (size, 1), "bicubic")
        return basis.numpy()[:, 0]
