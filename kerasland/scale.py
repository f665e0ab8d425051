"""How the pixels of a data set become millimetres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kerasland import geometry
from kerasland.errors import UsageError


@dataclass(frozen=True)
class Scale:
    """How pixels become millimetres: two landmarks a known length apart, a spacing, or not at all.

    landmarks: the two landmarks, counted from zero. length_mm: their distance.
    mm_per_px: the spacing of every image, where it is known.
    files: what states the spacing of each image, in its file or beside it, where that is used.
    """

    landmarks: tuple[int, int] | None = None
    length_mm: float | None = None
    mm_per_px: float | None = None
    files: str = ""

    def __post_init__(self):
        if (self.landmarks is None) != (self.length_mm is None):
            raise UsageError("a scale by landmarks needs two landmarks and their length in mm")
        if sum((self.landmarks is not None, self.mm_per_px is not None, bool(self.files))) > 1:
            raise UsageError("a scale is either two landmarks and a length or mm per pixel")
        if self.landmarks is not None:
            object.__setattr__(self, "landmarks", tuple(int(i) for i in self.landmarks))
            if len(self.landmarks) != 2 or self.landmarks[0] == self.landmarks[1]:
                raise UsageError(f"a scale needs two different landmarks, not {self.landmarks}")
        for value in (self.length_mm, self.mm_per_px):
            if value is not None and not (np.isfinite(value) and value > 0):
                raise UsageError(f"a scale of {value} mm: expected a number above 0")

    def per_image(self, points: np.ndarray) -> np.ndarray:
        """Millimetres a pixel of each image.

        Args:
            points: (N, K, 2), pixels, NaN where not annotated.

        Returns:
            (N,), NaN where unknown.
        """
        if self.landmarks is not None:
            return geometry.mm_per_px(points, self.landmarks, self.length_mm)
        return np.full(len(points), np.nan if self.mm_per_px is None else self.mm_per_px)

    def spacing(
        self, points: np.ndarray, stated: Sequence[tuple[float, float] | None]
    ) -> np.ndarray:
        """Millimetres a pixel along x and along y of each image.

        Args:
            points: (N, K, 2), pixels, NaN where not annotated.
            stated: N spacings (x, y), see `files`, None where nothing states one.

        Returns:
            (N, 2), NaN where unknown.
        """
        if self.files:
            unknown = (np.nan, np.nan)
            return np.array([pair or unknown for pair in stated], np.float64).reshape(-1, 2)
        return np.repeat(self.per_image(points)[:, None], 2, axis=1)

    def describe(self, landmarks: Sequence[str] | None = None) -> str:
        """A phrase for tables, such as `a to b (0, 4) = 50 mm`; `landmarks`: all names in order."""
        if self.landmarks is not None:
            names = f"{' to '.join(landmarks[i] for i in self.landmarks)} " if landmarks else ""
            return f"{names}{self.landmarks} = {self.length_mm:g} mm"
        if self.files:
            return f"pixel spacing of each image ({self.files})"
        return "no millimetres known" if self.mm_per_px is None else f"{self.mm_per_px:g} mm per px"


# the width of the wrist, by which the field has millimetres of the hands of the Digital Hand Atlas
WRIST = Scale(landmarks=(0, 4), length_mm=50.0)
