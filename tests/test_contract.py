"""One contract over every public Layer, Loss and Metric: what a user of Keras takes for granted."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract_cases import (
    FLOAT32_LAYERS,
    FOUND,
    LAYERS,
    LOGITS,
    LOSSES,
    METRICS,
    POINTS,
    RAW,
    around,
    flat,
)

import kerasland
from kerasland import image_layers, layers, looks, losses, metrics, shape_layers

EVERYTHING = {
    **{f"layer: {name}": make for name, (make, _) in LAYERS.items()},
    **{f"loss: {name}": make for name, (make, _) in LOSSES.items()},
    **{f"metric: {name}": make for name, make in METRICS.items()},
}


@pytest.fixture
def mixed_float16():
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy("float32")


def output(thing):
    """What an object gives for the inputs of its case."""
    for make, arrays in LAYERS.values():
        if isinstance(thing, keras.layers.Layer) and type(make()) is type(thing):
            return flat(thing(*arrays))
    if isinstance(thing, keras.losses.Loss):
        embedding = getattr(thing, "maps", None) and layers.SpatialEmbedding(
            thing.maps, thing.angle
        )
        return flat(thing(POINTS, embedding(LOGITS) if embedding else LOGITS))
    thing.update_state(POINTS, FOUND)
    return flat(thing.result())


def assert_same(found, wanted):
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_no_public_class_is_left_out():
    tested = {type(make()) for make in EVERYTHING.values()}
    for module in (layers, shape_layers, image_layers, looks, losses, metrics):
        for name, value in vars(module).items():
            if inspect.isclass(value) and value.__module__ == module.__name__ and name[0] != "_":
                if any(value in of.__mro__[1:] for of in tested) and not hasattr(kerasland, name):
                    continue  # what several have in common
                assert value in tested, name
                assert getattr(kerasland, name) is value


@pytest.mark.parametrize("make", EVERYTHING.values(), ids=EVERYTHING)
def test_config_round_trip(make):
    first = make()
    again = type(first).from_config(first.get_config())
    assert again.get_config() == first.get_config()
    assert_same(output(again), output(first))
    own = set(inspect.signature(type(first).__init__).parameters) - {"self", "kwargs"}
    assert own <= set(first.get_config())  # nothing that the constructor takes is lost


@pytest.mark.parametrize("make", EVERYTHING.values(), ids=EVERYTHING)
def test_json_round_trip(make):
    first = make()
    text = json.dumps(keras.saving.serialize_keras_object(first))
    assert '"registered_name": "kerasland>' in text
    again = keras.saving.deserialize_keras_object(json.loads(text))
    assert type(again) is type(first) and again.name == first.name
    assert json.loads(json.dumps(keras.saving.serialize_keras_object(again))) == json.loads(text)
    assert_same(output(again), output(first))


@pytest.mark.parametrize(("make", "arrays"), LAYERS.values(), ids=LAYERS)
def test_layer_saved_and_exported(make, arrays, tmp_path):
    model = around(make(), arrays)
    if model.trainable_weights:
        weight = model.trainable_weights[0]
        weight.assign(np.full(weight.shape, 0.37))
    wanted = flat(model(list(arrays)))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert_same(flat(again(list(arrays))), wanted)
    configs = [json.dumps(m.layers[-1].get_config()) for m in (again, model)]
    assert configs[0] == configs[1]  # as JSON: of a network within, Keras keeps tuples as lists
    model.export(tmp_path / "exported", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "exported"))
    assert_same(flat(served.serve(list(arrays))), wanted)


def compiled_with(name):
    """A model that a loss or metric fits to, compiled with it."""
    logits = keras.Input(LOGITS.shape[1:])
    if name.startswith("metric"):
        model = keras.Model(logits, layers.HeatmapDecoder((12, 16))(logits)[0])
        model.compile(loss="mse", metrics=[EVERYTHING[name]()])
        return model
    loss = EVERYTHING[name]()
    embedded = isinstance(loss, losses.SpatialConfigurationLoss)
    output = layers.SpatialEmbedding(loss.maps, loss.angle)(logits) if embedded else logits + 0.0
    model = keras.Model(logits, output)
    model.compile(loss=loss)
    return model


COMPILED = [name for name in EVERYTHING if not name.startswith("layer")]


@pytest.mark.parametrize("name", COMPILED)
def test_loss_or_metric_saved_with_its_model(name, tmp_path):
    model = compiled_with(name)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    targets = np.nan_to_num(POINTS, nan=3.0)
    values = [
        list(m.evaluate(LOGITS, targets, verbose=0, return_dict=True).values())
        for m in (model, again)
    ]
    np.testing.assert_allclose(values[1], values[0], rtol=1e-6)


FRESH = """
import numpy as np
data = np.load(sys.argv[1] + "/data.npz")
model = keras.saving.load_model(sys.argv[1] + "/model.keras")
outputs = model.predict(data["image"], verbose=0)
for name in ("landmarks", "confidence", "embedding"):
    np.testing.assert_allclose(outputs[name], data[name], atol=1e-4)
assert type(model.loss["embedding"]).__name__ == "SpatialConfigurationLoss"
"""
IMPORTS = {
    "the package, then Keras": """
import sys, kerasland
assert "tensorflow" not in sys.modules, "importing the package must not start TensorFlow"
import keras
""",
    "a module that itself imports Keras": "import sys, kerasland.heatmaps, keras",
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    model = kerasland.unet(4, (16, 16), width=4, depth=2, stem_stride=1, output_stride=1)
    model.compile(
        optimizer="adam",
        loss={
            "heatmaps": kerasland.HeatmapLoss((16, 16)),
            "embedding": kerasland.SpatialConfigurationLoss((16, 16)),
        },
        metrics={"landmarks": [kerasland.RadialError((0, 3)), kerasland.SuccessDetectionRate()]},
    )
    image = np.random.default_rng(0).random((2, 16, 16, 1), "float32")
    np.savez(folder / "data.npz", image=image, **model.predict(image, verbose=0))
    model.save(folder / "model.keras")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("imports", IMPORTS.values(), ids=IMPORTS)
def test_reload_in_a_fresh_process(imports, saved):
    done = subprocess.run(
        [sys.executable, "-c", imports + FRESH, str(saved)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[1],
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("name", LAYERS)
def test_mixed_precision(name, mixed_float16):
    make, arrays = LAYERS[name]
    # logits and images of a float16 network; raw images and decoded points are float32
    half = [a if a is RAW or a is FOUND else a.astype("float16") for a in arrays]
    found = make()(*half)
    wanted = make_in_float32(make)(*[a.astype("float32") for a in half])
    dtypes = {one.dtype for one in keras.tree.flatten(found)}
    assert dtypes == {tf.float32 if name in FLOAT32_LAYERS else tf.float16}
    for one, other in zip(flat(found), flat(wanted), strict=True):
        tolerance = 1e-5 if name in FLOAT32_LAYERS else 5e-3
        np.testing.assert_allclose(one, other, atol=tolerance, rtol=1e-5)


def make_in_float32(make):
    keras.config.set_dtype_policy("float32")
    layer = make()
    keras.config.set_dtype_policy("mixed_float16")
    return layer


@pytest.mark.parametrize(("make", "prediction"), LOSSES.values(), ids=LOSSES)
def test_losses_under_mixed_precision(make, prediction, mixed_float16):
    half = prediction.astype("float16")
    value = make()(POINTS, half)
    assert value.dtype == tf.float32
    np.testing.assert_allclose(value, make()(POINTS, half.astype("float32")), rtol=1e-6)


@pytest.mark.parametrize(("make", "arrays"), LAYERS.values(), ids=LAYERS)
def test_output_shape(make, arrays):
    layer = make()
    result = layer(*arrays)
    shapes = [a.shape for a in arrays]
    found = layer.compute_output_shape(*shapes)
    nested = isinstance(found[0], tuple)
    real = [tuple(one.shape) for one in keras.tree.flatten(result)]
    assert (list(found) if nested else [found]) == real
    open_batch = make().compute_output_shape(*[(None, *shape[1:]) for shape in shapes])
    assert (list(open_batch) if nested else [open_batch]) == [(None, *one[1:]) for one in real]


def test_raw_images_of_any_size():
    make, arrays = LAYERS["looks"]
    layer = make()
    model = around(layer, arrays, sizes="any")
    for size in ((31, 22), (10, 50), (1, 1)):
        raw = np.ones((2, *size, 1), "float32")
        for found, alone in zip(model([raw]), layer(raw), strict=True):
            np.testing.assert_allclose(found, alone, atol=1e-4)


@pytest.mark.parametrize("imports", ["kerasland, keras", "keras, kerasland"])
def test_another_backend_is_named(imports, tmp_path):
    """Of a Keras that is nothing but a backend, since those of others may not be installed."""
    (tmp_path / "keras.py").write_text("class config:\n    backend = lambda: 'jax'\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import {imports}"
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert "ImportError: kerasland needs Keras on TensorFlow, here it is on jax" in done.stderr


@pytest.mark.parametrize(("make", "prediction"), LOSSES.values(), ids=LOSSES)
def test_reductions_and_sample_weights(make, prediction):
    each = np.array(make().call(POINTS, prediction))
    assert each.shape == (3,) and (each > 0).all()
    assert_same(flat(make(reduction="none")(POINTS, prediction)), [each])
    assert_same(flat(make(reduction="sum")(POINTS, prediction)), [each.sum()])
    assert_same(flat(make()(POINTS, prediction)), [each.mean()])
    weights = np.array([0.0, 1.0, 2.5], "float32")
    weighted = make(reduction="none")(POINTS, prediction, sample_weight=weights)
    assert_same(flat(weighted), [each * weights])
    assert_same(flat(make()(POINTS, prediction, sample_weight=weights)), [(each * weights).mean()])
    assert_same(flat(make()(POINTS, prediction, sample_weight=3.0)), [3 * each.mean()])
    assert_same(flat(make()(POINTS, prediction, sample_weight=0.0)), [np.zeros(())])


@pytest.mark.parametrize(("make", "prediction"), LOSSES.values(), ids=LOSSES)
def test_a_landmark_without_annotation_is_as_good_as_none(make, prediction):
    points = np.random.default_rng(5).uniform(0, 11, POINTS.shape).astype("float32")
    axis = prediction.ndim - 1 if prediction.ndim == 4 else 1
    for missing in ((np.nan, np.nan), (np.nan, 3.0), (90.0, 5.0)):
        masked = points.copy()
        masked[:, 2] = missing
        removed = np.delete(points, 2, axis=1), np.delete(prediction, 2, axis=axis)
        assert_same(flat(make()(masked, prediction)), flat(make()(*removed)))
        assert abs(make()(masked, prediction) - make()(points, prediction)) > 1e-5
