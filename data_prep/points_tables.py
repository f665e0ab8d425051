"""Tables of anyone's own points: wide or tidy, told apart by their header."""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from data_prep import common
from data_prep.annotations import Annotations, finite
from kerasland.errors import DataError, UsageError

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
PEOPLE_COLUMNS = (
    "patient",
    "patient_id",
    "patientid",
    "subject",
    "subject_id",
    "subjectid",
    "study_subject",
    "participant",
    "participant_id",
)
MISSING = {"", "nan", "na", "n/a", "none", "null"}
_COMMA, _POINT = re.compile(r"[-+]?\d+,\d+"), re.compile(r"[-+]?\d+\.\d+")
EXPECTED = (
    "expected a header such as image,wrist_x,wrist_y,thumb_x,thumb_y (a row an image) "
    "or image,landmark,x,y (a row a point)"
)


def read_table(path: Path, columns: Mapping[str, str] = MappingProxyType({})) -> Annotations:
    """A table of points, wide or tidy; (0, 0) is the centre of the first pixel.

    Args:
        path: the file.
        columns: that say something of each image, by the option that asks for each.

    Raises:
        DataError: no such file, a header that can't be told, a row that can't be read (its line).
        UsageError: no such column, or it holds something else.
    """
    with common.open_table(path) as file:
        start, first, before = 0, file.readline(), 0
        while first and not first.strip(" ,;\t\r\n"):  # blank lines above the header
            start, first, before = file.tell(), file.readline(), before + 1
        if said := re.fullmatch(r'"?sep=(.)"?\s*', first, re.IGNORECASE):  # as Excel reads it
            delimiter, before = said[1], before + 1
        else:
            delimiter = max(",;\t", key=first.count)
            file.seek(start)
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
    asked = {option: _asked(path, header, option, name) for option, name in columns.items()}
    if delimiter != ",":
        rows = _with_points(path, {image_column, asked.get("--group")}, rows)
    name = _landmark_column(header, image_column)
    if name is not None:
        table, used = _tidy(path, lower, image_column, name, rows)
    else:
        table, used = _wide(path, header, image_column, rows, {*asked.values()})
    if not table.places:
        raise DataError(f"{path}: no points")
    for option, column in asked.items():
        if column in used:
            raise UsageError(
                f"{option} {columns[option]}: that column holds the images or points of {path}"
            )
    spare = [c for c in range(len(header)) if c not in {*used, *asked.values()}]
    table.ignored = [f"column {header[c] or f'{c + 1} without a name'}" for c in spare]
    table.people = [
        header[c]
        for c in spare
        if re.sub(r"\W", "_", lower[c]) in PEOPLE_COLUMNS and _some_share(rows, image_column, c)
    ]
    for option, column in asked.items():
        for line, row in rows:
            if (text := row[column].strip()).lower() not in MISSING:
                image, place = row[image_column].strip(), f"{path}, line {line}"
                table.say(columns[option], image, text, place)
    return table


def _some_share(rows: list, image_column: int, column: int) -> bool:
    """Whether several images have the same in a column."""
    pairs = {(row[column].strip(), row[image_column].strip()) for _, row in rows}
    values = [value for value, _ in pairs if value.lower() not in MISSING]
    return len(set(values)) < len(values)


def _asked(path: Path, header: list[str], option: str, name: str) -> int:
    """The column that an option names."""
    if not name.strip():
        raise UsageError(f"{option}: names no column")
    for written in (str, str.casefold):
        there = [c for c, text in enumerate(header) if written(text) == written(name)]
        if len(there) == 1:
            return there[0]
        if there:
            raise UsageError(f"{option} {name}: {len(there)} columns of {path} are called so")
    lower = {text.lower(): text for text in header if text}
    near = difflib.get_close_matches(name.lower(), lower, 1)
    hint = f"did you mean {lower[near[0]]}?" if near else f"there: {common.some(lower.values())}"
    raise UsageError(f"{option} {name}: no such column in {path}; {hint}")


def _landmark_column(header: list[str], image_column: int) -> int | None:
    """The column of landmarks of a tidy table; `name` is one where it is not that of the images."""
    lower = [column.lower() for column in header]
    if not {"x", "y"} <= set(lower):
        return None
    known = [lower.index(c) for c in LANDMARK_COLUMNS if c in lower]
    if not known and "name" in lower and not any(map(_axis, header)):
        known = [c for c in (lower.index("name"),) if c != image_column]
    return known[0] if known else None


def _tidy(
    path: Path, lower: list[str], image_column: int, name: int, rows: list
) -> tuple[Annotations, set[int]]:
    x, y = lower.index("x"), lower.index("y")
    if image_column in (name, x, y) or not lower[image_column]:
        raise DataError(f"{path}: header {','.join(lower)}: no column of images; {EXPECTED}")
    table = Annotations(path)
    for line, row in rows:
        place = f"{path}, line {line}"
        image, landmark = _image(row, image_column, place), row[name].strip()
        if not landmark:
            raise DataError(f"{place}: no landmark named")
        if image not in table.places:
            table.add_image(image, place)
        table.add_point(image, landmark, _point(row[x], row[y], place), place)
    return table, {image_column, name, x, y}


def _wide(
    path: Path, header: list[str], image_column: int, rows: list, asked: set[int]
) -> tuple[Annotations, set[int]]:
    pairs = _pairs(path, header, image_column, asked)
    table = Annotations(path, pairs)
    for line, row in rows:
        place = f"{path}, line {line}"
        image = _image(row, image_column, place)
        table.add_image(image, place)
        for landmark, (x, y) in pairs.items():
            table.add_point(image, landmark, _point(row[x], row[y], place), place)
    return table, {image_column, *(column for pair in pairs.values() for column in pair)}


def _pairs(
    path: Path, header: list[str], image_column: int, asked: set[int]
) -> dict[str, tuple[int, int]]:
    """The columns (x, y) of each landmark."""
    axes = _axes(header, image_column, _axis)
    if axes == {}:
        axes = _axes(header, image_column, _axis_first)
    axes = {name: of_name for name, of_name in (axes or {}).items() if {*of_name.values()} - asked}
    if not axes:
        return _alike(path, header, {image_column, *asked})
    for name, of_name in axes.items():
        if len(of_name) != 2:
            raise DataError(
                f"{path}: header has {' and '.join(of_name)} of {name!r}, not x and y; {EXPECTED}"
            )
    return {name: (of_name["x"], of_name["y"]) for name, of_name in axes.items()}


def _axes(
    header: list[str], image_column: int, axis_of: Callable[[str], tuple[str, str] | None]
) -> dict[str, dict[str, int]] | None:
    """The columns of each name's axes; None where one comes twice."""
    axes: dict[str, dict[str, int]] = {}
    for column, text in enumerate(header):
        named = axis_of(text)
        if column == image_column or named is None:
            continue
        name, axis = named
        if axis in axes.setdefault(name, {}):
            return None
        axes[name][axis] = column
    return axes


def _axis_first(column: str) -> tuple[str, str] | None:
    """`x_wrist` is the x of wrist."""
    match = re.fullmatch(r"([xyXY])[_ .:-](.+)", column)
    return match and (match[2], match[1].lower())


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


def _alike(path: Path, header: list[str], others: set[int]) -> dict[str, tuple[int, int]]:
    """Consecutive pairs that are named alike (a,a,b,b) or x,y,x,y, but for other columns."""
    columns = [c for c in range(len(header)) if c not in others]
    if len(columns) % 2 == 0 and columns:
        pairs = list(zip(columns[::2], columns[1::2], strict=True))
        names = [(header[x].lower(), header[y].lower()) for x, y in pairs]
        if all(pair == ("x", "y") for pair in names):
            return {f"landmark_{k}": pair for k, pair in enumerate(pairs)}
        if all(a == b and not _number(a) for a, b in names) and len(set(names)) == len(names):
            return {header[x]: (x, y) for x, y in pairs}
    shown = ",".join(header[:6]) + (",..." if len(header) > 6 else "")
    raise DataError(f"{path}: can't tell the columns of {shown!r}; {EXPECTED}")


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


def _with_points(path: Path, names: set[int | None], rows: list) -> list:
    """Rows of a table without commas between its columns, whose `10,5` become `10.5`, but in the
    columns of names.

    Raises:
        DataError: a comma may also stand between thousands: there are decimal points too, or three
            digits behind every comma and no 0 alone before it.
    """
    cells = [c.strip() for _, row in rows for k, c in enumerate(row) if k not in names]
    commas = [cell for cell in cells if _COMMA.fullmatch(cell)]
    thousands = all(re.fullmatch(r"[-+]?[1-9]\d*,\d{3}", cell) for cell in commas)
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
                cell.replace(",", ".") if k not in names and cell.strip() in known else cell
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
