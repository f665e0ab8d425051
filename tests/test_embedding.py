"""Spatial feature vectors and correlation maps against slow oracles, and by hand."""

import naive
import numpy as np
import pytest

from kerasland import correlations, embedding
from kerasland.experiment import Experiment

NAN = (np.nan, np.nan)
# every valid combination of maps and angle, with its number of components
VARIANTS = [
    ("cartesian", "unit", 2),
    ("polar", "unit", 3),
    ("polar", "raw", 2),
    ("both", "unit", 5),
    ("both", "raw", 4),
]


def random_logits(shape=(2, 5, 4, 3), seed=0):
    return np.random.default_rng(seed).normal(0, 2, shape).astype("float32")


def one_hot(shape, cell, height=80.0):
    """Logits (1, h, w, 1) whose softmax is one cell (i, j)."""
    logits = np.zeros((1, *shape, 1), "float32")
    logits[0, cell[0], cell[1], 0] = height
    return logits


def test_normalize_has_one_scale_for_both_axes():
    # 3 x 5: the centre is (2, 1); half of the longer side is 2.5 pixels
    points = np.array([[2, 1], [4.5, 1], [2, 2.5], [-0.5, -0.5]], "float32")
    found = embedding.normalize(points, (3, 5))
    np.testing.assert_allclose(found, [[0, 0], [1, 0], [0, 0.6], [-1, -0.6]], atol=1e-6)


@pytest.mark.parametrize(("maps", "angle", "count"), VARIANTS)
def test_spatial_features(maps, angle, count):
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-1, 1, (2, 20)).astype("float32")
    found = embedding.spatial_features(x, y, maps, angle)
    wanted = [naive.features_at(a, b, maps, angle) for a, b in zip(x, y, strict=True)]
    assert found.shape == (20, count) and embedding.feature_count(maps, angle) == count
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    centre = embedding.spatial_features(np.float32([0.0]), np.float32([0.0]), maps, angle)
    np.testing.assert_allclose(centre, np.zeros((1, count)), atol=2e-6)


def test_spatial_features_by_hand():
    right_down = np.float32([3.0]), np.float32([4.0])
    found = embedding.spatial_features(*right_down, "both")
    np.testing.assert_allclose(found, [[3, 4, 5, 0.6, 0.8]], rtol=1e-6)
    below = embedding.spatial_features(np.float32([0.0]), np.float32([1.0]), "polar", "raw")
    np.testing.assert_allclose(below, [[1, 0.5]], rtol=1e-6)  # y points down, the angle too


def test_raw_angle_jumps_at_pi_and_unit_angle_does_not():
    x = np.float32([-0.5, -0.5])
    y = np.float32([-1e-4, 1e-4])
    raw = np.array(embedding.spatial_features(x, y, "polar", "raw"))
    unit = np.array(embedding.spatial_features(x, y, "polar", "unit"))
    assert abs(raw[0, 1] - raw[1, 1]) > 1.99
    assert np.abs(unit[0] - unit[1]).max() < 1e-3


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="maps must be one of"):
        embedding.feature_count("spherical")
    with pytest.raises(ValueError, match="angle must be one of"):
        embedding.feature_count("polar", "degrees")
    with pytest.raises(ValueError, match="correlation must be one of"):
        embedding.correlation_map(np.zeros((1, 2, 5), "f"), "spearman")


def test_grid_features_by_hand():
    # 3 x 4 cells: half of the longer side is 2 cells, so x is -0.75, -0.25, 0.25, 0.75
    found = np.reshape(embedding.grid_features((3, 4), "cartesian"), (3, 4, 2))
    np.testing.assert_allclose(found[1, :, 0], [-0.75, -0.25, 0.25, 0.75])
    np.testing.assert_allclose(found[:, 2, 1], [-0.5, 0, 0.5])


@pytest.mark.parametrize(("maps", "angle", "count"), VARIANTS)
@pytest.mark.parametrize("beta", [1.0, 2.5])
def test_embed_against_loops(maps, angle, count, beta):
    logits = random_logits()
    found = embedding.embed(logits, maps, beta, angle)
    assert found.shape == (2, 3, count)
    for b, k in np.ndindex(2, 3):
        wanted = naive.embedding(logits[b, :, :, k], maps, beta, angle)
        np.testing.assert_allclose(found[b, k], wanted, atol=2e-6)


def test_embed_by_hand():
    # half of the mass one cell left of the centre, half one cell below it: 5 x 5, half side 2.5
    logits = np.full((1, 5, 5, 1), -100.0, "float32")
    logits[0, 2, 1, 0] = logits[0, 3, 2, 0] = 0.0
    found = embedding.embed(logits, "both")[0, 0]
    np.testing.assert_allclose(found, [-0.2, 0.2, 0.4, -0.5, 0.5], atol=1e-5)


@pytest.mark.parametrize(("maps", "angle", "count"), VARIANTS)
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_embed_of_a_sharp_heatmap_is_embed_points_of_its_cell(maps, angle, count, stride):
    grid, (i, j) = (6, 9), (1, 7)
    image_shape = (grid[0] * stride, grid[1] * stride)
    point = ((j + 0.5) * stride - 0.5, (i + 0.5) * stride - 0.5)
    found = embedding.embed(one_hot(grid, (i, j)), maps, 1.0, angle)[0, 0]
    points = np.array([[point, NAN]], "float32")
    wanted = embedding.embed_points(points, image_shape, maps, angle)[0]
    np.testing.assert_allclose(found, wanted[0], atol=1e-5)
    np.testing.assert_allclose(
        wanted[0], naive.features_of_point(point, image_shape, maps, angle), atol=1e-5
    )
    assert np.isnan(wanted[1]).all()


@pytest.mark.parametrize("kind", embedding.CORRELATIONS)
def test_correlation_map(kind):
    vectors = np.random.default_rng(3).normal(size=(2, 6, 5)).astype("float32")
    vectors[1, 4] = vectors[1, 2]  # coincident
    found = np.array(embedding.correlation_map(vectors, kind))
    wanted = [naive.correlation(sample, kind) for sample in vectors]
    np.testing.assert_allclose(found, wanted, atol=2e-3 if kind == "distance" else 1e-5)
    np.testing.assert_allclose(found, np.swapaxes(found, 1, 2), atol=1e-5)
    diagonal = found.diagonal(axis1=1, axis2=2)
    wanted = (vectors**2).sum(-1) if kind == "inner" else 0 if kind == "distance" else 1
    np.testing.assert_allclose(diagonal, wanted + np.zeros((2, 6)), atol=2e-3)


def test_correlation_map_by_hand():
    vectors = np.array([[[3, 4], [4, -3], [6, 8]]], "float32")
    cosine = embedding.correlation_map(vectors, "cosine")[0]
    np.testing.assert_allclose(cosine, [[1, 0, 1], [0, 1, 0], [1, 0, 1]], atol=1e-6)
    inner = embedding.correlation_map(vectors, "inner")[0]
    np.testing.assert_allclose(inner, [[25, 0, 50], [0, 25, 0], [50, 0, 100]], atol=1e-5)
    distance = embedding.correlation_map(vectors, "distance")[0]
    np.testing.assert_allclose(distance[0], [1e-3, np.sqrt(50), 5], atol=1e-5)
    three = np.array([[[1, 2, 3], [30, 20, 10], [1, 3, 2]]], "float32")
    pearson = embedding.correlation_map(three, "pearson")[0]
    np.testing.assert_allclose(pearson[0], [1, -1, 0.5], atol=1e-5)


def test_pearson_of_two_components_is_refused():
    with pytest.raises(ValueError, match="two components"):
        embedding.correlation_map(np.zeros((1, 3, 2), "float32"), "pearson")


def test_correlation_maps_are_shown_alike_of_runs_with_and_without_maps():
    logits, points = random_logits((1, 8, 8, 3)), np.array([[10.0, 20.0], [30.0, 40.0], NAN])
    plain = Experiment(image_shape=(64, 64), maps="none", beta=2.0)
    vectors = embedding.embed(logits, "both", 2.0)
    shown = correlations.predicted_and_annotated({"heatmaps": logits}, points, plain)
    outputs = {"heatmaps": logits, "embedding": vectors}
    others = correlations.predicted_and_annotated(outputs, points, plain.replace(maps="both"))
    np.testing.assert_array_equal(shown, others)
    np.testing.assert_array_equal(shown[0], embedding.correlation_map(vectors)[0])
    assert np.isnan(shown[1][2]).all() and np.isfinite(shown[1][:2, :2]).all()
