"""Points of labelme: one JSON file an image, each landmark a shape of type point.

labelme measures from the corner of the image, so that the centre of the first pixel is (0.5, 0.5).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath

from data_prep.annotations import Annotations, finite, member, read_json
from data_prep.common import below, some
from kerasland import predictions, prepared
from kerasland.errors import DataError
from kerasland.predictions import REVIEWED

FIRST_PIXEL = 0.5
OURS = (prepared.ABOUT, predictions.DOCUMENT)


def read_labelme(path: Path) -> Annotations:
    """The points of a labelme file, or of all below a folder; labels are names of landmarks.

    An image is called as its file, in the folder that its JSON has below this one; where several
    would be called the same, with the folders that `imagePath` gives them.

    Shapes of other types are left out and counted in `ignored`; so are predictions that nobody has
    ticked as reviewed, see `predictions.labelme_document`.

    Raises:
        DataError: no file there, none reviewed, one that labelme did not write, or a label twice in
            an image.
    """
    folder = path if path.is_dir() else path.parent
    # hidden ones are not meant: macOS puts `._hand.json` beside hand.json on other systems' disks
    files = [f for f in below(path) if f.suffix == ".json"] if path.is_dir() else [path]
    # what kerasland wrote may lie below: a prepared data set, predictions
    files = [
        file
        for file in files
        if file.name not in OURS or not (file.parent / prepared.TABLE).exists()
    ]
    if not files:
        raise DataError(f"{path}: no JSON file of labelme below this folder")
    found, others = Annotations(path, first_pixel=FIRST_PIXEL), Counter()
    records, unseen = [], []
    for file in files:
        document, place = read_json(file), str(file)
        shapes = member(document, "shapes", list, f"{file}: no annotation of labelme")
        flags = document.get("flags")
        if isinstance(flags, dict) and flags.get(REVIEWED) is False:
            unseen.append(file.name)
            continue
        stated = PurePosixPath(member(document, "imagePath", str, place).replace("\\", "/"))
        image = (file.parent.relative_to(folder) / stated.name).as_posix()
        size = document.get("imageHeight"), document.get("imageWidth")
        records.append((place, image, stated, size, shapes))
    if not records:
        raise DataError(
            f"{path}: the flag {REVIEWED!r} is off in {some(unseen)}: tick it in labelme once all "
            "points of an image are right"
        )
    often = Counter(image for _, image, *_ in records)
    for place, image, stated, size, shapes in records:
        if often[image] > 1:
            image = "/".join(part for part in stated.parts if part.strip("/") not in ("", ".."))
        found.add_image(image, place, size)
        for shape in shapes:
            label = member(shape, "label", str, place).strip()
            if shape.get("shape_type") != "point":
                others[str(shape.get("shape_type"))] += 1
                continue
            pairs = member(shape, "points", list, f"{place}, {label!r}")
            if not label or len(pairs) != 1 or not isinstance(pairs[0], list) or len(pairs[0]) != 2:
                raise DataError(f"{place}: the shape {label!r} is no named point of x and y")
            found.add_point(image, label, finite(*pairs[0], f"{place}, {label}"), place)
    found.ignored = [f"{count} shapes of type {kind}" for kind, count in others.items()]
    if unseen:
        found.ignored.append(f"{len(unseen)} images without the flag {REVIEWED!r}")
    return found
