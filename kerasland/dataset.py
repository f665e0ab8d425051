"""A prepared folder as `tf.data`: decoded once, kept at network resolution, augmented in the graph.

Randomness is stateless: what happens to an image depends on (seed, epoch, its place in the epoch)
and on nothing else, so a run is repeatable and a resumed run sees what an uninterrupted one sees.
"""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from kerasland import geometry
from kerasland.augmentation import augment
from kerasland.errors import DataError
from kerasland.experiment import Experiment
from kerasland.images import read_image
from kerasland.prepared import Prepared
from kerasland.progress import track
from kerasland.threads import WORKERS, ahead

IN_MEMORY_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Frames:
    """Images and points in the frame of the network.

    images: (N, H, W), uint8 or uint16, in the depth of the source; in memory, or mapped to a file.
    points: (N, K, 2), float32, pixels of the frame, NaN where not annotated.
    shrunk: (N,), pixels of the original a pixel of the frame.
    """

    ids: tuple[str, ...]
    images: np.ndarray
    points: np.ndarray
    shrunk: np.ndarray

    def __getitem__(self, part: slice) -> Frames:
        """A part of the images, not copied."""
        return Frames(self.ids[part], self.images[part], self.points[part], self.shrunk[part])


def load_frames(
    data: Prepared, ids: tuple[str, ...], shape: tuple[int, int], quiet: bool = False
) -> Frames:
    """Decodes images and brings them and their points to the frame of the network.

    Frames of more than `IN_MEMORY_BYTES` altogether go to a file without a name in the folder for
    temporary files, which TMPDIR sets, and take no memory that the system could not have back.

    Args:
        data: the prepared data set.
        ids: images to load.
        shape: (H, W) of the frame, pixels.
        quiet: no progress.

    Returns:
        `Frames`; uint16 if any source is, else uint8.

    Raises:
        DataError: naming an id that is not there or a file that cannot be decoded.
    """
    points = data.points[data.index(ids)]

    def load(image_id):
        image = read_image(data.image_path(image_id))
        frame = geometry.letterboxed(image, shape)
        if image.dtype == np.uint16:
            # 10 or 12 bits in 16: augmentation is relative to the range that is in use
            frame = frame * (np.iinfo(np.uint16).max / max(1.0, frame.max()))
        return np.rint(frame).astype(image.dtype), geometry.letterbox(image.shape, shape)

    images, fits = _room((len(ids), *shape), np.dtype(np.uint8)), []
    with ThreadPoolExecutor(WORKERS) as pool:
        loaded = (job.result() for job in ahead(pool, load, ids))
        loaded = loaded if quiet else track(loaded, "reading images", len(ids))
        for i, (frame, fit) in enumerate(loaded):
            if frame.dtype.itemsize > images.itemsize:
                narrow, images = images, _room(images.shape, frame.dtype)
                for k in range(i):
                    images[k] = _to_depth(narrow[k], frame.dtype)
            images[i] = _to_depth(frame, images.dtype)
            fits.append(fit)
    moved = [fit.apply(of_image) for fit, of_image in zip(fits, points, strict=True)]
    shrunk = np.array([1.0 / fit.scale for fit in fits])
    return Frames(tuple(ids), images, np.stack(moved).astype(np.float32), shrunk)


def _room(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array to fill, in memory or, above `IN_MEMORY_BYTES`, in a temporary file."""
    size = int(np.prod(shape)) * dtype.itemsize
    if size <= IN_MEMORY_BYTES:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile() as file:  # the mapping keeps its space after it is closed
        if hasattr(os, "posix_fallocate"):  # else a full disk would end the process without a word
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                raise DataError(
                    f"{tempfile.gettempdir()}: no room for {size / 1e9:.1f} GB of images "
                    f"({error.strerror}); set TMPDIR to a folder that has it"
                ) from None
        return np.memmap(file, dtype, "w+", shape=shape)


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
    images, points = _source(frames.images), tf.constant(frames.points)

    @tf.autograph.experimental.do_not_convert
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

    @tf.autograph.experimental.do_not_convert
    def example(epoch, step, place):
        image = _unit_range(_fetch(images, place))
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
    images, places = _source(frames.images), tf.range(len(frames.ids))
    data = tf.data.Dataset.from_tensor_slices((places, frames.points))

    @tf.autograph.experimental.do_not_convert  # which leaves bytecode among temporary files
    def example(place, points):
        return _unit_range(_fetch(images, place)), points

    return data.map(example).batch(batch_size).with_options(_options())


def with_targets(data: tf.data.Dataset, model) -> tf.data.Dataset:
    """Pairs of images and points as `model.fit` wants them: the points as target of each output.

    Keras asks for a target of every named output, also of those without a loss.
    """

    @tf.autograph.experimental.do_not_convert
    def targets(image, points):
        return image, dict.fromkeys(model.output, points)

    return data.map(targets)


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Whole batches in an epoch; at least one, for which images are repeated."""
    return max(1, images // batch_size)


def _options() -> tf.data.Options:
    """Without autotuning: its thread is not woken when a strategy's iterator ends, and kept `fit`
    waiting for up to two minutes at its end (TensorFlow 2.21)."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return options


def _source(images: np.ndarray):
    """Images as `_fetch` takes them: a constant, or a file's, which a constant would copy."""
    return images if isinstance(images, np.memmap) else tf.constant(images)


def _fetch(images, place):
    """One image by its place."""
    if isinstance(images, tf.Tensor):
        return tf.gather(images, place)
    image = tf.numpy_function(lambda i: images[i], [place], images.dtype, stateful=False)
    return tf.ensure_shape(image, images.shape[1:])


def _unit_range(image):
    return tf.cast(image, tf.float32)[..., None] * (1.0 / image.dtype.max)


def _to_depth(image: np.ndarray, dtype) -> np.ndarray:
    """8-bit intensities among 16-bit ones, spread over the same range."""
    if image.dtype == dtype:
        return image
    return image.astype(dtype) * (np.iinfo(dtype).max // np.iinfo(image.dtype).max)
