"""DICOM as a viewer shows it: what the file states is applied once, in order, and no more."""

from __future__ import annotations

import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from dicom_files import ENCODERS, write_dicom
from scipy import ndimage

from kerasland import dicom, images
from kerasland.errors import DataError

pydicom = pytest.importorskip("pydicom")
RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (20, 30), dtype=np.uint8)
TWELVE = RNG.integers(0, 4096, (20, 30), dtype=np.uint16)
DEEP = RNG.integers(0, 65536, (20, 30), dtype=np.uint16)
SIGNED = (TWELVE.astype(np.int16) - 2048).astype(np.int16)


@pytest.fixture
def reread(tmp_path):
    """A function that writes a DICOM file and reads it again."""

    def write_and_read(pixels, **tags):
        write_dicom(tmp_path / "a.dcm", pixels, **tags)
        read = images.read_image(tmp_path / "a.dcm")
        assert images.image_shape(tmp_path / "a.dcm") == read.shape
        return read

    return write_and_read


def assert_shows(read: np.ndarray, expected: np.ndarray) -> None:
    """The same picture but for the offset and unit of its grey values, to 8 bit of its range."""
    read, expected = (a.astype(float) - a.min() for a in (read, np.asarray(expected)))
    np.testing.assert_allclose(read / read.max(), expected / expected.max(), atol=1 / 255)


def test_stored_values_stay(reread):
    for pixels, bits in ((GREY, 8), (TWELVE, 12), (DEEP, 16)):
        read = reread(pixels, BitsStored=bits)
        assert read.dtype == pixels.dtype
        np.testing.assert_array_equal(read, pixels)
    read = reread(SIGNED, BitsStored=12)
    np.testing.assert_array_equal(read, SIGNED.astype(int) - SIGNED.min())
    rescale = {"RescaleSlope": 0.25, "RescaleIntercept": -100}
    np.testing.assert_array_equal(reread(TWELVE, **rescale), TWELVE)


def test_bones_are_bright_whatever_the_photometric_interpretation(reread):
    """MONOCHROME1 and the presentation LUT shape INVERSE state the same inversion."""
    inverse = {"PresentationLUTShape": "INVERSE"}
    one = {"PhotometricInterpretation": "MONOCHROME1"}
    for tags in (one, inverse, {**one, **inverse}):
        np.testing.assert_array_equal(reread(GREY, **tags), 255 - GREY)
        np.testing.assert_array_equal(reread(TWELVE, BitsStored=12, **tags), 4095 - TWELVE)
        assert_shows(reread(SIGNED, BitsStored=12, **tags), -SIGNED.astype(int))
    np.testing.assert_array_equal(reread(GREY, PresentationLUTShape="IDENTITY"), GREY)


def ramp(values: np.ndarray, centre: float, width: float) -> np.ndarray:
    """DICOM's linear window, PS3.3 C.11.2.1.2.1, pixel by pixel, on 0..1."""
    shown = np.zeros(values.shape)
    for place, value in np.ndenumerate(values.astype(float)):
        if value > centre - 0.5 + (width - 1) / 2:
            shown[place] = 1
        elif value > centre - 0.5 - (width - 1) / 2:
            shown[place] = (value - (centre - 0.5)) / (width - 1) + 0.5
    return shown


def test_windows(reread):
    window = {"WindowCenter": 1500, "WindowWidth": 1000}
    assert_shows(reread(TWELVE, BitsStored=12, **window), ramp(TWELVE, 1500, 1000))
    two = {"WindowCenter": [1500, 9], "WindowWidth": [1000, 9]}
    assert_shows(reread(TWELVE, BitsStored=12, **two), ramp(TWELVE, 1500, 1000))
    one = {"PhotometricInterpretation": "MONOCHROME1", **window}
    assert_shows(reread(TWELVE, BitsStored=12, **one), 1 - ramp(TWELVE, 1500, 1000))
    signed = {"WindowCenter": -200, "WindowWidth": 1000}
    assert_shows(reread(SIGNED, BitsStored=12, **signed), ramp(SIGNED, -200, 1000))
    wide = reread(SIGNED, BitsStored=12, WindowCenter=0, WindowWidth=8192)  # nothing is black
    assert wide.min() / wide.max() == pytest.approx(1 / 3, abs=0.01)
    exact = reread(TWELVE, BitsStored=12, VOILUTFunction="LINEAR_EXACT", **window)
    assert_shows(exact, np.clip((TWELVE - 1500.0) / 1000 + 0.5, 0, 1))
    sigmoid = reread(TWELVE, BitsStored=12, VOILUTFunction="SIGMOID", **window)
    assert_shows(sigmoid, 1 / (1 + np.exp(-4 * (TWELVE - 1500.0) / 1000)))
    unsaid = reread(TWELVE, BitsStored=12, VOILUTFunction="", **window)
    assert_shows(unsaid, ramp(TWELVE, 1500, 1000))
    for width in ("", 0, 0.5):  # none, none, and less than the least of a linear window
        tags = {"WindowCenter": 9, "WindowWidth": width}
        np.testing.assert_array_equal(reread(TWELVE, **tags), TWELVE)
    empty = {"WindowCenter": "", "WindowWidth": ""}
    np.testing.assert_array_equal(reread(TWELVE, **empty), TWELVE)


def test_windows_hold_for_rescaled_values(reread):
    for slope, intercept, centre in ((0.5, -100, 800), (-1, 4095, 1000), (2, -1024, 3000)):
        values = TWELVE * float(slope) + intercept
        tags = {"RescaleSlope": slope, "RescaleIntercept": intercept, "BitsStored": 12}
        assert_shows(reread(TWELVE, **tags), values)
        tags |= {"WindowCenter": centre, "WindowWidth": 700}
        assert_shows(reread(TWELVE, **tags), ramp(values, centre, 700))


def lut(table, first: int, bits: int, words: bool = True):
    item = pydicom.Dataset()
    item.LUTDescriptor = [len(table) % 65536, first, bits]
    item.LUTData = np.asarray(table, np.uint16 if words else np.uint8).tobytes()
    item["LUTDescriptor"].VR, item["LUTData"].VR = ("SS" if first < 0 else "US"), "OW"
    return [item]


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("kind", ["ModalityLUTSequence", "VOILUTSequence"])
def test_lookup_tables(reread, kind, bits):
    curve = np.sqrt(np.linspace(0, 1, 3000)) * (2**bits - 1)
    shown = np.rint(curve)[np.clip(TWELVE.astype(int) - 500, 0, 2999)]
    window = {"WindowCenter": 100, "WindowWidth": 1} if kind == "VOILUTSequence" else {}
    for words in (True, False) if bits == 8 else (True,):
        tags = {kind: lut(np.rint(curve), 500, bits, words), "BitsStored": 12, **window}
        assert_shows(reread(TWELVE, **tags), shown)
        one = reread(TWELVE, **tags, PhotometricInterpretation="MONOCHROME1")
        np.testing.assert_array_equal(one, 2**bits - 1 - shown)
    below = lut(np.rint(curve), -1000, bits)
    shown = np.rint(curve)[np.clip(SIGNED.astype(int) + 1000, 0, 2999)]
    assert_shows(reread(SIGNED, BitsStored=12, **{kind: below}), shown)


def test_one_transformation_after_the_other(reread):
    """Modality LUT, window, inversion, presentation LUT."""
    down = np.arange(4095, -1, -1)
    presented = np.rint(np.linspace(0, 1, 4096) ** 2 * 65535)
    read = reread(
        TWELVE,
        BitsStored=12,
        ModalityLUTSequence=lut(down, 0, 16),
        WindowCenter=2000,
        WindowWidth=3000,
        PhotometricInterpretation="MONOCHROME1",
        PresentationLUTSequence=lut(presented, 0, 16),
    )
    assert_shows(read, (1 - ramp(4095 - TWELVE.astype(int), 2000, 3000)) ** 2)


def test_tags_that_were_emptied_say_nothing(reread):
    """As some programs leave them that take the patient's name out."""
    window = {"WindowCenter": 2500, "WindowWidth": 1000, "BitsStored": 12}
    shown = reread(TWELVE, **window)
    emptied = reread(TWELVE, **window, RescaleSlope=None, RescaleIntercept=None)
    np.testing.assert_array_equal(emptied, shown)
    one, ranged = (
        reread(TWELVE, BitsStored=12, PixelPaddingValue=int(TWELVE.max()), **tags)
        for tags in ({}, {"PixelPaddingRangeLimit": None})
    )
    np.testing.assert_array_equal(ranged, one)


def test_padding_is_dark(reread):
    pixels = np.clip(TWELVE, 100, 4000)
    pixels[:5], pixels[5] = 4095, 4090
    shown = 4095 - pixels.astype(int)
    shown[:6] = 4095 - pixels[6:].max()
    read = reread(
        pixels,
        BitsStored=12,
        PhotometricInterpretation="MONOCHROME1",
        PixelPaddingValue=4095,
        PixelPaddingRangeLimit=4090,
    )
    np.testing.assert_array_equal(read, shown)
    flat = np.full((4, 4), 7, np.uint16)
    np.testing.assert_array_equal(reread(flat, PixelPaddingValue=7), flat)


def test_colour(reread):
    red = np.zeros((8, 6, 3), np.uint8)
    red[..., 0] = 255
    rgb = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    assert (reread(red, **rgb) == 76).all()
    with pytest.raises(DataError, match=r"a\.dcm: colours from a palette"):
        reread(GREY, PhotometricInterpretation="PALETTE COLOR")


SMOOTH = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(90, 75)), 4)
SMOOTH = (SMOOTH - SMOOTH.min()) / np.ptp(SMOOTH)
COMPRESSED = {
    "8 bit": (np.rint(SMOOTH * 255).astype(np.uint8), 8),
    "12 bit": (np.rint(SMOOTH * 4095).astype(np.uint16), 12),
    "16 bit": (np.rint(SMOOTH * 65535).astype(np.uint16), 16),
    "12 bit signed": (np.rint(SMOOTH * 4095 - 2048).astype(np.int16), 12),
}
LOSSY = ("JPEGBaseline8Bit", "JPEGExtended12Bit", "JPEGLSNearLossless", "JPEG2000")
ONLY = {"JPEGBaseline8Bit": "8 bit", "JPEGExtended12Bit": "12 bit"}
CASES = [
    (syntax, depth)
    for syntax in ("RLELossless", *ENCODERS)
    for depth in COMPRESSED
    if ONLY.get(syntax, depth) == depth
]


@pytest.mark.parametrize(("syntax", "depth"), CASES)
def test_compressed(reread, syntax, depth):
    pytest.importorskip("imagecodecs")
    pixels, bits = COMPRESSED[depth]
    read = reread(pixels, syntax=syntax, BitsStored=bits).astype(int)
    stored = pixels.astype(int) - min(0, int(pixels.min()))
    assert np.abs(read - stored).max() <= (0.03 * 2**bits if syntax in LOSSY else 0)


@pytest.mark.parametrize("depth", COMPRESSED)
def test_compressed_as_a_jp2_file_in_the_place_of_a_stream(reread, depth, monkeypatch):
    pytest.importorskip("imagecodecs")

    def encoded(codecs, pixels, bits):
        return codecs.jpeg2k_encode(pixels, level=0, codecformat="jp2")

    monkeypatch.setitem(ENCODERS, "JPEG2000Lossless", encoded)
    pixels, bits = COMPRESSED[depth]
    read = reread(pixels, syntax="JPEG2000Lossless", BitsStored=bits)
    np.testing.assert_array_equal(read, pixels.astype(int) - min(0, int(pixels.min())))


def test_threads_read_as_one_does(tmp_path):
    pytest.importorskip("imagecodecs")
    paths = []
    for i, syntax in enumerate([*ENCODERS, "RLELossless"] * 4):
        paths.append(tmp_path / f"{i}.dcm")
        write_dicom(paths[-1], np.roll(GREY, i), syntax)
    alone = [images.read_image(path) for path in paths]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(alone, pool.map(images.read_image, paths), strict=True):
            np.testing.assert_array_equal(one, other)


IMAGER = {"ImagerPixelSpacing": [0.2, 0.1]}
SPACINGS = {
    "none": ({}, None),
    "of the detector": (IMAGER, (0.1, 0.2, "ImagerPixelSpacing")),
    "magnified": (
        {**IMAGER, "EstimatedRadiographicMagnificationFactor": 1.25},
        (0.08, 0.16, "ImagerPixelSpacing / 1.25"),
    ),
    "magnified in two ways": (
        {**IMAGER, "EstimatedRadiographicMagnificationFactor": [1.25, 1.5]},
        (0.1, 0.2, "ImagerPixelSpacing"),
    ),
    "calibrated": (
        {**IMAGER, "PixelSpacing": [0.19, 0.09], "EstimatedRadiographicMagnificationFactor": 2},
        (0.09, 0.19, "PixelSpacing"),
    ),
    "said to be calibrated": (
        {**IMAGER, "PixelSpacing": [0.2, 0.1], "PixelSpacingCalibrationType": "GEOMETRY"},
        (0.1, 0.2, "PixelSpacing"),
    ),
    "not calibrated": (
        {
            **IMAGER,
            "PixelSpacing": [0.2, 0.1],
            "EstimatedRadiographicMagnificationFactor": 1.25,
        },
        (0.08, 0.16, "ImagerPixelSpacing / 1.25"),
    ),
    "of the pixels alone": ({"PixelSpacing": [0.2, 0.1]}, (0.1, 0.2, "PixelSpacing")),
    "of a scanned film": (
        {"NominalScannedPixelSpacing": [0.2, 0.1]},
        (0.1, 0.2, "NominalScannedPixelSpacing"),
    ),
    "nonsense": ({"PixelSpacing": [0, 0.1], "ImagerPixelSpacing": [-1, 1]}, None),
    "empty": ({"PixelSpacing": ""}, None),
}


@pytest.mark.parametrize("kind", SPACINGS)
def test_spacing(tmp_path, kind):
    tags, expected = SPACINGS[kind]
    write_dicom(tmp_path / "a.dcm", GREY, **tags)
    spacing = images.pixel_spacing(tmp_path / "a.dcm")
    if expected is None:
        assert spacing is None
    else:
        np.testing.assert_allclose(spacing[:2], expected[:2])
        assert spacing.source == expected[2]


def test_dicom_is_known_by_its_content(tmp_path):
    for name in ("IM0001", "1.2.840.113", "radiograph.png"):
        write_dicom(tmp_path / name, GREY)
        np.testing.assert_array_equal(images.read_image(tmp_path / name), GREY)
    assert not dicom.is_dicom(tmp_path / "none") and not dicom.is_dicom(tmp_path)


def broken(folder: Path) -> dict[str, str]:
    """Writes files that are no radiograph; what is said of each by its name."""
    write_dicom(folder / "whole", GREY)
    whole = (folder / "whole").read_bytes()
    (folder / "cut.dcm").write_bytes(whole[:-100])
    (folder / "head.dcm").write_bytes(whole[:200])
    (folder / "text.dcm").write_text("no DICOM")
    (folder / "empty.dcm").write_bytes(b"")
    write_dicom(folder / "frames.dcm", np.stack([GREY, GREY]), NumberOfFrames=2)
    write_dicom(folder / "high.dcm", TWELVE << 4, BitsStored=12, HighBit=15)
    write_dicom(folder / "blank.dcm", GREY, PixelData=None)
    real = GREY.astype("<f4").tobytes()
    write_dicom(folder / "real.dcm", GREY, PixelData=None, FloatPixelData=real, BitsAllocated=32)
    write_dicom(folder / "report.dcm", GREY, Rows=None, Columns=None, PixelData=None)
    write_dicom(folder / "jls.dcm", GREY, "JPEGLSLossless")
    jls = (folder / "jls.dcm").read_bytes()
    (folder / "jls_cut.dcm").write_bytes(jls[:-200])
    write_dicom(folder / "size.dcm", GREY, "JPEGLSLossless", Rows=21)
    frame = bytearray(jls)
    frame[frame.rindex(b"\xff\xd9") : frame.rindex(b"\xff\xd9") + 2] = b"\0\0"
    (folder / "jls_end.dcm").write_bytes(frame)
    write_dicom(folder / "video.dcm", GREY)
    content = (folder / "video.dcm").read_bytes()
    explicit, video = b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.12"
    (folder / "video.dcm").write_bytes(content.replace(explicit, video, 1))
    return {
        "cut.dcm": "can't be read as DICOM",
        "head.dcm": "cut off",
        "text.dcm": "does not begin as DICOM does",
        "empty.dcm": "does not begin as DICOM does",
        "frames.dcm": "holds 2 frames, expected one radiograph",
        "high.dcm": "its highest bit is 15, expected 11 of 12 bits stored; convert it",
        "blank.dcm": "without pixels",
        "real.dcm": "without pixels of whole numbers",
        "report.dcm": "without a picture",
        "jls_cut.dcm": "cut off",
        "jls_end.dcm": "the compressed image is cut off",
        "size.dcm": "another size than its header says",
        "video.dcm": "can't be read",
        "none.dcm": "no such image",
    }


def test_what_is_no_radiograph_is_named(tmp_path):
    pytest.importorskip("imagecodecs")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of what is cut off
        for name, said in broken(tmp_path).items():
            with pytest.raises(DataError, match=rf"{name}: .*{said}") as caught:
                images.read_image(tmp_path / name)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("implicit", [True, False])
def test_a_data_set_alone_is_read(tmp_path, implicit):
    """Old archives store it without the preamble and header that a DICOM file begins with."""
    write_dicom(tmp_path / "whole.dcm", TWELVE, BitsStored=12, PixelSpacing=[0.2, 0.3])
    whole = pydicom.dcmread(tmp_path / "whole.dcm")
    alone = pydicom.Dataset()
    alone.update({element.tag: element for element in whole})
    alone.save_as(tmp_path / "alone.dcm", implicit_vr=implicit, little_endian=True)
    assert not dicom.is_dicom(tmp_path / "alone.dcm")
    np.testing.assert_array_equal(images.read_image(tmp_path / "alone.dcm"), TWELVE)
    assert images.image_shape(tmp_path / "alone.dcm") == TWELVE.shape
    assert images.pixel_spacing(tmp_path / "alone.dcm")[:2] == (0.3, 0.2)


def test_what_to_install_is_said(tmp_path, monkeypatch):
    write_dicom(tmp_path / "a.dcm", GREY)
    write_dicom(tmp_path / "b.dcm", GREY, "JPEGLosslessSV1")
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(DataError, match=r"b.dcm: JPEG Lossless.*imagecodecs.*kerasland\[dicom\]"):
        images.read_image(tmp_path / "b.dcm")
    np.testing.assert_array_equal(images.read_image(tmp_path / "a.dcm"), GREY)
    for name in ("pydicom", "pydicom.encaps", "pydicom.pixels"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DataError, match=r"a.dcm: DICOM needs pydicom: .*kerasland\[dicom\]"):
        images.read_image(tmp_path / "a.dcm")
