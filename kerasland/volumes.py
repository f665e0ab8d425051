"""MetaImage (SimpleITK) and NIfTI (nibabel): one slice."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kerasland.errors import DataError
from kerasland.geometry import Spacing

NIFTI = (".nii", ".nii.gz")
DETACHED = ".mhd"  # a header, whose pixels are in a file that it names
SUFFIXES = (".mha", DETACHED, *NIFTI)
_MM = {"meter": 1e3, "micron": 1e-3}


def read(path: Path) -> np.ndarray:
    """The slice in the order of the file: x runs along its first axis, y along its second.

    Axes of length 1 are left out, last ones first. Origin and direction (the affine of NIfTI) place
    the slice in space and are not applied, so a point (x, y) is voxel `[x, y]` of the array that
    nibabel loads, and `[y, x]` of the one that SimpleITK gives. Stated factors (scl_slope,
    scl_inter) are applied.

    Returns:
        (H, W), integers or real numbers; (H, W, 3) of a MetaImage in colour.

    Raises:
        DataError: several slices, or the library is not installed.
        Exception: of any kind, on a broken file or one that can't be opened.
    """
    if is_nifti(path):
        image = _nifti(path)
        x, y = _plane(image.shape, path)
        pixels = np.asarray(image.dataobj)
        if path.name.lower().endswith(".gz"):
            gzip.decompress(path.read_bytes())  # for its checksum, which nibabel does not look at
        return pixels.reshape(image.shape[x], image.shape[y]).T
    reader = _metaimage(path)
    x, y = _plane(reader.GetSize(), path)
    import SimpleITK

    try:
        pixels = SimpleITK.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        axes = np.reshape(reader.GetDirection(), (reader.GetDimension(),) * 2)
        flat = not abs(np.linalg.det(axes * reader.GetSpacing())) > 0
        said = "a spacing or a matrix of 0" if flat else "pixels missing or cut off"
        raise ValueError(said) from error
    _check_packed(path)
    shape = (reader.GetSize()[y], reader.GetSize()[x])
    return pixels.reshape(*shape, *pixels.shape[reader.GetDimension() :])


def header(path: Path) -> tuple[tuple[int, int], Spacing | None]:
    """(H, W), and the spacing where the file states one; the pixels are not read.

    Both formats give a spacing of 1 where nobody set one, so exactly 1 x 1 counts as not stated.

    Raises:
        DataError, Exception: as `read`.
    """
    if is_nifti(path):
        image = _nifti(path)
        size, steps, kind = image.shape, image.header.get_zooms(), "NIfTI"
        to_mm = _MM.get(image.header.get_xyzt_units()[0], 1.0)
    else:
        reader = _metaimage(path)
        size, steps, kind, to_mm = reader.GetSize(), reader.GetSpacing(), "MetaImage", 1.0
    x, y = _plane(size, path)
    # 7 digits: NIfTI states single precision
    x_mm, y_mm = (float(f"{float(steps[axis]) * to_mm:.7g}") for axis in (x, y))
    stated = min(x_mm, y_mm) > 0 and np.isfinite(x_mm + y_mm) and (x_mm, y_mm) != (to_mm, to_mm)
    return (size[y], size[x]), Spacing(x_mm, y_mm, f"{kind} spacing") if stated else None


def is_nifti(path: Path) -> bool:
    """Whether a file is NIfTI, by its name."""
    return path.name.lower().endswith(NIFTI)


def _nifti(path: Path):
    try:
        import nibabel
    except ImportError as error:
        raise DataError(f'{path}: NIfTI needs nibabel: pip install "kerasland[dicom]"') from error
    return nibabel.load(path, mmap=False)


def _metaimage(path: Path):
    """A reader that has seen the header."""
    try:
        import SimpleITK
    except ImportError as error:
        raise DataError(
            f'{path}: MetaImage needs SimpleITK: pip install "kerasland[dicom]"'
        ) from error
    with path.open("rb"):  # for a clearer error than SimpleITK's
        pass
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("MetaImageIO")  # which by itself it takes for small letters only
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ValueError("no header of a MetaImage") from error
    return reader


def _check_packed(path: Path) -> None:
    """Raises where pixels can't be unpacked, which SimpleITK takes as far as they could be."""
    head, last = {}, b"ElementDataFile"
    with path.open("rb") as file:
        for line in file:
            key, _, value = line.partition(b"=")
            head[key.strip()] = value.strip()
            if last in head:
                break
        if head.get(b"CompressedData", b"")[:1] not in (b"T", b"t", b"1"):
            return
        beside = path.parent / os.fsdecode(head.get(last, b""))
        if beside.name == "LOCAL":
            packed = file.read()
        elif beside.is_file():
            packed = beside.read_bytes()
        else:
            return
    zlib.decompress(packed, wbits=zlib.MAX_WBITS + 32)  # with the header of zlib or of gzip


def _plane(size: Sequence[int], path: Path) -> tuple[int, int]:
    """The two axes of the slice, x first."""
    axes = list(range(len(size)))
    for axis in reversed(range(len(size))):
        if size[axis] == 1 and len(axes) > 2:
            axes.remove(axis)
    if len(axes) != 2:
        shape = " x ".join(map(str, size))
        raise DataError(f"{path}: a volume of {shape}, expected one slice, the radiograph")
    return axes[0], axes[1]
