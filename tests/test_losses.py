"""Losses: their values against dense loops, their gradients against finite differences."""

import naive
import numpy as np
import pytest
import tensorflow as tf

from kerasland import embedding, heatmaps
from kerasland.losses import HEATMAP_LOSSES, HeatmapLoss, SpatialConfigurationLoss

SHAPE, GRID, SIGMA = (12, 20), (6, 5), 2.5
NAN = (np.nan, np.nan)
KINDS = [
    ("both", "cosine"),
    ("cartesian", "cosine"),
    ("both", "pearson"),
    ("polar", "pearson"),
    ("polar", "inner"),
    ("cartesian", "distance"),
    ("both", "distance"),
]
# complete; some not annotated, outside, on the border
POINTS = np.array(
    [
        [(3.2, 4.1), (16.5, 7.7), (8.0, 2.0), (11.3, 9.6)],
        [(3.2, 4.1), NAN, (19.5, 11.5), (20.1, 3.0)],
    ],
    "float32",
)
AWKWARD = {
    "nothing annotated": [NAN] * 4,
    "all outside": [(-5, 3), (30, 3), (4, -9), (4, 90)],
    "all at the centre": [(9.5, 5.5)] * 4,
    "coincident": [(3, 3), (3, 3), (12, 5), (12, 5)],
    "one annotated": [(3, 3), NAN, NAN, NAN],
}


def logits_like(points, seed=0):
    shape = (len(points), *GRID, points.shape[1])
    return np.random.default_rng(seed).normal(0, 1.5, shape).astype("float32")


def vectors_of(logits, maps):
    per_map = np.moveaxis(logits, -1, 0)
    return np.stack([naive.embedding(one, maps) for one in per_map])


@pytest.mark.parametrize("kind", HEATMAP_LOSSES)
def test_heatmap_loss_against_dense_loops(kind):
    logits = logits_like(POINTS)
    found = HeatmapLoss(SHAPE, SIGMA, kind, reduction="none")(POINTS, logits)
    wanted = [
        naive.heatmap_loss(sample, points, SHAPE, SIGMA, kind)
        for sample, points in zip(logits, POINTS, strict=True)
    ]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    per_landmark = getattr(heatmaps, kind)(logits, POINTS, SHAPE, SIGMA)
    assert per_landmark.shape == (2, 4)
    assert per_landmark[1, 1] == 0 and per_landmark[1, 3] == 0 and per_landmark[1, 2] > 0


def test_cross_entropy_is_least_at_the_target_where_it_is_its_entropy():
    points = np.array([[(3.3, 8.1), (17.2, 2.6)]], "float32")
    dense = np.stack([naive.gaussian_map(p, SHAPE, GRID, SIGMA) for p in points[0]], axis=-1)
    q = dense / dense.sum(axis=(0, 1))
    entropy = -(q * np.log(q)).sum(axis=(0, 1))
    at_target = heatmaps.cross_entropy(np.log(q)[None].astype("f"), points, SHAPE, SIGMA)
    np.testing.assert_allclose(at_target[0], entropy, rtol=1e-5)
    for seed in range(5):
        near = np.log(q)[None] + np.random.default_rng(seed).normal(0, 0.1, (1, *GRID, 2))
        value = heatmaps.cross_entropy(near.astype("float32"), points, SHAPE, SIGMA)
        assert (np.array(value)[0] > entropy).all()
    # a constant added to the logits changes nothing
    shifted = heatmaps.cross_entropy(np.log(q)[None].astype("f") + 7, points, SHAPE, SIGMA)
    np.testing.assert_allclose(shifted[0], entropy, rtol=1e-5)


def test_squared_error_by_hand():
    points = np.array([[(1.0, 1.0)]], "float32")
    blank = np.zeros((1, 3, 3, 1), "float32")
    one = np.exp(-0.5)  # sigma 1, stride 1: the neighbours' height, squared it is exp(-1)
    value = heatmaps.squared_error(blank, points, (3, 3), 1.0)
    np.testing.assert_allclose(value, [[1 + 4 * one**2 + 4 * one**4]], rtol=1e-6)


@pytest.mark.parametrize(("maps", "kind"), KINDS)
@pytest.mark.parametrize("difference", ["absolute", "squared"])
def test_configuration_loss_against_loops(maps, kind, difference):
    logits = logits_like(POINTS)
    vectors = np.stack([vectors_of(sample, maps) for sample in logits]).astype("float32")
    loss = SpatialConfigurationLoss(
        SHAPE, maps, correlation=kind, difference=difference, reduction="none"
    )
    wanted = [
        naive.configuration_loss(v, p, SHAPE, maps, kind, difference)
        for v, p in zip(vectors, POINTS, strict=True)
    ]
    np.testing.assert_allclose(loss(POINTS, vectors), wanted, atol=2e-4, rtol=1e-4)
    # the embedding of the annotation itself costs nothing
    perfect = embedding.embed_points(np.nan_to_num(POINTS), SHAPE, maps)
    np.testing.assert_allclose(loss(POINTS, perfect), [0, 0], atol=1e-6)


def test_configuration_loss_by_hand():
    # two landmarks at right angles about the centre of 9 x 9, predicted in the same direction
    points = np.array([[(8, 4), (4, 8)]], "float32")
    vectors = np.array([[(0.5, 0.0), (0.3, 0.0)]], "float32")
    absolute = SpatialConfigurationLoss((9, 9), "cartesian")
    np.testing.assert_allclose(absolute(points, vectors), 1.0, atol=1e-4)
    distance = SpatialConfigurationLoss(
        (9, 9), "cartesian", correlation="distance", difference="squared"
    )
    wanted = (np.hypot(8 / 9, 8 / 9) - 0.2) ** 2
    np.testing.assert_allclose(distance(points, vectors), wanted, atol=1e-4)


def analytic(function, logits):
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = function(logits)
    return tape.gradient(value, logits).numpy()


def assert_slopes_agree(gradient, oracle, logits):
    """The gradient along random directions against central differences of a float64 oracle."""
    rng = np.random.default_rng(9)
    for _ in range(4):
        direction = rng.normal(size=logits.shape)
        step = 1e-5 * direction
        exact = logits.astype(np.float64)
        slope = (oracle(exact + step) - oracle(exact - step)) / 2e-5
        assert abs(slope) > 1e-3
        np.testing.assert_allclose((gradient * direction).sum(), slope, rtol=5e-3, atol=2e-4)


@pytest.mark.parametrize("kind", HEATMAP_LOSSES)
def test_gradient_of_heatmap_loss(kind):
    logits, loss = logits_like(POINTS), HeatmapLoss(SHAPE, SIGMA, kind, reduction="sum")
    gradient = analytic(lambda h: loss(POINTS, h), logits)

    def oracle(values):
        pairs = zip(values, POINTS, strict=True)
        return sum(naive.heatmap_loss(h, p, SHAPE, SIGMA, kind) for h, p in pairs)

    assert_slopes_agree(gradient, oracle, logits)
    assert np.abs(gradient[1, ..., (1, 3)]).max() == 0  # NaN and outside
    assert np.abs(gradient[1, ..., 2]).max() > 0


@pytest.mark.parametrize(("maps", "kind"), KINDS)
@pytest.mark.parametrize("difference", ["absolute", "squared"])
def test_gradient_through_embedding_and_correlation(maps, kind, difference):
    logits = logits_like(POINTS, seed=4)
    loss = SpatialConfigurationLoss(
        SHAPE, maps, correlation=kind, difference=difference, reduction="sum"
    )
    gradient = analytic(lambda h: loss(POINTS, embedding.embed(h, maps)), logits)

    def oracle(values):
        return sum(
            naive.configuration_loss(vectors_of(h, maps), p, SHAPE, maps, kind, difference)
            for h, p in zip(values, POINTS, strict=True)
        )

    assert_slopes_agree(gradient, oracle, logits)
    assert np.abs(gradient[1, ..., (1, 3)]).max() == 0


@pytest.mark.parametrize("points", AWKWARD.values(), ids=AWKWARD)
@pytest.mark.parametrize("sharp", [0.0, 1.0, 60.0])
def test_gradients_stay_finite(points, sharp):
    points = np.array([points], "float32")
    logits = sharp * logits_like(points)
    if sharp > 1:
        logits[..., 1] = logits[..., 0]  # predictions coincide too
    for kind in HEATMAP_LOSSES:
        loss = HeatmapLoss(SHAPE, SIGMA, kind)
        assert np.isfinite(loss(points, logits))
        assert np.isfinite(analytic(lambda h, loss=loss: loss(points, h), logits)).all()
    for maps, kind in KINDS:
        for angle in ("unit", "raw"):
            if kind == "pearson" and embedding.feature_count(maps, angle) < 3:
                continue
            loss = SpatialConfigurationLoss(SHAPE, maps, angle, kind)

            def value(h, loss=loss, maps=maps, angle=angle):
                return loss(points, embedding.embed(h, maps, 1.0, angle))

            assert np.isfinite(value(logits))
            assert np.isfinite(analytic(value, logits)).all()


def test_nothing_annotated_costs_nothing():
    points = np.full((2, 4, 2), np.nan, "float32")
    logits = logits_like(points)
    assert float(HeatmapLoss(SHAPE)(points, logits)) == 0
    assert float(SpatialConfigurationLoss(SHAPE)(points, embedding.embed(logits))) == 0


def test_narrow_gaussians_keep_their_sum():
    """Narrower than a cell, at the corner between four, and off the centre of a wide one."""
    for points, shape, cells, sigma in (
        ([[31.5, 31.5]], (64, 64), 2, 2.5),
        ([[10.0, 20.0]], (64, 64), 2, 2.5),
        ([[9.5, 3.5]], (64, 64), 16, 0.2),
    ):
        points = np.array([points], "float32")
        logits = np.random.default_rng(0).normal(0, 1, (1, cells, cells, 1)).astype("float32")
        centres = (np.arange(cells) + 0.5) * (64 / cells) - 0.5
        squared = (centres - points[0, 0, 0]) ** 2 + (centres[:, None] - points[0, 0, 1]) ** 2
        target = np.exp(-0.5 * (squared - squared.min()) / sigma**2)
        target /= target.sum()
        log_p = logits[0, ..., 0] - np.log(np.exp(logits).sum())
        found = heatmaps.cross_entropy(logits, points, shape, sigma)
        np.testing.assert_allclose(found, [[-(target * log_p).sum()]], rtol=1e-5)


def test_points_and_heads_that_do_not_fit_are_refused():
    logits = logits_like(POINTS)
    seen = np.concatenate([POINTS, np.zeros((2, 4, 1), "float32")], axis=-1)  # COCO's visibility
    both, polar = (np.zeros((2, 4, c), "float32") for c in (5, 3))
    on_heatmaps, on_vectors = HeatmapLoss(SHAPE), SpatialConfigurationLoss(SHAPE)
    for loss, points, head, said in (
        (on_heatmaps, POINTS[:, :1], logits, r"expected the points .*\(B, 4, 2\)"),
        (on_heatmaps, seen, logits, r"y_true of shape \(2, 4, 3\)"),
        (on_vectors, seen, both, r"y_true of shape \(2, 4, 3\)"),
        (on_vectors, POINTS, polar, "3 components, where maps='both', angle='unit' have 5"),
        (HeatmapLoss(SHAPE[::-1]), POINTS, logits, r"6 x 5 cells are no image of 20 x 12 pixels"),
        (on_heatmaps, POINTS, POINTS, r"y_pred of shape \(2, 4, 2\): expected heatmaps"),
        (on_vectors, POINTS, logits, r"y_pred of shape \(2, 6, 5, 4\): expected spatial feature"),
    ):
        with pytest.raises(ValueError, match=said):
            loss(points, head)
    for loss, head in ((on_heatmaps, logits), (on_vectors, both)):
        with pytest.raises(ValueError, match="expected one a sample"):
            loss(POINTS, head, np.ones((2, 4), "float32"))
        assert loss(POINTS, head, np.ones((2, 1), "float32")) == loss(POINTS, head, np.ones(2))


@pytest.mark.parametrize("shape", [(None, None, None), (None, None, 2), None])
@pytest.mark.parametrize(
    ("loss", "head"),
    [
        (HeatmapLoss(SHAPE), logits_like(POINTS)),
        (SpatialConfigurationLoss(SHAPE), np.ones((2, 4, 5), "float32")),
    ],
)
def test_what_a_graph_does_not_know_of_points_is_checked_when_it_runs(loss, head, shape):
    """As of records that are parsed, of generators and of Python functions in a pipeline."""
    graph = tf.function(lambda y: loss(y, head), input_signature=[tf.TensorSpec(shape)])
    np.testing.assert_allclose(graph(POINTS), loss(POINTS, head), rtol=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError, match="not compatible with expected"):
        graph(POINTS[:, :1])


def test_heatmaps_of_a_size_that_a_graph_does_not_know_are_refused_clearly():
    graph = tf.function(lambda logits: HeatmapLoss(SHAPE)(POINTS, logits))
    with pytest.raises(ValueError, match=r"\(None, None, None, 4\): .*tf.ensure_shape"):
        graph.get_concrete_function(tf.TensorSpec((None, None, None, 4)))


def test_weights_that_a_graph_does_not_know_are_one_a_sample():
    loss, logits, weights = HeatmapLoss(SHAPE), logits_like(POINTS), np.array([[1.0], [3.0]], "f")
    spec = tf.TensorSpec((None, None))
    graph = tf.function(lambda w: loss(POINTS, logits, w), input_signature=[spec])
    np.testing.assert_allclose(graph(weights), loss(POINTS, logits, weights[:, 0]), rtol=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError, match="not compatible with expected"):
        graph(tf.ones((2, 4)))


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="kind must be one of"):
        HeatmapLoss(SHAPE, kind="dice")
    for sigma in (0, np.nan, "2", None):
        with pytest.raises(ValueError, match=f"sigma_px must be above 0 and finite, not {sigma!r}"):
            HeatmapLoss(SHAPE, sigma_px=sigma)
    for loss in (HeatmapLoss, SpatialConfigurationLoss):
        with pytest.raises(ValueError, match=r"image_shape \(12, 20, 1\): expected"):
            loss((*SHAPE, 1))
    with pytest.raises(ValueError, match="correlation must be one of"):
        SpatialConfigurationLoss(SHAPE, correlation="kendall")
    with pytest.raises(ValueError, match="three components"):
        SpatialConfigurationLoss(SHAPE, "cartesian", correlation="pearson")
    with pytest.raises(ValueError, match="difference must be"):
        SpatialConfigurationLoss(SHAPE, difference="cubed")
