"""What each layer computes; its Keras manners are in test_contract.py."""

import keras
import naive
import numpy as np
import pytest
import tensorflow as tf

from kerasland import image_layers, layers, shape_layers


def test_embedding_is_that_of_the_oracle_and_beta_is_learnt():
    logits = np.random.default_rng(0).normal(0, 2, (2, 5, 6, 3)).astype("float32")
    wanted = [[naive.embedding(one[..., k], "both", 2.0) for k in range(3)] for one in logits]
    for learn in (False, True):
        layer = layers.SpatialEmbedding(beta=2.0, learn_beta=learn)
        np.testing.assert_allclose(layer(logits), wanted, atol=1e-5)
        assert len(layer.trainable_weights) == learn
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(logits) ** 2)
    assert abs(float(tape.gradient(total, layer.trainable_weights[0]))) > 1e-3
    layer.trainable_weights[0].assign(-3.0)
    wanted = [naive.embedding(logits[0, ..., k], "both", np.exp(-3.0)) for k in range(3)]
    np.testing.assert_allclose(layer(logits)[0], wanted, atol=1e-5)
    with pytest.raises(ValueError, match="beta must be above 0"):
        layers.SpatialEmbedding(beta=0)
    with pytest.raises(ValueError, match="maps must be one of"):
        layers.SpatialEmbedding("none")


def test_an_embedding_that_learns_beta_is_built_where_training_begins():
    logits = np.random.default_rng(0).normal(0, 2, (2, 5, 6, 3)).astype("float32")
    built_in_graph = tf.function(layers.SpatialEmbedding(beta=2.0, learn_beta=True))
    wanted = layers.SpatialEmbedding(beta=2.0)(logits)
    np.testing.assert_allclose(built_in_graph(logits), wanted, atol=1e-6)


def test_decoder_is_that_of_the_oracle():
    logits = np.random.default_rng(1).normal(0, 2, (1, 6, 7, 2)).astype("float32")
    points, confidence = layers.HeatmapDecoder((24, 14), 2, beta=0.5)(logits)
    for k in range(2):
        point, mass = naive.decoded(logits[0, ..., k], (24, 14), 2, 0.5)
        np.testing.assert_allclose(points[0, k], point, atol=1e-4)
        np.testing.assert_allclose(confidence[0, k], mass, atol=1e-5)


def test_standardization():
    images = np.random.default_rng(2).uniform(0, 1, (3, 8, 9, 1)).astype("float32")
    found = np.array(image_layers.ImageStandardization()(images))
    np.testing.assert_allclose(found.mean(axis=(1, 2, 3)), np.zeros(3), atol=1e-5)
    np.testing.assert_allclose(found.std(axis=(1, 2, 3)), np.ones(3), atol=1e-4)
    # each image by itself, whatever the range of its intensities
    ranges = images * np.array([1, 255, 60000], "float32")[:, None, None, None] + 7
    np.testing.assert_allclose(image_layers.ImageStandardization()(ranges), found, atol=1e-3)
    for number in (4095, 0.1):  # whose mean is rounded
        constant = np.full((1, 1700, 500, 1), number, "float32")
        assert not np.any(image_layers.ImageStandardization()(constant))


def test_standardization_of_a_size_that_a_graph_does_not_know():
    """Not taken for the one that the layer was called with before."""
    layer = image_layers.ImageStandardization()
    layer(np.ones((2, 4, 4, 1), "float32"))
    image = np.random.default_rng(0).random((2, 3, 8, 1)).astype("float32")
    seen = []

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 1))])
    def graph(image):
        found = layer(image)
        seen.extend([image.shape.as_list(), found.shape.as_list()])
        return found

    np.testing.assert_allclose(graph(image), layer(image), atol=1e-6)
    assert seen == [[None, None, None, 1]] * 2


def test_standardization_of_16_bit_images_under_mixed_precision():
    image = np.linspace(0, 65535, 64).reshape(1, 8, 8, 1).astype("float32")
    wanted = image_layers.ImageStandardization()(image)
    found = image_layers.ImageStandardization(dtype="mixed_float16")(image)
    assert found.dtype == tf.float16
    np.testing.assert_allclose(found, wanted, atol=2e-3)
    # the values before the layer's own cast are not rounded to half precision
    fine = 2000 + np.linspace(0, 1, 64).reshape(1, 8, 8, 1).astype("float32")
    found = image_layers.ImageStandardization(dtype="mixed_float16")(fine)
    np.testing.assert_allclose(found, wanted, atol=5e-3)


def test_depth_to_space():
    x = np.arange(8.0).reshape(1, 1, 1, 8).astype("float32")
    found = np.array(image_layers.DepthToSpace(2)(x))
    np.testing.assert_array_equal(found[0, :, :, 0], [[0, 2], [4, 6]])
    x = np.random.default_rng(3).normal(size=(2, 3, 5, 27)).astype("float32")
    np.testing.assert_array_equal(image_layers.DepthToSpace(3)(x), tf.nn.depth_to_space(x, 3))


def test_depth_to_space_of_channels_that_do_not_divide():
    for inputs in (np.ones((2, 3, 3, 6), "float32"), keras.Input((3, 3, 6))):
        with pytest.raises(ValueError, match="6 channels are no multiple of 2"):
            image_layers.DepthToSpace(2)(inputs)


def test_depth_to_space_of_a_grid_that_a_graph_does_not_know():
    x = keras.Input((None, 3, 8))
    model = keras.Model(x, image_layers.DepthToSpace(2)(x))
    assert model.output_shape == (None, None, 6, 2)
    grid = np.random.default_rng(0).normal(size=(2, 5, 3, 8)).astype("float32")
    spec = tf.TensorSpec((None, None, None, 8))
    found = tf.function(model.layers[-1], input_signature=[spec])(grid)
    np.testing.assert_array_equal(found, tf.nn.depth_to_space(grid, 2))


@pytest.mark.parametrize("layer", [layers.SpatialEmbedding(), layers.HeatmapDecoder((16, 16))])
def test_heatmaps_of_a_size_that_a_graph_does_not_know_are_refused_clearly(layer):
    logits = keras.Input((None, None, 4))
    model = keras.Model(logits, layer(logits))  # fine where images of one size come
    model(np.ones((1, 8, 8, 4), "float32"))
    graph = tf.function(model, input_signature=[tf.TensorSpec((None, None, None, 4))])
    with pytest.raises(ValueError, match=r"heatmaps of shape .*None, None, 4\).*tf.ensure_shape"):
        graph.get_concrete_function()


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({"axis": 1}, (4, 3, 6, 5)),
        ({}, (4, 5, 6, 2, 3)),
        ({"scale": False}, (4, 5, 6, 3)),
        ({"center": False}, (4, 5, 6, 3)),
        ({"dtype": "float64"}, (4, 5, 6, 3)),
        ({"dtype": "float16"}, (4, 5, 6, 3)),
    ],
)
def test_batch_normalization_that_the_kernel_cannot_do_is_that_of_keras(options, shape):
    x = np.random.default_rng(0).normal(2, 3, shape).astype("float32")
    ours, theirs = (
        make(**options)
        for make in (image_layers.BatchNormalization, keras.layers.BatchNormalization)
    )
    for training in (True, False):
        np.testing.assert_array_equal(ours(x, training=training), theirs(x, training=training))
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_replica_without_samples_keeps_its_statistics():
    layer = image_layers.BatchNormalization()
    layer.build((None, 4, 5, 3))
    before = layer.get_weights()
    layer(tf.zeros((0, 4, 5, 3)), training=True)
    for one, other in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_finer_than_half_precision_computes_in_single():
    """Whatever the policy, also with a beta that is learnt."""
    logits = np.random.default_rng(0).normal(size=(2, 6, 5, 4)).astype("float16")
    for policy in ("mixed_float16", "float16", "float64"):
        embedding = layers.SpatialEmbedding(learn_beta=True, dtype=policy)
        decoder = layers.HeatmapDecoder((12, 10), dtype=policy)
        assert embedding(logits).dtype == decoder(logits)[0].dtype == "float32"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: layers.SpatialEmbedding(beta=np.nan), "beta must be above 0 and finite, not nan"),
        (lambda: layers.HeatmapDecoder((8, 8), beta=-1.0), "beta must be above 0 and finite"),
        (lambda: layers.HeatmapDecoder((8, 8), -1), "radius_cells must be a whole number, 0 or"),
        (lambda: layers.HeatmapDecoder((8, 8, 1)), "expected .height, width. in pixels"),
        (lambda: shape_layers.ShapePosterior((8, 8), 0.0), "sigma_px must be above 0"),
        (lambda: image_layers.DepthToSpace(0), "factor must be a whole number, 1 or more, not 0"),
    ],
)
def test_impossible_settings_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize(
    ("layer", "shape", "said"),
    [
        (layers.HeatmapDecoder((8, 8), names="abc"), (8, 8, 2), "3 names of landmarks for 2"),
        (layers.ExpectedError((0.1, 0.2, 0.3), 0.3), (2,), "offsets of 3 landmarks for 2"),
    ],
)
def test_landmarks_of_another_number_are_refused(layer, shape, said):
    with pytest.raises(ValueError, match=said):
        layer(keras.Input(shape))


@pytest.mark.parametrize(
    "layer",
    [
        layers.SpatialEmbedding(),
        layers.HeatmapDecoder((8, 8), names="abc"),
        image_layers.ImageStandardization(),
        image_layers.DepthToSpace(2),
    ],
)
def test_an_image_that_is_no_batch_is_refused_by_its_shape(layer):
    with pytest.raises(ValueError, match=r"expected ndim=4, found ndim=3.*\(8, 6, 4\)"):
        layer(np.ones((8, 6, 4), "float32"))


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_fused_batch_normalization_is_that_of_keras(dtype):
    rng = np.random.default_rng(0)
    pair = [
        make(momentum=0.9, dtype=dtype)
        for make in (image_layers.BatchNormalization, keras.layers.BatchNormalization)
    ]
    weights = [1 + rng.random(3), *rng.normal(size=(2, 3)), 1 + rng.random(3)]
    for layer in pair:
        layer.build((None, 4, 5, 3))
        layer.set_weights(weights)
    images = tf.cast(3 + rng.normal(size=(2, 4, 5, 3)), pair[0].compute_dtype)
    push = tf.cast(rng.normal(size=images.shape), images.dtype)
    fine = dtype == "float32"
    for training in (True, False):
        results = []
        for layer in pair:
            with tf.GradientTape() as tape:
                tape.watch(images)
                outputs = layer(images, training=training)
            watched = [images, *layer.trainable_variables]
            results.append([outputs, *tape.gradient(outputs, watched, push)])
        for fused, plain in zip(*results, strict=True):
            assert fused.dtype == plain.dtype
            atol = 1e-4 if fine else 0.15  # of sums over 40 values of up to 3, in bfloat16
            np.testing.assert_allclose(
                tf.cast(fused, "float32"), tf.cast(plain, "float32"), atol=atol
            )
        for one, other in zip(*(layer.get_weights() for layer in pair), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5 if fine else 1e-2)
