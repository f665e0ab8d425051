"""The text files of a prepared data set and what can be wrong with them; see `prepared`."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kerasland import geometry
from kerasland.errors import DataError, UsageError
from kerasland.folds import check_fold_name

COLUMNS = ["image_id", "landmark", "x", "y"]
TABLE = "landmarks.csv"
UNFINISHED = ".unfinished"


@dataclass(frozen=True)
class Scale:
    """How pixels become millimetres: two landmarks a known length apart, a spacing, or not at all.

    landmarks: the two landmarks, counted from zero. length_mm: their distance.
    mm_per_px: the spacing of every image, where it is known.
    files: what states the spacing of each image, in its file or beside it, where that is used.
    """

    landmarks: tuple[int, int] | None = None
    length_mm: float | None = None
    mm_per_px: float | None = None
    files: str = ""

    def __post_init__(self):
        if (self.landmarks is None) != (self.length_mm is None):
            raise UsageError("a scale by landmarks needs two landmarks and their length in mm")
        if sum((self.landmarks is not None, self.mm_per_px is not None, bool(self.files))) > 1:
            raise UsageError("a scale is either two landmarks and a length or mm per pixel")
        if self.landmarks is not None:
            object.__setattr__(self, "landmarks", tuple(int(i) for i in self.landmarks))
            if len(self.landmarks) != 2 or self.landmarks[0] == self.landmarks[1]:
                raise UsageError(f"a scale needs two different landmarks, not {self.landmarks}")
        for value in (self.length_mm, self.mm_per_px):
            if value is not None and not (np.isfinite(value) and value > 0):
                raise UsageError(f"a scale of {value} mm: expected a number above 0")

    def per_image(self, points: np.ndarray) -> np.ndarray:
        """Millimetres a pixel of each image.

        Args:
            points: (N, K, 2), pixels, NaN where not annotated.

        Returns:
            (N,), NaN where unknown.
        """
        if self.landmarks is not None:
            return geometry.mm_per_px(points, self.landmarks, self.length_mm)
        return np.full(len(points), np.nan if self.mm_per_px is None else self.mm_per_px)

    def spacing(
        self, points: np.ndarray, stated: Sequence[tuple[float, float] | None]
    ) -> np.ndarray:
        """Millimetres a pixel along x and along y of each image.

        Args:
            points: (N, K, 2), pixels, NaN where not annotated.
            stated: N spacings (x, y), see `files`, None where nothing states one.

        Returns:
            (N, 2), NaN where unknown.
        """
        if self.files:
            unknown = (np.nan, np.nan)
            return np.array([pair or unknown for pair in stated], np.float64).reshape(-1, 2)
        return np.repeat(self.per_image(points)[:, None], 2, axis=1)

    def describe(self, landmarks: Sequence[str] | None = None) -> str:
        """A phrase for tables, such as `a to b (0, 4) = 50 mm`; `landmarks`: all names in order."""
        if self.landmarks is not None:
            names = f"{' to '.join(landmarks[i] for i in self.landmarks)} " if landmarks else ""
            return f"{names}{self.landmarks} = {self.length_mm:g} mm"
        if self.files:
            return f"pixel spacing of each image ({self.files})"
        return "no millimetres known" if self.mm_per_px is None else f"{self.mm_per_px:g} mm per px"


def read_about(folder: Path) -> dict:
    """dataset.json, checked: name, landmarks, scale, counts, hash, image_hashes, spacing.

    Raises:
        DataError: missing, unfinished or unusable.
    """
    path = folder / "dataset.json"
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
        count = len(about["landmarks"])
        about["scale"] = Scale(**about["scale"])
        about["spacing"] = dict(about.get("spacing", {}))
        for fold in about.get("folds", ()):
            check_fold_name(fold)
        if any(not 0 <= i < count for i in about["scale"].landmarks or ()):
            raise ValueError(f"scale landmarks {about['scale'].landmarks} of {count}")
    except (ValueError, KeyError, TypeError) as error:
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
