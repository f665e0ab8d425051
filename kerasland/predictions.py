"""What `predict` writes of each image: a few rows of a table and an object of a JSON list."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pandas as pd

from kerasland.errors import UsageError
from kerasland.files import replacing, without_nan
from kerasland.geometry import Spacing

TABLE, DOCUMENT = "landmarks.csv", "landmarks.json"
ERRORS = ("error_mm", "error_mm_95")
COLUMNS = ("image", "landmark", "x", "y", "confidence", *ERRORS, "x_mm", "y_mm", "scale")
_TEXTS = ("image", "landmark", "scale")
_BEGINNINGS = {TABLE: ",".join(COLUMNS), DOCUMENT: '[{"image": '}


class Prediction(NamedTuple):
    """The landmarks of one image.

    image: its path. shape: (H, W). points: (K, 2), its pixels. confidence: (K,). side: "left" or
    "right". spacing: its scale, if any is known. error_mm, error_mm_95: (K,), the expected error,
    and the radius within which 95 % of errors lie, of a calibrated model, by the same scale; NaN
    where the confidence is 0. overlay: the picture of it, below the folder that is written to.
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


def check_out(out: Path) -> None:
    """Refuses to write where someone's own files would be replaced.

    Raises:
        UsageError: `out` is a file or a prepared data set, or holds a table or document of such a
            name that `writing` did not write.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; --out names the folder to write to")
    if (out / "dataset.json").exists():
        raise UsageError(f"{out}: a prepared data set; name another folder with --out")
    for name, beginning in _BEGINNINGS.items():
        if (out / name).is_file():
            with (out / name).open("rb") as file:
                ours = file.read(len(beginning)) == beginning.encode()
            if not ours:
                raise UsageError(
                    f"{out / name}: not of predict, which would replace it; name another folder "
                    "with --out"
                )


@contextmanager
def writing(out: Path, names: Sequence[str]) -> Iterator[Callable[[Prediction], None]]:
    """Yields a function that writes one prediction; nothing is kept in memory.

    `landmarks.csv` has the columns `COLUMNS`, a row a landmark: x and y are pixels of the image,
    error_mm and error_mm_95 as in `Prediction`, empty (in JSON null) if they are not known; x_mm
    and y_mm are x and y by the scale that the last column names, empty where none is known.
    Distances between (x_mm, y_mm) are millimetres also where pixels are not square.
    `landmarks.json` is a list with an object an image: image, width, height, side, overlay, scale,
    mm_per_px ([x, y] or null), landmarks (landmark, x, y, confidence, and of a calibrated model
    error_mm and error_mm_95). Numbers of landmarks have seven digits, all that the network's have.

    Args:
        out: folder. Both files appear when the block ends, neither if it raises, and no folder if
            it then is a new one without files.
        names: the K landmarks.
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

        yield write
        document.write("]\n")


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
