"""DICOM: the picture as it is meant to be seen: decompression, lookup tables, window, padding."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from kerasland.errors import DataError

_START_OF_FRAME = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
JPEG_2000, JP2 = b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  "


def picture(dataset, path: Path, pydicom: ModuleType) -> np.ndarray:
    """What `dicom.read` gives of a file, from the data set in it, which is altered.

    Raises:
        DataError: a compression without decoder, or stored bits that are not the low ones.
        Exception: of any kind, on pixels that are broken.
    """
    stored = _stored(dataset, path, pydicom)
    return stored if stored.ndim == 3 else _displayed(stored, dataset, pydicom.pixels)


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
            f'{path}: {syntax.name} needs imagecodecs: pip install "kerasland[dicom]"'
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
    """Rows and columns in the header of a JPEG, JPEG-LS or JPEG 2000 stream, or of a JP2 file, as
    some programs put in its place."""
    if frame.startswith(JP2):
        frame = frame[max(0, frame.find(JPEG_2000)) :]
    if frame.startswith(JPEG_2000):  # which begins with its size
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
