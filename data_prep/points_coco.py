"""Points of a COCO keypoints file, with one annotated object an image and category.

COCO counts pixels from 0, so that a keypoint (0, 0) is the centre of the first pixel.
"""

from __future__ import annotations

from pathlib import Path

from data_prep.annotations import Annotations, finite, member
from data_prep.common import some
from kerasland.errors import DataError

FIRST_PIXEL = 0.0


def read_coco(path: Path, document: dict) -> Annotations:
    """The keypoints of a COCO file; visibility 0 is a landmark that is not annotated.

    Where several categories have keypoints, the landmarks of all of them count.

    Args:
        path: the file, for messages.
        document: what its JSON holds.

    Raises:
        DataError: a record that can't be used, or two objects of a category in an image.
    """
    images = _by_id(path, document, "images", "image")
    categories = _by_id(path, document, "categories", "category")
    found = Annotations(path, _landmarks(path, categories), FIRST_PIXEL)
    for key, image in images.items():
        place = f"{path}, image {key}"
        shape = image.get("height"), image.get("width")
        found.add_image(member(image, "file_name", str, place), place, shape)
    objects: dict[tuple[object, object], str] = {}
    for number, record in enumerate(member(document, "annotations", list, str(path))):
        place = f"{path}, annotation {_id(record, number)}"
        image = _known(record, "image_id", images, place)["file_name"]
        category = _known(record, "category_id", categories, place)
        values = record.get("keypoints")
        if not values or (isinstance(values, list) and not any(values)):
            continue
        key = image, record["category_id"]
        if key in objects:
            raise DataError(
                f"{place}: image {image} has an object of this category already, {objects[key]}; "
                "expected one object an image"
            )
        objects[key] = f"annotation {_id(record, number)}"
        names = [str(name) for name in category.get("keypoints") or []]
        _add_object(found, image, names, values, place)
    return found


def _add_object(found: Annotations, image: str, names: list[str], values: list, place: str) -> None:
    if not isinstance(values, list) or len(values) != 3 * len(names):
        size = len(values) if isinstance(values, list) else "no list of"
        raise DataError(
            f"{place}: {size} values in 'keypoints', expected x, y and visibility of "
            f"{len(names)} keypoints, as its category has"
        )
    for name, *point, visibility in zip(names, *(values[i::3] for i in range(3)), strict=True):
        if visibility not in (0, 1, 2):
            raise DataError(f"{place}, {name}: visibility {visibility!r:.40}, expected 0, 1 or 2")
        if visibility:
            found.add_point(image, name, finite(*point, f"{place}, {name}"), place)


def _landmarks(path: Path, categories: dict[object, dict]) -> list[str]:
    names: list[str] = []
    for key, category in categories.items():
        if category.get("keypoints"):
            names += member(category, "keypoints", list, f"{path}, category {key}")
    if not names:
        raise DataError(f"{path}: no category has names of keypoints")
    names = [str(name) for name in names]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{path}: several keypoints called {some(twice)}; give each its own name")
    return names


def _by_id(path: Path, document: dict, key: str, what: str) -> dict[object, dict]:
    records: dict[object, dict] = {}
    for number, record in enumerate(member(document, key, list, str(path))):
        known = _id(record, number)
        if not isinstance(record, dict) or not isinstance(record.get("id"), int | str):
            raise DataError(f"{path}: {what} {number}, counted from 0, has no id")
        if known in records:
            raise DataError(f"{path}: {what} {known} comes twice")
        records[known] = record
    return records


def _id(record: object, number: int) -> object:
    known = record.get("id") if isinstance(record, dict) else None
    return f"at position {number}" if known is None else known


def _known(record: object, key: str, records: dict[object, dict], place: str) -> dict:
    value = record.get(key) if isinstance(record, dict) else None
    if not isinstance(value, int | str) or value not in records:
        raise DataError(f"{place}: {key} {value!r:.40} is not in the file")
    return records[value]
