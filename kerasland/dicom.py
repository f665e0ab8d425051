"""DICOM: opens a file, and reads what its header states: shape, spacing, patient and side."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np

from kerasland import dicom_pixels
from kerasland.errors import DataError
from kerasland.geometry import Spacing

SUFFIXES = (".dcm", ".dicom")


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its magic, whatever its name; False if it can't be opened."""
    try:
        with path.open("rb") as file:
            file.seek(128)
            return file.read(4) == b"DICM"
    except OSError:
        return False


def read(path: Path) -> np.ndarray:
    """The picture after the transformations that the file states, in this order.

    Modality LUT, or rescale where a VOI LUT or window follows; the first VOI LUT, or else the first
    window; inversion, once, if the photometric interpretation is MONOCHROME1 or the presentation
    LUT shape INVERSE; presentation LUT. Padding becomes the darkest value. So bones are bright, as
    on a viewer. Overlays, shutters and the patient's orientation are not applied: rows and columns
    are those of the file.

    Args:
        path: one frame; JPEG (lossless ones and 12 bit too), JPEG-LS and JPEG 2000 are decoded by
            imagecodecs, RLE and what is not compressed by pydicom.

    Returns:
        (H, W), integers or real numbers; (H, W, 3) uint8 of a file in colour.

    Raises:
        DataError: no DICOM, no picture, several frames, a compression without decoder, truncated,
            or pydicom is not installed.
        OSError: it can't be opened.
    """
    pydicom = _pydicom(path)
    with _one_line(path):
        dataset = _dataset(path, pydicom)
        _check(dataset, path)
        return dicom_pixels.picture(dataset, path, pydicom)


def header(path: Path) -> tuple[tuple[int, int], Spacing | None]:
    """(H, W), and the spacing where the file states one; the pixels are not read.

    Pixel Spacing is taken as it stands where it is calibrated, which it says, or differs from the
    spacing of the detector, and where that is not stated. Otherwise it is Imager Pixel Spacing
    divided by the Estimated Radiographic Magnification Factor where there is one, then Nominal
    Scanned Pixel Spacing. Without such a factor the spacing holds at the detector, where a hand
    appears a little larger than it is.

    Raises:
        DataError, OSError: as `read`.
    """
    pydicom = _pydicom(path)
    with _one_line(path):
        dataset = _dataset(path, pydicom, stop_before_pixels=True)
        _check(dataset, path, pixels=False)
        return (int(dataset.Rows), int(dataset.Columns)), _spacing(dataset)


def patient_id(path: Path) -> str | None:
    """The PatientID that a file states; None where it states none, and of any other file.

    Raises:
        DataError, OSError: as `read`.
    """
    return _stated(path, "PatientID")


def side(path: Path) -> str | None:
    """The laterality that a file states, left or right; None where it states neither, and of any
    other file.

    Raises:
        DataError, OSError: as `read`.
    """
    return {"L": "left", "R": "right"}.get(_stated(path, "ImageLaterality", "Laterality"))


def _stated(path: Path, *keywords: str) -> str | None:
    """The first of some texts that a DICOM file states."""
    if not (path.name.lower().endswith(SUFFIXES) or is_dicom(path)):
        return None
    pydicom = _pydicom(path)
    with _one_line(path):
        dataset = _dataset(path, pydicom, stop_before_pixels=True)
        texts = (str(dataset.get(keyword) or "").strip() for keyword in keywords)
        return next(filter(None, texts), None)


def _pydicom(path: Path) -> ModuleType:
    try:
        import pydicom.encaps
        import pydicom.pixels
    except ImportError as error:
        raise DataError(f'{path}: DICOM needs pydicom: pip install "kerasland[dicom]"') from error
    return pydicom


def _dataset(path: Path, pydicom: ModuleType, **options):
    """The data set of a file, also where the header of the file itself is missing."""
    try:
        return pydicom.dcmread(path, **options)
    except pydicom.errors.InvalidDicomError:
        dataset = pydicom.dcmread(path, force=True, **options)  # makes something of any file
        if "SOPClassUID" not in dataset:
            raise
        if "TransferSyntaxUID" not in dataset.file_meta:
            implicit, _ = dataset.original_encoding
            plain = pydicom.uid.ImplicitVRLittleEndian, pydicom.uid.ExplicitVRLittleEndian
            dataset.file_meta.TransferSyntaxUID = plain[not implicit]
        return dataset


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """What broken files make pydicom raise, of any kind, as one line."""
    try:
        yield
    except (DataError, OSError):
        raise
    except Exception as error:
        reason = " ".join((str(error) or type(error).__name__).split())[:300]
        if type(error).__name__ == "InvalidDicomError":
            reason = "it does not begin as DICOM does"
        raise DataError(f"{path}: can't be read as DICOM ({reason}); get a fresh copy") from error


def _check(dataset, path: Path, pixels: bool = True) -> None:
    kind = getattr(dataset.get("SOPClassUID"), "name", "?")
    kind = "of no known kind" if kind[0] in "?0123456789" else kind
    if "Rows" not in dataset or "Columns" not in dataset:
        raise DataError(f"{path}: DICOM without a picture ({kind}), or cut off")
    if pixels and "PixelData" not in dataset:
        raise DataError(f"{path}: DICOM without pixels of whole numbers ({kind}), or cut off")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames != 1:
        raise DataError(f"{path}: holds {frames} frames, expected one radiograph")
    photometric = str(dataset.get("PhotometricInterpretation"))
    if photometric == "PALETTE COLOR":
        raise DataError(f"{path}: colours from a palette, expected a grey radiograph")


def _spacing(dataset) -> Spacing | None:
    plane, detector = (_pair(dataset, f"{kind}PixelSpacing") for kind in ("", "Imager"))
    calibrated = plane != detector or dataset.get("PixelSpacingCalibrationType")
    if plane and (calibrated or not detector):
        return Spacing(*plane, "PixelSpacing")
    if detector:
        try:
            factor = float(dataset.get("EstimatedRadiographicMagnificationFactor") or 1)
        except (TypeError, ValueError):  # several values
            factor = 1.0
        if not (np.isfinite(factor) and factor > 0) or factor == 1:
            return Spacing(*detector, "ImagerPixelSpacing")
        x_mm, y_mm = detector
        return Spacing(x_mm / factor, y_mm / factor, f"ImagerPixelSpacing / {factor:g}")
    scanned = _pair(dataset, "NominalScannedPixelSpacing")
    return Spacing(*scanned, "NominalScannedPixelSpacing") if scanned else None


def _pair(dataset, name: str) -> tuple[float, float] | None:
    """A spacing as (x, y): DICOM gives that between rows first."""
    value = dataset.get(name)
    try:
        y_mm, x_mm = map(float, value)
    except (TypeError, ValueError):
        return None
    return (x_mm, y_mm) if min(x_mm, y_mm) > 0 and np.isfinite(x_mm + y_mm) else None
