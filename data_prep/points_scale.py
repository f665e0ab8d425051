"""How the pixels of anyone's own images become millimetres, by options, columns or files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from data_prep import common
from data_prep.annotations import Annotations
from kerasland.errors import DataError, UsageError
from kerasland.scale import Scale


def choose_scale(
    landmarks: Sequence[str],
    mm_per_px: float | str | None = None,
    scale_landmarks: Sequence[str] | None = None,
    length_mm: float | None = None,
) -> Scale:
    """The scale that options of `prepare` state."""
    of_each = isinstance(mm_per_px, str)
    spacing = {"files": mm_per_px} if of_each else {"mm_per_px": mm_per_px}
    if scale_landmarks is None:
        return Scale(length_mm=length_mm, **spacing)
    numbers = []
    for text in scale_landmarks:
        if text not in landmarks and not (text.isdigit() and int(text) < len(landmarks)):
            raise UsageError(
                f"--scale-landmarks {text}: no such landmark; there: {common.some(landmarks)}"
            )
        numbers.append(list(landmarks).index(text) if text in landmarks else int(text))
    names = [text for text in scale_landmarks if text in landmarks]
    if len(names) == 1 and names[0].isdigit():
        raise UsageError(
            f"--scale-landmarks {' '.join(scale_landmarks)}: {names[0]} is a landmark's name "
            "here, the other a place in their order; give two names"
        )
    return Scale(tuple(numbers), length_mm, **spacing)


def spacings(
    table: Annotations, ids: Mapping[str, str], column: str, source: Path | str
) -> dict[str, tuple[float, float]]:
    """The pixel spacing (x, y) of each image that has one in a column, by id."""
    found = {}
    for name, (text, place) in table.said.get(column, {}).items():
        if name in ids:
            value = number_or_text(text)
            if isinstance(value, str) or not (np.isfinite(value) and value > 0):
                raise DataError(
                    f"{place}: {column} of image {name} is {text!r}: expected "
                    "millimetres a pixel, a number above 0"
                )
            found[ids[name]] = (value, value)
    nothing = f"{source}: column {column} gives no image a pixel spacing"
    common.check_spacings(ids.values(), found, nothing)
    return found


def number_or_text(text: str) -> float | str:
    """A number, or the text where it is none."""
    try:
        return float(text)
    except ValueError:
        return text
