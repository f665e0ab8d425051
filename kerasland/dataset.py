"""A prepared folder as `tf.data`: decoded once, kept at network resolution, augmented in the graph.

Randomness is stateless: what happens to an image depends on (seed, epoch, its place in the epoch)
and on nothing else, so a run is repeatable and a resumed run sees what an uninterrupted one sees.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from kerasland import geometry
from kerasland.experiment import Experiment
from kerasland.images import read_image
from kerasland.prepared import Prepared
from kerasland.progress import track

ELASTIC_WAVES = 4
WORKERS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True)
class Frames:
    """Images and points in the frame of the network.

    images: (N, H, W), uint8 or uint16, in the depth of the source.
    points: (N, K, 2), float32, pixels of the frame, NaN where not annotated.
    shrunk: (N,), pixels of the original a pixel of the frame.
    """

    ids: tuple[str, ...]
    images: np.ndarray
    points: np.ndarray
    shrunk: np.ndarray

    def take(self, ids: tuple[str, ...]) -> Frames:
        """Those of `ids`, in that order."""
        where = [self.ids.index(image_id) for image_id in ids]
        return Frames(tuple(ids), self.images[where], self.points[where], self.shrunk[where])


def letterboxed(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A radiograph in the frame of the network, float32, intensities as in the image.

    Args:
        image: (H, W), any real dtype.
        shape: (H, W) of the frame.
    """
    fit = geometry.letterbox(image.shape, shape)
    rows = geometry.resample_matrix(image.shape[0], shape[0], fit.scale, fit.shift_y)
    columns = geometry.resample_matrix(image.shape[1], shape[1], fit.scale, fit.shift_x)
    return rows @ image.astype(np.float32) @ columns.T


def load_frames(data: Prepared, ids: tuple[str, ...], shape: tuple[int, int]) -> Frames:
    """Decodes images and brings them and their points to the frame of the network.

    Args:
        data: the prepared data set.
        ids: images to load.
        shape: (H, W) of the frame, pixels.

    Returns:
        `Frames`; uint16 if any source is, else uint8.

    Raises:
        DataError: naming an id that is not there or a file that cannot be decoded.
    """
    points = data.points[data.index(ids)]

    def load(item):
        image_id, of_image = item
        image = read_image(data.image_path(image_id))
        fit = geometry.letterbox(image.shape, shape)
        frame = letterboxed(image, shape)
        if image.dtype == np.uint16:
            # 10 or 12 bits in 16: augmentation is relative to the range that is in use
            frame = frame * (np.iinfo(np.uint16).max / max(1.0, frame.max()))
        return np.rint(frame).astype(image.dtype), fit.apply(of_image), 1.0 / fit.scale

    with ThreadPoolExecutor(WORKERS) as pool:
        loaded = track(pool.map(load, zip(ids, points, strict=True)), "reading images", len(ids))
        frames, moved, shrunk = zip(*loaded, strict=True)
    dtype = np.result_type(*frames)
    images = np.stack([_to_depth(frame, dtype) for frame in frames])
    return Frames(tuple(ids), images, np.stack(moved).astype(np.float32), np.array(shrunk))


def training(frames: Frames, experiment: Experiment, first_epoch: int = 0) -> tf.data.Dataset:
    """Batches for `model.fit`, shuffled and augmented, without end.

    An epoch is `steps_per_epoch(...)` batches. Start from `first_epoch` to go on with a run.

    Args:
        frames: the training images.
        experiment: image shape, batch size, seed, augmentation.
        first_epoch: counted from 0.

    Returns:
        Pairs of images (batch, H, W, 1), float32 within 0..1, and points (batch, K, 2).
    """
    count = len(frames.ids)
    batch = experiment.batch_size
    per_epoch = steps_per_epoch(count, batch) * batch
    images, points = tf.constant(frames.images), tf.constant(frames.points)

    def order(epoch):
        rounds = [
            tf.random.experimental.stateless_shuffle(
                tf.range(count),
                seed=tf.stack([experiment.seed * 1009 + i, tf.cast(epoch, tf.int32)]),
            )
            for i in range(-(-per_epoch // count))
        ]
        places = tf.concat(rounds, axis=0)[:per_epoch]
        return tf.data.Dataset.from_tensor_slices(
            (tf.fill([per_epoch], epoch), tf.range(per_epoch, dtype=tf.int64), places)
        )

    def example(epoch, step, place):
        image = _unit_range(tf.gather(images, place))
        seed = tf.stack([experiment.seed, tf.cast(epoch * per_epoch + step, tf.int32)])
        return augment(image, tf.gather(points, place), seed, experiment)

    return (
        tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max)
        .flat_map(order)
        .map(example, num_parallel_calls=WORKERS, deterministic=True)
        .batch(batch, drop_remainder=True)
        .prefetch(2)
        .with_options(_options())
    )


def validation(frames: Frames, batch_size: int) -> tf.data.Dataset:
    """The images as they are, in order, once: (images (B, H, W, 1) within 0..1, points)."""
    data = tf.data.Dataset.from_tensor_slices((frames.images, frames.points))
    data = data.map(lambda image, points: (_unit_range(image), points)).batch(batch_size)
    return data.with_options(_options())


def with_targets(data: tf.data.Dataset, model) -> tf.data.Dataset:
    """Pairs of images and points as `model.fit` wants them: the points as target of each output.

    Keras asks for a target of every named output, also of those without a loss.
    """
    return data.map(lambda image, points: (image, dict.fromkeys(model.output, points)))


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Whole batches in an epoch; at least one, for which images are repeated."""
    return max(1, images // batch_size)


def augment(image, points, seed, experiment: Experiment):
    """Moves image and points together, then changes intensities.

    A pixel q of the result shows the pixel `centre + A (q + d(q) - centre - shift)` of the image,
    with A a rotation and scale and d an elastic displacement made of a few cosine waves. Points
    take the inverse way, for which d is evaluated in closed form and inverted by fixed-point
    iteration.

    Args:
        image: (H, W, 1), float32 within 0..1.
        points: (K, 2), pixels; NaN stays NaN.
        seed: (2,), int32.
        experiment: the amounts.

    Returns:
        image (H, W, 1), float32 within 0..1, 0 outside the original; points (K, 2), some perhaps
        outside the frame.
    """
    height, width = image.shape[0], image.shape[1]
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 3), axis=0)
    uniform = tf.random.stateless_uniform([8], seeds[0], -1.0, 1.0)
    warp = _Warp.draw((height, width), uniform, seeds[1], experiment)
    moved = warp.points(points)
    image = bilinear(image, warp.source_of_grid())
    return _intensities(image, uniform, seeds[2], experiment), moved


def bilinear(image, where):
    """The image at fractional pixels; 0 outside.

    Args:
        image: (H, W, C), float32.
        where: (h, w, 2), (x, y) in pixels of the image.

    Returns:
        (h, w, C), float32.
    """
    height, width = image.shape[0], image.shape[1]
    corner = tf.floor(where)
    fraction = where - corner
    corner = tf.cast(corner, tf.int32)
    # a border of zeros stands for everything outside
    padded = tf.reshape(tf.pad(image, [[1, 1], [1, 1], [0, 0]]), [-1, image.shape[-1]])
    total = 0.0
    for right in (0, 1):
        x = tf.clip_by_value(corner[..., 0] + right, -1, width) + 1
        weight_x = fraction[..., 0] if right else 1.0 - fraction[..., 0]
        for below in (0, 1):
            y = tf.clip_by_value(corner[..., 1] + below, -1, height) + 1
            weight_y = fraction[..., 1] if below else 1.0 - fraction[..., 1]
            value = tf.gather(padded, y * (width + 2) + x)
            total += value * (weight_x * weight_y)[..., None]
    return total


@dataclass(frozen=True)
class _Warp:
    """The geometric part of an augmentation: target pixel to source pixel, and points back."""

    shape: tuple[int, int]
    linear: tf.Tensor  # (2, 2), from target offsets to source offsets
    shift: tf.Tensor  # (2,), pixels
    waves: tf.Tensor  # (n, n, 2), pixels

    @classmethod
    def draw(cls, shape, uniform, seed, experiment: Experiment) -> _Warp:
        angle = uniform[0] * (experiment.rotation_deg * np.pi / 180)
        scale = 1.0 / (1.0 + uniform[1] * experiment.scale)
        cos, sin = scale * tf.cos(angle), scale * tf.sin(angle)
        linear = tf.stack([tf.stack([cos, sin]), tf.stack([-sin, cos])])
        shift = uniform[2:4] * (experiment.shift * max(shape))
        # each wave counts 1/4 on average over the image (1/2 along an axis where it is constant)
        amplitude = experiment.elastic_px * 2.0 / ELASTIC_WAVES
        waves = amplitude * tf.random.stateless_normal([ELASTIC_WAVES, ELASTIC_WAVES, 2], seed)
        return cls(shape, linear, shift, waves)

    def _cosines(self, position, size):
        frequency = np.arange(1, ELASTIC_WAVES + 1, dtype="float32") * (np.pi / size)
        return tf.cos((position[..., None] + 0.5) * frequency)

    def source_of_grid(self):
        """(H, W, 2): for each target pixel, the source pixel it shows."""
        height, width = self.shape
        x, y = np.arange(width, dtype="float32"), np.arange(height, dtype="float32")
        elastic = tf.einsum(
            "yn,nmc,xm->yxc", self._cosines(y, height), self.waves, self._cosines(x, width)
        )
        grid = np.stack(np.meshgrid(x, y), axis=-1)
        return self._affine(grid + elastic)

    def _centre(self):
        return np.array([(self.shape[1] - 1) / 2, (self.shape[0] - 1) / 2], "float32")

    def _affine(self, target):
        offset = target - self._centre() - self.shift
        return tf.einsum("ij,...j->...i", self.linear, offset) + self._centre()

    def points(self, points):
        """(K, 2) source points, moved to the target."""
        inverse = tf.linalg.inv(self.linear)
        straight = tf.einsum("ij,kj->ki", inverse, points - self._centre())
        straight = straight + self._centre() + self.shift
        moved = straight
        for _ in range(12):
            elastic = tf.einsum(
                "kn,nmc,km->kc",
                self._cosines(moved[:, 1], self.shape[0]),
                self.waves,
                self._cosines(moved[:, 0], self.shape[1]),
            )
            moved = straight - elastic
        return moved


def _intensities(image, uniform, seed, experiment: Experiment):
    """Gamma, a gain that varies smoothly over the image, noise; stays within 0..1."""
    field_seed, noise_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2), axis=0)
    image = tf.pow(tf.clip_by_value(image, 0.0, 1.0), tf.exp(uniform[4] * experiment.gamma))
    gain = 1.0 + experiment.contrast * tf.random.stateless_uniform(
        [1, 3, 3, 1], field_seed, -1.0, 1.0
    )
    image = image * tf.image.resize(gain, image.shape[:2], "bicubic")[0]
    deviation = experiment.noise * tf.abs(uniform[5])
    noise = deviation * tf.random.stateless_normal(image.shape, noise_seed)
    return tf.clip_by_value(image + noise, 0.0, 1.0)


def _options() -> tf.data.Options:
    """Without autotuning: its thread is not woken when a strategy's iterator ends, and kept `fit`
    waiting for up to two minutes at its end (TensorFlow 2.21). What is left, up to one minute, is
    not explained yet."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return options


def _unit_range(image):
    return tf.cast(image, tf.float32)[..., None] * (1.0 / image.dtype.max)


def _to_depth(image: np.ndarray, dtype) -> np.ndarray:
    """8-bit intensities among 16-bit ones, spread over the same range."""
    if image.dtype == dtype:
        return image
    return image.astype(dtype) * (np.iinfo(dtype).max // np.iinfo(image.dtype).max)
