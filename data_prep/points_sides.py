"""Which side each image shows, where those of right sides are to be mirrored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from data_prep.annotations import Annotations
from data_prep.common import some
from data_prep.points_folds import FILE
from kerasland import dicom
from kerasland.errors import DataError

SIDES = {"l": "left", "left": "left", "r": "right", "right": "right"}


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
        stated = {name: dicom.side(path) for name, path in matched.items()}
        if lacking := [str(matched[name]) for name, known in stated.items() if known is None]:
            raise DataError(
                f"{some(lacking)}: no laterality L or R, as DICOM files state it: --side needs a "
                "column of a CSV"
            )
    else:
        said = table.said.get(side, {})
        if lacking := [name for name in matched if name not in said]:
            others = f" (and {len(lacking) - 1} more have none)" if len(lacking) > 1 else ""
            raise DataError(
                f"{table.places[lacking[0]]}: image {lacking[0]} has no {side}{others}: fill the "
                f"cell, or name the image in --about FILE.csv (image,{side})"
            )
        stated = {name: SIDES.get(said[name][0].casefold()) for name in matched}
        if strange := [name for name, known in stated.items() if known is None]:
            text, place = said[strange[0]]
            raise DataError(
                f"{place}: {side} of image {strange[0]} is {text!r}: expected left or right"
            )
    return {name for name, known in stated.items() if known == "right"}
