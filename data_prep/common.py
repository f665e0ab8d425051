"""What the sources share: opening tables, finding images, checking points, reporting."""

from __future__ import annotations

import argparse
import codecs
import csv
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np

from kerasland.errors import DataError, UsageError
from kerasland.image_files import LOSSLESS, SUFFIXES, image_stem, image_suffix, is_image
from kerasland.images import content_hash, image_shape, pixel_spacing, read_image
from kerasland.preparation import unreadable
from kerasland.prepared import Prepared
from kerasland.progress import track
from kerasland.threads import WORKERS


def parser(module: str, description: str, example: str) -> argparse.ArgumentParser:
    """An argument parser with the options that every module has."""
    made = argparse.ArgumentParser(
        prog=f"python -m data_prep.{module}",
        description=description,
        epilog=f"example:\n  python -m data_prep.{module} {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return made


@contextmanager
def open_table(path: Path) -> Iterator[TextIO]:
    """A CSV file, open for reading: UTF-8, or UTF-16 with its mark.

    Raises:
        DataError: no such file, or no text.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such table")
    if zipfile.is_zipfile(path):
        raise DataError(
            f"{path}: no CSV but an archive: unzip it; a workbook of Excel: save it as CSV UTF-8"
        )
    with path.open("rb") as file:
        marked = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    try:
        with path.open(newline="", encoding="utf-16" if marked else "utf-8-sig") as file:
            yield file
    except (UnicodeError, csv.Error) as error:
        raise DataError(f"{path}: no CSV ({error}): save it as CSV UTF-8") from None


def images_by_stem(folder: Path, out: Path) -> dict[str, list[Path]]:
    """The image files at any depth below a folder, by stem, sorted; none below `out`, none in
    hidden folders.

    Raises:
        DataError: no such folder, or no image in it.
        UsageError: the folder lies in `out`.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of images")
    out = out.resolve()
    if folder.resolve().is_relative_to(out):
        raise UsageError(f"--out {out} holds the images to prepare: choose a new folder")
    nested = out.is_relative_to(folder.resolve())
    found: dict[str, list[Path]] = {}
    for path in below(folder):
        if is_image(path) and not (nested and path.resolve().is_relative_to(out)):
            found.setdefault(image_stem(path), []).append(path)
    if not found:
        raise DataError(f"{folder}: no images below it ({', '.join(SUFFIXES)})")
    return found


def below(folder: Path) -> Iterator[Path]:
    """What lies at any depth below a folder, sorted; nothing hidden, such as a bin for waste."""
    for path in sorted(folder.rglob("*")):
        if not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def best_file(paths: Sequence[Path]) -> Path:
    """One of several files of the same radiograph: lossless rather than JPEG.

    Raises:
        DataError: two of the same kind that differ.
    """
    ranked = sorted(paths, key=_rank)
    for other in ranked[1:]:
        same_kind = _rank(other) == _rank(ranked[0])
        if same_kind and content_hash(ranked[0]) != content_hash(other):
            raise DataError(f"{ranked[0]} and {other} differ: remove the one that is not meant")
    return ranked[0]


def _rank(path: Path) -> int:
    suffix = image_suffix(path)
    return LOSSLESS.index(suffix) if suffix in LOSSLESS else len(LOSSLESS)


def image_shapes(paths: Mapping[str, Path]) -> dict[str, tuple[int, int]]:
    """(H, W) of each image, from the headers of their files.

    Raises:
        DataError: files that can't be read: all of them, also those whose header can.
    """
    try:
        return {name: image_shape(path) for name, path in paths.items()}
    except DataError:
        with ThreadPoolExecutor(WORKERS) as pool:
            reasons = pool.map(_reason, paths.values())
            reasons = list(track(reasons, "reading images", len(paths)))
    failed = {str(p): why for p, why in zip(paths.values(), reasons, strict=True) if why}
    raise unreadable(failed, len(paths))


def _reason(path: Path) -> str:
    """Why a file can't be read; empty if it can."""
    try:
        image_shape(path)
        read_image(path)
    except DataError as error:
        return str(error)
    return ""


def outside(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(K,) whether points (K, 2), in pixels, lie off an image of (H, W); False where NaN."""
    size = np.array(shape[::-1])
    return ((points < -0.5) | (points > size - 0.5)).any(axis=-1)


def check_inside(
    images: Iterable[tuple[np.ndarray, tuple[int, int], Path, Callable[[int], str]]],
    landmarks: Sequence[str],
    otherwise: str = "if it is not annotated, leave the point out (empty cells, or no row)",
) -> None:
    """Refuses points that lie outside their image.

    Args:
        images: of each its points (K, 2), (H, W), file, and what says file and line of landmark k.
        landmarks: K names.
        otherwise: what to do with a point that can't be corrected.

    Raises:
        DataError: it names the landmark, the image and the line, of further ones a few.
    """
    first, others = "", []
    for points, shape, path, where in images:
        for k in np.flatnonzero(outside(points, shape)):
            others.append(f"{path.stem} {landmarks[k]}")
            x, y = points[k]
            first = first or (
                f"{where(k)}: landmark {k} ({landmarks[k]}) of {path.stem} at ({x:g}, {y:g}) lies "
                f"outside the image, {shape[1]} x {shape[0]} pixels ({path}): correct it, or, "
                f"{otherwise}"
            )
    if first:
        more = f" (and {len(others) - 1} more: {some(others[1:])})" if len(others) > 1 else ""
        raise DataError(first + more)


def stated_spacing(paths: Mapping[str, Path]) -> tuple[dict[str, tuple[float, float]], str]:
    """The pixel spacing that image files state, by image id, and what in the files states it.

    Returns:
        (x, y) in mm of the images whose file states one, and a phrase such as `PixelSpacing`.

    Raises:
        DataError: no file states one.
    """
    spacings = {image_id: pixel_spacing(path) for image_id, path in paths.items()}
    known = {image_id: spacing for image_id, spacing in spacings.items() if spacing}
    files = some(map(str, paths.values()))
    check_spacings(paths, known, f"no file states a pixel spacing ({files})")
    sources = sorted({spacing.source for spacing in known.values()})
    return {image_id: spacing[:2] for image_id, spacing in known.items()}, some(sources)


def stated_by_all(
    paths: Mapping[str, Path], read: Callable[[Path], str | None], what: str, instead: str
) -> dict[str, str]:
    """What `read` finds in each file, by the names of these.

    Args:
        what: it is, and `instead`: what to do without, for the message.

    Raises:
        DataError: a file states nothing.
    """
    stated = {name: read(path) for name, path in paths.items()}
    if lacking := [str(paths[name]) for name, found in stated.items() if found is None]:
        raise DataError(f"{some(lacking)}: no {what}, as DICOM files state it: {instead}")
    return stated


def check_spacings(ids: Collection[str], known: Collection[str], nothing: str) -> None:
    """Says which images have no pixel spacing.

    Raises:
        DataError: none has, in the words of `nothing`.
    """
    if not known:
        raise DataError(f"{nothing}: give it in mm, or two landmarks and their distance")
    if lacking := [image_id for image_id in ids if image_id not in known]:
        print(
            f"{len(lacking)} of {len(ids)} images without pixel spacing: {some(lacking)}; "
            "their errors will be in pixels alone"
        )


def some(names: Iterable[str], at_most: int = 5) -> str:
    """The first few names, for a message."""
    names = list(names)
    return ", ".join(names[:at_most]) + (", ..." if len(names) > at_most else "")


def report(dataset: Prepared) -> None:
    """Says what was prepared, and how many images have a landmark where not all do."""
    counts = np.isfinite(dataset.points[..., 0]).sum(axis=0)
    images = len(dataset.ids)
    named = (
        name if count == images else f"{name} ({count} of {images})"
        for name, count in zip(dataset.landmarks, counts, strict=True)
    )
    print(f"landmarks: {some(named, at_most=20)}")
    print(
        f"{dataset.folder}: {images} images, {counts.sum()} points, "
        f"{len(dataset.landmarks)} landmarks; {dataset.scale.describe(dataset.landmarks)}; "
        f"hash {dataset.hash[:12]}"
    )
