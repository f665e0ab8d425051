"""Which columns of a table of points hold what, told by its header."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from data_prep import common
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
_WITH_UNIT = re.compile(
    r"(.+?)(?:[\s_]*[(\[]\s*(?:px|pixels?)\s*[)\]]|[\s_.:-]+(?:px|pixels?))", re.IGNORECASE
)
_OTHER_UNITS = ("mm", "cm", "inch")
_IN_BRACKETS = re.compile(r"(.*?)[\s_]*[(\[]\s*([xyXY])\s*[)\]]")
BY_FOLDER = "--group", "folder"  # that the image lies in, where no column is called so
NO_COLUMNS = {  # what an option takes beside a column
    "--group": "folder, or file",
    "--mm-per-px": "a number, or file",
    "--side": "file",
}
EXPECTED = (
    "expected a header such as image,wrist_x,wrist_y,thumb_x,thumb_y (a row an image) "
    "or image,landmark,x,y (a row a point)"
)


def asked_column(
    path: Path,
    header: list[str],
    option: str,
    name: str,
    elsewhere: str = "; or a column of --about FILE.csv",
) -> int:
    """The column that an option names; `elsewhere`: where else one may be.

    Raises:
        UsageError: there is none, or several.
    """
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
    hint += f"{elsewhere}; or {NO_COLUMNS[option]}, see --help"
    raise UsageError(f"{option} {name}: no such column in {path}; {hint}")


def tidy_columns(header: list[str], image_column: int) -> tuple[int, int, int] | None:
    """The columns of landmarks, x and y of a tidy table, if it is one; `name` is that of landmarks
    where it is not that of the images."""
    wide = any(map(_axis, header))
    spellings = [[column.lower() for column in header]]
    if not wide and not any(map(_axis_first, header)):  # else `x_px` may be a landmark's
        spellings.append([_plain(column) for column in header])
    for texts in spellings:
        known = [texts.index(c) for c in LANDMARK_COLUMNS if c in texts]
        if not wide and "name" in texts and texts.index("name") != image_column:
            known.append(texts.index("name"))
        if known and {"x", "y"} <= {*texts}:
            return known[0], texts.index("x"), texts.index("y")
    return None


def without_axes(header: list[str]) -> str:
    """What to say of a column of landmarks in a table that is not tidy, if there is one."""
    named = [column for column in header if _plain(column) in LANDMARK_COLUMNS]
    return f"column {named[0]} names landmarks, but there are no columns x and y" if named else ""


def _without_unit(column: str) -> str:
    """`wrist (x) [px]` is `wrist_x`, `X_px` is `X`."""
    if match := _WITH_UNIT.fullmatch(column):
        column = match[1]
    if match := _IN_BRACKETS.fullmatch(column):
        column = f"{match[1]}_{match[2]}" if match[1] else match[2]
    return column


def _plain(column: str) -> str:
    return re.sub(r"\s+", "_", _without_unit(column).lower())


def pairs(
    path: Path, header: list[str], image_column: int, asked: set[int]
) -> dict[str, tuple[int, int]]:
    """The columns (x, y) of each landmark of a wide table.

    Args:
        path: the file, for messages.
        header: its columns.
        image_column: that of the images.
        asked: those that say something else.

    Raises:
        DataError: they can't be told.
    """
    for axes in _readings(header, image_column):
        if axes := {name: of for name, of in axes.items() if {*of.values()} - asked}:
            break
    else:
        return _alike(path, header, {image_column, *asked})
    complete = {name: (of["x"], of["y"]) for name, of in axes.items() if len(of) == 2}
    single = {name: axis for name, of in axes.items() for axis in of if len(of) == 1}
    if single and (not complete or len({*single.values()}) == 2):  # a misspelt pair: not left out
        name, axis = next(iter(single.items()))
        raise DataError(f"{path}: header has {axis} of {name!r}, not x and y; {EXPECTED}")
    return complete


def _readings(header: list[str], image_column: int) -> Iterator[dict[str, dict[str, int]]]:
    """The columns of each name's axes: named `wrist_x`, or, where none is, `x_wrist`; then both
    without units."""
    for columns in (header, [*map(_without_unit, header)]):
        for axis_of in (_axis, _axis_first):
            axes = _axes(columns, image_column, axis_of)
            if axes != {}:  # None: an axis comes twice
                break
        yield axes or {}


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
    if len(_without_unit(column)) == 1 or (match and match[2].lower() in _OTHER_UNITS):  # `x_px`
        return None
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
    """Consecutive pairs that are named alike (a,a,b,b) or x,y,x,y, but for other columns; or the
    only two that are x and y in pixels."""
    columns = [c for c in range(len(header)) if c not in others]
    if len(columns) % 2 == 0 and columns:
        pairs = list(zip(columns[::2], columns[1::2], strict=True))
        names = [(header[x].lower(), header[y].lower()) for x, y in pairs]
        if all((_plain(x), _plain(y)) == ("x", "y") for x, y in names):
            return {f"landmark_{k}": pair for k, pair in enumerate(pairs)}
        if all(a == b and not _number(a) for a, b in names) and len(set(names)) == len(names):
            return {header[x]: (x, y) for x, y in pairs}
    stated = {c: _plain(header[c]) for c in columns if len(header[c]) > 1}
    x_and_y = sorted((c for c in stated if stated[c] in ("x", "y")), key=stated.get)
    if [stated[c] for c in x_and_y] == ["x", "y"]:  # `x_px`, `y_px` beside others
        return {"landmark_0": tuple(x_and_y)}
    if lacking := without_axes(header):
        raise DataError(f"{path}: {lacking}; {EXPECTED}")
    shown = ",".join(header[:6]) + (",..." if len(header) > 6 else "")
    raise DataError(f"{path}: can't tell the columns of {shown!r}; {EXPECTED}")


def _number(text: str) -> bool:
    try:
        return np.isfinite(float(text))
    except ValueError:
        return False
