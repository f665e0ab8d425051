"""What of someone's points can't be meant, found before anything is written, or is doubtful."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from data_prep.annotations import Annotations
from data_prep.common import some
from kerasland.errors import DataError

PERCENT, LARGE = 100, 200


def doubts(
    points: np.ndarray, shapes: Iterable[tuple[int, int]], landmarks: Sequence[str]
) -> Iterator[str]:
    """What may be a mistake in points (N, K, 2), pixels, of images of (H, W), a line each."""
    annotated = np.isfinite(points).all(axis=-1)
    never = [name for name, n in zip(landmarks, annotated.sum(axis=0), strict=True) if not n]
    if never:
        yield f"{some(never)}: annotated in no image"
    smallest = min(map(min, shapes), default=0)
    if smallest > LARGE and annotated.any() and points[annotated].max() <= PERCENT:
        yield (
            f"all points lie within the first {PERCENT} pixels of images larger than {LARGE}: "
            "percents or millimetres? look at some (annotated.png in docs/own_data.md)"
        )


def check_placeholders(table: Annotations) -> None:
    """Refuses 0, 0, or -1, -1 and the like, where it comes twice: it stands for no annotation."""
    found: dict[float, list[tuple[str, int]]] = {}
    for name, of_image in table.points().items():
        x, y = (of_image + table.first_pixel).T
        for k in np.flatnonzero((x == y) & ((x == 0) | (x <= -1))):
            found.setdefault(float(x[k]), []).append((name, k))
    for value, places in found.items():
        if len(places) > 1:
            name, k = places[0]
            where = "off the image" if value else "the corner"
            raise DataError(
                f"{table.place(name, k)}: {table.landmarks[k]} lies at {value:g}, {value:g}, "
                f"{where}, and {len(places) - 1} more points do: leave out what is not annotated "
                "(empty cells; in COCO visibility 0)"
            )


def check_pixels(table: Annotations, points: Mapping[str, np.ndarray]) -> None:
    """Refuses fractions of the image, a landmark that never leaves the image's first pixel, and
    points of which none is annotated."""
    stacked = np.stack([*points.values()])
    every = stacked[np.isfinite(stacked)]
    if not every.size:
        raise DataError(f"{table.source}: no point is annotated")
    if every.max() <= 1.0:
        raise DataError(
            f"{table.source}: all coordinates are below 1, so they look like fractions of the "
            "image: multiply x by its width and y by its height in pixels"
        )
    for k, name in enumerate(table.landmarks):
        of_landmark = stacked[:, k][np.isfinite(stacked[:, k]).all(axis=-1)]
        if len(of_landmark) > 2 and ((of_landmark >= 0) & (of_landmark < 1)).all():
            raise DataError(
                f"{table.source}: {name} lies within the first pixel in all {len(of_landmark)} "
                "images that have it, so it is no landmark: leave it out, or rename its columns"
            )


def check_shape(
    path: Path, shape: tuple[int, int], stated: tuple[int, int] | None, place: str
) -> None:
    """Refuses an image of another (height, width) than the annotation states, as `place` says."""
    if stated and stated != shape:
        raise DataError(
            f"{place}: annotated on an image of {stated[1]} x {stated[0]} pixels, but {path} has "
            f"{shape[1]} x {shape[0]}: take the images that were annotated"
        )
