"""The text files of a prepared data set and what can be wrong with them; see `prepared`."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from kerasland.errors import DataError, UsageError
from kerasland.folds import check_fold_name
from kerasland.scale import Scale

COLUMNS = ["image_id", "landmark", "x", "y"]
ABOUT, TABLE = "dataset.json", "landmarks.csv"
UNFINISHED = ".unfinished"


def check_no_data_set(folder: Path) -> None:
    """Raises UsageError if a prepared data set lies where something else is to be written."""
    if (folder / ABOUT).exists():
        raise UsageError(f"{folder}: a prepared data set; name another folder with --out")


def read_about(folder: Path) -> dict:
    """dataset.json, checked: name, landmarks, scale, counts, hash, image_hashes, spacing.

    Raises:
        DataError: missing, unfinished or unusable.
    """
    path = folder / ABOUT
    if not path.is_file():
        if (folder / UNFINISHED).exists():
            raise DataError(
                f"{folder}: its preparation did not finish (no dataset.json): "
                "run the same data_prep command again, it goes on from there"
            )
        raise DataError(
            f"{folder}: no dataset.json, so no prepared data set: make one with "
            f"python -m data_prep.hand_atlas, data_prep.points_csv or data_prep.synthetic "
            f"--out {folder}"
        )
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        kinds = {"name": str, "hash": str, "landmarks": list, "scale": dict, "image_hashes": dict}
        for key, kind in kinds.items():
            if not isinstance(about[key], kind):
                raise TypeError(f"{key} is no {kind.__name__}")
        names = about["landmarks"]
        if not names or {*map(type, names)} != {str} or len({*names}) < len(names):
            raise ValueError(f"landmarks {names}")
        about["scale"] = Scale(**about["scale"])
        about["spacing"] = dict(about.get("spacing", {}))
        for image_id, (x_mm, y_mm) in about["spacing"].items():
            if not (0 < x_mm < np.inf and 0 < y_mm < np.inf):
                raise ValueError(f"spacing {x_mm}, {y_mm} of {image_id}")
        for fold in about.get("folds", ()):
            check_fold_name(fold)
        if any(not 0 <= i < len(names) for i in about["scale"].landmarks or ()):
            raise ValueError(f"scale landmarks {about['scale'].landmarks} of {len(names)}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: unusable ({error!r}): prepare the data set again") from error
    return about


def read_landmarks(
    path: Path, landmarks: Sequence[str]
) -> tuple[dict[str, np.ndarray], dict[tuple[str, int], int], list[str]]:
    """landmarks.csv: points (K, 2) by image id, line by (image id, landmark index), and problems.

    Raises:
        DataError: no such file, no text, or not these columns.
    """
    if not path.is_file():
        raise DataError(f"{path}: missing: prepare the data set again")
    try:
        return _read_rows(path, landmarks)
    except (UnicodeError, csv.Error) as error:
        raise DataError(f"{path}: no CSV ({error}): save it as CSV UTF-8") from None


def _read_rows(
    path: Path, landmarks: Sequence[str]
) -> tuple[dict[str, np.ndarray], dict[tuple[str, int], int], list[str]]:
    """As `read_landmarks`, of a file that is there."""
    number = {name: k for k, name in enumerate(landmarks)}
    points: dict[str, np.ndarray] = {}
    lines: dict[tuple[str, int], int] = {}
    problems: list[str] = []
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        if header != COLUMNS:
            raise DataError(f"{path}: header {','.join(header)}, expected {','.join(COLUMNS)}")
        for row in rows:
            if not row:
                continue
            where = f"{path}, line {rows.line_num}"
            if len(row) != len(COLUMNS) or not row[0]:
                problems.append(f"{where}: {','.join(row)!r}, expected {','.join(COLUMNS)}")
                continue
            image_id, landmark, *numbers = row
            key, point = (image_id, number.get(landmark, -1)), _numbers(numbers)
            if key[1] < 0:
                problems.append(f"{where}: unknown landmark {landmark!r}, not in dataset.json")
            elif point is None:
                problems.append(f"{where}: x, y = {', '.join(numbers)}, expected two numbers")
            elif key in lines:
                problems.append(f"{where}: {image_id} {landmark} again, first on line {lines[key]}")
            else:
                lines[key] = rows.line_num
                points.setdefault(image_id, np.full((len(landmarks), 2), np.nan))[key[1]] = point
    return points, lines, problems


def _numbers(texts: Sequence[str]) -> tuple[float, ...] | None:
    try:
        values = tuple(float(text) for text in texts)
    except ValueError:
        return None
    return values if all(np.isfinite(values)) else None


def image_path(folder: Path, image_id: str) -> Path:
    """The PNG of an image."""
    return folder / "images" / f"{image_id}.png"


def image_ids(folder: Path) -> set[str]:
    """The ids of the images that are in a prepared folder."""
    return {p.name.removesuffix(".png") for p in (folder / "images").glob("[!.]*.png")}


def dataset_hash(table: bytes, image_hashes: Mapping[str, str]) -> str:
    """SHA-256 over the bytes of landmarks.csv and `ID HASH` of each image in the order given."""
    digest = hashlib.sha256(table)
    digest.update("".join(f"{i} {h}\n" for i, h in image_hashes.items()).encode())
    return digest.hexdigest()
