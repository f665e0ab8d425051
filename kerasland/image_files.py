"""Which files are images, what they are called, and which of them a user means."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from kerasland import dicom, predictions, volumes
from kerasland.errors import DataError, UsageError
from kerasland.predictions import OVERLAYS

LOSSLESS = (".png", *volumes.SUFFIXES, *dicom.SUFFIXES, ".tif", ".tiff", ".bmp")
SUFFIXES = (*LOSSLESS, ".jpg", ".jpeg", ".jp2", ".webp")


def image_suffix(path: str | os.PathLike) -> str:
    """The suffix of `SUFFIXES` that a name ends in, lower case; empty if none (DICOM without)."""
    name = os.fspath(path).lower()
    return max((s for s in SUFFIXES if name.endswith(s)), key=len, default="")


def image_stem(path: str | os.PathLike) -> str:
    """The name of an image without folder and suffix: `a.nii.gz` is `a`, `1.2.840` is itself."""
    name = Path(path).name
    return name[: len(name) - len(image_suffix(name))]


def is_image(path: Path) -> bool:
    """Whether a file is an image by its suffix, or DICOM by its content; hidden ones are not."""
    if path.name.startswith(".") or path.name.upper() == "DICOMDIR" or not path.is_file():
        return False
    return bool(image_suffix(path)) or dicom.is_dicom(path)


def find_images(
    paths: Iterable[str | os.PathLike], out: str | os.PathLike | None = None
) -> list[Path]:
    """The files named, and the images in the folders named or that a pattern matches, in order;
    each once.

    Args:
        paths: files, folders (the images directly in them) and patterns such as `study/**/*.dcm`,
            where `**` stands for folders at any depth.
        out: the folder to write to: patterns do not match the overlays of an earlier call in it.
            Where a shell names what a pattern matches, the overlays' and labelme's folders, the
            table, the document and this folder, if it holds no other image, are passed over.

    Returns:
        Links to what is gone too, where folders or patterns hold them: reading them says so. Of
        folders that are one by their links, images by the shortest path.

    Raises:
        DataError: if a path does not exist, a folder holds no image or a pattern matches none.
        UsageError: an image is named that lies where overlays are written.
    """
    found = []
    paths = [Path(path) for path in paths]
    own = None if out is None else Path(out).resolve()
    for path in paths:
        if path.is_dir():
            inside = _images_in(path)
        elif os.path.lexists(path):
            inside = [path]
        elif glob.has_magic(str(path)):
            inside = _matching(path, own)
        else:
            raise DataError(f"{path}: no such image")
        if own and len(paths) > 1 and _written_before(path, inside, own):
            continue
        if not inside:
            what = "no image in this folder" if path.is_dir() else "matches no image"
            deeper = f'; "{path}/**" looks into its folders too' if _has_folders(path) else ""
            raise DataError(f"{path}: {what} ({', '.join(SUFFIXES)}){deeper}")
        found.extend(inside)
    if paths and not found:
        raise DataError(f"{paths[0]}: no image but what an earlier call has written")
    drawn = own and os.path.realpath(own / OVERLAYS)
    first: dict[Path, Path] = {}
    for path in found:
        place = _place(path)
        if drawn and drawn in (str(place.parent), os.path.dirname(os.path.realpath(place))):
            raise UsageError(f"{path}: lies where --out {out} has its pictures; name another --out")
        first.setdefault(place, path)
    return list(first.values())


def _place(path: Path) -> Path:
    """Where a file is, or a link: `..` after a link to a folder leads elsewhere than it reads."""
    return path.parent.resolve() / path.name


def _written_before(path: Path, images: list[Path], own: Path) -> bool:
    """Whether a file, or all in a folder, is what an earlier call wrote to the folder `own`."""
    written = (OVERLAYS, predictions.TABLE, predictions.DOCUMENT)
    here = Path(os.path.realpath(path))
    without_images = here in (own, own / predictions.LABELME) and not images
    return here in {own / name for name in written} or without_images


def _has_folders(path: Path) -> bool:
    return path.is_dir() and any(inside.is_dir() for inside in path.iterdir())


def _images_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if _is_meant(path))


def _is_meant(path: Path) -> bool:
    gone = path.is_symlink() and not path.exists()
    return is_image(path) or (gone and path.name[0] != "." and bool(image_suffix(path)))


def _matching(pattern: Path, own: Path | None) -> list[Path]:
    """Each image once, also where the pattern matches its folder too, sorted."""
    above = next(folder for folder in pattern.parents if folder.is_dir())  # [1] may be its name
    below = glob.escape(str(above)) / pattern.relative_to(above)
    found: set[Path] = set()
    for path in map(Path, glob.glob(str(below), recursive=True)):
        found.update(_images_in(path) if path.is_dir() else filter(_is_meant, [path]))
    once: dict[Path, Path] = {}
    for path in sorted(found, key=lambda path: (len(path.parts), path)):
        once.setdefault(_place(path), path)  # links may lead in a circle
    if own:
        once = {place: path for place, path in once.items() if place.parent != own / OVERLAYS}
    return sorted(once.values())
