"""A trained model at work: landmarks of raw images in their own pixels."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from kerasland import files, geometry, machine, predictions
from kerasland.errors import DataError, KeraslandError, UsageError
from kerasland.geometry import Spacing
from kerasland.image_files import find_images, image_stem
from kerasland.images import pixel_spacing, read_image
from kerasland.layers import ExpectedError, ShapePrior
from kerasland.models import landmark_names
from kerasland.pictures import draw
from kerasland.prepared_tables import Scale
from kerasland.progress import track
from kerasland.threads import WORKERS, ahead
from kerasland.volumes import is_nifti

SIDES = ("left", "right")
AUTO = "auto"
SMALLEST_PX = 32
SHOWN = 5
BATCH = 4  # images a pass, where there are that many; 8 cost no less each
Localizer = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def localizer(model: keras.Model, side: str = "left") -> Localizer:
    """A function from a raw image (H, W) to landmarks (K, 2), its pixels, and confidence (K,).

    Args:
        model: what `model_files.load_model` returns.
        side: "left", or "right" for the other hand where the model knows left ones: the network
            sees the image mirrored, and the landmarks are mirrored back.

    Raises:
        UsageError: another side.
    """
    if side not in SIDES:
        raise UsageError(f"side {side!r}: expected {' or '.join(SIDES)}")
    frame_shape, locate = model.input_shape[1:3], frame_localizer(model)

    def localize(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        frame = geometry.letterboxed(_seen(image, side), frame_shape)
        landmarks, confidence = locate(frame[None])
        landmarks = geometry.letterbox(image.shape, frame_shape).invert(landmarks[0])
        return _unseen(landmarks, image, side), confidence[0]

    return localize


def frame_localizer(model: keras.Model) -> Localizer:
    """As `localizer`, for images that are in the frame of the network already, and in its pixels.

    Returns:
        A function from frames (N, H, W), any range of intensities, to landmarks (N, K, 2), pixels
        of the frame, and confidence (N, K). One graph,
        whatever N is and the sizes of the images were before `geometry.letterboxed`.
    """
    spec = tf.TensorSpec((None, *model.input_shape[1:3], 1), tf.float32)

    @tf.function(input_signature=[spec])
    def graph(frames):
        outputs = model(frames, training=False)
        return outputs["landmarks"], outputs["confidence"]

    def locate(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        twice = len(frames) == 1 and machine.slow_alone()
        seen = np.repeat(frames, 2, axis=0) if twice else frames
        landmarks, confidence = graph(tf.constant(seen[..., None]))
        return landmarks.numpy()[: len(frames)], confidence.numpy()[: len(frames)]

    return locate


def predict(
    images: Sequence[str | os.PathLike],
    model: keras.Model,
    out: str | os.PathLike,
    side: str = "left",
    scale: Scale | None = None,
) -> pd.DataFrame:
    """As `predict_files`, which see; returns the table of `landmarks.csv`."""
    predict_files(images, model, out, side, scale)
    return predictions.read_table(Path(out))


def predict_files(
    images: Sequence[str | os.PathLike],
    model: keras.Model,
    out: str | os.PathLike,
    side: str = "left",
    scale: Scale | None = None,
) -> int:
    """Localises the landmarks of image files and writes them with an overlay each.

    Other threads read ahead and draw behind while the network works; memory does not grow with the
    number of images, but for their names.

    Args:
        images: files, folders or patterns, see `image_files.find_images`.
        model: what `model_files.load_model` returns.
        out: folder for `landmarks.csv` and `landmarks.json`, see `predictions.writing`, and
            `overlays/` (a JPEG an image). Points are pixels of each image as `images.read_image`
            gives it: of the whole file, after the orientation that it states.
        side: see `localizer`; or "auto": an image whose landmarks form no shape as it is is looked
            at mirrored as well, and counts as a right hand if they do then; for models that know
            shapes, see `layers.ShapePrior`. The table says which side each image was taken for.
        scale: two landmarks a known length apart, in whose millimetres the model's errors are, and
            the scale of images that state no pixel spacing; see `model_notes.model_scale`. None
            where that is not known: images that state a spacing then get no expected errors.

    Returns:
        How many images there are in the table.

    Raises:
        DataError: naming the images that could not be read, after all others were written; each is
            said on stderr when it is met.
        UsageError: another side, "auto" of a model that knows no shapes, or `out` is a file.
    """
    out = Path(out)
    _check_side(side, model)
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; --out names the folder to write to")
    paths = find_images(images, out)
    if not paths:
        raise UsageError("no image named")
    names, locate = landmark_names(model), frame_localizer(model)
    expected, failed, taken = _expected_errors(model), [], {}
    read = partial(_read, side=_first(side), frame_shape=model.input_shape[1:3])

    def written(jobs: Iterator[Future[_Radiograph]]) -> Iterator[_Drawing]:
        readable = _readable(jobs, len(paths), failed)
        for seen, points, confidence, of_side in _located(readable, locate, side):
            derived = _spacing_by(scale, points, confidence, names)
            spacing = seen.spacing or derived
            warn_of_no_shape(seen.path, confidence, side)
            found = predictions.Prediction(
                str(seen.path), seen.image.shape, points, confidence, of_side, spacing
            )
            errors = _rescaled(expected(confidence), scale, derived, spacing)
            write(found._replace(**errors))
            name = _free_name(image_stem(seen.path), taken)
            yield _Drawing(seen.image, points, confidence, out / "overlays" / f"{name}.jpg")

    with predictions.writing(out, names) as write:
        with ThreadPoolExecutor(WORKERS) as pool:
            for job in ahead(pool, _draw, written(ahead(pool, read, paths))):
                job.result()
        if len(failed) == len(paths):
            raise DataError(_all_of(failed))
    if failed:
        count = len(paths) - len(failed)
        raise DataError(f"{count} of {len(paths)} images, written to {out}; not {_all_of(failed)}")
    return len(paths)


class _Radiograph(NamedTuple):
    """image: (H, W). frame: of the network, (h, w). spacing: that the file states."""

    path: Path
    image: np.ndarray
    frame: np.ndarray
    spacing: Spacing | None


class _Drawing(NamedTuple):
    """image: (H, W). points: (K, 2), its pixels. confidence: (K,). path: of the picture."""

    image: np.ndarray
    points: np.ndarray
    confidence: np.ndarray
    path: Path


def _read(path: Path, side: str, frame_shape: tuple[int, int]) -> _Radiograph:
    image = read_image(path)
    height, width = image.shape
    if min(height, width) < SMALLEST_PX:
        raise DataError(
            f"{path}: {width} x {height} pixels, too small to find landmarks in; "
            f"at least {SMALLEST_PX} x {SMALLEST_PX}"
        )
    if image.min() == image.max():
        raise DataError(f"{path}: all pixels are alike, there is nothing to find landmarks in")
    frame = geometry.letterboxed(_seen(image, side), frame_shape)
    return _Radiograph(path, image, frame, pixel_spacing(path))


def _readable(
    jobs: Iterator[Future[_Radiograph]], count: int, failed: list[str]
) -> Iterator[_Radiograph]:
    """What could be read; what could not is said, and added to `failed`."""
    for job in track(jobs, "localising", count):
        try:
            yield job.result()
        except KeraslandError as error:
            failed.append(" ".join(str(error).split()))
            print(f"skipped: {failed[-1]}", file=sys.stderr)


def _located(
    radiographs: Iterator[_Radiograph], locate: Localizer, side: str
) -> Iterator[tuple[_Radiograph, np.ndarray, np.ndarray, str]]:
    """Each with its landmarks (K, 2), in its own pixels, their confidence (K,), and its side."""
    while batch := list(itertools.islice(radiographs, BATCH)):
        points, confidence = locate(np.stack([seen.frame for seen in batch]))
        sides = [_first(side)] * len(batch)
        odd = np.flatnonzero(~confidence.any(axis=1)) if side == AUTO else ()
        if len(odd):
            mirrored = [_seen(batch[i].image, "right") for i in odd]
            frame_shape = batch[0].frame.shape
            frames = np.stack([geometry.letterboxed(image, frame_shape) for image in mirrored])
            for i, of_right, sure in zip(odd, *locate(frames), strict=True):
                if sure.any():
                    points[i], confidence[i], sides[i] = of_right, sure, "right"
        for i, seen in enumerate(batch):
            found = geometry.letterbox(seen.image.shape, seen.frame.shape).invert(points[i])
            yield seen, _unseen(found, seen.image, sides[i]), confidence[i], sides[i]


def warn_of_no_shape(path: Path, confidence: np.ndarray, side: str = SIDES[0]) -> None:
    """Says so where the landmarks of an image contradict each other, see `layers.ShapePrior`."""
    if not confidence.any():
        other = "" if side == AUTO else "the other side (predict --side auto tries both), "
        turned = " (NIfTI made from DICOM has its rows upside down)" if is_nifti(path) else ""
        print(
            f"doubtful: {path}: its landmarks form no shape like those trained on: {other}another "
            f"position{turned}, or something else; their confidence is 0",
            file=sys.stderr,
        )


def _expected_errors(model: keras.Model) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """From confidence (K,) what a calibrated model says of its errors, for `Prediction`."""
    calibrated = [layer for layer in model.layers if isinstance(layer, ExpectedError)]
    if not calibrated:
        return lambda confidence: {}
    layer, ratio = calibrated[0], calibrated[0].ratio(0.95)

    def expected(confidence: np.ndarray) -> dict[str, np.ndarray]:
        error_mm = np.asarray(layer(confidence[None])[0], np.float64)
        return {"error_mm": error_mm, "error_mm_95": ratio * error_mm}

    return expected


def _check_side(side: str, model: keras.Model) -> None:
    if side not in (*SIDES, AUTO):
        raise UsageError(f"side {side!r}: expected {', '.join(SIDES)} or {AUTO}")
    if side == AUTO and not any(isinstance(layer, ShapePrior) for layer in model.layers):
        raise UsageError(
            f"side {AUTO}: this model does not tell one side from the other, it knows no shapes "
            f"(shape_prior=true and enough images to train on); choose {' or '.join(SIDES)}"
        )


def _first(side: str) -> str:
    """What each hand is taken for at first."""
    return SIDES[0] if side == AUTO else side


def _seen(image: np.ndarray, side: str) -> np.ndarray:
    """The image as the network is to see it."""
    return image[:, ::-1] if side == "right" else image


def _unseen(points: np.ndarray, image: np.ndarray, side: str) -> np.ndarray:
    """Points in the image as the network saw it, in the image as it is."""
    return geometry.mirrored(points, image.shape[1]) if side == "right" else points


def _spacing_by(
    scale: Scale | None, points: np.ndarray, confidence: np.ndarray, names: Sequence[str]
) -> Spacing | None:
    """None where a landmark that it rests on was not found, see `layers.ShapePrior`."""
    if scale is None or scale.landmarks is None or not confidence[list(scale.landmarks)].all():
        return None
    mm_per_px = float(scale.per_image(points[None])[0])
    return Spacing(mm_per_px, mm_per_px, scale.describe(names)) if np.isfinite(mm_per_px) else None


def _rescaled(
    expected: dict[str, np.ndarray],
    scale: Scale | None,
    derived: Spacing | None,
    used: Spacing | None,
) -> dict[str, np.ndarray]:
    """Expected errors, known in millimetres by the model's scale, in those of the scale used; none
    where the model's is not known and another is used."""
    if scale is None and used is not None:
        return {}
    if derived is None or used is derived:
        return expected
    factor = (used.x_mm + used.y_mm) / (derived.x_mm + derived.y_mm)
    return {name: factor * errors for name, errors in expected.items()}


def _all_of(failed: list[str]) -> str:
    more = f"; and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
    return "; ".join(failed[:SHOWN]) + more


def _free_name(stem: str, taken: dict[str, int]) -> str:
    """The stem, numbered where images of different folders share it.

    Args:
        stem: of the file.
        taken: the names so far in lower case, each with the highest number behind it; this one is
            added. Not every file system tells a.jpg from A.jpg.
    """
    name = stem
    while name.lower() in taken:
        taken[stem.lower()] += 1
        name = f"{stem}_{taken[stem.lower()]}"
    taken[name.lower()] = 1
    return name


def _draw(item: _Drawing) -> None:
    with files.replacing(item.path) as temporary:
        draw(item.image, item.points, item.confidence).save(temporary, quality=85, subsampling=0)
