"""DICOM: one radiograph as it is meant to be seen; the spacing, patient and side that it states."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np

from kerasland.errors import DataError
from kerasland.geometry import Spacing

SUFFIXES = (".dcm", ".dicom")
_START_OF_FRAME = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}


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
        stored = _stored(dataset, path, pydicom)
        return stored if stored.ndim == 3 else _displayed(stored, dataset, pydicom.pixels)


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
        raise DataError(f"{path}: DICOM needs pydicom: pip install 'kerasland[dicom]'") from error
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


def _check_bits(dataset, path: Path) -> None:
    stored, high = dataset.BitsStored, dataset.get("HighBit")
    if high is not None and high != stored - 1:  # pydicom takes the low bits whatever this says
        raise DataError(
            f"{path}: its highest bit is {high}, expected {stored - 1} of {stored} bits stored; "
            "convert it"
        )


def _stored(dataset, path: Path, pydicom: ModuleType) -> np.ndarray:
    """The values as they were before compression: (H, W), or (H, W, 3) in colour."""
    syntax = dataset.file_meta.TransferSyntaxUID
    jpeg = syntax in pydicom.uid.JPEGTransferSyntaxes
    jpeg_ls = syntax in pydicom.uid.JPEGLSTransferSyntaxes
    if dataset.SamplesPerPixel > 1 or not (
        jpeg or jpeg_ls or syntax in pydicom.uid.JPEG2000TransferSyntaxes
    ):
        if not pydicom.pixels.get_decoder(syntax).is_available:
            raise DataError(f"{path}: compressed as {syntax.name}, which can't be read; convert it")
        _check_bits(dataset, path)
        return pydicom.pixels.pixel_array(dataset)
    try:
        import imagecodecs
    except ImportError as error:
        raise DataError(
            f"{path}: {syntax.name} needs imagecodecs: pip install 'kerasland[dicom]'"
        ) from error
    frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    # Decoders take sizes on trust, and some spend minutes on a stream that is cut off
    if _coded_shape(frame) != (dataset.Rows, dataset.Columns):
        raise ValueError("the compressed image has another size than its header says")
    if (jpeg or jpeg_ls) and not frame.rstrip(b"\0\xff").endswith(b"\xff\xd9"):
        raise ValueError("the compressed image is cut off")
    if jpeg:
        stored = imagecodecs.jpeg8_decode(frame)
    else:
        stored = (imagecodecs.jpegls_decode if jpeg_ls else imagecodecs.jpeg2k_decode)(frame)
    if dataset.PixelRepresentation == 1 and stored.dtype.kind == "u":
        unused = 8 * stored.itemsize - dataset.BitsStored
        stored = (stored << unused).view(f"i{stored.itemsize}") >> unused
    return stored


def _coded_shape(frame: bytes) -> tuple[int, int]:
    """Rows and columns in the header of a JPEG, JPEG-LS or JPEG 2000 stream."""
    if frame.startswith(b"\xff\x4f\xff\x51"):  # JPEG 2000 begins with its size
        right, bottom, left, top = struct.unpack(">4I", frame[8:24])
        return bottom - top, right - left
    place = 2
    while True:
        marker, length = struct.unpack(">xBH", frame[place : place + 4])
        if marker in _START_OF_FRAME:
            return struct.unpack(">HH", frame[place + 5 : place + 9])
        place += 1 if marker == 0xFF else 2 + length


def _displayed(stored: np.ndarray, dataset, pixels: ModuleType) -> np.ndarray:
    padding, values, bits = _padding(stored, dataset), stored, int(dataset.BitsStored)
    modality, voi = (dataset.get(f"{kind}LUTSequence") for kind in ("Modality", "VOI"))
    if not dataset.get("VOILUTFunction"):  # it may be empty, and then is LINEAR
        dataset.VOILUTFunction = "LINEAR"
    window = _has_window(dataset)
    rescale = [dataset.get(name) for name in ("RescaleSlope", "RescaleIntercept")]
    if modality:
        values, bits = _looked_up(stored, modality[0])
    elif (voi or window) and None not in rescale:  # alone it is another unit, not another picture
        values = pixels.apply_modality_lut(stored, dataset)
    slope = float(dataset.get("RescaleSlope") or 1)
    for name in ("RescaleSlope", "RescaleIntercept"):
        if name in dataset:  # a slope below 0 would turn the output of pydicom's window upside down
            delattr(dataset, name)
    if voi:
        values, bits = _looked_up(values, voi[0])
    elif window:
        values = pixels.apply_windowing(values, dataset)
        if dataset.PixelRepresentation == 1 and not modality:
            values = values + 2 ** (bits - 1)  # so that black is 0
    falls = slope < 0 and not (modality or voi or window)
    inverse = dataset.get("PresentationLUTShape") == "INVERSE"
    inverse = inverse or dataset.PhotometricInterpretation == "MONOCHROME1"
    if inverse != falls:
        wide = np.float64 if values.dtype.kind == "f" else np.int64
        values = 2**bits - 1 - values.astype(wide)
    if dataset.get("PresentationLUTSequence"):
        values = pixels.apply_presentation_lut(values, dataset)
    if padding.any() and not padding.all():
        values = np.where(padding, values[~padding].min(), values)
    return values


def _has_window(dataset) -> bool:
    """Whether a window is stated that DICOM allows: of a width of 1 or more if it is linear."""
    width = dataset.get("WindowWidth")
    width = width[0] if isinstance(width, Sequence) and width else width
    if dataset.get("WindowCenter") is None or not width:
        return False
    return width >= 1 if dataset.VOILUTFunction == "LINEAR" else width > 0


def _looked_up(values: np.ndarray, item) -> tuple[np.ndarray, int]:
    """After a modality or VOI LUT, and its bits. pydicom's own functions know fewer depths."""
    entries, first, bits = item.LUTDescriptor
    entries, table = entries or 65536, item.LUTData
    if isinstance(table, bytes):  # 8-bit entries may stand in a byte or in two
        table = np.frombuffer(table, "<u2" if len(table) >= 2 * entries else np.uint8)
    index = np.rint(values).astype(np.int64) - int(first)
    return np.asarray(table, np.uint16)[:entries][np.clip(index, 0, entries - 1)], int(bits)


def _padding(stored: np.ndarray, dataset) -> np.ndarray:
    """(H, W) which stored values are no part of the radiograph."""
    first = dataset.get("PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, bool)
    last = dataset.get("PixelPaddingRangeLimit")
    last = first if last is None else last
    return (stored >= min(first, last)) & (stored <= max(first, last))


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
