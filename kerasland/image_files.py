"""Which files are images, what they are called, and which of them a user means."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from kerasland import dicom, volumes
from kerasland.errors import DataError

LOSSLESS = (".png", *volumes.SUFFIXES, *dicom.SUFFIXES, ".tif", ".tiff", ".bmp")
SUFFIXES = (*LOSSLESS, ".jpg", ".jpeg", ".jp2", ".webp")
OVERLAYS = "overlays"  # the folder of what `predict` draws


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
    if path.name.startswith(".") or path.name == "DICOMDIR" or not path.is_file():
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
        out: a folder whose files patterns do not match: the overlays of an earlier call. Where a
            shell names what a pattern matches, the folder of overlays and this one, if it holds no
            other image, are passed over.

    Raises:
        DataError: if a path does not exist, a folder holds no image or a pattern matches none.
    """
    found = []
    paths = [Path(path) for path in paths]
    for path in paths:
        if path.is_dir():
            inside = _images_in(path)
            if len(paths) > 1 and _written_before(path, inside, out):
                continue
        elif path.exists():
            inside = [path]
        elif glob.has_magic(str(path)):
            inside = _matching(path, out)
        else:
            raise DataError(f"{path}: no such image")
        if not inside:
            what = "no image in this folder" if path.is_dir() else "matches no image"
            deeper = f"; '{path}/**' looks into its folders too" if _has_folders(path) else ""
            raise DataError(f"{path}: {what} ({', '.join(SUFFIXES)}){deeper}")
        found.extend(inside)
    if paths and not found:
        raise DataError(f"{paths[0]}: no image but what an earlier call has written")
    first: dict[str, Path] = {}
    for path in found:
        first.setdefault(os.path.abspath(path), path)
    return list(first.values())


def _written_before(folder: Path, images: list[Path], out: str | os.PathLike | None) -> bool:
    """Whether all in a folder is what an earlier call wrote to `out`."""
    if out is None:
        return False
    own = Path(out).resolve()
    return folder.resolve() == own / OVERLAYS or (folder.resolve() == own and not images)


def _has_folders(path: Path) -> bool:
    return path.is_dir() and any(inside.is_dir() for inside in path.iterdir())


def _images_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if is_image(path))


def _matching(pattern: Path, out: str | os.PathLike | None) -> list[Path]:
    """Each image once, also where the pattern matches its folder too, sorted."""
    own = None if out is None else Path(out).resolve()
    found: set[Path] = set()
    for path in map(Path, glob.glob(str(pattern), recursive=True)):
        found.update(_images_in(path) if path.is_dir() else filter(is_image, [path]))
    return sorted(path for path in found if not (own and path.resolve().is_relative_to(own)))
