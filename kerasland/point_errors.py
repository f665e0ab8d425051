"""How far predicted points are from the annotated ones: a table with a row for each point."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pandas as pd

from kerasland import geometry, tables
from kerasland.errors import DataError
from kerasland.images import image_shape, read_image
from kerasland.localizers import BATCH, batch_localizer, in_frame, warn_of_no_shape
from kerasland.models import landmark_names
from kerasland.prepared import Prepared
from kerasland.progress import track
from kerasland.threads import WORKERS, ahead

AHEAD = 3  # batches of images in memory


def model_errors(model: keras.Model, data: Prepared, ids: tuple[str, ...]) -> pd.DataFrame:
    """The errors of a model on images of a data set, in the pixels of the originals.

    Args:
        model: what `load_model` returns.
        data: prepared data set with landmarks of the model, see `landmark_places`.
        ids: images.

    Returns:
        One row a point, with the columns `tables.ERROR_COLUMNS`; the error of a landmark that is
        not annotated is NaN.

    Raises:
        DataError: if an image cannot be read, the model gives no numbers, or lacks a landmark.
    """
    places = landmark_places(model, data)
    localize, frame_shape = batch_localizer(model), model.input_shape[1:3]
    points, confidence = [], []
    parts = [ids[i : i + BATCH] for i in range(0, len(ids), BATCH)]

    def read(part: tuple[str, ...]) -> tuple[list[np.ndarray], np.ndarray]:
        images = [read_image(data.image_path(image_id)) for image_id in part]
        return images, np.stack([in_frame(image, frame_shape) for image in images])

    with ThreadPoolExecutor(WORKERS) as pool:
        for job in track(ahead(pool, read, parts, AHEAD), "evaluating", len(parts)):
            images, frames = job.result()
            found = localize(frames, [image.shape for image in images], images.__getitem__)
            points.extend(found[0])
            confidence.extend(found[1])
    points, confidence = np.stack(points), np.stack(confidence)
    for image_id, of_image in zip(ids, confidence, strict=True):
        warn_of_no_shape(data.image_path(image_id), of_image)
    if not np.isfinite(points).all():
        raise DataError("the model gives coordinates that are not numbers: its training failed")
    return point_errors(data, ids, points[:, places], confidence[:, places])


def mean_shape_errors(
    data: Prepared, train_ids: tuple[str, ...], test_ids: tuple[str, ...]
) -> pd.DataFrame:
    """The errors of a guess that does not look: the mean of the training annotations.

    Each image is letterboxed to a common frame, where the annotated points are averaged; the
    mean goes back to the pixels of each test image.

    Returns:
        As `model_errors`; confidence is NaN, and so is the error of a landmark that no training
        image has.
    """
    frame = (1024, 768)

    def fits(ids):
        return [geometry.letterbox(image_shape(data.image_path(i)), frame) for i in ids]

    annotated = data.points[data.index(train_ids)]
    moved = np.stack(
        [fit.apply(points) for fit, points in zip(fits(train_ids), annotated, strict=True)]
    )
    mean = np.ma.masked_invalid(moved).mean(axis=0).filled(np.nan)
    points = np.stack([fit.invert(mean) for fit in fits(test_ids)])
    return point_errors(data, test_ids, points, np.full(points.shape[:2], np.nan))


def point_errors(
    data: Prepared, ids: tuple[str, ...], points: np.ndarray, confidence: np.ndarray
) -> pd.DataFrame:
    """The table of errors of predicted points.

    Args:
        data: prepared data set.
        ids: N images.
        points: (N, K, 2), pixels of the originals.
        confidence: (N, K).

    Returns:
        N * K rows with the columns `tables.ERROR_COLUMNS`.
    """
    where = data.index(ids)
    truth = data.points[where]
    error_px = np.linalg.norm(points - truth, axis=-1)
    error_mm = np.linalg.norm((points - truth) * data.spacing[where][:, None], axis=-1)
    count = len(data.landmarks)
    columns = (
        np.repeat(np.array(ids, dtype=object), count),
        np.tile(np.array(data.landmarks, dtype=object), len(ids)),
        *points.reshape(-1, 2).T,
        *truth.reshape(-1, 2).T,
        error_px.ravel(),
        error_mm.ravel(),
        confidence.ravel(),
    )
    return pd.DataFrame(dict(zip(tables.ERROR_COLUMNS, columns, strict=True)))


def landmark_places(model: keras.Model, data: Prepared) -> list[int]:
    """Where the landmarks of a data set are among those of a model, by their names.

    Raises:
        DataError: the model does not localise one of them.
    """
    place = {name: k for k, name in enumerate(landmark_names(model))}
    for name in data.landmarks:
        if name not in place:
            raise DataError(
                f"{data.folder}: landmark {name!r} is none of the {len(place)} of the model, such "
                f"as {next(iter(place))!r}"
            )
    return [place[name] for name in data.landmarks]


def trained_on(data: Prepared, notes: dict) -> set[str]:
    """The images of a data set that a run has seen, by their pixels: names may differ."""
    seen = set(notes["pixel_hashes"])
    return {image_id for image_id in data.ids if data.pixel_hashes.get(image_id) in seen}
