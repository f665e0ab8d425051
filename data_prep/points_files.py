"""Points of any kind of file, told apart by its suffix and by what it holds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from data_prep.annotations import Annotations, read_json
from data_prep.common import some
from data_prep.points_checks import check_placeholders
from data_prep.points_coco import read_coco
from data_prep.points_cvat import read_cvat
from data_prep.points_headers import NO_COLUMNS
from data_prep.points_labelme import read_labelme
from data_prep.points_tables import read_table
from kerasland.errors import DataError, UsageError


def read_points(
    paths: Sequence[Path],
    first_pixel: float | None = None,
    columns: Mapping[str, str] = MappingProxyType({}),
    optional: Collection[str] = (),
) -> Annotations:
    """Points of CSV files, COCO keypoints files, CVAT's XML, and labelme's files or folders.

    Args:
        paths: files or folders, each of other images than the others.
        first_pixel: coordinates that the file gives the centre of the first pixel, in x and in y,
            if not those that are usual for its kind; of several files, of CSV and COCO, for which
            there is more than one usage.
        columns: of a CSV that say something of each image, by the option that asks for each.
        optional: the options whose column need not be there.

    Returns:
        Landmarks in the order of the first file, then those that only others have.

    Raises:
        DataError: missing, of no kind that is known, a record that can't be read, an image twice,
            or placeholders where nothing is annotated.
        UsageError: `first_pixel` is not within 0 and 1; no such column.
    """
    if first_pixel is not None and not 0 <= first_pixel <= 1:
        raise UsageError(f"--first-pixel {first_pixel}: 0, 0.5 or 1")
    for option, column in columns.items():
        if option not in optional and not any(map(_is_table, paths)):
            raise UsageError(
                f"{option} {column}: needs a CSV, of which it is a column; not "
                f"{some(map(str, paths))}; give one, with a row an image, by --about FILE.csv "
                f"(image,{column}); or {NO_COLUMNS[option]}, see --help"
            )
    found = []
    for path in paths:
        found.append(_read(path, columns, optional))
        if first_pixel is not None and (len(paths) == 1 or not found[-1].first_pixel):
            found[-1].first_pixel = first_pixel
        check_placeholders(found[-1])
    if len(found) == 1:
        return found[0]
    together = Annotations(some(map(str, paths)))
    for part in found:
        together.add_all(part)
    return together


def _is_table(path: Path) -> bool:
    return not path.is_dir() and path.suffix.lower() not in (".xml", ".json")


def _read(path: Path, columns: Mapping[str, str], optional: Collection[str]) -> Annotations:
    if _is_table(path):
        return read_table(path, columns, optional)
    if path.is_dir():
        return read_labelme(path)
    return read_cvat(path) if path.suffix.lower() == ".xml" else _read_json(path)


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
