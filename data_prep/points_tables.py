"""Tables of anyone's own points: wide or tidy, told apart by their header."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data_prep import common
from kerasland.errors import DataError

IMAGE_COLUMNS = (
    "image",
    "image_id",
    "image_name",
    "img",
    "file",
    "filename",
    "file_name",
    "path",
    "id",
    "name",
)
MISSING = {"", "nan", "na", "n/a", "none", "null"}
EXPECTED = (
    "expected a header such as image,wrist_x,wrist_y,thumb_x,thumb_y (a row an image) "
    "or image,landmark,x,y (a row a point)"
)


@dataclass
class Table:
    """Points of a table; an image is called what the table calls it.

    landmarks: names in order of appearance. points: (K, 2) by image, NaN where missing.
    line: by image; in a tidy table by (image, landmark index) too. ignored: columns not used.
    """

    landmarks: list[str]
    points: dict[str, np.ndarray] = field(default_factory=dict)
    lines: dict[object, int] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)

    def line(self, image: str, landmark: int) -> int:
        """The line that holds a point."""
        return self.lines.get((image, landmark), self.lines[image])


def read_points(path: Path) -> Table:
    """A table of points, wide or tidy.

    Raises:
        DataError: no such file, a header that can't be told, a row that can't be read (its line).
    """
    with common.open_table(path) as file:
        first = file.readline()
        file.seek(0)
        reader = csv.reader(file, delimiter=max(",;\t", key=first.count))
        header = [column.strip() for column in next(reader, [])]
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    for line, row in rows:
        if len(row) != len(header):
            raise DataError(
                f"{path}, line {line}: {len(row)} fields, the header has {len(header)} columns"
            )
    lower = [column.lower() for column in header]
    image_column = next((lower.index(c) for c in IMAGE_COLUMNS if c in lower), 0)
    if {"landmark", "x", "y"} <= set(lower):
        table = _tidy(path, lower, image_column, rows)
    else:
        table = _wide(path, header, image_column, rows)
    if not table.points:
        raise DataError(f"{path}: no points")
    return table


def _tidy(path: Path, lower: list[str], image_column: int, rows: list) -> Table:
    columns = [lower.index(c) for c in ("landmark", "x", "y")]
    if image_column in columns:
        raise DataError(f"{path}: header {','.join(lower)}: no column of images; {EXPECTED}")
    number: dict[str, int] = {}
    for line, row in rows:
        if not row[columns[0]].strip():
            raise DataError(f"{path}, line {line}: no landmark named")
        number.setdefault(row[columns[0]].strip(), len(number))
    table = Table(list(number), ignored=_others(lower, [image_column, *columns]))
    for line, row in rows:
        image, k = _image(row, image_column, path, line), number[row[columns[0]].strip()]
        if (image, k) in table.lines:
            raise DataError(
                f"{path}, line {line}: {image} {table.landmarks[k]} again, first on line "
                f"{table.lines[image, k]}"
            )
        table.lines.setdefault(image, line)
        table.lines[image, k] = line
        points = table.points.setdefault(image, np.full((len(number), 2), np.nan))
        points[k] = _point(row[columns[1]], row[columns[2]], f"{path}, line {line}")
    return table


def _wide(path: Path, header: list[str], image_column: int, rows: list) -> Table:
    pairs, ignored = _pairs(path, header, image_column)
    table = Table(list(pairs), ignored=ignored)
    for line, row in rows:
        image = _image(row, image_column, path, line)
        if image in table.points:
            raise DataError(
                f"{path}, line {line}: image {image} again, first on line {table.lines[image]}"
            )
        table.lines[image] = line
        where = f"{path}, line {line}"
        table.points[image] = np.array([_point(row[x], row[y], where) for x, y in pairs.values()])
    return table


def _pairs(
    path: Path, header: list[str], image_column: int
) -> tuple[dict[str, tuple[int, int]], list[str]]:
    """The columns (x, y) of each landmark, and the columns that are none."""
    axes: dict[str, dict[str, int]] = {}
    for column, text in enumerate(header):
        named = _axis(text)
        if column == image_column or named is None:
            continue
        name, axis = named
        if axis in axes.setdefault(name, {}):
            return _alike(path, header, image_column), []
        axes[name][axis] = column
    if not axes:
        return _alike(path, header, image_column), []
    for name, of_name in axes.items():
        if len(of_name) != 2:
            raise DataError(
                f"{path}: header has {' and '.join(of_name)} of {name!r}, not x and y; {EXPECTED}"
            )
    pairs = {name: (of_name["x"], of_name["y"]) for name, of_name in axes.items()}
    return pairs, _others(header, [image_column, *(c for pair in pairs.values() for c in pair)])


def _axis(column: str) -> tuple[str, str] | None:
    """`wrist_x` is the x of wrist; `x0`, `x_0` are the x of landmark_0."""
    if match := re.fullmatch(r"(.+?)[_ .:-]?([xyXY])", column):
        # `thumbX` and `thumb_x` name an axis; the last letter of `index` doesn't.
        if column[match.end(1)] in "_ .:-" or (match[1][-1].islower() and match[2].isupper()):
            return match[1], match[2].lower()
        if match[1][-1].isdigit():
            return match[1], match[2].lower()
    if match := re.fullmatch(r"([xyXY])[_ .:-]?(\d+)", column):
        return f"landmark_{match[2]}", match[1].lower()
    return None


def _alike(path: Path, header: list[str], image_column: int) -> dict[str, tuple[int, int]]:
    """Consecutive pairs that are named alike (a,a,b,b) or x,y,x,y."""
    columns = [c for c in range(len(header)) if c != image_column]
    if len(columns) % 2 == 0 and columns:
        pairs = list(zip(columns[::2], columns[1::2], strict=True))
        names = [(header[x].lower(), header[y].lower()) for x, y in pairs]
        if all(pair == ("x", "y") for pair in names):
            return {f"landmark_{k}": pair for k, pair in enumerate(pairs)}
        if all(a == b and not _number(a) for a, b in names) and len(set(names)) == len(names):
            return {header[x]: (x, y) for x, y in pairs}
    shown = ",".join(header[:6]) + (",..." if len(header) > 6 else "")
    raise DataError(f"{path}: can't tell the columns of {shown!r}; {EXPECTED}")


def _others(header: list[str], used: list[int]) -> list[str]:
    return [text for column, text in enumerate(header) if column not in used]


def _image(row: list[str], column: int, path: Path, line: int) -> str:
    if not row[column].strip():
        raise DataError(f"{path}, line {line}: no image named")
    return row[column].strip()


def _point(x: str, y: str, where: str) -> tuple[float, float]:
    missing = [text.strip().lower() in MISSING for text in (x, y)]
    if all(missing):
        return np.nan, np.nan
    values = [_number(text) for text in (x, y)]
    if any(missing) or None in values:
        raise DataError(f"{where}: x, y = {x!r}, {y!r}: expected two numbers, or both empty")
    return values[0], values[1]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None
