"""Sub-pixel decoding of heatmaps against loops, by hand, and compared with plain argmax."""

import naive
import numpy as np
import pytest

from kerasland import embedding, heatmaps


def gaussian_logits(centres, shape, sigma):
    """Logits (1, h, w, K) of Gaussians about centres (K, 2) in cells."""
    i, j = np.indices(shape)
    maps = [-((j - x) ** 2 + (i - y) ** 2) / (2 * sigma**2) for x, y in centres]
    return np.stack(maps, axis=-1)[None].astype("float32")


def argmax_points(logits):
    """The centre of the highest cell, (K, 2)."""
    flat = logits[0].reshape(-1, logits.shape[-1]).argmax(axis=0)
    return np.stack([flat % logits.shape[2], flat // logits.shape[2]], axis=-1)


@pytest.mark.parametrize("sigma", [0.8, 1.25, 1.5])
def test_decoding_is_finer_than_the_grid_and_argmax_is_not(sigma):
    centres = np.random.default_rng(0).uniform(6, 18, (50, 2))
    logits = gaussian_logits(centres, (25, 25), sigma)
    points, confidence = heatmaps.decode(logits, (25, 25), radius_cells=5)
    error = np.abs(points[0] - centres)
    rounding = np.abs(argmax_points(logits) - centres)
    assert error.max() < 0.05
    np.testing.assert_allclose(rounding, np.abs(np.round(centres) - centres), atol=1e-6)
    assert 0.2 < rounding.mean() < 0.3 and rounding.max() > 0.45
    assert np.min(confidence) > 0.99


def test_heatmaps_of_height_one_need_a_steep_softmax():
    """What `squared_error` trains towards; the reason why it asks for a beta of 15."""
    centres = np.random.default_rng(0).uniform(20, 80, (50, 2))
    target = np.exp(gaussian_logits(centres, (128, 96), 1.25))
    wanted = np.asarray(embedding.normalize(centres, (128, 96)))
    decoded, soft = {}, {}
    for beta in (1.0, 15.0):
        points, _ = heatmaps.decode(target, (128, 96), 4, beta)
        decoded[beta] = np.linalg.norm(points[0] - centres, axis=-1).max()
        vectors = np.asarray(embedding.embed(target, "cartesian", beta))[0]
        soft[beta] = 64 * np.linalg.norm(vectors - wanted, axis=-1).max()
    assert decoded[15.0] < 0.25 < decoded[1.0]
    assert soft[15.0] < 0.5 < 10 < soft[1.0]


def test_decoding_in_pixels_of_the_image():
    # 6 x 8 cells for 24 x 32 pixels: cell (i, j) is the pixel (4 j + 1.5, 4 i + 1.5)
    logits = gaussian_logits([(5, 2)], (6, 8), 0.1)
    points, confidence = heatmaps.decode(logits, (24, 32))
    np.testing.assert_allclose(points[0], [[21.5, 9.5]], atol=1e-4)
    np.testing.assert_allclose(confidence, [[1.0]], atol=1e-6)


@pytest.mark.parametrize("radius", [1, 2, 4])
@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_decoding_against_loops(radius, beta):
    logits = np.random.default_rng(radius).normal(0, 2, (3, 7, 5, 4)).astype("float32")
    points, confidence = heatmaps.decode(logits, (14, 20), radius, beta)
    assert points.shape == (3, 4, 2) and confidence.shape == (3, 4)
    for b, k in np.ndindex(3, 4):
        point, mass = naive.decoded(logits[b, :, :, k], (14, 20), radius, beta)
        np.testing.assert_allclose(points[b, k], point, atol=1e-4)
        np.testing.assert_allclose(confidence[b, k], mass, atol=1e-5)


@pytest.mark.parametrize("radius", [1, 4])
@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_scatter_against_loops(radius, beta):
    rng = np.random.default_rng(radius)
    logits = rng.normal(0, 2, (3, 7, 5, 4)).astype("float32")
    points = rng.uniform(0, 14, (3, 4, 2)).astype("float32")
    found = heatmaps.peak_covariance(logits, points, (14, 20), radius, beta)
    for b, k in np.ndindex(3, 4):
        wanted = naive.scatter(points[b, k], logits[b, :, :, k], (14, 20), radius, beta)
        np.testing.assert_allclose(found[b, k], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cell", [(0, 0), (0, 7), (5, 0), (5, 7), (3, 0), (0, 4)])
def test_peak_at_the_border(cell):
    logits = gaussian_logits([cell[::-1]], (6, 8), 0.2)
    points, confidence = heatmaps.decode(logits, (6, 8))
    np.testing.assert_allclose(points[0, 0], cell[::-1], atol=1e-3)
    assert 0.99 < confidence[0, 0] <= 1.0001


def test_two_peaks_decode_to_the_higher_and_not_between():
    logits = np.full((1, 5, 20, 1), -50.0, "float32")
    logits[0, 2, 3], logits[0, 2, 16] = np.log(0.6), np.log(0.4)
    points, confidence = heatmaps.decode(logits, (5, 20), radius_cells=4)
    np.testing.assert_allclose(points[0, 0], [3, 2], atol=1e-4)
    np.testing.assert_allclose(confidence[0, 0], 0.6, atol=1e-5)
    # a window that holds both gives what soft-argmax over the whole map gives
    points, confidence = heatmaps.decode(logits, (5, 20), radius_cells=19)
    np.testing.assert_allclose(points[0, 0], [0.6 * 3 + 0.4 * 16, 2], atol=1e-3)
    np.testing.assert_allclose(confidence[0, 0], 1.0, atol=1e-5)


def test_window_by_hand():
    # 0.5 in the middle, 0.3 one cell to the right, 0.2 three cells to the left
    logits = np.full((1, 5, 9, 1), -50.0, "float32")
    logits[0, 2, 4], logits[0, 2, 5], logits[0, 2, 1] = np.log([0.5, 0.3, 0.2])[:, None]
    points, confidence = heatmaps.decode(logits, (5, 9), radius_cells=1)
    np.testing.assert_allclose(points[0, 0], [4 + 0.3 / 0.8, 2], atol=1e-5)
    np.testing.assert_allclose(confidence[0, 0], 0.8, atol=1e-5)


def test_flat_and_very_sharp_maps_stay_finite():
    for value in (0.0, 1e4):
        logits = np.zeros((1, 6, 6, 1), "float32")
        logits[0, 3, 2] = value
        points, confidence = heatmaps.decode(logits, (12, 12))
        assert np.isfinite(points).all() and 0 <= float(confidence[0, 0]) <= 1.0001


def test_half_precision_logits_decode_in_single_precision():
    centres = np.array([[550.3, 3.2]])
    logits = gaussian_logits(centres, (8, 600), 1.5)
    logits = np.maximum(logits, -20).astype("float16")
    points, _ = heatmaps.decode(logits, (8, 600), radius_cells=6)
    assert points.dtype == "float32"
    np.testing.assert_allclose(points[0], centres, atol=0.05)
