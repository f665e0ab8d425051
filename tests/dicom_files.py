"""Radiographs written as DICOM, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_dicom(path: Path, pixels: np.ndarray, syntax: str = "", **tags) -> None:
    """Writes one or more frames.

    Args:
        path: the file.
        pixels: (H, W) or (N, H, W), 8 or 16 bit, signed or not; (H, W, 3) uint8 with
            SamplesPerPixel=3.
        syntax: a compressed transfer syntax, one of `ENCODERS`; none by default.
        tags: DICOM attributes by keyword; None leaves one out.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    bits = 8 * pixels.itemsize
    frame = pixels.shape if tags.get("SamplesPerPixel") == 3 else pixels.shape[-2:]
    values = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1",  # digital X-ray, for presentation
        "SOPInstanceUID": generate_uid(),
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": frame[0],
        "Columns": frame[1],
        "BitsAllocated": bits,
        "BitsStored": bits,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "PixelData": pixels.tobytes(),
        **tags,
    }
    values.setdefault("HighBit", values["BitsStored"] - 1)
    for keyword, value in values.items():
        if value is not None:
            setattr(dataset, keyword, value)
    if syntax == "RLELossless":
        from pydicom.uid import RLELossless

        dataset.compress(RLELossless, encoding_plugin="pydicom")
    elif syntax:
        _encapsulate(dataset, pixels, syntax)
    dataset.save_as(path, enforce_file_format=True)


ENCODERS = {
    "JPEGBaseline8Bit": lambda c, a, bits: c.jpeg8_encode(a, level=98),
    "JPEGExtended12Bit": lambda c, a, bits: c.jpeg8_encode(a, level=98, bitspersample=bits),
    "JPEGLosslessSV1": lambda c, a, bits: c.jpeg8_encode(
        a, lossless=True, predictor=1, bitspersample=bits
    ),
    "JPEGLossless": lambda c, a, bits: c.jpeg8_encode(
        a, lossless=True, predictor=6, bitspersample=bits
    ),
    "JPEGLSLossless": lambda c, a, bits: c.jpegls_encode(a),
    "JPEGLSNearLossless": lambda c, a, bits: c.jpegls_encode(a, level=2),
    "JPEG2000Lossless": lambda c, a, bits: c.jpeg2k_encode(a, level=0, codecformat="j2k"),
    "JPEG2000": lambda c, a, bits: c.jpeg2k_encode(a, level=90, codecformat="j2k"),
}


def _encapsulate(dataset, pixels: np.ndarray, syntax: str) -> None:
    import imagecodecs
    import pydicom

    stored = pixels.view(f"u{pixels.itemsize}") & (2**dataset.BitsStored - 1)
    coded = pixels if syntax.startswith("JPEG2000") else stored  # which alone knows signed values
    frame = ENCODERS[syntax](imagecodecs, coded, int(dataset.BitsStored))
    dataset.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)
    dataset.PixelData = pydicom.encaps.encapsulate([frame])
    dataset["PixelData"].VR = "OB"
