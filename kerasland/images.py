"""Radiographs read from files: grey, full resolution, full depth."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from kerasland import dicom, geometry, volumes
from kerasland.errors import DataError

READER = "4"  # another for each change of what pixels a file gives: prepared copies are made anew
# that Pillow reads here, for the suffixes in `image_files`; EPS would have it run Ghostscript
FORMATS = ("PNG", "TIFF", "BMP", "JPEG", "JPEG2000", "WEBP")
_TIFF_BITS, _TIFF_PHOTOMETRIC, _ORIENTATION = 258, 262, 274
_TIFF_KIND, _REDUCED = 254, 1
_TIFF_NUMBERS, _UNSIGNED, _SIGNED = 339, 1, 2


def read_image(path: str | os.PathLike) -> np.ndarray:
    """A grey image at its full resolution and depth, in the array frame of its file.

    DICOM, known by its content, is read as `dicom.read` says: windowed, bones bright; MetaImage and
    NIfTI as `volumes.read` says; `FORMATS`, by their content too, with Pillow. Colour becomes grey
    by luminance (equal channels keep their value), transparency is dropped. An orientation that a
    PNG, TIFF or JPEG states (EXIF) is applied, so that the picture is as viewers show it, and
    points are pixels of that picture. Nothing else moves or crops pixels.

    Whole numbers within 0..65535 stay as they are. Others are shifted to begin at 0 if some are
    negative, and if they then are no such numbers, scaled to end at 65535.

    Args:
        path: the file.

    Returns:
        (H, W), uint8 or uint16.

    Raises:
        DataError: missing, truncated or no image; several pages, frames or slices (reduced pages
            of a TIFF and the second picture of a phone's JPEG are not looked at); values that are
            not finite.
    """
    path = Path(path)
    module = _module(path)
    try:
        return _as_grey(module.read(path) if module else _read_picture(path), path)
    except DataError:
        raise
    except Exception as error:  # what decoders raise on a broken file has no end
        raise _unreadable(path, error) from error


def image_shape(path: str | os.PathLike) -> tuple[int, int]:
    """(H, W) as `read_image` gives it, from the file's header alone.

    Raises:
        DataError: missing or no image.
    """
    path = Path(path)
    return _header(path, _module(path))[0]


def picture_mode(path: str | os.PathLike) -> str | None:
    """Pillow's mode, such as `L` or `I;16`, of a file that `read_image` reads with Pillow; None of
    the others.

    Raises:
        DataError: missing or no image.
    """
    path = Path(path)
    if _module(path):
        return None
    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.mode
    except Exception as error:
        raise _unreadable(path, error) from error


def pixel_spacing(path: str | os.PathLike) -> geometry.Spacing | None:
    """The pixel spacing that a DICOM, MetaImage or NIfTI file states, from its header alone.

    None where it states none, and of any other file. Resolutions in PNG, TIFF and JPEG are of the
    paper or the scanner that somebody thought of, or a default such as 72 dpi, not of the patient.

    Raises:
        DataError: one of those three is missing or broken.
    """
    path = Path(path)
    module = _module(path)
    return _header(path, module)[1] if module else None


def _module(path: Path) -> ModuleType | None:
    """Who reads a file; None: Pillow."""
    name = path.name.lower()
    if name.endswith(dicom.SUFFIXES) or dicom.is_dicom(path):
        return dicom
    return volumes if name.endswith(volumes.SUFFIXES) else None


def _header(
    path: Path, module: ModuleType | None
) -> tuple[tuple[int, int], geometry.Spacing | None]:
    try:
        return module.header(path) if module else (_picture_shape(path), None)
    except DataError:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error


def _picture_shape(path: Path) -> tuple[int, int]:
    with Image.open(path, formats=FORMATS) as image:
        width, height = image.size
        turned = image.getexif().get(_ORIENTATION) in (5, 6, 7, 8)
        # Pillow gives the size of a TIFF as it is shown, of others as it is stored
        return (width, height) if turned and image.format != "TIFF" else (height, width)


def _read_picture(path: Path) -> np.ndarray:
    # Pillow maps files that it opens by name to memory, and then reads turned TIFFs wrongly
    with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
        if not _others_are_previews(image):
            raise DataError(
                f"{path}: holds {image.n_frames} pictures, expected one: save the radiograph in a "
                "file of its own"
            )
        tags = dict(image.tag_v2) if image.format == "TIFF" else {}
        bits = max(tags.get(_TIFF_BITS, (1,)))
        deep = bits > 8 or any(";16" in str(tile[3]) for tile in image.tile)
        if deep and image.mode in ("LA", "RGB", "RGBA", "CMYK"):
            raise DataError(
                f"{path}: 16 bits a channel in colour or with transparency, of which Pillow reads "
                "8; save it in 16-bit grey"
            )
        ImageOps.exif_transpose(image, in_place=True)
        if not image.mode.startswith(("I", "F")):
            pixels = np.asarray(image if image.mode == "L" else image.convert("L"))
            signed = image.mode == "L" and tags.get(_TIFF_NUMBERS, (_UNSIGNED,))[0] == _SIGNED
            return pixels.view(np.int8) if signed else pixels  # which Pillow has unsigned only
        pixels = np.asarray(image)
        unsigned = tags.get(_TIFF_NUMBERS, (_UNSIGNED,))[0] == _UNSIGNED
        if bits == 32 and unsigned and image.mode == "I":  # which Pillow has signed only
            pixels = pixels.view(np.uint32)
        if tags.get(_TIFF_PHOTOMETRIC) != 0:  # white is zero: Pillow inverts 8 bit only
            return pixels
        if image.mode.startswith("I;16"):
            return 2**bits - 1 - pixels
        return pixels.max() - pixels.astype(np.float64)


def _others_are_previews(image: Image.Image) -> bool:
    """Whether the pictures after the first, if any, show the same: those of a phone's JPEG (MPO),
    and pages of a TIFF that say that they are reduced."""
    if image.format != "TIFF":
        return image.format == "MPO" or getattr(image, "n_frames", 1) == 1
    try:
        for page in range(1, image.n_frames):
            image.seek(page)
            if not image.tag_v2.get(_TIFF_KIND, 0) & _REDUCED:
                return False
        return True
    finally:
        image.seek(0)


def pixel_hash(pixels: np.ndarray) -> str:
    """SHA-256, in hexadecimal, over depth, size and pixels of a grey image (H, W)."""
    digest = hashlib.sha256(f"{pixels.dtype.name} {pixels.shape[0]} {pixels.shape[1]}\n".encode())
    digest.update(np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<")))
    return digest.hexdigest()


def content_hash(path: Path) -> str:
    """SHA-256, in hexadecimal, of an image file: of its bytes, or, where they are a header whose
    pixels are in another file, of those pixels.

    Raises:
        DataError: it can't be read.
    """
    if path.suffix.lower() == volumes.DETACHED:
        return pixel_hash(read_image(path))
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def _as_grey(pixels: np.ndarray, path: Path) -> np.ndarray:
    if pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] in (3, 4):
        pixels = np.asarray(Image.fromarray(pixels).convert("L"))
    if pixels.ndim != 2 or 0 in pixels.shape:
        raise DataError(f"{path}: an array of shape {pixels.shape}, expected one grey image (H, W)")
    if pixels.dtype == np.uint8 or pixels.dtype == np.uint16:
        return pixels
    if pixels.dtype.kind not in "biuf" or not np.isfinite(pixels).all():
        raise DataError(f"{path}: holds values that are no finite numbers; convert the image first")
    values = pixels.astype(np.float64)
    values -= min(0.0, values.min())
    if values.max() > 65535 or (values != np.rint(values)).any():
        values *= 65535 / values.max()
    return np.rint(values).astype(np.uint16)


def _unreadable(path: Path, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path}: no such image")
    if isinstance(error, MemoryError):
        return DataError(f"{path}: larger than the memory of this machine")
    if isinstance(error, Image.DecompressionBombError):
        most = 2 * Image.MAX_IMAGE_PIXELS
        return DataError(f"{path}: more than {most} pixels, as many as are read; make it smaller")
    reason = " ".join(str(error).replace(str(path), "file").split()) or type(error).__name__
    if isinstance(error, UnidentifiedImageError):
        return DataError(
            f"{path}: of no known format ({', '.join(FORMATS)}, DICOM, MetaImage, NIfTI) or cut "
            "off: save it as PNG, TIFF or DICOM, or get a fresh copy"
        )
    return DataError(f"{path}: can't be read as an image ({reason}); get a fresh copy")
