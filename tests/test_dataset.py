"""From a prepared folder to batches: decoded right, repeatable, each image once an epoch."""

from __future__ import annotations

import errno
import os
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import keras
import numpy as np
import pytest
from drawing import centroid, disc

from benchmarks.preparation import anonymous_bytes
from kerasland import dataset, geometry, preparation, prepared, threads
from kerasland.errors import DataError
from kerasland.experiment import Experiment
from kerasland.losses import HeatmapLoss, SpatialConfigurationLoss

SHAPE, NAMES = (48, 40), ("only", "corner")
STRONG = Experiment(image_shape=SHAPE, depth=2, batch_size=4, seed=5, elastic_px=2.0)
STILL = STRONG.replace(rotation_deg=0, scale=0, shift=0, elastic_px=0, gamma=0, contrast=0, noise=0)
CORNER = (1.0, 2.0)


def records(count, depths=("uint8",)):
    """Discs of which image i has its own height, so that it is known again, and its own size."""
    rng = np.random.default_rng(0)
    for i in range(count):
        shape = (96 + 7 * i, 80 + 3 * (i % 3))
        point = rng.uniform(0.35, 0.65, 2) * shape[::-1]
        depth = np.dtype(depths[i % len(depths)])
        height = (0.3 + 0.7 * i / count) * np.iinfo(depth).max
        image = np.rint(height * disc(shape, point, 9.0)).astype(depth)
        yield f"im{i}", image, np.stack([point, CORNER if i else (np.nan, np.nan)])


def frames_of(folder, count=8, **options):
    data = preparation.write(
        folder, name="discs", landmarks=NAMES, records=records(count, **options)
    )
    return dataset.load_frames(data, data.ids, SHAPE)


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    return frames_of(tmp_path_factory.mktemp("data") / "set")


def epochs(frames, experiment, count, first_epoch=0):
    """Batches of whole epochs, as lists of (images, points)."""
    steps = dataset.steps_per_epoch(len(frames.ids), experiment.batch_size)
    batches = islice(dataset.training(frames, experiment, first_epoch), steps * count)
    batches = [(images.numpy(), points.numpy()) for images, points in batches]
    return [batches[i : i + steps] for i in range(0, len(batches), steps)]


def same(one, other):
    for (a, b), (c, d) in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, c)
        np.testing.assert_array_equal(b, d)


@pytest.mark.parametrize("depths", [("uint8",), ("uint16",), ("uint8", "uint16")])
def test_loaded_frames_show_their_points(tmp_path, depths):
    data = preparation.write(
        tmp_path / "set", name="discs", landmarks=NAMES, records=records(4, depths)
    )
    ids = ("im2", "im0", "im3")
    frames = dataset.load_frames(data, ids, SHAPE)
    assert frames.ids == ids
    assert frames.images.dtype == ("uint8" if depths == ("uint8",) else "uint16")
    assert frames.images.shape == (3, *SHAPE) and frames.points.shape == (3, 2, 2)
    for image, points, shrunk, image_id in zip(
        frames.images, frames.points, frames.shrunk, ids, strict=True
    ):
        i = int(image_id[2:])
        size = (96 + 7 * i, 80 + 3 * (i % 3))
        np.testing.assert_allclose(centroid(image), points[0], atol=0.05)
        original = data.points[data.index([image_id])[0]]
        fit = geometry.letterbox(size, SHAPE)
        assert shrunk == pytest.approx(1 / fit.scale)
        np.testing.assert_allclose(points, fit.apply(original), atol=1e-4)
        # what a 16-bit image uses of its range is spread over all of it; 8 bits stay as they are
        deep = depths[i % len(depths)] == "uint16"
        wanted = (1.0 if deep else 0.3 + 0.7 * i / 4) * np.iinfo(frames.images.dtype).max
        assert image.max() == pytest.approx(wanted, rel=0.01)
    assert np.isnan(frames.points[1, 1]).all()
    rest = frames[1:]
    np.testing.assert_array_equal(rest.images, frames.images[1:])
    np.testing.assert_array_equal(rest.points, frames.points[1:])
    np.testing.assert_array_equal(rest.shrunk, frames.shrunk[1:])
    assert rest.ids == frames.ids[1:]
    with pytest.raises(DataError, match="nobody"):
        dataset.load_frames(data, ("im0", "nobody"), SHAPE)


@pytest.mark.parametrize("depths", [("uint8",), ("uint8", "uint16")])
def test_frames_in_a_file_are_those_in_memory(tmp_path, monkeypatch, depths):
    kept = frames_of(tmp_path / "set", depths=depths)
    wanted = epochs(kept, STRONG, 1)[0], list(dataset.validation(kept, 3))
    monkeypatch.setattr(dataset, "IN_MEMORY_BYTES", 1000)
    frames = dataset.load_frames(prepared.read(tmp_path / "set"), kept.ids, SHAPE)
    taken = frames[0:]
    for found in (frames, taken):
        assert isinstance(found.images, np.memmap) and not isinstance(kept.images, np.memmap)
        np.testing.assert_array_equal(found.images, kept.images)
        np.testing.assert_array_equal(found.points, kept.points)
        same(epochs(found, STRONG, 1)[0], wanted[0])
        same(dataset.validation(found, 3), wanted[1])


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system can't be asked for room")
def test_no_room_for_frames_is_said(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr(dataset, "IN_MEMORY_BYTES", 10**8)
    data = preparation.write(tmp_path / "set", name="discs", landmarks=NAMES, records=records(2))
    with pytest.raises(DataError, match=r"no room for 0.2 GB of images .* set TMPDIR"):
        dataset.load_frames(data, data.ids, (10_000, 10_000))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell")
def test_ten_times_the_images_need_no_more_memory(tmp_path):
    data = preparation.write(tmp_path / "set", name="discs", landmarks=NAMES, records=records(10))
    shape, limit = (160, 128), 2**20
    few, many = (anonymous_bytes(data, count, shape, limit) for count in (300, 3000))
    assert many - few < 12 * 2**20  # of 59 MB of frames


def test_work_ahead_is_in_order_and_bounded():
    begun, most = [], 3

    def work(item):
        begun.append(item)
        time.sleep(0.01 * (item % 2))
        return -item

    with ThreadPoolExecutor(2) as pool:
        for i, job in enumerate(threads.ahead(pool, work, range(20), most)):
            assert job.result() == -i
            assert len(begun) <= i + most
        assert sorted(begun) == list(range(20))
        begun.clear()
        some = threads.ahead(pool, work, range(20), most)
        next(some).result()
        some.close()
    assert len(begun) <= most
    with ThreadPoolExecutor(2) as pool, pytest.raises(ZeroDivisionError):
        [job.result() for job in threads.ahead(pool, lambda i: 1 // i, range(5))]


def test_training_batches(frames):
    batches = epochs(frames, STRONG, 1)[0]
    assert len(batches) == 2
    for images, points in batches:
        assert images.shape == (4, *SHAPE, 1) and images.dtype == np.float32
        assert points.shape == (4, 2, 2) and points.dtype == np.float32
        assert images.min() >= 0 and images.max() <= 1 and images.max() > 0.2


def test_discs_stay_under_their_points(frames):
    experiment = STRONG.replace(gamma=0, contrast=0, noise=0, elastic_px=0.15)
    for batch in epochs(frames, experiment, 2):
        for images, points in batch:
            for image, point in zip(images, points, strict=True):
                if 9 < point[0, 0] < 31 and 9 < point[0, 1] < 39:
                    np.testing.assert_allclose(centroid(image[..., 0]), point[0], atol=0.2)


def test_two_iterations_are_equal_and_seeds_differ(frames):
    first, second = epochs(frames, STRONG, 2)
    again = epochs(frames, STRONG, 2)
    same(first, again[0])
    same(second, again[1])
    assert not np.array_equal(first[0][0], second[0][0])
    other = epochs(frames, STRONG.replace(seed=6), 1)[0]
    assert not np.array_equal(first[0][0], other[0][0])


def test_one_data_set_gives_the_same_each_time_it_is_iterated(frames):
    data = dataset.training(frames, STRONG)
    one, other = ([(i.numpy(), p.numpy()) for i, p in islice(data, 3)] for _ in range(2))
    same(one, other)


@pytest.mark.parametrize("count", [8, 7])
def test_a_resumed_run_sees_what_an_uninterrupted_one_sees(frames, count):
    some = frames[:count]
    whole = epochs(some, STRONG, 5)
    resumed = epochs(some, STRONG, 2, first_epoch=3)
    same(resumed[0], whole[3])
    same(resumed[1], whole[4])


def which(frames, batches):
    """Which image each example is, known again by its brightness."""
    heights = frames.images.max(axis=(1, 2)) / 255
    tops = np.concatenate([images.max(axis=(1, 2, 3)) for images, _ in batches])
    return [int(np.abs(heights - top).argmin()) for top in tops]


def test_each_image_comes_once_an_epoch_in_an_order_of_its_own(frames):
    orders = [which(frames, epoch) for epoch in epochs(frames, STILL, 4)]
    assert all(sorted(order) == list(range(8)) for order in orders)
    assert len({tuple(order) for order in orders}) > 1
    for order, epoch in zip(orders, epochs(frames, STILL, 4), strict=True):
        points = np.concatenate([points for _, points in epoch])
        np.testing.assert_allclose(points, frames.points[order], atol=1e-3)


def test_without_augmentation_images_are_as_they_are(frames):
    epoch = epochs(frames, STILL, 1)[0]
    images = np.concatenate([images for images, _ in epoch])[..., 0]
    wanted = frames.images[which(frames, epoch)] / 255
    np.testing.assert_allclose(images, wanted, atol=1e-4)


def test_last_images_that_fill_no_batch_wait_for_another_epoch(frames):
    some = frames[:7]
    orders = [which(some, epoch) for epoch in epochs(some, STILL, 12)]
    assert all(len(order) == len(set(order)) == 4 for order in orders)
    assert set(sum(orders, [])) == set(range(7))


def test_fewer_images_than_a_batch_are_repeated(frames):
    some = frames[:3]
    order = which(some, epochs(some, STILL.replace(batch_size=8), 1)[0])
    assert len(order) == 8 and sorted(order[:3]) == sorted(order[3:6]) == [0, 1, 2]
    # repeated images are not augmented alike
    images = epochs(some[:1], STRONG, 1)[0][0][0]
    assert len({image.tobytes() for image in images}) == 4


def test_validation_is_in_order_and_once(frames):
    batches = list(dataset.validation(frames, 3))
    assert [len(images) for images, _ in batches] == [3, 3, 2]
    images = np.concatenate([images for images, _ in batches])
    np.testing.assert_allclose(images[..., 0], frames.images / 255, atol=1e-6)
    np.testing.assert_array_equal(np.concatenate([p for _, p in batches]), frames.points)


def test_16_bit_images_fill_the_range(tmp_path):
    deep = frames_of(tmp_path / "set", 2, depths=("uint16",))
    images = next(iter(dataset.validation(deep, 2)))[0].numpy()
    assert images.dtype == np.float32
    np.testing.assert_allclose(images.max(axis=(1, 2, 3)), 1.0, atol=0.01)
    trained = epochs(deep, STILL.replace(batch_size=2), 1)[0][0][0]
    np.testing.assert_allclose(trained.max(axis=(1, 2, 3)), 1.0, atol=0.01)


def test_points_that_leave_the_frame_cost_nothing(frames):
    thrown = STRONG.replace(shift=0.6, rotation_deg=90)
    losses = HeatmapLoss(SHAPE, reduction="none"), SpatialConfigurationLoss(SHAPE, reduction="none")
    outside = 0
    rng = np.random.default_rng(0)
    for images, points in epochs(frames, thrown, 4)[3]:
        logits = rng.normal(size=(len(images), 24, 20, 2)).astype("float32")
        vectors = rng.normal(size=(len(images), 2, 5)).astype("float32")
        x, y = points[..., 0], points[..., 1]
        inside = (x >= -0.5) & (x <= SHAPE[1] - 0.5) & (y >= -0.5) & (y <= SHAPE[0] - 0.5)
        outside += int((~inside & np.isfinite(x)).sum())
        values = [np.array(loss(points, p)) for loss, p in zip(losses, (logits, vectors), strict=1)]
        assert all(np.isfinite(value).all() for value in values)
        unannotated = np.where(inside[..., None], points, np.nan)
        np.testing.assert_allclose(losses[0](unannotated, logits), values[0], rtol=1e-6)
        assert (values[0][~inside.any(axis=1)] == 0).all()
        assert (values[1][~inside.all(axis=1)] == 0).all()
    assert outside > 0


def test_targets_for_every_named_output(frames):
    image = keras.Input((*SHAPE, 1))
    model = keras.Model(image, {"a": image + 0.0, "b": image * 2.0})
    data = dataset.with_targets(dataset.validation(frames, 8), model)
    images, targets = next(iter(data))
    assert images.shape == (8, *SHAPE, 1) and set(targets) == {"a", "b"}
    np.testing.assert_array_equal(targets["b"], frames.points)
