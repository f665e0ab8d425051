"""Tables of anyone's own points: wide or tidy, told apart by their header."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from data_prep import common, points_headers
from data_prep.annotations import Annotations, finite
from data_prep.points_headers import EXPECTED, IMAGE_COLUMNS
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
Rows = list[tuple[int, list[str]]]  # each with its line
_COMMA, _POINT = re.compile(r"[-+]?\d+,\d+"), re.compile(r"[-+]?\d+\.\d+")


def read_table(
    path: Path,
    columns: Mapping[str, str] = MappingProxyType({}),
    optional: Collection[str] = (),
) -> Annotations:
    """A table of points, wide or tidy; (0, 0) is the centre of the first pixel.

    Args:
        path: the file.
        columns: that say something of each image, by the option that asks for each.
        optional: the options whose column need not be there.

    Raises:
        DataError: no such file, a header that can't be told, a row that can't be read (its line).
        UsageError: no such column, or it holds something else.
    """
    header, rows, delimiter = read_rows(path)
    image_column = column_of_images(header)
    asked = {
        option: points_headers.asked_column(path, header, option, name)
        for option, name in columns.items()
        if option not in optional or has_column(header, name)
    }
    if delimiter != ",":
        rows = with_points(path, {image_column, asked.get("--group")}, rows)
    tidy = points_headers.tidy_columns(header, image_column)
    if tidy is not None:
        lower = [column.lower() for column in header]
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
    note_columns(table, header, rows, {columns[o]: c for o, c in asked.items()}, spare)
    return table


def read_rows(path: Path) -> tuple[list[str], Rows, str]:
    """The header of a table, its rows that are not blank, and what separates the columns.

    Raises:
        DataError: no such file, no text, or a row that is not as long as the header.
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
    return header, rows, delimiter


def column_of_images(header: list[str]) -> int:
    """The column that names images: by its header, otherwise the first."""
    lower = [column.lower() for column in header]
    return next((lower.index(c) for c in IMAGE_COLUMNS if c in lower), 0)


def has_column(header: list[str], name: str) -> bool:
    """Whether a column is called so, in whatever letters."""
    return name.casefold() in map(str.casefold, header)


def note_columns(
    table: Annotations, header: list[str], rows: Rows, asked: Mapping[str, int], spare: list[int]
) -> None:
    """Notes what the columns `asked` for, by name, say of each image, and the `spare` ones that
    seem to say whose images are.

    Raises:
        DataError: an image of which a column that was asked for says two things.
    """
    image_column = column_of_images(header)
    for name, column in asked.items():
        table.said[name] = {}
        for line, image, text in _cells(rows, image_column, column):
            table.say(name, image, text, f"{table.source}, line {line}")
    for column in spare:
        if re.sub(r"\W", "_", header[column].lower()) in PEOPLE_COLUMNS:
            cells = {(image, text) for _, image, text in _cells(rows, image_column, column)}
            if len(dict(cells)) == len(cells):  # else of two people
                table.add_people(header[column], dict(cells))


def _cells(rows: Rows, image_column: int, column: int) -> Iterator[tuple[int, str, str]]:
    """Line, image and text of the cells of a column that say something."""
    for line, row in rows:
        if (text := row[column].strip()).lower() not in MISSING:
            yield line, row[image_column].strip(), text


def _tidy(
    path: Path, lower: list[str], image_column: int, columns: tuple[int, int, int], rows: Rows
) -> tuple[Annotations, set[int]]:
    name, x, y = columns
    if image_column in (name, x, y) or not lower[image_column]:
        raise DataError(f"{path}: header {','.join(lower)}: no column of images; {EXPECTED}")
    table = Annotations(path)
    for line, row in rows:
        place = f"{path}, line {line}"
        image, landmark = image_named(row, image_column, place), row[name].strip()
        if not landmark:
            raise DataError(f"{place}: no landmark named")
        if image not in table.places:
            table.add_image(image, place)
        table.add_point(image, landmark, _point(row[x], row[y], place), place)
    return table, {image_column, name, x, y}


def _wide(
    path: Path, header: list[str], image_column: int, rows: Rows, asked: set[int]
) -> tuple[Annotations, set[int]]:
    pairs = points_headers.pairs(path, header, image_column, asked)
    lacking = points_headers.without_axes(header)
    table = Annotations(path, pairs)
    for line, row in rows:
        place = f"{path}, line {line}"
        image = image_named(row, image_column, place)
        try:
            table.add_image(image, place)
        except DataError as error:
            raise DataError(f"{error}; {lacking}; {EXPECTED}" if lacking else error) from None
        for landmark, (x, y) in pairs.items():
            table.add_point(image, landmark, _point(row[x], row[y], place), place)
    return table, {image_column, *(column for pair in pairs.values() for column in pair)}


def image_named(row: list[str], column: int, place: str) -> str:
    """The image that a row is about.

    Raises:
        DataError: the cell is empty.
    """
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


def with_points(path: Path, names: set[int | None], rows: Rows) -> Rows:
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
