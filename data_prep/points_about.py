"""A table that says something of images and has no points: whose they are, how large a pixel is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from data_prep.annotations import Annotations
from data_prep.common import some
from data_prep.matching import match_images
from data_prep.points_headers import BY_FOLDER, asked_column
from data_prep.points_tables import (
    column_of_images,
    has_column,
    image_named,
    note_columns,
    read_rows,
    with_points,
)
from kerasland.errors import DataError, UsageError


def read_about(path: Path, columns: Mapping[str, str]) -> Annotations:
    """What a table says of each image; it has a column of images, and others.

    Args:
        path: a CSV file.
        columns: that say something of each image, by the option that asks for each; those that
            are there.

    Raises:
        DataError: no such file, a row that can't be read, or an image of which a column says two
            things.
        UsageError: none of the columns is there, or one holds the images.
    """
    wanted = {o: c for o, c in columns.items() if (o, c) != BY_FOLDER}
    header, rows, delimiter = read_rows(path)
    asked = {
        option: asked_column(path, header, option, name, elsewhere="")
        for option, name in columns.items()
        if has_column(header, name) or wanted == {option: name}
    }
    if not asked:
        names = " nor ".join(wanted.values()) or "column that --group, --mm-per-px or --side names"
        raise UsageError(f"--about {path}: has no {names}; there: {some(header)}")
    image_column = column_of_images(header)
    if image_column in asked.values():
        raise UsageError(f"--about {path}: {header[image_column]} is the column of images there")
    if delimiter != ",":
        rows = with_points(path, {image_column, asked.get("--group")}, rows)
    about = Annotations(path)
    for line, row in rows:
        place = f"{path}, line {line}"
        about.places.setdefault(image_named(row, image_column, place), place)
    spare = [c for c in range(len(header)) if c not in {image_column, *asked.values()}]
    note_columns(about, header, rows, {columns[o]: c for o, c in asked.items()}, spare)
    return about


def add_about(
    table: Annotations,
    about: Annotations,
    folder: Path,
    found: Mapping[str, Sequence[Path]],
    matched: Mapping[str, Path],
) -> None:
    """Adds what a table says of the images that have points, by their files: it may call them
    otherwise than the points do, see `matching.match_images`.

    Raises:
        DataError: it says another thing than the table of the points, names none of the images, or
            has a name that several files have.
    """
    try:
        files = match_images([*about.places], folder, found)
    except DataError as error:
        raise DataError(f"{about.source}: {error}") from None
    called = {path.resolve(): name for name, path in matched.items()}
    names = {n: called[p.resolve()] for n, p in files.items() if p.resolve() in called}
    if not names:
        raise DataError(
            f"{about.source}: names none of the {len(called)} images that have points, such as "
            f"{some(matched, 1)}, but {some(about.places, 1)}"
        )
    for column, cells in about.said.items():
        of_images = table.said.setdefault(column, {})
        for name, (text, place) in cells.items():
            if name not in names:
                continue
            first, before = of_images.setdefault(names[name], (text, place))
            if first != text:
                raise DataError(
                    f"{place}: {column} of image {names[name]} is {text!r}, but {first!r} in "
                    f"{before}: correct one of them"
                )
    for column, people in about.people.items():
        table.add_people(column, {names[n]: text for n, text in people.items() if n in names})
