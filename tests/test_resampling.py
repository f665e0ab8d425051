"""Letterbox and resampling within a graph against their NumPy counterparts."""

import numpy as np
import pytest

from kerasland import geometry, resampling


@pytest.mark.parametrize(("source", "frame"), [((37, 91), (64, 48)), ((400, 13), (32, 32))])
def test_graph_geometry_is_that_of_numpy(source, frame):
    fit = geometry.letterbox(source, frame)
    found = resampling.letterbox_transform(source, frame)
    np.testing.assert_allclose([float(value) for value in found], fit, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("sizes", [(2070, 512), (37, 64), (64, 64), (1, 16), (90, 30), (13, 7)])
def test_resample_is_the_matrix_product(sizes):
    source, target = sizes
    image = np.random.default_rng(source).integers(0, 256, (2, source, 5)).astype("uint8")
    for scale, shift in [(target / source, 0.0), (0.7 * target / source, 3.3)]:
        matrix = geometry.resample_matrix(source, target, scale, shift).toarray()
        wanted = np.einsum("ts,bsn->btn", matrix, image)
        found = resampling.resample(image, target, np.float32(scale), np.float32(shift))
        np.testing.assert_allclose(found, wanted, atol=0.05)
