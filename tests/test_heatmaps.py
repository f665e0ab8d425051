"""Each function of `heatmaps` against a slow oracle, and by hand on maps small enough to read."""

import naive
import numpy as np

from kerasland import heatmaps

NAN = (np.nan, np.nan)


def test_annotated_is_the_area_of_the_pixels():
    points = np.array([[(0, 0), (-0.5, -0.5), (-0.51, 0), (4.5, 2.5), (4.51, 0), (0, 2.51), NAN]])
    found = heatmaps.annotated(points.astype("float32"), (3, 5))
    np.testing.assert_array_equal(found, [[True, True, False, True, False, False, False]])


def test_spatial_softmax():
    logits = np.random.default_rng(0).normal(0, 2, (2, 5, 4, 3)).astype("float32")
    for beta in (1.0, 0.5, 3.0):
        found = np.reshape(heatmaps.spatial_softmax(logits, beta), (2, 5, 4, 3))
        for b, k in np.ndindex(2, 3):
            wanted = naive.softmax_map(logits[b, :, :, k], beta)
            np.testing.assert_allclose(found[b, :, :, k], wanted, atol=1e-6)
    assert heatmaps.spatial_softmax(logits.astype("float16")).dtype == "float32"
    flat = heatmaps.spatial_softmax(np.full((1, 2, 2, 1), 1e4, "float32"))
    np.testing.assert_allclose(np.ravel(flat), [0.25] * 4)


def test_gaussian_factors():
    image_shape, grid = (24, 40), (12, 10)
    points = np.array([[(7.3, 11.9), NAN, (40.2, 3), (-0.4, 23.4), (3, -0.6)]], "float32")
    rows, columns = heatmaps.gaussian_factors(points, image_shape, grid, 3.0)
    assert rows.shape == (1, 5, 12) and columns.shape == (1, 5, 10)
    for k in range(5):
        found = np.outer(rows[0, k], columns[0, k])
        wanted = naive.gaussian_map(points[0, k], image_shape, grid, 3.0)
        np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert np.sum(rows[0, 1:3]) == 0 and np.sum(columns[0, 4]) == 0 and np.sum(rows[0, 3]) > 1


def test_gaussian_factors_by_hand():
    # stride 2: the centre of cell 1 is pixel 2.5, where the Gaussian is 1; its neighbours are
    # 2 pixels, that is one sigma, away
    rows, columns = heatmaps.gaussian_factors(
        np.array([[[2.5, 2.5]]], "float32"), (6, 8), (3, 4), 2.0
    )
    one = np.exp(-0.5)
    np.testing.assert_allclose(rows[0, 0], [one, 1, one], rtol=1e-6)
    np.testing.assert_allclose(columns[0, 0], [one, 1, one, one**4], rtol=1e-6)


def test_masked_mean():
    values = np.array([[1.0, 2.0, np.nan], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]], "float32")
    valid = np.array([[True, True, False], [False, False, True], [False, False, False]])
    np.testing.assert_array_equal(heatmaps.masked_mean(values, valid), [1.5, 6, 0])
    stacked = np.ones((3, 3, 2), "float32") * values[..., None]
    np.testing.assert_array_equal(
        heatmaps.masked_mean(stacked, np.stack([valid] * 2, -1)), [1.5, 6, 0]
    )
