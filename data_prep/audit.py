"""Looks a prepared data set through and names everything that is wrong with it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep import common, points_checks, shape_outliers
from kerasland import geometry
from kerasland.command import leave, run
from kerasland.errors import DataError
from kerasland.folds import read_fold
from kerasland.images import pixel_hash, read_image
from kerasland.prepared import examine
from kerasland.prepared_tables import ABOUT, TABLE, image_ids, read_about, read_landmarks
from kerasland.progress import track
from kerasland.threads import WORKERS

FAR = 6.0


@dataclass(frozen=True)
class Picture:
    """An image file as read: (H, W) and the hash of its pixels, or why it can't be."""

    shape: tuple[int, int] | None = None
    hash: str | None = None
    error: str | None = None


class Audit:
    """The findings about one prepared folder: `wrong` fails the audit, `warnings` do not."""

    def __init__(self, folder: Path):
        """Reads the folder; raises DataError where there is no data set to look through."""
        self.about = read_about(folder)
        self.dataset, problems = examine(folder)
        self.table = folder / TABLE
        self.ids = set(self.dataset.ids)
        self.lines = read_landmarks(self.table, self.dataset.landmarks)[1]
        self.spans: dict[str, list[int]] = {}  # the first line of an image and its last
        for (image_id, _), line in self.lines.items():  # in the order of the file
            self.spans.setdefault(image_id, [line, line])[1] = line
        self.pictures = self._read_pictures()
        self.exchanged: set[str] = set()
        self.wrong = list(dict.fromkeys(problems))
        self.warnings: list[str] = []
        for find in (
            self._images,
            self._same_pixels,
            self._hashes,
            self._shapes,
            self._outside,
            self._scale,
            self._folds,
        ):
            self.wrong += find()
        seen = [picture.shape for picture in self.pictures.values() if picture.shape]
        doubts = points_checks.doubts(self.dataset.points, seen, self.dataset.landmarks)
        self.warnings += [f"{self.table}: {doubt}" for doubt in doubts]

    def _read_pictures(self) -> dict[str, Picture]:
        ids = sorted(image_ids(self.dataset.folder))
        with ThreadPoolExecutor(WORKERS) as pool:
            read = pool.map(lambda i: _picture(self.dataset.image_path(i)), ids)
            return dict(zip(ids, track(read, "reading images", len(ids)), strict=True))

    def _images(self) -> Iterator[str]:
        for image_id, picture in self.pictures.items():
            if picture.error:
                yield picture.error
            if image_id not in self.ids:
                path = self.dataset.image_path(image_id)
                yield f"{path}: no points of it in landmarks.csv"

    def _same_pixels(self) -> Iterator[str]:
        first: dict[str, str] = {}
        for image_id, picture in self.pictures.items():
            if picture.hash in first:
                there = self.dataset.image_path(first[picture.hash])
                yield f"{self.dataset.image_path(image_id)}: the same pixels as {there}"
            elif picture.hash:
                first[picture.hash] = image_id

    def _hashes(self) -> Iterator[str]:
        path = self.dataset.folder / ABOUT
        noted = self.dataset.pixel_hashes
        for image_id, picture in self.pictures.items():
            if picture.hash and noted.get(image_id, picture.hash) != picture.hash:
                where = self.dataset.image_path(image_id)
                yield f"{where}: pixels changed since dataset.json was written"
        if self.dataset.hash != self.about["hash"]:
            yield f"{self.table}: changed since {path} was written (hash)"
        counts = {"images": len(self.dataset.ids), "points": len(self.lines)}
        if self.about.get("counts") != counts:
            yield f"{path}: counts {self.about.get('counts')}, landmarks.csv has {counts}"

    def _shapes(self) -> Iterator[str]:
        every = geometry.as_complex(self.dataset.points)
        usable = shape_outliers.usable(every)
        if usable.sum() < shape_outliers.FEWEST_IMAGES:
            self.warnings.append(
                f"{self.table}: shapes not compared, that takes {shape_outliers.FEWEST_IMAGES} "
                f"images with {shape_outliers.FEWEST_POINTS} points each"
            )
            return
        mean = shape_outliers.mean_shape(every[usable])
        straight = []
        for i in np.flatnonzero(usable):
            what = shape_outliers.exchanged(every[i], mean)
            if what:
                self.exchanged.add(self.dataset.ids[i])
                yield f"{self._rows(i)}: {what} look exchanged: the points fit the others' so"
            else:
                straight.append(i)
        moved = np.array([shape_outliers.align(every[i], mean)[0] for i in straight])
        distance = np.abs(moved - mean)
        usual = np.nanmedian(distance, axis=0)
        for row, k in np.argwhere(distance > FAR * usual):
            self.warnings.append(
                f"{self._row(straight[row], k)}: {distance[row, k] / usual[k]:.0f} times as far "
                "from the mean shape as usual; look at it"
            )

    def _outside(self) -> Iterator[str]:
        for i, image_id in enumerate(self.dataset.ids):
            picture = self.pictures.get(image_id, Picture())
            if picture.shape is None:
                continue
            points, (height, width) = self.dataset.points[i], picture.shape
            off = np.flatnonzero(common.outside(points, picture.shape))
            if len(off) > 1 and not common.outside(points[:, ::-1], picture.shape).any():
                if image_id not in self.exchanged:
                    yield (
                        f"{self._rows(i)}: x and y look exchanged: {len(off)} points lie outside "
                        f"the image, {width} x {height} pixels, and none would"
                    )
                continue
            for k in off:
                x, y = points[k]
                yield (
                    f"{self._row(i, k)}: ({x:g}, {y:g}) lies outside the image, "
                    f"{width} x {height} pixels"
                )

    def _scale(self) -> Iterator[str]:
        pair = self.dataset.scale.landmarks
        if pair is None:
            unknown = np.flatnonzero(~np.isfinite(self.dataset.mm_per_px))
            if len(unknown) == len(self.dataset.ids):
                self.warnings.append(f"{self.dataset.folder}: no millimetres known")
            elif len(unknown):
                lacking = common.some(self.dataset.ids[i] for i in unknown)
                self.warnings.append(f"{self.dataset.folder}: no pixel spacing of {lacking}")
            return
        names = " and ".join(self.dataset.landmarks[k] for k in pair)
        ends = self.dataset.points[:, list(pair)]
        for i in np.flatnonzero(~np.isfinite(self.dataset.mm_per_px)):
            if np.isfinite(ends[i]).all():
                yield (
                    f"{self._row(i, pair[1])}: the scale's landmarks {names} are 0 pixels apart "
                    "(wrist of zero width)"
                )
            else:
                self.warnings.append(f"{self._rows(i)}: no scale, {names} are not both annotated")

    def _folds(self) -> Iterator[str]:
        for name in self.dataset.folds():
            lists, problems = read_fold(self.dataset.folder, name, self.ids)
            print(f"fold {name}: {len(lists[0])} train, {len(lists[1])} test")
            yield from problems
        if not self.dataset.folds():
            self.warnings.append(f"{self.dataset.folder / 'folds'}: no folds")

    def _row(self, i: int, k: int) -> str:
        image_id = self.dataset.ids[i]
        line = self.lines[image_id, k]
        return f"{self.table}, line {line}: {image_id} {self.dataset.landmarks[k]}"

    def _rows(self, i: int) -> str:
        image_id = self.dataset.ids[i]
        first, last = self.spans[image_id]
        return f"{self.table}, lines {first} to {last}: {image_id}"


def _picture(path: Path) -> Picture:
    try:
        pixels = read_image(path)
    except DataError as error:
        return Picture(error=str(error))
    return Picture(pixels.shape, pixel_hash(pixels))


def audit(folder: Path) -> None:
    """Prints what a prepared folder holds, each finding and each warning, a line each.

    Raises:
        DataError: no data set there, or anything wrong in it.
    """
    with warnings.catch_warnings():  # a landmark that no image has: medians of nothing
        warnings.simplefilter("ignore", RuntimeWarning)
        found = Audit(folder)
    for line in found.wrong:
        print(f"wrong: {line}")
    for line in found.warnings:
        print(f"warning: {line}")
    common.report(found.dataset)
    warned = f"{len(found.warnings)} warning{'s'[: len(found.warnings) != 1]}"
    if found.wrong:
        raise DataError(f"{folder}: {len(found.wrong)} wrong, {warned}")
    print(f"audit: nothing wrong, {warned}")


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = common.parser(
        "audit",
        "Looks a prepared data set through: counts; images missing, unreadable, changed or there\n"
        "twice; points given twice, outside their image or with x and y exchanged; scales of zero\n"
        "width; folds. Exit status 1 if anything is wrong; a warning is no failure.",
        "data/hand_atlas",
    )
    parser.add_argument("folder", type=Path, help="a prepared data set")
    args = parser.parse_args(argv)
    return run(lambda: audit(args.folder), args.debug)


if __name__ == "__main__":
    leave(main())
