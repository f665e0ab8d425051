"""What `predict` writes of each image: rows of a table, objects of a document, labelme files."""

from __future__ import annotations

import base64
import csv
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pandas as pd

from kerasland.errors import UsageError
from kerasland.files import replacing, without_nan, write_text
from kerasland.geometry import Spacing
from kerasland.prepared_tables import check_no_data_set

TABLE, DOCUMENT = "landmarks.csv", "landmarks.json"
OVERLAYS = "overlays"  # the folder of pictures
MARK = b"landmarks by kerasland"  # a comment in each of them, by which it is known again
LABELME = "labelme"  # the folder of annotations to correct
REVIEWED = "reviewed"  # a flag in them, to be ticked in labelme
ERRORS = ("error_mm", "error_mm_95")
COLUMNS = ("image", "landmark", "x", "y", "confidence", *ERRORS, "x_mm", "y_mm", "scale")
_TEXTS = ("image", "landmark", "scale")
_BEGINNINGS = {TABLE: ",".join(COLUMNS), DOCUMENT: '[{"image": '}


class Prediction(NamedTuple):
    """The landmarks of one image.

    image: its path. shape: (H, W). points: (K, 2), its pixels. confidence: (K,). side: "left" or
    "right". spacing: its scale, if any is known. error_mm, error_mm_95: (K,), the expected error,
    and the radius within which 95 % of errors lie, of a calibrated model, by the same scale; NaN
    where the confidence is 0 or no scale joins the two. overlay: the picture of it, below the
    folder that is written to. shape_found: whether the landmarks form a shape like those trained
    on, of a model that knows such shapes. embedded: a PNG of the image, for its labelme file.
    """

    image: str
    shape: tuple[int, int]
    points: np.ndarray
    confidence: np.ndarray
    side: str = "left"
    spacing: Spacing | None = None
    error_mm: np.ndarray | None = None
    error_mm_95: np.ndarray | None = None
    overlay: str = ""
    shape_found: bool | None = None
    embedded: bytes | None = None


def check_out(out: Path, labelme: bool = False) -> None:
    """Refuses to write where someone's own files would be replaced.

    Raises:
        UsageError: `out` is a file or a prepared data set, or holds a table or document of such a
            name that `writing` did not write; or a JPEG in `overlays` without the mark of ours,
            unless a table of an earlier call, whose pictures may have none, lies beside it; or,
            with `labelme`, annotations of an earlier call, which may have been corrected since.
        OSError: Windows would not let one of them be replaced.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; --out names the folder to write to")
    check_no_data_set(out)
    for name, beginning in _BEGINNINGS.items():
        if (out / name).is_file():
            with (out / name).open("rb") as file:
                ours = file.read(len(beginning)) == beginning.encode()
            if not ours:
                raise UsageError(
                    f"{out / name}: not of predict, which would replace it; name another folder "
                    "with --out"
                )
            # in place: Windows refuses it where a program, such as Excel, has the file open
            os.rename(out / name, out / name)
    pictures = [] if (out / TABLE).exists() else sorted((out / OVERLAYS).glob("*.jpg"))
    for path in pictures:
        with path.open("rb") as file:
            ours = MARK in file.read(1024)
        if not ours:
            raise UsageError(
                f"{path}: not of predict, which might replace it; name another folder with --out"
            )
    if labelme and (out / LABELME).exists():
        raise UsageError(
            f"{out / LABELME}: is there already, and may have been corrected; name another folder "
            "with --out"
        )


@contextmanager
def writing(
    out: Path, names: Sequence[str], labelme: bool = False
) -> Iterator[Callable[[Prediction], None]]:
    """Yields a function that writes one prediction; nothing is kept in memory.

    `landmarks.csv` has the columns `COLUMNS`, a row a landmark: x and y are pixels of the image,
    error_mm and error_mm_95 as in `Prediction`, empty (in JSON null) if they are not known; x_mm
    and y_mm are x and y by the scale that the last column names, empty where none is known.
    Distances between (x_mm, y_mm) are millimetres also where pixels are not square.
    `landmarks.json` is a list with an object an image: image, width, height, side, shape_found
    (null of a model that knows no shapes), overlay, scale, mm_per_px ([x, y] or null), landmarks
    (landmark, x, y, confidence, and of a calibrated model error_mm and error_mm_95). Numbers of
    landmarks have seven digits, all that the network's have.

    Args:
        out: folder. All appear when the block ends, nothing if it raises, and no folder if it then
            is a new one without files.
        names: the K landmarks.
        labelme: write a folder `labelme` too, with one file per image, see `labelme_document`.
    """
    with ExitStack() as stack:
        if not out.exists():
            stack.callback(_remove_empty, out)
        table, document = (
            stack.enter_context(
                # a file's name may hold bytes that are no UTF-8
                stack.enter_context(replacing(out / name)).open(
                    "w", encoding="utf-8", errors="surrogateescape", newline=""
                )
            )
            for name in (TABLE, DOCUMENT)
        )
        annotations = stack.enter_context(replacing(out / LABELME)) if labelme else None
        # csv quotes the characters of its own line end, and a file's name may hold either
        rows = csv.writer(SimpleNamespace(write=lambda row: table.write(row[:-2] + "\n")))
        rows.writerow(COLUMNS)
        before = "["

        def write(found: Prediction) -> None:
            nonlocal before
            mm_per_px = None if found.spacing is None else found.spacing[:2]
            scale = "" if found.spacing is None else found.spacing.source
            unknown = [""] * len(names)
            columns = {
                "x": _digits(found.points[:, 0]),
                "y": _digits(found.points[:, 1]),
                "confidence": _digits(found.confidence),
            }
            for name in ERRORS:
                said = getattr(found, name)
                columns[name] = unknown if said is None else _digits(said)
            kept = {name: values for name, values in columns.items() if values is not unknown}
            columns["x_mm"], columns["y_mm"] = (
                map(_digits, (found.points * mm_per_px).T) if mm_per_px else (unknown, unknown)
            )
            for name, *values in zip(names, *columns.values(), strict=True):
                rows.writerow([found.image, name, *values, scale])  # None as an empty field
            entry = {
                "image": found.image,
                "width": found.shape[1],
                "height": found.shape[0],
                "side": found.side,
                "shape_found": found.shape_found,
                "overlay": found.overlay,
                "scale": scale,
                "mm_per_px": mm_per_px,
                "landmarks": [
                    {"landmark": name, **dict(zip(kept, values, strict=True))}
                    for name, *values in zip(names, *kept.values(), strict=True)
                ],
            }
            document.write(before + json.dumps(entry))
            before = ",\n"
            if annotations is not None:
                text = json.dumps(labelme_document(found, names, out / LABELME), indent=1)
                write_text(annotations / f"{Path(found.overlay).stem}.json", text)

        yield write
        document.write("]\n")


def labelme_document(found: Prediction, names: Sequence[str], folder: Path) -> dict:
    """The landmarks as the annotation tool labelme opens and writes them, to be corrected in it.

    labelme measures from the corner of the image, and takes no point outside of it. The flag
    `REVIEWED` is off: `data_prep.points_csv` leaves the image out until someone has ticked it.
    Where it can't open the image, it shows the picture that is `embedded`.

    Args:
        found: of which `image` must be there.
        names: the K landmarks, the labels; each is described by its confidence and, where it is
            known, the expected error.
        folder: that the document will lie in, which the path of the image starts from where it can.
    """
    image = Path(found.image)
    lies = os.path.join(os.path.realpath(image.parent), image.name)
    with suppress(ValueError):  # of an image on another drive, as Windows has them
        lies = os.path.relpath(lies, os.path.realpath(folder))
    height, width = found.shape
    inside = np.clip(found.points, 0, (width - 1, height - 1)) + 0.5
    shapes = []
    for k, name in enumerate(names):
        said = f"confidence {found.confidence[k]:.2f}"
        if found.error_mm is not None and np.isfinite(found.error_mm[k]):
            said += f", expected error {found.error_mm[k]:.1f} mm"
        shapes.append(
            {
                "label": name,
                "points": [_digits(inside[k])],
                "group_id": None,
                "description": said,
                "shape_type": "point",
                "flags": {},
            }
        )
    return {
        "version": "5.5.0",
        "flags": {REVIEWED: False},
        "shapes": shapes,
        "imagePath": lies,
        "imageData": found.embedded and base64.b64encode(found.embedded).decode(),
        "imageHeight": height,
        "imageWidth": width,
    }


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _digits(values: np.ndarray) -> list[float | None]:
    return without_nan([float(f"{value:.7g}") for value in values])


def read_table(out: Path) -> pd.DataFrame:
    """The table in a folder that `writing` wrote; names stay text, unknown millimetres are NaN."""
    numbers = {column: ["", "nan"] for column in COLUMNS if column not in _TEXTS}
    return pd.read_csv(
        out / TABLE,
        dtype=dict.fromkeys(_TEXTS, str),
        keep_default_na=False,
        na_values=numbers,
        encoding_errors="surrogateescape",
    )
