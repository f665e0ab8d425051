"""The pictures that `predict` makes: of landmarks, with a file and a name each; for labelme."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from kerasland import files, predictions
from kerasland.image_files import image_stem
from kerasland.images import picture_mode
from kerasland.pictures import Drawing, in_8_bits
from kerasland.predictions import OVERLAYS

STEM_BYTES = 200  # file systems take 255
LABELME_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")  # of pictures that it opens itself


class OverlayNames:
    """Names of their own for the pictures of one call."""

    def __init__(self):
        # in lower case, each with the highest number behind it: not every file system tells
        # a.jpg from A.jpg
        self._taken: dict[str, int] = {}

    def of(self, image: Path) -> str:
        """The path below the folder that is written to: the image's stem, cut where it is long, and
        numbered where images of different folders share it."""
        stem = name = _short(image_stem(image))
        while name.lower() in self._taken:
            self._taken[stem.lower()] += 1
            name = f"{stem}_{self._taken[stem.lower()]}"
        self._taken[name.lower()] = 1
        return f"{OVERLAYS}/{name}.jpg"

    @contextmanager
    def told_if_unfinished(self, out: Path) -> Iterator[None]:
        """Says, where the block raises, that the table of an earlier call stays beside pictures of
        this one."""
        earlier = (out / predictions.TABLE).exists()
        try:
            yield
        except BaseException:
            if earlier and self._taken:
                tables = f"{predictions.TABLE} and {predictions.DOCUMENT}"
                print(
                    f"{out / OVERLAYS}: up to {len(self._taken)} pictures are of this call, which "
                    f"did not end; {tables} are of an earlier one: run this again, or that",
                    file=sys.stderr,
                )
            raise

    def others(self, out: Path) -> list[Path]:
        """Pictures in a folder that was written to that are none of these."""
        there = (out / OVERLAYS).glob("[!.]*.jpg")
        return [path for path in there if path.stem.lower() not in self._taken]


def write(
    path: Path,
    drawing: Drawing,
    points: np.ndarray,
    confidence: np.ndarray,
    names: Sequence[str] | None,
) -> None:
    """Writes a picture, whole or not at all; see `Drawing.marked`."""
    buffer = io.BytesIO()  # to a file Pillow writes what fits on a full disk, and says nothing
    picture = drawing.marked(points, confidence, names)
    picture.save(buffer, "jpeg", quality=85, subsampling=0, comment=predictions.MARK)
    with files.replacing(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def for_labelme(path: Path, image: np.ndarray) -> bytes | None:
    """A PNG of an image (H, W), 8 bits with the contrast of the overlays, where labelme can't open
    its file: DICOM, MetaImage, NIfTI, 16 bits. None where it can.

    Raises:
        DataError: the file is gone.
    """
    if picture_mode(path) in LABELME_MODES:
        return None
    buffer = io.BytesIO()
    in_8_bits(image).save(buffer, "png", compress_level=1)  # 0.03 s a megapixel, 0.15 by default
    return buffer.getvalue()


def _short(stem: str) -> str:
    """Cut to what leaves room for a number, a suffix and what a temporary name adds."""
    name = os.fsencode(stem)
    return stem if len(name) <= STEM_BYTES else name[:STEM_BYTES].decode(errors="ignore")
