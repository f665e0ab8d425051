"""Letterbox, resampling and pixel size within a graph, as their NumPy counterparts have them."""

import numpy as np
import pytest

from kerasland import geometry, layers, resampling


@pytest.mark.parametrize(("source", "frame"), [((37, 91), (64, 48)), ((400, 13), (32, 32))])
def test_graph_geometry_is_that_of_numpy(source, frame):
    fit = geometry.letterbox(source, frame)
    found = resampling.letterbox_transform(source, frame)
    np.testing.assert_allclose([float(value) for value in found], fit, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "int32"])
def test_letterbox_is_that_of_numpy(dtype):
    raw = np.random.default_rng(4).integers(0, 255, (2, 50, 31, 1)).astype(dtype)
    found = np.array(resampling.letterboxed(raw, (24, 32)))
    assert found.dtype == np.float32
    for image, frame in zip(raw, found, strict=True):
        in_numpy = geometry.letterboxed(image[..., 0], (24, 32))
        np.testing.assert_allclose(frame[..., 0], in_numpy, atol=2e-3)
    assert np.abs(found[:, :, :8]).max() == 0 and np.abs(found[:, :, -8:]).max() == 0


def test_letterbox_begins_at_0_where_numpys_does():
    """Of 16 bits, each image at its own darkest."""
    raw = np.random.default_rng(4).integers(900, 65536, (2, 50, 31, 1), np.uint16)
    raw[1] = raw[1] // 4 + 40000
    found = resampling.letterboxed(raw.astype("float32"), (24, 32), begin_at_0=True)
    for image, frame in zip(raw, np.array(found), strict=True):
        in_numpy = geometry.letterboxed(image[..., 0], (24, 32))
        np.testing.assert_allclose(frame[..., 0], in_numpy, atol=0.5)  # as 2e-3 of 255


def test_the_size_of_a_pixel_is_known_where_both_landmarks_are():
    points = np.array([[[0, 0], [9, 9], [30, 40]]] * 5, "float32")
    points[4, 2] = points[4, 0]
    confidence = np.array([[0.1, 0, 0.2], [0, 1, 1], [1, 1, 0], [0, 1, 0], [1, 1, 1]], "float32")
    found = layers.PixelSize((0, 2), 25.0)(points, confidence)
    np.testing.assert_array_equal(found, [0.5, *[np.nan] * 4])


def test_memory_is_that_of_the_rows_there_are(monkeypatch):
    """Of a picture far wider than high, whose few rows become fewer still."""
    taken, take = [], resampling.ops.take
    monkeypatch.setattr(
        resampling.ops, "take", lambda *args, **rest: taken.append(take(*args, **rest)) or taken[-1]
    )
    image = np.ones((1, 33, 5), np.uint8)
    found = resampling.resample(image, 64, np.float32(0.03), np.float32(31.5))
    assert taken[0].shape[2] <= 33
    matrix = geometry.resample_matrix(33, 64, 0.03, 31.5).toarray()
    np.testing.assert_allclose(found[0], matrix @ image[0], atol=1e-5)


@pytest.mark.parametrize("sizes", [(2070, 512), (37, 64), (64, 64), (1, 16), (90, 30), (13, 7)])
def test_resample_is_the_matrix_product(sizes):
    source, target = sizes
    image = np.random.default_rng(source).integers(0, 256, (2, source, 5)).astype("uint8")
    for scale, shift in [(target / source, 0.0), (0.7 * target / source, 3.3)]:
        matrix = geometry.resample_matrix(source, target, scale, shift).toarray()
        wanted = np.einsum("ts,bsn->btn", matrix, image)
        found = resampling.resample(image, target, np.float32(scale), np.float32(shift))
        np.testing.assert_allclose(found, wanted, atol=0.05)


@pytest.mark.parametrize("source", [(1850, 1600), (925, 800), (1410, 1600), (2560, 1900)])
def test_a_row_on_the_edge_does_not_hang_on_rounding(source):
    """Where the image's edge is the centre of a row or column of the frame, it is counted in."""
    frame = (640, 480)
    fit = geometry.letterbox(source, frame)
    axis = 0 if fit.shift_y > 0 else 1
    shift = fit.shift_y or fit.shift_x
    assert shift % 1 == pytest.approx(0.5, abs=1e-9), "not such a size"
    image = np.random.default_rng(0).integers(50, 256, (1, source[axis], 3)).astype("uint8")
    wanted = None
    for nudge in (-1e-4, 0.0, 1e-4):
        matrix = geometry.resample_matrix(source[axis], frame[axis], fit.scale, shift + nudge)
        of_graph = resampling.resample(
            image, frame[axis], np.float32(fit.scale), np.float32(shift + nudge)
        )
        for found in (matrix.toarray() @ image[0], of_graph[0]):
            wanted = found if wanted is None else wanted
            np.testing.assert_allclose(found, wanted, atol=0.1)
    assert (np.asarray(wanted).max(axis=1) > 0).sum() == round(source[axis] * fit.scale) + 1
