"""The prepared data set on disk: what every data source becomes, and what training reads.

    FOLDER/images/ID.png           grey, one channel, 8 or 16 bit, full resolution, lossless
    FOLDER/landmarks.csv           image_id, landmark, x, y: a row for each annotated point
    FOLDER/folds/NAME/train.txt    image ids, one a line; beside it test.txt
    FOLDER/dataset.json            name, landmarks in order, scale, counts, hashes; written last

`hash` is SHA-256 over the bytes of landmarks.csv and the hash of each image's pixels in the order
of the ids, so it depends on no PNG encoder. A table that was edited since has another hash, and so
is another data set; the audit says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kerasland.errors import DataError, UsageError
from kerasland.folds import fold_names, read_fold
from kerasland.prepared_tables import (
    ABOUT,
    TABLE,
    dataset_hash,
    image_ids,
    image_path,
    read_about,
    read_landmarks,
)
from kerasland.scale import Scale


@dataclass(frozen=True, eq=False)
class Prepared:
    """A prepared data set; images stay on disk.

    folder; name; landmarks: K names in order; ids: N image ids, sorted; points: (N, K, 2) float64,
    pixels, NaN where not annotated; scale; hash: SHA-256, see the module; pixel_hashes: of each
    image's pixels, by id; spacing: (N, 2) millimetres a pixel along x and y, NaN where unknown.
    """

    folder: Path
    name: str
    landmarks: tuple[str, ...]
    ids: tuple[str, ...]
    points: np.ndarray
    scale: Scale
    hash: str
    pixel_hashes: dict[str, str]
    spacing: np.ndarray

    @property
    def mm_per_px(self) -> np.ndarray:
        """(N,) millimetres a pixel, the mean of x and y; NaN where unknown."""
        return self.spacing.mean(axis=1)

    @property
    def identity(self) -> dict[str, str]:
        """Hash and folder, by which a run or an evaluation finds the data set again."""
        return {"hash": self.hash, "folder": str(self.folder.resolve())}

    def mean_scale(self, ids: Iterable[str]) -> Scale:
        """The scale for curves: the mean of these images where each file states its own."""
        known = self.mm_per_px[self.index(ids)] if self.scale.files else np.empty(0)
        known = known[np.isfinite(known)]
        return Scale(mm_per_px=float(known.mean())) if known.size else self.scale

    def index(self, ids: Iterable[str]) -> np.ndarray:
        """Positions (M,) of image ids in `ids` and `points`.

        Raises:
            DataError: an id that the data set lacks.
        """
        position = {image_id: i for i, image_id in enumerate(self.ids)}
        ids = list(ids)
        for image_id in ids:
            if image_id not in position:
                raise DataError(f"{self.folder}: no image {image_id!r} in this data set")
        return np.array([position[image_id] for image_id in ids], dtype=np.int64)

    def image_path(self, image_id: str) -> Path:
        """The PNG of an image."""
        return image_path(self.folder, image_id)

    def folds(self) -> tuple[str, ...]:
        """The names of the folds there."""
        return fold_names(self.folder)

    def fold(self, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The image ids to train on and to test on.

        Raises:
            UsageError: no such fold.
            DataError: it is called "all"; a list is missing or empty, names an id twice or one that
                the data set lacks, or both lists share an id.
        """
        if name not in self.folds():
            there = ", ".join(self.folds()) or "none"
            sets = "; data_prep.points_csv --sets K makes set1 to setK" if name[:3] == "set" else ""
            raise UsageError(f"{self.folder}: no fold {name!r}; there: {there}{sets}")
        lists, problems = read_fold(self.folder, name, set(self.ids))
        if problems:
            raise DataError(problems[0])
        return lists


def read(folder: str | os.PathLike) -> Prepared:
    """Opens a prepared folder. Images are looked for, not read.

    Raises:
        DataError: no finished data set there; an unknown landmark, a coordinate that is no number,
            a point given twice or an image that is missing (with the line), or that was added by
            hand.
    """
    dataset, problems = examine(folder)
    if problems:
        raise DataError(problems[0])
    return dataset


def examine(folder: str | os.PathLike) -> tuple[Prepared, list[str]]:
    """As `read`, with everything that is wrong in the tables, a line each, instead of the first.

    Raises:
        DataError: dataset.json or landmarks.csv is missing or unusable.
    """
    folder = Path(folder)
    about = read_about(folder)
    points, _, problems = read_landmarks(folder / TABLE, about["landmarks"])
    ids = tuple(sorted(points))
    if not ids:
        problems.append(f"{folder / TABLE}: no points: prepare the data set again")
    images = image_ids(folder)
    problems += [
        f"{image_path(folder, i)}: missing, though landmarks.csv has points of it"
        for i in ids
        if i not in images
    ]
    hashes = about["image_hashes"]
    problems += [
        f"{folder / TABLE}: image {i} is not in {ABOUT}: prepare the data set again"
        for i in ids
        if i not in hashes
    ]
    stacked = np.array([points[i] for i in ids]).reshape(-1, len(about["landmarks"]), 2)
    dataset = Prepared(
        folder,
        about["name"],
        tuple(about["landmarks"]),
        ids,
        stacked,
        about["scale"],
        dataset_hash((folder / TABLE).read_bytes(), hashes),
        hashes,
        about["scale"].spacing(stacked, [about["spacing"].get(i) for i in ids]),
    )
    return dataset, problems
