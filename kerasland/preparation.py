"""Writes a prepared data set, whatever its source; `prepared` says what lies where."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np

from kerasland.errors import DataError, UsageError
from kerasland.files import write_text
from kerasland.folds import check_fold, check_list, fold_names, write_fold
from kerasland.image_copies import write_png
from kerasland.prepared import Prepared, read
from kerasland.prepared_tables import (
    ABOUT,
    COLUMNS,
    TABLE,
    UNFINISHED,
    dataset_hash,
    image_path,
    read_about,
)
from kerasland.scale import Scale
from kerasland.threads import WORKERS, ahead

SHOWN = 10  # of images that can't be read
Record = tuple[str, "np.ndarray | str | os.PathLike", np.ndarray]


def write(
    folder: str | os.PathLike,
    *,
    name: str,
    landmarks: Sequence[str],
    records: Iterable[Record],
    scale: Scale | None = None,
    spacing: Mapping[str, tuple[float, float]] | None = None,
    folds: Mapping[str, tuple[Sequence[str], Sequence[str]]] | None = None,
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

    Returns:
        The data set as `read` opens it.

    Raises:
        UsageError: the folder holds something else, or a data set of other landmarks and images.
        DataError: a record or a fold can't be used; see `unreadable`, where files can't be read.
            Images written so far stay, each of them whole; dataset.json is absent.
    """
    folder, scale = Path(folder), scale or Scale()
    if len(set(landmarks)) != len(landmarks) or not landmarks:
        raise DataError(f"{name}: landmark names must differ from each other: {list(landmarks)}")
    if any(not 0 <= i < len(landmarks) for i in scale.landmarks or ()):
        raise UsageError(
            f"scale landmarks {scale.landmarks}: the {len(landmarks)} of this data set are counted "
            f"from 0 to {len(landmarks) - 1}"
        )
    for fold, lists in (folds or {}).items():
        check_fold(fold, lists)
    records = iter(records)
    first = next(records, None)
    if first is None:
        raise DataError(f"{folder}: no image with points to write")
    _check_id(first[0])
    _checked_points(first[0], first[2], len(landmarks))
    before = _start(folder, name, landmarks, first[0])
    records = itertools.chain([first], records)
    points, hashes = _write_images(folder, records, len(landmarks))
    for fold, lists in (folds or {}).items():
        for part, listed in zip(("train", "test"), lists, strict=True):
            check_list(listed, {*points}, f"fold {fold}, {part}")
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
    written = {*before["folds"], *(folds or {})}
    _note(folder, {**before, "folds": sorted(written)})
    for fold in written - {*(folds or {})}:
        shutil.rmtree(folder / "folds" / fold, ignore_errors=True)
    for fold, lists in (folds or {}).items():
        write_fold(folder, fold, lists)
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
    write_text(folder / ABOUT, json.dumps(about, indent=1) + "\n")
    (folder / UNFINISHED).unlink()
    return read(folder)


def held(folder: Path) -> dict | None:
    """What is known of the data set that a folder holds, or that an interrupted call was to
    replace: name, landmarks, image ids and the folds that belong to it. None where there is none.

    Raises:
        UsageError: the folder holds something else.
    """
    try:
        return json.loads((folder / UNFINISHED).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except ValueError:  # of an older version
        return None
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    try:
        about = read_about(folder)
    except DataError:
        raise UsageError(
            f"{folder}: not empty and no prepared data set: choose a new folder, or delete this "
            "one first"
        ) from None
    known = {key: list(about[key]) for key in ("landmarks", "image_hashes")}
    return {"name": about["name"], **known, "folds": about.get("folds", fold_names(folder))}


def _start(folder: Path, name: str, landmarks: Sequence[str], image_id: str) -> dict:
    """Makes a folder ready to be written, and notes there what it held, see `held`.

    Raises:
        UsageError: what is in the folder would be lost: none of its landmarks, and not this image
            of its images, is to be written.
    """
    new = {"name": name, "landmarks": list(landmarks), "image_hashes": [], "folds": []}
    before = held(folder) or new
    lost = before["landmarks"], before["image_hashes"]
    if {*lost[0]}.isdisjoint(landmarks) and image_id not in lost[1] and all(lost):
        raise UsageError(
            f"{folder}: holds a data set of other images and landmarks, which would be lost; "
            "choose a new folder, or delete this one first"
        )
    before["folds"] = [fold for fold in fold_names(folder) if fold in before["folds"]]
    (folder / "images").mkdir(parents=True, exist_ok=True)
    _note(folder, before)
    (folder / ABOUT).unlink(missing_ok=True)
    return before


def _note(folder: Path, before: dict) -> None:
    write_text(folder / UNFINISHED, json.dumps(before) + "\n")


def _write_images(
    folder: Path, records: Iterable[Record], count: int
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    points: dict[str, np.ndarray] = {}
    called: dict[str, str] = {}

    def checked() -> Iterator[tuple[str, np.ndarray | str | os.PathLike]]:
        for image_id, image, of_image in records:
            _check_id(image_id)
            # not every file system tells a.png from A.png
            if (first := called.setdefault(image_id.casefold(), image_id)) in points:
                raise DataError(
                    f"image ids {first!r} and {image_id!r} differ at most by case, and some file "
                    "systems can't keep both: rename one"
                )
            points[image_id] = _checked_points(image_id, of_image, count)
            yield image_id, image

    failed: dict[str, str] = {}

    def written(record: tuple[str, np.ndarray | str | os.PathLike]) -> tuple[str, str]:
        image_id, image = record
        try:
            return image_id, write_png(image_path(folder, image_id), image)
        except DataError as error:
            if isinstance(image, np.ndarray):
                raise
            failed[str(image)] = str(error)
            return image_id, ""

    with ThreadPoolExecutor(WORKERS) as pool:
        jobs = ahead(pool, written, checked())
        hashes = dict(job.result() for job in jobs)
    if failed:
        raise unreadable(failed, len(points))
    return points, hashes


def unreadable(failed: Mapping[str, str], count: int) -> DataError:
    """What to say where files can't be read: all at once. The reasons of several go to stderr, a
    line each, ten at most.

    Args:
        failed: the reasons by file.
        count: of all images.
    """
    mend = "out of the folder of images, or delete their rows in the table"
    if len(failed) == 1:
        return DataError(f"{next(iter(failed.values()))}, move it {mend.replace('their', 'its')}")
    paths = sorted(failed)
    for path in paths[:SHOWN]:
        print(f"unreadable: {' '.join(failed[path].split())}", file=sys.stderr)
    more = len(paths) - SHOWN
    named = ", ".join(paths[:SHOWN]) + (f" and {more} more" if more > 0 else "")
    return DataError(
        f"{len(paths)} of {count} images can't be read: {named}: get fresh copies, move them {mend}"
    )


def _check_id(image_id: str) -> None:
    if not image_id or image_id.startswith(".") or set(image_id) & set("/\\\r\n\0"):
        raise DataError(f"image id {image_id!r} can't be a file name")
    if image_id != image_id.strip():
        raise DataError(f"image id {image_id!r} has spaces about it")


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
