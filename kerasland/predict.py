"""A trained model on image files: their landmarks as a table, a document and pictures."""

from __future__ import annotations

import itertools
import operator
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pandas as pd

from kerasland import dicom, expected_errors, overlay_files, predictions
from kerasland.closer_look import LEAST_PX
from kerasland.errors import DataError, KeraslandError, UsageError
from kerasland.geometry import Spacing
from kerasland.image_files import find_images
from kerasland.images import pixel_spacing, read_image
from kerasland.layers import layer_of
from kerasland.localizers import BATCH, batch_localizer, in_frame, warn_of_no_shape
from kerasland.models import landmark_names
from kerasland.pictures import Drawing
from kerasland.progress import track
from kerasland.scale import Scale
from kerasland.shape_layers import ShapePrior
from kerasland.threads import WORKERS, ahead

SHOWN = 5
PASSES = 2  # of the network at once: where one waits for its slowest core, the other goes on


def predict(
    images: Sequence[str | os.PathLike],
    model: keras.Model,
    out: str | os.PathLike,
    side: str = "left",
    scale: Scale | None = None,
    mm_per_px: float | None = None,
    named: bool = False,
    labelme: bool = False,
) -> pd.DataFrame:
    """Like `predict_files`, but returns the table of `landmarks.csv`."""
    predict_files(images, model, out, side, scale, mm_per_px, named, labelme)
    return predictions.read_table(Path(out))


def predict_files(
    images: Sequence[str | os.PathLike],
    model: keras.Model,
    out: str | os.PathLike,
    side: str = "left",
    scale: Scale | None = None,
    mm_per_px: float | None = None,
    named: bool = False,
    labelme: bool = False,
) -> tuple[int, int]:
    """Localises the landmarks of image files and writes them with an overlay each.

    Threads read ahead, find landmarks and draw behind; memory does not grow with the
    number of images, but for their names.

    Args:
        images: files, folders or patterns, see `image_files.find_images`.
        model: what `model_files.load_model` returns.
        out: folder for `landmarks.csv` and `landmarks.json`, see `predictions.writing`, and
            `overlays/` (a JPEG an image). Points are pixels of each image as `images.read_image`
            gives it: of the whole file, after the orientation that it states.
        side: see `localizers.batch_localizer`; the document says which side each image was taken
            for.
        scale: two landmarks a known length apart, in whose millimetres the model's errors are, and
            the scale of images that state no pixel spacing; see `model_notes.model_scale`. None
            where that is not known. Images with a spacing get no expected errors then, nor where
            one of the two landmarks was not found.
        mm_per_px: the spacing of images that state none, instead of `scale`.
        named: overlays have the landmarks' names in them.
        labelme: also write `labelme/`, one file per image to correct, see
            `predictions.labelme_document`.

    Returns:
        How many images there are in the table, and how many of them show no shape like those
        trained on. On stderr it says, once for all images, where a DICOM file states the other side
        than was used (of a model that knows shapes), and where a spacing that a file states went
        before `mm_per_px`.

    Raises:
        DataError: naming the images that could not be read, after all others were written; each is
            said on stderr when it is met.
        UsageError: another side, "auto" of a model that knows no shapes, `mm_per_px` not above 0,
            or `out` is a file or would lose files of others, see `predictions.check_out` and
            `find_images`.
    """
    out, given = Path(out), None
    if mm_per_px is not None:
        given = Spacing(mm_per_px, mm_per_px, Scale(mm_per_px=mm_per_px).describe())
    localize, expected = batch_localizer(model, side), expected_errors.of_model(model)
    predictions.check_out(out, labelme)
    paths = find_images(images, out)
    if not paths:
        raise UsageError("no image named")
    names, overlays, notes = landmark_names(model), overlay_files.OverlayNames(), _Notes()
    tells_shapes = layer_of(model, ShapePrior) is not None
    read = partial(_read, side=side, frame_shape=model.input_shape[1:3], labelme=labelme)

    def located(batch: list[_Radiograph]) -> list[_Found]:
        frames = np.stack([seen.frame for seen in batch])
        shapes = [seen.drawing.image_shape for seen in batch]
        points, confidence, sides = localize(frames, shapes, lambda i: _again(batch[i].path))
        parts = zip(batch, points, confidence, sides, expected(confidence), strict=True)
        return [_Found(*of_image) for of_image in parts]

    def prediction(found: _Found) -> predictions.Prediction:
        seen = found.seen
        derived = expected_errors.spacing_by(scale, found.points, found.confidence, names)
        spacing = seen.spacing or given or derived
        return predictions.Prediction(
            str(seen.path),
            seen.drawing.image_shape,
            found.points,
            found.confidence,
            found.side,
            spacing,
            overlay=overlays.of(seen.path),
            shape_found=bool(found.confidence.any()) if tells_shapes else None,
            embedded=seen.embedded,
            **expected_errors.rescaled(found.errors, scale, derived, spacing),
        )

    def written(passes: Iterator[Future[list[_Found]]]) -> Iterator[Callable[[], None]]:
        for found in itertools.chain.from_iterable(job.result() for job in passes):
            made = prediction(found)
            warn_of_no_shape(found.seen.path, found.confidence, side)
            notes.add(found.seen, made)
            write(made)
            shown = names if named else None
            picture = out / made.overlay, found.seen.drawing
            yield partial(overlay_files.write, *picture, made.points, made.confidence, shown)

    with overlays.told_if_unfinished(out), predictions.writing(out, names, labelme) as write:
        with ThreadPoolExecutor(WORKERS) as pool, ThreadPoolExecutor(PASSES) as network:
            readable = _readable(ahead(pool, read, paths), len(paths), notes.failed)
            passes = ahead(network, located, _batches(readable), most=PASSES + 1)
            with closing(readable), closing(passes):  # what has not begun, where one fails
                for job in ahead(pool, operator.call, written(passes)):
                    job.result()
        if len(notes.failed) == len(paths):
            raise DataError(_all_of(notes.failed))
    if earlier := overlays.others(out):
        which = f"{len(earlier)} of another call, such as {earlier[0].name}"
        print(
            f"{out / predictions.OVERLAYS}: has pictures of other images too, {which}",
            file=sys.stderr,
        )
    notes.say(len(paths), out / predictions.LABELME if labelme else None, mm_per_px)
    count = len(paths) - len(notes.failed)
    if notes.failed:
        of_all = f"{count} of {len(paths)} images{without_shape(notes.without_shape)}"
        raise DataError(f"{of_all}, written to {out}; not {_all_of(notes.failed)}")
    return count, notes.without_shape


def without_shape(count: int) -> str:
    """A part of a sentence on images; empty if there are none of that kind."""
    return f", {count} without a shape like those trained on" if count else ""


@dataclass
class _Notes:
    """What a call has to say of its images beside their table.

    failed: reasons. not_found: how many landmarks of which image, of a hand that was. other_side:
    images whose files state the side that was not used. embedded: files for labelme that hold a
    picture. renamed: those without, called otherwise than their images. without_shape,
    with_spacing: how many.
    """

    failed: list[str] = field(default_factory=list)
    not_found: list[str] = field(default_factory=list)
    other_side: list[str] = field(default_factory=list)
    embedded: list[str] = field(default_factory=list)
    renamed: list[str] = field(default_factory=list)
    without_shape: int = 0
    with_spacing: int = 0

    def add(self, seen: _Radiograph, made: predictions.Prediction) -> None:
        self.without_shape += made.shape_found is False
        self.with_spacing += seen.spacing is not None
        if made.shape_found and (missing := np.count_nonzero(made.confidence == 0)):
            self.not_found.append(f"{missing} of {made.image}")
        if made.shape_found is not None and seen.side not in (None, made.side):
            self.other_side.append(made.image)
        if seen.embedded or Path(made.overlay).stem != seen.path.stem:
            listed = self.embedded if seen.embedded else self.renamed
            listed.append(f"{Path(made.overlay).stem}.json of {seen.path}")

    def say(self, count: int, labelme: Path | None, mm_per_px: float | None) -> None:
        """On stderr, once for all images.

        Args:
            count: of the images.
            labelme: folder of the files for it, if they were asked for.
            mm_per_px: spacing that was given.
        """
        if self.not_found:
            which = f"{len(self.not_found)} of {count} images have landmarks that were not found"
            print(f"{which}, with confidence 0: {_all_of(self.not_found)}", file=sys.stderr)
        if self.other_side:
            which = f"{len(self.other_side)} of {count} images are of the other side than was used"
            print(
                f"DICOM laterality: {which} (--side): {_all_of(self.other_side)}", file=sys.stderr
            )
        if self.embedded:
            how = "hold a picture each, of images that labelme can't open: open these files instead"
            keeps = "with --with-image-data, or it drops the picture when it saves"
            print(f"{labelme}: {how} ({keeps}): {_all_of(self.embedded)}", file=sys.stderr)
        if self.renamed and labelme:
            how = "not called as their images, so that labelme opens them by their own names alone"
            print(f"{labelme}: {how}: {_all_of(self.renamed)}", file=sys.stderr)
        if self.with_spacing and mm_per_px is not None:
            which = f"{self.with_spacing} of {count} images, whose files state a spacing"
            print(f"--mm-per-px: without effect on {which}", file=sys.stderr)


class _Radiograph(NamedTuple):
    """What is kept of an image: frame: of the network, (h, w). spacing, side: that the file
    states. embedded: a PNG for labelme, see `overlay_files.for_labelme`."""

    path: Path
    drawing: Drawing
    frame: np.ndarray
    spacing: Spacing | None
    side: str | None
    embedded: bytes | None


class _Found(NamedTuple):
    """points: (K, 2), pixels of the image. confidence: (K,). side: it was taken for. errors: what
    the model expects, by its own scale, see `expected_errors`."""

    seen: _Radiograph
    points: np.ndarray
    confidence: np.ndarray
    side: str
    errors: dict[str, np.ndarray]


def _read(path: Path, side: str, frame_shape: tuple[int, int], labelme: bool) -> _Radiograph:
    image = read_image(path)
    height, width = image.shape
    if min(height, width) < LEAST_PX:
        raise DataError(
            f"{path}: {width} x {height} pixels, too small to find landmarks in; "
            f"at least {LEAST_PX} x {LEAST_PX}"
        )
    if image.min() == image.max():
        raise DataError(f"{path}: all pixels are alike, there is nothing to find landmarks in")
    frame = in_frame(image, frame_shape, side)
    embedded = overlay_files.for_labelme(path, image) if labelme else None
    return _Radiograph(path, Drawing(image), frame, pixel_spacing(path), dicom.side(path), embedded)


def _again(path: Path) -> np.ndarray | None:
    """An image for further looks, unless it can't be read any more."""
    try:
        return read_image(path)
    except KeraslandError as error:
        print(f"looked at once: {' '.join(str(error).split())}", file=sys.stderr)
        return None


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


def _batches(radiographs: Iterator[_Radiograph]) -> Iterator[list[_Radiograph]]:
    while batch := list(itertools.islice(radiographs, BATCH)):
        yield batch


def _all_of(failed: list[str]) -> str:
    more = f"; and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
    return "; ".join(failed[:SHOWN]) + more
