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

import csv
import io
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from kerasland.errors import DataError, UsageError
from kerasland.files import write_text
from kerasland.images import write_png
from kerasland.prepared_tables import (
    COLUMNS,
    UNFINISHED,
    Scale,
    dataset_hash,
    fold_names,
    image_ids,
    image_path,
    list_problems,
    read_about,
    read_fold,
    read_landmarks,
)

TABLE = "landmarks.csv"
ALL = "all"  # stands for a fold where every image is trained on
Record = tuple[str, "np.ndarray | str | os.PathLike", np.ndarray]


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
            UsageError: no such fold, or one called "all".
            DataError: a list is missing or empty, names an id twice or one that the data set lacks,
                or both lists share an id.
        """
        if name not in self.folds():
            there = ", ".join(self.folds()) or "none"
            raise UsageError(f"{self.folder}: no fold {name!r}; there: {there}")
        _check_fold_name(name)
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
    images = image_ids(folder)
    problems += [
        f"{image_path(folder, i)}: missing, though landmarks.csv has points of it"
        for i in ids
        if i not in images
    ]
    hashes = about["image_hashes"]
    problems += [
        f"{folder / TABLE}: image {i} is not in dataset.json: prepare the data set again"
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


def split(
    ids: Iterable[str], test_fraction: float = 0.2, seed: int = 0
) -> tuple[list[str], list[str]]:
    """A seeded split of image ids into train and test; neither is empty.

    Raises:
        UsageError: fewer than two ids, or a fraction not between 0 and 1.
    """
    ids = sorted(ids)
    if len(ids) < 2 or not 0 < test_fraction < 1:
        raise UsageError(f"can't split {len(ids)} images with a test fraction of {test_fraction}")
    count = min(max(round(test_fraction * len(ids)), 1), len(ids) - 1)
    test = set(np.random.default_rng(seed).permutation(len(ids))[:count].tolist())
    return (
        [image_id for i, image_id in enumerate(ids) if i not in test],
        [image_id for i, image_id in enumerate(ids) if i in test],
    )


def write(
    folder: str | os.PathLike,
    *,
    name: str,
    landmarks: Sequence[str],
    records: Iterable[Record],
    scale: Scale | None = None,
    spacing: Mapping[str, tuple[float, float]] | None = None,
    folds: Mapping[str, tuple[Sequence[str], Sequence[str]]] | None = None,
    workers: int = 2,
) -> Prepared:
    """Writes a prepared folder. After an interruption the same call goes on where it stopped.

    Args:
        folder: new, empty, or one that an earlier call made; folds that were added there stay.
        name: of the data set.
        landmarks: K different names in order.
        records: (image id, image file or (H, W) uint8 or uint16 array, (K, 2) points in pixels with
            NaN where not annotated); drawn as the work proceeds, so a generator may show progress.
        scale: how pixels become millimetres.
        spacing: mm a pixel along x and y by image id, where files state it and `scale.files` says
            what does.
        folds: (train ids, test ids) by name.
        workers: threads that decode and encode.

    Returns:
        The data set as `read` opens it.

    Raises:
        UsageError: the folder holds something else.
        DataError: a record or a fold can't be used. Images written so far stay, each of them whole;
            dataset.json is absent.
    """
    folder, scale = Path(folder), scale or Scale()
    if len(set(landmarks)) != len(landmarks) or not landmarks:
        raise DataError(f"{name}: landmark names must differ from each other: {list(landmarks)}")
    if any(not 0 <= i < len(landmarks) for i in scale.landmarks or ()):
        raise UsageError(f"scale landmarks {scale.landmarks} of {len(landmarks)}, from 0")
    for fold, lists in (folds or {}).items():
        _check_fold(fold, lists)
    _start(folder)
    points, hashes = _write_images(folder, records, len(landmarks), workers)
    if not points:
        raise DataError(f"{folder}: no image with points to write")
    for path in (folder / "images").glob("*.png"):  # of another source, or of a killed process
        if path.stem not in points:
            path.unlink()
    ids = sorted(points)
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(COLUMNS)
    rows.writerows(
        (i, landmark, _exact(x), _exact(y))
        for i in ids
        for landmark, (x, y) in zip(landmarks, points[i], strict=True)
        if not np.isnan(x)
    )
    write_text(folder / TABLE, table.getvalue())
    for fold, lists in (folds or {}).items():
        for part, listed in zip(("train", "test"), lists, strict=True):
            write_text(folder / "folds" / fold / f"{part}.txt", "".join(f"{i}\n" for i in listed))
        problems = read_fold(folder, fold, set(ids))[1]
        if problems:
            raise DataError(problems[0])
    about = {
        "name": name,
        "landmarks": list(landmarks),
        "scale": asdict(scale),
        "counts": {"images": len(ids), "points": table.getvalue().count("\n") - 1},
        "hash": dataset_hash(table.getvalue().encode(), {i: hashes[i] for i in ids}),
        "image_hashes": {i: hashes[i] for i in ids},
        "spacing": {i: list(pair) for i, pair in sorted((spacing or {}).items())},
        "folds": sorted(folds or {}),
    }
    write_text(folder / "dataset.json", json.dumps(about, indent=1) + "\n")
    (folder / UNFINISHED).unlink()
    return read(folder)


def _check_fold_name(name: str) -> None:
    if not name or name.startswith(".") or set(name) & set("/\\"):
        raise UsageError(f"fold name {name!r} can't be a folder's name")
    if name == ALL:
        raise UsageError(f"a fold can't be called {ALL!r}, which stands for all images: rename it")


def _check_fold(name: str, lists: tuple[Sequence[str], Sequence[str]]) -> None:
    _check_fold_name(name)
    for part, listed in zip(("train", "test"), lists, strict=True):
        for problem in list_problems(listed, set(listed), f"fold {name}, {part}"):
            raise DataError(problem)
    for image_id in sorted(set(lists[0]) & set(lists[1])):
        raise DataError(f"fold {name}: image {image_id} is in train and in test")


def _start(folder: Path) -> None:
    earlier: Sequence[str] = ()
    if folder.exists() and not (folder / UNFINISHED).exists():
        try:
            if not folder.is_dir() or any(folder.iterdir()):
                earlier = read_about(folder).get("folds", fold_names(folder))
        except DataError:
            raise UsageError(
                f"{folder}: not empty and no prepared data set: choose a new folder"
            ) from None
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / UNFINISHED).touch()
    (folder / "dataset.json").unlink(missing_ok=True)
    for fold in earlier:
        shutil.rmtree(folder / "folds" / fold, ignore_errors=True)


def _write_images(
    folder: Path, records: Iterable[Record], count: int, workers: int
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    points: dict[str, np.ndarray] = {}
    hashes: dict[str, str] = {}
    waiting: list[tuple[str, Future]] = []
    with ThreadPoolExecutor(workers) as pool:
        try:
            for image_id, image, of_image in records:
                points[_checked_id(image_id, points)] = _checked_points(image_id, of_image, count)
                job = pool.submit(write_png, image_path(folder, image_id), image)
                waiting.append((image_id, job))
                while len(waiting) > 2 * workers:
                    done, job = waiting.pop(0)
                    hashes[done] = job.result()
            hashes.update((done, job.result()) for done, job in waiting)
        finally:
            for _, job in waiting:
                job.cancel()
    return points, hashes


def _checked_id(image_id: str, seen: Mapping[str, object]) -> str:
    if not image_id or image_id.startswith(".") or set(image_id) & set("/\\\r\n\0"):
        raise DataError(f"image id {image_id!r} can't be a file name")
    if image_id != image_id.strip() or image_id in seen:
        raise DataError(f"image id {image_id!r} comes twice or has spaces about it")
    return image_id


def _checked_points(image_id: str, points: np.ndarray, count: int) -> np.ndarray:
    points = np.array(points, dtype=np.float64)
    if points.shape != (count, 2):
        raise DataError(f"image {image_id}: points of shape {points.shape}, not {(count, 2)}")
    points[np.isnan(points).any(axis=1)] = np.nan
    if np.isinf(points).any() or np.isnan(points).all():
        raise DataError(f"image {image_id}: infinite coordinates or no annotated point")
    return points


def _exact(value: float) -> str:
    return repr(float(value)).removesuffix(".0")
