"""Points as a table or an annotation tool gives them, before they meet their images."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np

from kerasland.errors import DataError


class Annotations:
    """Points by image and landmark, each with its place in the file it was read from.

    An image is called what the file calls it. Landmarks keep their order of appearance, those
    given at the start come first.

    source: the file or folder, or what to call several. first_pixel: the coordinates, in x and in y
    alike, that the file gives the centre of the first pixel. places: where the file names each
    image. shapes: (H, W) of each image, where the file states it. ignored: what the file holds and
    nobody reads; people: columns of those that seem to say of whom an image is, with what each says
    of the images. said: of each column that was asked for and is there, what it says of each image
    and where, if it says anything.
    """

    def __init__(self, source: Path | str, landmarks: Iterable[str] = (), first_pixel: float = 0.0):
        self.source = source
        self.first_pixel = first_pixel
        self.places: dict[str, str] = {}
        self.shapes: dict[str, tuple[int, int]] = {}
        self.ignored: list[str] = []
        self.people: dict[str, dict[str, str]] = {}
        self.said: dict[str, dict[str, tuple[str, str]]] = {}
        self._number = {name: k for k, name in enumerate(landmarks)}
        self._points: dict[str, dict[str, tuple[float, float]]] = {}
        self._point_places: dict[tuple[str, str], str] = {}

    @property
    def landmarks(self) -> list[str]:
        """The names of the K landmarks, in order."""
        return list(self._number)

    def add_image(self, image: str, place: str, shape: tuple[object, object] = (None, None)):
        """Notes an image; `shape`: (H, W) as the file states it, ignored if no whole numbers.

        Raises:
            DataError: it was there before.
        """
        if image in self.places:
            first = self._short(self.places[image])
            raise DataError(f"{place}: image {image} again, first in {first}")
        self.places[image] = place
        self._points[image] = {}
        if all(isinstance(size, int) and size > 0 for size in shape):
            self.shapes[image] = tuple(shape)

    def add_point(self, image: str, landmark: str, point: tuple[float, float], place: str):
        """Notes a point (x, y) of an image that is there; NaN where it is not annotated.

        Raises:
            DataError: it was there before.
        """
        if landmark in self._points[image]:
            first = self._short(self._point_places[image, landmark])
            raise DataError(
                f"{place}: {image} {landmark} again, first in {first}; a landmark is one point of "
                "an image: give the second a name of its own, or remove it"
            )
        self._number.setdefault(landmark, len(self._number))
        self._points[image][landmark] = point
        self._point_places[image, landmark] = place

    def say(self, column: str, image: str, text: str, place: str):
        """Notes what a column says of an image.

        Raises:
            DataError: it was another text before.
        """
        first, before = self.said.setdefault(column, {}).setdefault(image, (text, place))
        if first != text:
            raise DataError(
                f"{place}: {column} of image {image} is {text!r}, but {first!r} in "
                f"{self._short(before)}"
            )

    def said_of_each(
        self, column: str, images: Collection[str], unknown: str = ""
    ) -> dict[str, tuple[str, str]]:
        """What a column says of some images, and where; `unknown`: what to write where nobody
        knows, for the message.

        Raises:
            DataError: it says nothing of one.
        """
        said = self.said.get(column, {})
        if lacking := [image for image in images if image not in said]:
            others = f" (and {len(lacking) - 1} more have none)" if len(lacking) > 1 else ""
            raise DataError(
                f"{self.places[lacking[0]]}: image {lacking[0]} has no {column}{others}: fill the "
                f"cell, or name the image in --about FILE.csv (image,{column}){unknown}"
            )
        return {image: said[image] for image in images}

    def add_people(self, column: str, cells: dict[str, str]):
        """Notes whose images are, by a column that another file may spell in other letters."""
        same = (known for known in self.people if known.casefold() == column.casefold())
        self.people.setdefault(next(same, column), {}).update(cells)

    def points(self) -> dict[str, np.ndarray]:
        """(K, 2) by image, pixels with (0, 0) the centre of the first; NaN where not annotated.

        What was moved is rounded to a millionth, so that 256.1 - 0.5 is 255.6, as a table has it.
        """
        found = {}
        for image, of_image in self._points.items():
            points = np.full((len(self._number), 2), np.nan)
            for landmark, point in of_image.items():
                points[self._number[landmark]] = point
            found[image] = np.round(points - self.first_pixel, 6) if self.first_pixel else points
        return found

    def place(self, image: str, landmark: int) -> str:
        """Where the file has a point."""
        return self._point_places.get((image, self.landmarks[landmark]), self.places[image])

    def add_all(self, other: Annotations):
        """Adds what another file has, whose pixels may be counted otherwise.

        Raises:
            DataError: an image that is there already.
        """
        moved = other.points()
        for image, place in other.places.items():
            self.add_image(image, place, other.shapes.get(image, (None, None)))
            for landmark, k in other._number.items():
                self._number.setdefault(landmark, len(self._number))
                if landmark in other._points[image]:
                    point = tuple(moved[image][k] + self.first_pixel)
                    self.add_point(image, landmark, point, other.place(image, k))
        self.ignored += other.ignored
        for column, cells in other.people.items():
            self.add_people(column, cells)
        for column, said in other.said.items():
            self.said.setdefault(column, {}).update(said)

    def _short(self, place: str) -> str:
        return place.removeprefix(f"{self.source}, ")


def read_json(path: Path) -> object:
    """What a JSON file holds.

    Raises:
        DataError: missing, or no JSON in UTF-8.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file of annotations")
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: no JSON ({error})") from None


def member(record: object, key: str, kind: type, place: str):
    """The value of a JSON object under a key.

    Raises:
        DataError: it is no object, lacks the key, or its value is of another kind.
    """
    value = record.get(key) if isinstance(record, dict) else None
    if not isinstance(value, kind):
        wanted = {list: "a list", str: "a text"}[kind]
        raise DataError(f"{place}: {key!r} is missing or not {wanted}")
    return value


def finite(x: object, y: object, place: str) -> tuple[float, float]:
    """A point from two numbers, or texts of numbers.

    Raises:
        DataError: they are none.
    """
    try:
        point = float(x), float(y)
    except (TypeError, ValueError, OverflowError):
        point = np.nan, np.nan
    if not np.isfinite(point).all():
        raise DataError(f"{place}: x, y = {x!r:.40}, {y!r:.40}: expected two numbers")
    return point
