"""Which side each image shows, where those of right sides are to be mirrored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from data_prep.annotations import Annotations
from data_prep.common import stated_by_all
from data_prep.points_folds import FILE
from kerasland import dicom
from kerasland.errors import DataError

LEFT, RIGHT = ("left", "l"), ("right", "r")


def right_sides(table: Annotations, matched: Mapping[str, Path], side: str) -> set[str]:
    """The images of right sides.

    Args:
        table: of the points, which may say it.
        matched: the file of each image.
        side: a column that says left or right; "file" for what DICOM files state.

    Raises:
        DataError: an image whose side is not known.
    """
    if side == FILE:
        instead = "--side needs a column of a CSV"
        stated = stated_by_all(matched, dicom.side, "laterality L or R", instead)
        return {name for name, known in stated.items() if known == "right"}
    right = set()
    for name, (text, place) in table.said_of_each(side, matched).items():
        if text.casefold() not in (*LEFT, *RIGHT):
            raise DataError(f"{place}: {side} of image {name} is {text!r}: expected left or right")
        if text.casefold() in RIGHT:
            right.add(name)
    return right
