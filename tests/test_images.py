"""Files that Pillow, SimpleITK and nibabel know: grey values, depth, frame, spacing, failures."""

from __future__ import annotations

import gzip
import sys
from functools import partial

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin
from tiff_files import write_tiff

from data_prep.common import best_file
from kerasland import dicom, image_copies, image_files, images, volumes
from kerasland.errors import DataError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (20, 30), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (20, 30), dtype=np.uint16)


def saved_by_pillow(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)


def saved_as_metaimage(path, pixels, spacing=None, compress=False):
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.GetImageFromArray(pixels)
    image.SetSpacing(spacing or image.GetSpacing())
    sitk.WriteImage(image, str(path), compress)


def saved_in_capitals(path, pixels):
    """SimpleITK writes no such names."""
    written = path.with_suffix(path.suffix.lower())
    saved_as_metaimage(written, pixels)
    written.rename(path)


def saved_as_nifti(path, pixels, spacing=None, unit="mm", affine=None):
    """`pixels` (H, W) or (D, H, W): the file's axes are the other way round."""
    nib = pytest.importorskip("nibabel")
    image = nib.Nifti1Image(pixels.T, affine)
    image.header.set_zooms(spacing or (1,) * pixels.ndim)
    image.header.set_xyzt_units(unit)
    nib.save(image, path)


LOSSLESS = {
    "a.png": saved_by_pillow,
    "a.tif": saved_by_pillow,
    "lzw.tif": partial(saved_by_pillow, compression="tiff_lzw"),
    "deflate.tiff": partial(saved_by_pillow, compression="tiff_deflate"),
    "a.mha": saved_as_metaimage,
    "packed.mha": partial(saved_as_metaimage, compress=True),
    "a.mhd": saved_as_metaimage,
    "A.MHA": saved_in_capitals,
    "A.MHD": saved_in_capitals,
    "a.nii": saved_as_nifti,
    "a.nii.gz": saved_as_nifti,
}


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("pixels", [GREY, DEEP], ids=["8 bit", "16 bit"])
def test_lossless_files_give_their_pixels(tmp_path, name, pixels):
    LOSSLESS[name](tmp_path / name, pixels)
    read = images.read_image(tmp_path / name)
    assert read.dtype == pixels.dtype
    np.testing.assert_array_equal(read, pixels)
    assert images.image_shape(tmp_path / name) == (20, 30)
    assert images.pixel_spacing(tmp_path / name) is None


def test_colour_becomes_luminance(tmp_path):
    pictures = {
        "colour.png": Image.fromarray(np.dstack([GREY] * 3)),
        "palette.png": Image.fromarray(GREY).convert("P"),
        "alpha.png": Image.fromarray(np.dstack([GREY] * 3 + [GREY])),
    }
    for name, picture in pictures.items():
        picture.save(tmp_path / name)
        np.testing.assert_array_equal(images.read_image(tmp_path / name), GREY, err_msg=name)
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    Image.fromarray(red).save(tmp_path / "red.png")
    assert (images.read_image(tmp_path / "red.png") == 76).all()  # 0.299 of 255
    sitk = pytest.importorskip("SimpleITK")
    sitk.WriteImage(sitk.GetImageFromArray(red, isVector=True), str(tmp_path / "red.mha"))
    assert (images.read_image(tmp_path / "red.mha") == 76).all()


def test_a_jpeg_states_no_spacing_that_is_believed(tmp_path):
    smooth = np.add.outer(np.arange(20), 4 * np.arange(30)).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95, dpi=(72, 72))
    np.testing.assert_allclose(images.read_image(tmp_path / "a.jpg"), smooth, atol=3)
    saved_by_pillow(tmp_path / "a.tif", DEEP, dpi=(254, 254))
    saved_by_pillow(tmp_path / "a.png", GREY, dpi=(254, 254))
    for name in ("a.jpg", "a.tif", "a.png"):
        assert images.pixel_spacing(tmp_path / name) is None


SHOWN = {  # by EXIF orientation: what a viewer shows of the stored pixels
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: np.rot90(a),
    9: lambda a: a,  # there is none
}


@pytest.mark.parametrize("orientation", SHOWN)
def test_stated_orientation_is_applied(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    cases = {"a.png": GREY, "b.png": DEEP, "a.tif": GREY, "b.tif": DEEP}
    if orientation < 9:  # which libtiff refuses to write
        cases["lzw.tif"] = DEEP
    for name, pixels in cases.items():
        options = {"compression": "tiff_lzw"} if name == "lzw.tif" else {}
        Image.fromarray(pixels).save(tmp_path / name, exif=exif, **options)
        shown = SHOWN[orientation](pixels)
        np.testing.assert_array_equal(images.read_image(tmp_path / name), shown, err_msg=name)
        assert images.image_shape(tmp_path / name) == shown.shape, name
    smooth = np.add.outer(np.arange(48), 3 * np.arange(64)).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", exif=exif, quality=95)
    shown = SHOWN[orientation](smooth)
    np.testing.assert_allclose(images.read_image(tmp_path / "a.jpg"), shown, atol=3)
    assert images.image_shape(tmp_path / "a.jpg") == shown.shape


def test_tiff_where_white_is_zero(tmp_path):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0
    saved_by_pillow(tmp_path / "film.tif", DEEP, tiffinfo=tags)
    np.testing.assert_array_equal(images.read_image(tmp_path / "film.tif"), 65535 - DEEP)
    saved_by_pillow(tmp_path / "film8.tif", GREY, tiffinfo=tags)  # Pillow inverts as it writes
    np.testing.assert_array_equal(images.read_image(tmp_path / "film8.tif"), GREY)
    real = DEEP.astype(np.float32)
    write_tiff(tmp_path / "film.tif", real, {339: 3, 262: 0})
    np.testing.assert_array_equal(images.read_image(tmp_path / "film.tif"), DEEP.max() - DEEP)


def test_tiff_of_32_bit_without_sign(tmp_path):
    large = (DEEP.astype(np.uint32) << 16) + 65535
    for tags in ({}, {339: 1}):
        write_tiff(tmp_path / "a.tif", large, tags)
        read = images.read_image(tmp_path / "a.tif")
        np.testing.assert_allclose(read, large * (65535 / large.max()), atol=0.51)
    write_tiff(tmp_path / "a.tif", DEEP.astype(np.int32) - 9, {339: 2})
    shifted = DEEP - np.minimum(DEEP.min(), 9)
    np.testing.assert_array_equal(images.read_image(tmp_path / "a.tif"), shifted)


def test_tiff_of_8_bit_with_sign(tmp_path):
    real = np.array([[-128, -1, 0], [1, 90, 127]], np.int8)
    write_tiff(tmp_path / "a.tif", real, {339: 2})
    np.testing.assert_array_equal(images.read_image(tmp_path / "a.tif"), real.astype(int) + 128)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ElementSpacing = 0 0", "a spacing or a matrix of 0"),
        ("TransformMatrix = 0 0 0 0", "a spacing or a matrix of 0"),
        ("", "pixels missing or cut off"),
    ],
)
def test_metaimage_that_lies_nowhere_is_not_said_to_be_cut_off(tmp_path, line, said):
    pytest.importorskip("SimpleITK")
    header = f"ObjectType = Image\nNDims = 2\nDimSize = 4 3\n{line}\nElementType = MET_UCHAR\n"
    whole = header.replace("\n\n", "\n").encode() + b"ElementDataFile = LOCAL\n" + bytes(range(12))
    (tmp_path / "a.mha").write_bytes(whole if line else whole[:-3])
    with pytest.raises(DataError, match=said):
        images.read_image(tmp_path / "a.mha")


DEPTHS = {
    "signed": (np.array([[-2000, -1], [0, 3000]], np.int16), [[0, 1999], [2000, 5000]]),
    "12 bit": (np.array([[7, 0], [4095, 1]], np.int32), [[7, 0], [4095, 1]]),
    "whole reals": (np.array([[7, 0], [4095, 1]], np.float32), [[7, 0], [4095, 1]]),
    "reals": (np.array([[-0.5, 0.0], [0.25, 0.5]], np.float64), [[0, 32768], [49151, 65535]]),
    "32 bit": (np.array([[0, 1 << 20], [1 << 19, 0]], np.int32), [[0, 65535], [32768, 0]]),
    "flat": (np.full((2, 2), 0.5, np.float32), [[65535, 65535], [65535, 65535]]),
}


@pytest.mark.parametrize("kind", DEPTHS)
@pytest.mark.parametrize("suffix", ["mha", "nii"])
def test_other_depths_keep_their_order(tmp_path, kind, suffix):
    pixels, expected = DEPTHS[kind]
    (saved_as_metaimage if suffix == "mha" else saved_as_nifti)(tmp_path / f"a.{suffix}", pixels)
    read = images.read_image(tmp_path / f"a.{suffix}")
    assert read.dtype == np.uint16
    np.testing.assert_allclose(read.astype(int), expected, atol=1)


def test_nifti_scale_factors_are_applied(tmp_path):
    nib = pytest.importorskip("nibabel")
    image = nib.Nifti1Image(np.array([[0, 1], [2, 30]], np.int16), None)
    image.header.set_slope_inter(2, 100)
    nib.save(image, tmp_path / "a.nii")
    np.testing.assert_array_equal(images.read_image(tmp_path / "a.nii"), [[100, 104], [102, 160]])


def test_the_first_axis_of_the_file_is_x(tmp_path):
    """Whatever the affine says: a point (x, y) is voxel [x, y] of what nibabel loads."""
    nib = pytest.importorskip("nibabel")
    for name, affine in (
        ("turned.nii", [[0, 0.3, 0, 5], [-0.2, 0, 0, 6], [0, 0, 1, 7], [0, 0, 0, 1]]),
        ("flipped.nii.gz", np.diag([-0.2, -0.3, 1, 1])),
    ):
        nib.save(nib.Nifti1Image(DEEP.T, np.array(affine, float)), tmp_path / name)
        read, loaded = images.read_image(tmp_path / name), nib.load(tmp_path / name)
        x, y = 27, 4
        assert read[y, x] == np.asarray(loaded.dataobj)[x, y] == DEEP[y, x]
        assert images.pixel_spacing(tmp_path / name)[:2] == (0.2, 0.3)
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.GetImageFromArray(DEEP)
    image.SetDirection((-1, 0, 0, 1))
    image.SetOrigin((40, -3))
    sitk.WriteImage(image, str(tmp_path / "flipped.mha"))
    assert images.read_image(tmp_path / "flipped.mha")[4, 27] == DEEP[4, 27]


@pytest.mark.parametrize("suffix", ["mha", "nii.gz"])
def test_one_slice_may_lie_in_a_volume(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    save = saved_as_metaimage if suffix == "mha" else saved_as_nifti
    for axis, spacing in ((0, (0.2, 0.3, 9)), (1, (0.2, 9, 0.3)), (2, (9, 0.2, 0.3))):
        save(path, np.expand_dims(DEEP, axis), spacing)
        np.testing.assert_array_equal(images.read_image(path), DEEP)
        assert images.image_shape(path) == (20, 30)
        assert images.pixel_spacing(path)[:2] == (0.2, 0.3)
    save(path, np.zeros((1, 1, 40), np.uint8))
    assert images.read_image(path).shape == (1, 40)
    save(path, np.zeros((3, 20, 30), np.uint8))
    for reads in (images.read_image, images.image_shape, images.pixel_spacing):
        with pytest.raises(DataError, match="a volume of 30 x 20 x 3, expected one slice"):
            reads(path)


def test_stated_spacing(tmp_path):
    saved_as_metaimage(tmp_path / "a.mha", GREY, (0.1, 0.2))
    assert images.pixel_spacing(tmp_path / "a.mha") == (0.1, 0.2, "MetaImage spacing")
    for unit, spacing in (("mm", (0.1, 0.2)), ("micron", (100, 200)), ("meter", (1e-4, 2e-4))):
        saved_as_nifti(tmp_path / "a.nii", GREY, spacing, unit)
        assert images.pixel_spacing(tmp_path / "a.nii") == (0.1, 0.2, "NIfTI spacing")


def test_the_metaimages_of_the_atlas(hand_atlas):
    pytest.importorskip("SimpleITK")
    path = hand_atlas / "mha" / "3177.mha"
    image = images.read_image(path)
    assert image.shape == images.image_shape(path) == (2100, 1450)
    assert images.pixel_spacing(path)[:2] == (0.12722, 0.12722)
    # The JPEG is the same radiograph, compressed and with another grey scale curve.
    jpeg = images.read_image(hand_atlas / "images" / "3177.jpg")
    assert np.corrcoef(image.ravel(), jpeg.ravel())[0, 1] > 0.99


def test_a_header_whose_pixels_are_elsewhere_stands_for_those(tmp_path):
    first = np.arange(6, dtype=np.uint8).reshape(2, 3)
    for name, pixels in (("a", first), ("b", first + 1)):
        (tmp_path / name).mkdir()
        saved_as_metaimage(tmp_path / name / "x.mhd", pixels)
    a, b = (tmp_path / name / "x.mhd" for name in "ab")
    assert a.read_bytes() == b.read_bytes()
    with pytest.raises(DataError, match="differ: remove the one"):
        best_file([a, b])
    image_copies.write_png(tmp_path / "kept.png", a)
    (tmp_path / "b" / "x.raw").rename(tmp_path / "a" / "x.raw")
    image_copies.write_png(tmp_path / "kept.png", a)
    np.testing.assert_array_equal(images.read_image(tmp_path / "kept.png"), first + 1)


def half(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def unreadable(folder):
    """Writes files that are no radiograph; what is said of each by its name."""
    noise = np.random.default_rng(0).integers(0, 256, (90, 90), dtype=np.uint8)
    for name in ("cut.jpg", "cut.png", "cut.tif"):
        Image.fromarray(noise).save(folder / name)
        half(folder / name)
    for name in ("cut.mha", "cut.nii", "cut.nii.gz"):
        LOSSLESS[f"a.{name.removeprefix('cut.')}"](folder / name, noise)
        half(folder / name)
    saved_as_metaimage(folder / "alone.mhd", noise)
    (folder / "alone.raw").unlink()
    for name in ("text.png", "text.mha", "text.nii"):
        (folder / name).write_text("no image")
    (folder / "empty.jpg").write_bytes(b"")
    for format in ("eps", "gif"):  # for EPS Pillow would run Ghostscript
        Image.fromarray(noise).save(folder / f"{format}.png", format)
    (folder / "empty.nii.gz").write_bytes(gzip.compress(b""))
    page = Image.fromarray(noise)
    page.save(folder / "pages.tif", save_all=True, append_images=[page])
    imagecodecs = pytest.importorskip("imagecodecs")
    for name, channels in (("deep.png", 3), ("deep_grey.png", 2)):
        pixels = np.arange(90 * 90 * channels, dtype=np.uint16).reshape(90, 90, channels)
        (folder / name).write_bytes(imagecodecs.png_encode(pixels))
    for name, count, tags in (("planes.tif", 3, {262: 2}), ("inks.tif", 4, {262: 5})):
        planes = np.stack([noise.astype(np.uint16)] * count)
        write_tiff(folder / name, planes, {284: 2, **tags})
    Image.new("1", (20_000, 10_000)).save(folder / "vast.png")
    (folder / "folder.png").mkdir()
    saved_as_nifti(folder / "nan.nii", np.full((4, 4), np.nan))
    saved_as_nifti(folder / "complex.nii", np.ones((4, 4), np.complex64))
    return {
        **dict.fromkeys(("cut.jpg", "cut.png", "cut.tif", "cut.mha", "cut.nii"), "get a fresh"),
        **dict.fromkeys(("cut.nii.gz", "alone.mhd", "text.mha", "text.nii"), "get a fresh"),
        **dict.fromkeys(("text.png", "empty.jpg", "eps.png", "gif.png"), "of no known format"),
        **dict.fromkeys(("empty.nii.gz", "folder.png"), "can't be read"),
        **dict.fromkeys(("no.png", "no.mha", "no.nii"), "no such image"),
        "pages.tif": "holds 2 pictures",
        **dict.fromkeys(("deep.png", "planes.tif", "inks.tif"), "16 bits a channel in colour"),
        "deep_grey.png": "16 bits a channel in colour or with transparency",
        "vast.png": "more than 178956970 pixels, as many as are read; make it smaller",
        "nan.nii": "no finite numbers",
        "complex.nii": "no finite numbers",
    }


def test_pillow_reads_the_formats_of_known_suffixes():
    """And no others, whatever a file's content is."""
    others = (*dicom.SUFFIXES, *volumes.SUFFIXES)
    suffixes = set(image_files.SUFFIXES).difference(others)
    known = Image.registered_extensions()
    assert {known[suffix] for suffix in suffixes} == set(images.FORMATS)


def test_previews_are_no_other_pictures(tmp_path):
    """A phone's JPEG holds a second one for other screens, a TIFF perhaps a page to show small."""
    whole, small = Image.fromarray(GREY), Image.fromarray(GREY[::2, ::2])
    whole.save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[small], quality=100)
    small.encoderinfo, small.encoderconfig = {"tiffinfo": {254: 1}}, ()
    whole.save(tmp_path / "preview.tif", save_all=True, append_images=[small])
    for name, off in (("phone.jpg", 2), ("preview.tif", 0)):
        with Image.open(tmp_path / name) as image:
            assert image.n_frames == 2
        read = images.read_image(tmp_path / name)
        assert read.shape == images.image_shape(tmp_path / name) == GREY.shape
        assert np.abs(read.astype(int) - GREY).max() <= off


def test_unreadable_images_are_named(tmp_path, capfd):
    pytest.importorskip("SimpleITK")
    for name, said in unreadable(tmp_path).items():
        with pytest.raises(DataError, match=rf"{name}: .*{said}") as caught:
            images.read_image(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.mha", "a.tif", "a.png", "a.jpg"])
def test_a_damaged_file_is_read_or_named(tmp_path, name):
    """Whatever its decoder raises: a folder is not lost for one file."""
    path, rng = tmp_path / name, np.random.default_rng(0)
    if name.endswith((".tif", ".png", ".jpg")):
        Image.fromarray(GREY).save(path)
    elif name.endswith(".mha"):
        sitk = pytest.importorskip("SimpleITK")
        sitk.WriteImage(sitk.GetImageFromArray(GREY), str(path))
    else:
        nibabel = pytest.importorskip("nibabel")
        nibabel.save(nibabel.Nifti1Image(GREY, np.eye(4)), path)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    named = 0
    for _ in range(100):
        damaged = whole.copy()
        damaged[rng.integers(0, min(len(whole), 400), 8)] = rng.integers(0, 256, 8)
        path.write_bytes(damaged.tobytes())
        for read in (images.read_image, images.image_shape, images.pixel_spacing):
            try:
                read(path)
            except DataError as error:
                assert name in str(error)
                named += 1
    assert named > 20


@pytest.mark.parametrize("name", ["packed.mha", "packed.mhd", "a.nii.gz"])
def test_damage_to_packed_pixels_is_named(tmp_path, name):
    path = tmp_path / name
    noise = np.random.default_rng(0).integers(0, 256, (90, 90), dtype=np.uint8)
    if name == "a.nii.gz":
        saved_as_nifti(path, noise)
    else:
        saved_as_metaimage(path, noise, compress=True)
    np.testing.assert_array_equal(images.read_image(path), noise)
    where = path.with_suffix(".zraw") if name == "packed.mhd" else path
    content = bytearray(where.read_bytes())
    content[-2000] ^= 1
    where.write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: can't be read as an image .*; get a fresh copy"):
        images.read_image(path)


@pytest.mark.parametrize(
    ("module", "name"), [("SimpleITK", "a.mha"), ("nibabel", "a.nii"), ("nibabel", "a.nii.gz")]
)
def test_what_to_install_is_said(tmp_path, monkeypatch, module, name):
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / name).write_bytes(b"")
    for reads in (images.read_image, images.image_shape, images.pixel_spacing):
        with pytest.raises(DataError, match=rf"{name}: .*{module}.*kerasland\[dicom\]"):
            reads(tmp_path / name)
