"""Points of any kind of file, told apart by its suffix and by what it holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from data_prep.annotations import Annotations, read_json
from data_prep.points_coco import read_coco
from data_prep.points_cvat import read_cvat
from data_prep.points_headers import BY_FOLDER
from data_prep.points_labelme import read_labelme
from data_prep.points_tables import read_table
from kerasland.errors import DataError, UsageError


def read_points(
    path: Path, first_pixel: float | None = None, columns: Mapping[str, str] = MappingProxyType({})
) -> Annotations:
    """Points of a CSV, a COCO keypoints file, CVAT's XML, or labelme's file or folder.

    Args:
        path: the file or folder.
        first_pixel: coordinates that the file gives the centre of the first pixel, in x and in y,
            if not those that are usual for its kind.
        columns: of a CSV that say something of each image, by the option that asks for each.

    Raises:
        DataError: missing, of no kind that is known, or a record that can't be read.
        UsageError: `first_pixel` is not within 0 and 1; no such column.
    """
    if first_pixel is not None and not 0 <= first_pixel <= 1:
        raise UsageError(f"--first-pixel {first_pixel}: 0, 0.5 or 1")
    suffix = path.suffix.lower()
    for option, column in columns.items():
        if (option, column) != BY_FOLDER and (path.is_dir() or suffix in (".xml", ".json")):
            other = "; or folder, or file, see --help" if option == "--group" else ""
            raise UsageError(
                f"{option} {column}: needs a CSV, of which it is a column; not {path}{other}"
            )
    if path.is_dir():
        found = read_labelme(path)
    elif suffix == ".xml":
        found = read_cvat(path)
    elif suffix == ".json":
        found = _read_json(path)
    else:
        found = read_table(path, columns)
    if first_pixel is not None:
        found.first_pixel = first_pixel
    return found


def _read_json(path: Path) -> Annotations:
    document = read_json(path)
    keys = set(document) if isinstance(document, dict) else set()
    if "shapes" in keys:
        return read_labelme(path)
    if {"images", "annotations", "categories"} <= keys:
        return read_coco(path, document)
    raise DataError(
        f"{path}: neither COCO keypoints (images, annotations, categories) nor labelme (shapes)"
    )
