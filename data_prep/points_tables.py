"""Tables of anyone's own points: wide or tidy, told apart by their header."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from data_prep import common, points_headers
from data_prep.annotations import Annotations, finite
from data_prep.points_headers import BY_FOLDER, EXPECTED, IMAGE_COLUMNS
from kerasland.errors import DataError, UsageError

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


def read_table(path: Path, columns: Mapping[str, str] = MappingProxyType({})) -> Annotations:
    """A table of points, wide or tidy; (0, 0) is the centre of the first pixel.

    Args:
        path: the file.
        columns: that say something of each image, by the option that asks for each; that of
            `BY_FOLDER` need not be there.

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
    asked = {
        option: points_headers.asked_column(path, header, option, name)
        for option, name in columns.items()
        if (option, name) != BY_FOLDER or name in lower
    }
    if delimiter != ",":
        rows = _with_points(path, {image_column, asked.get("--group")}, rows)
    tidy = points_headers.tidy_columns(header, image_column)
    if tidy is not None:
        table, used = _tidy(path, lower, image_column, tidy, rows)
    else:
        table, used = _wide(path, header, image_column, rows, {*asked.values()})
    if not table.places:
        raise DataError(f"{path}: no points")
    for option, column in asked.items():
        if column in used:
            raise UsageError(
                f"{option} {columns[option]}: that column holds the images or points of {path}"
            )
    taken = {*used, *asked.values()}
    spare = [c for c in range(len(header)) if c not in taken]
    table.ignored = [f"column {header[c] or f'{c + 1} without a name'}" for c in spare]
    table.people = [
        header[c]
        for c in spare
        if re.sub(r"\W", "_", lower[c]) in PEOPLE_COLUMNS and _some_share(rows, image_column, c)
    ]
    for option, column in asked.items():
        table.said[columns[option]] = {}
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


def _tidy(
    path: Path, lower: list[str], image_column: int, columns: tuple[int, int, int], rows: list
) -> tuple[Annotations, set[int]]:
    name, x, y = columns
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
    pairs = points_headers.pairs(path, header, image_column, asked)
    lacking = points_headers.without_axes(header)
    table = Annotations(path, pairs)
    for line, row in rows:
        place = f"{path}, line {line}"
        image = _image(row, image_column, place)
        try:
            table.add_image(image, place)
        except DataError as error:
            raise DataError(f"{error}; {lacking}; {EXPECTED}" if lacking else error) from None
        for landmark, (x, y) in pairs.items():
            table.add_point(image, landmark, _point(row[x], row[y], place), place)
    return table, {image_column, *(column for pair in pairs.values() for column in pair)}


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
