"""Radiographs read from and written to files: grey, full resolution, full depth."""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from kerasland.errors import DataError
from kerasland.files import replacing

LOSSLESS = (".png", ".mha", ".tif", ".tiff")
SUFFIXES = (*LOSSLESS, ".jpg", ".jpeg")
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)


def read_image(path: str | os.PathLike) -> np.ndarray:
    """A grey image at its full resolution and depth.

    PNG, JPEG and TIFF are read with Pillow, MetaImage (.mha) with SimpleITK. Colour becomes grey by
    luminance (equal channels keep their value), transparency is dropped. An orientation that the
    file states (EXIF) is applied, so that the picture is as viewers show it; radiographs of the
    Digital Hand Atlas state none.

    Args:
        path: the file.

    Returns:
        (H, W), uint8 or uint16.

    Raises:
        DataError: missing, truncated or no image; several pages; values beyond 16 bit.
    """
    path = Path(path)
    if path.suffix.lower() == ".mha":
        return _as_grey(_metaimage(path, pixels=True), path)
    try:
        with Image.open(path) as image:
            if getattr(image, "n_frames", 1) > 1:
                raise DataError(f"{path}: holds {image.n_frames} pictures, expected one")
            ImageOps.exif_transpose(image, in_place=True)
            if image.mode not in ("L", "I", "F") and not image.mode.startswith("I;16"):
                image = image.convert("L")
            pixels = np.asarray(image)
    except DataError:
        raise
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    return _as_grey(pixels, path)


def image_shape(path: str | os.PathLike) -> tuple[int, int]:
    """(H, W) as `read_image` gives it, from the file's header alone.

    Raises:
        DataError: missing or no image.
    """
    path = Path(path)
    if path.suffix.lower() == ".mha":
        return _metaimage(path, pixels=False)
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112, 1) >= 5
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    return (width, height) if turned else (height, width)


def pixel_hash(pixels: np.ndarray) -> str:
    """SHA-256, in hexadecimal, over depth, size and pixels of a grey image (H, W)."""
    digest = hashlib.sha256(f"{pixels.dtype.name} {pixels.shape[0]} {pixels.shape[1]}\n".encode())
    digest.update(np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<")))
    return digest.hexdigest()


def write_png(path: Path, source: str | os.PathLike | np.ndarray) -> str:
    """A grey PNG of an image file or array; one that is there, whole and of this source, is kept.

    The PNG notes the hash of its source and of its pixels, which makes the check cheap.

    Args:
        path: the PNG.
        source: an image file, or (H, W) uint8 or uint16.

    Returns:
        The hash of the pixels, see `pixel_hash`.

    Raises:
        DataError: the source can't be read.
    """
    if isinstance(source, np.ndarray):
        pixels = _as_grey(source, path)
        source_hash = pixels_hash = pixel_hash(pixels)
    else:
        pixels, source_hash = None, _file_hash(Path(source))
    kept = _noted_hash(path, source_hash)
    if kept:
        return kept
    if pixels is None:
        pixels = read_image(source)
        pixels_hash = pixel_hash(pixels)
    with replacing(path) as temporary:
        temporary.write_bytes(_png(pixels, {"source": source_hash, "pixels": pixels_hash}))
    return pixels_hash


def _png(pixels: np.ndarray, notes: dict[str, str]) -> bytes:
    # Each byte less the one of the pixel to its left (filter 1), then Huffman codes without a
    # search for repeats: radiographs come out smaller than with Pillow's compress_level=1, in a
    # third of the time.
    rows = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder(">")).view(np.uint8)
    step, (height, width) = pixels.dtype.itemsize, pixels.shape
    lines = np.empty((height, 1 + width * step), np.uint8)
    lines[:, 0] = 1
    lines[:, 1 : 1 + step] = rows[:, :step]
    np.subtract(rows[:, step:], rows[:, :-step], out=lines[:, 1 + step :])
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_HUFFMAN_ONLY)
    header = struct.pack(">IIBBBBB", width, height, 8 * step, 0, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", header),
            *(_chunk(b"tEXt", f"{key}\0{note}".encode()) for key, note in notes.items()),
            _chunk(b"IDAT", packer.compress(lines) + packer.flush()),
            _chunk(b"IEND", b""),
        ]
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _noted_hash(path: Path, source_hash: str) -> str | None:
    try:
        with path.open("rb") as file:
            end = _chunk(b"IEND", b"")
            file.seek(-len(end), os.SEEK_END)
            if file.read() != end:
                return None
        with Image.open(path) as image:
            return image.info.get("pixels") if image.info.get("source") == source_hash else None
    except _UNREADABLE:
        return None


def _file_hash(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def _metaimage(path: Path, pixels: bool) -> np.ndarray | tuple[int, int]:
    try:
        import SimpleITK
    except ImportError as error:
        raise DataError(
            f"{path}: MetaImage needs SimpleITK: pip install 'kerasland[dicom]'"
        ) from error
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        if pixels:
            return SimpleITK.GetArrayFromImage(reader.Execute())
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    width, height = reader.GetSize()[:2]
    return height, width


def _as_grey(pixels: np.ndarray, path: Path) -> np.ndarray:
    if pixels.ndim == 3 and pixels.shape[0] == 1:  # MetaImage: one slice of a volume
        pixels = pixels[0]
    if pixels.ndim != 2 or 0 in pixels.shape:
        raise DataError(f"{path}: an array of shape {pixels.shape}, expected one grey image (H, W)")
    if pixels.dtype == np.uint8 or pixels.dtype == np.uint16:
        return pixels
    if pixels.dtype.kind in "iu" and pixels.min() >= 0 and pixels.max() <= 65535:
        return pixels.astype(np.uint16)
    raise DataError(
        f"{path}: values of type {pixels.dtype.name} from {pixels.min()} to {pixels.max()}, "
        "expected whole numbers of 8 or 16 bit; convert the image first"
    )


def _unreadable(path: Path, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path}: no such image")
    reason = str(error).replace(str(path), "file")
    return DataError(f"{path}: can't be read as an image ({reason}); get a fresh copy")
