"""Points of CVAT: the XML that it calls "CVAT for images 1.1".

CVAT measures from the corner of the image, so that the centre of the first pixel is (0.5, 0.5).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from data_prep.annotations import Annotations, finite
from kerasland.errors import DataError

FIRST_PIXEL = 0.5
READ = ("points", "skeleton", "tag")


def read_cvat(path: Path) -> Annotations:
    """The points and skeletons of a CVAT file; labels are names of landmarks.

    A shape of several points under one label becomes LABEL_0, LABEL_1, ... in its order.
    Elements of a skeleton that are marked as outside are not annotated. Other shapes are left out
    and counted in `ignored`.

    Raises:
        DataError: another XML file, a label twice in an image, or a shape that has more points in
            one image than in another.
    """
    root = _root(path)
    if root.find("track") is not None:
        raise DataError(f"{path}: tracks of a video; export it as 'CVAT for images 1.1'")
    images = root.findall("image")
    if root.tag != "annotations" or not images:
        raise DataError(f"{path}: no <annotations> with <image>, as 'CVAT for images 1.1' has them")
    sizes = _sizes(path, images)
    found, others = Annotations(path, first_pixel=FIRST_PIXEL), Counter()
    for image in images:
        place = _place(path, image)
        name = image.get("name")
        if not name:
            raise DataError(f"{place}: no name of a file")
        found.add_image(name, place, tuple(_whole(image.get(key)) for key in ("height", "width")))
        for label, pairs in _shapes(image):
            if not label:
                raise DataError(f"{place}: points without a label")
            if len(pairs) != sizes[label]:
                raise DataError(
                    f"{place}: {len(pairs)} points labelled {label!r}, {sizes[label]} elsewhere: "
                    "no telling which are missing"
                )
            for k, pair in enumerate(pairs):
                landmark = label if len(pairs) == 1 else f"{label}_{k}"
                found.add_point(name, landmark, finite(*pair, f"{place}, {landmark}"), place)
        others.update(shape.tag for shape in image if shape.tag not in READ)
    found.ignored = [f"{count} shapes of type {kind}" for kind, count in others.items()]
    return found


def _root(path: Path) -> ElementTree.Element:
    if not path.is_file():
        raise DataError(f"{path}: no such file of annotations")
    try:
        return ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # last: encodings
        raise DataError(f"{path}: no XML ({error})") from None


def _place(path: Path, image: ElementTree.Element) -> str:
    return f"{path}, image {image.get('id')}"


def _shapes(image: ElementTree.Element) -> Iterator[tuple[str, list[list[str]]]]:
    """The label and the pairs x, y of each points element, those of skeletons too."""
    skeletons = (points for skeleton in image.iter("skeleton") for points in skeleton)
    for shape in (*image.findall("points"), *skeletons):
        if shape.tag == "points" and shape.get("outside") != "1":
            pairs = [pair.split(",") for pair in (shape.get("points") or "").split(";")]
            yield (shape.get("label") or "").strip(), pairs


def _sizes(path: Path, images: list[ElementTree.Element]) -> dict[str, int]:
    """The points of each label in the first image that has it."""
    sizes: dict[str, int] = {}
    for image in images:
        for label, pairs in _shapes(image):
            if any(len(pair) != 2 for pair in pairs):
                place = _place(path, image)
                raise DataError(f"{place}: the points labelled {label!r} are no pairs x,y")
            sizes.setdefault(label, len(pairs))
    return sizes


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None
