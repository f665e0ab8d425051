"""Tables of anyone's own points: wide or tidy, told apart by their header."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np

from data_prep import common
from data_prep.annotations import Annotations, finite
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
LANDMARK_COLUMNS = (
    "landmark",
    "landmark_name",
    "landmark_id",
    "label",
    "point",
    "point_name",
    "keypoint",
)
MISSING = {"", "nan", "na", "n/a", "none", "null"}
_COMMA, _POINT = re.compile(r"[-+]?\d+,\d+"), re.compile(r"[-+]?\d+\.\d+")
EXPECTED = (
    "expected a header such as image,wrist_x,wrist_y,thumb_x,thumb_y (a row an image) "
    "or image,landmark,x,y (a row a point)"
)


def read_table(path: Path) -> Annotations:
    """A table of points, wide or tidy; (0, 0) is the centre of the first pixel.

    Raises:
        DataError: no such file, a header that can't be told, a row that can't be read (its line).
    """
    with common.open_table(path) as file:
        first, before = file.readline(), 0
        if said := re.fullmatch(r'"?sep=(.)"?\s*', first, re.IGNORECASE):  # as Excel reads it
            delimiter, before = said[1], 1
        else:
            delimiter = max(",;\t", key=first.count)
            file.seek(0)
        reader = csv.reader(file, delimiter=delimiter)
        header = [column.strip() for column in next(reader, [])]
        rows = [
            (reader.line_num + before, row) for row in reader if any(cell.strip() for cell in row)
        ]
    for line, row in rows:
        if len(row) != len(header):
            raise DataError(
                f"{path}, line {line}: {len(row)} fields, the header has {len(header)} columns"
            )
    lower = [column.lower() for column in header]
    image_column = next((lower.index(c) for c in IMAGE_COLUMNS if c in lower), 0)
    if delimiter != ",":
        rows = _with_points(path, image_column, rows)
    if {"x", "y"} <= set(lower) and not set(lower).isdisjoint(LANDMARK_COLUMNS):
        table = _tidy(path, lower, image_column, rows)
    else:
        table = _wide(path, header, image_column, rows)
    if not table.places:
        raise DataError(f"{path}: no points")
    return table


def _tidy(path: Path, lower: list[str], image_column: int, rows: list) -> Annotations:
    name = next(lower.index(c) for c in LANDMARK_COLUMNS if c in lower)
    x, y = lower.index("x"), lower.index("y")
    if image_column in (name, x, y) or not lower[image_column]:
        raise DataError(f"{path}: header {','.join(lower)}: no column of images; {EXPECTED}")
    table = Annotations(path)
    table.ignored = _columns(lower, [image_column, name, x, y])
    for line, row in rows:
        place = f"{path}, line {line}"
        image, landmark = _image(row, image_column, place), row[name].strip()
        if not landmark:
            raise DataError(f"{place}: no landmark named")
        if image not in table.places:
            table.add_image(image, place)
        table.add_point(image, landmark, _point(row[x], row[y], place), place)
    return table


def _wide(path: Path, header: list[str], image_column: int, rows: list) -> Annotations:
    pairs, ignored = _pairs(path, header, image_column)
    table = Annotations(path, pairs)
    table.ignored = ignored
    for line, row in rows:
        place = f"{path}, line {line}"
        image = _image(row, image_column, place)
        table.add_image(image, place)
        for landmark, (x, y) in pairs.items():
            table.add_point(image, landmark, _point(row[x], row[y], place), place)
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
    return pairs, _columns(header, [image_column, *(c for pair in pairs.values() for c in pair)])


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


def _columns(header: list[str], used: list[int]) -> list[str]:
    """The columns that are not used, for a message."""
    return [
        f"column {text or f'{column + 1} without a name'}"
        for column, text in enumerate(header)
        if column not in used
    ]


def _image(row: list[str], column: int, place: str) -> str:
    if not row[column].strip():
        raise DataError(f"{place}: no image named")
    return row[column].strip()


def _point(x: str, y: str, place: str) -> tuple[float, float]:
    missing = [text.strip().lower() in MISSING for text in (x, y)]
    if all(missing):
        return np.nan, np.nan
    if any(missing):
        raise DataError(f"{place}: x, y = {x!r}, {y!r}: expected two numbers, or both empty")
    return finite(x, y, place)


def _with_points(path: Path, image_column: int, rows: list) -> list:
    """Rows of a table without commas between its columns, whose `10,5` become `10.5`.

    Raises:
        DataError: a comma may also stand between thousands: there are decimal points too, or three
            digits behind every comma.
    """
    cells = [c.strip() for _, row in rows for k, c in enumerate(row) if k != image_column]
    commas = [cell for cell in cells if _COMMA.fullmatch(cell)]
    thousands = all(len(cell.split(",")[1]) == 3 for cell in commas)
    if commas and (thousands or any(_POINT.fullmatch(cell) for cell in cells)):
        raise DataError(
            f"{path}: {commas[0]!r} may be a decimal comma or one between thousands: write numbers "
            "with a decimal point and nothing between thousands"
        )
    known = set(commas)
    return [
        (
            line,
            [
                cell.replace(",", ".") if k != image_column and cell.strip() in known else cell
                for k, cell in enumerate(row)
            ],
        )
        for line, row in rows
    ]


def _number(text: str) -> bool:
    try:
        return np.isfinite(float(text))
    except ValueError:
        return False
