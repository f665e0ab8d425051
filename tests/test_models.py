"""The U-Net as a user of Keras sees it: shapes, refusals, heads, fit, save, raw images."""

from __future__ import annotations

import json
import zipfile

import keras
import naive
import numpy as np
import pytest
import tensorflow as tf
from drawing import disc

import kerasland
from kerasland import devices, experiment, geometry, model_notes, train
from kerasland.errors import DataError, UsageError
from kerasland.geometry import letterboxed
from kerasland.inference_models import bare

SHAPE, RAW = (32, 24), (61, 40)
# three discs of different brightness, so that a network can tell them apart
HEIGHTS = (1.0, 0.6, 0.35)


def small(landmarks=3, **options):
    options = {"width": 8, "depth": 3, "stem_stride": 1, "output_stride": 1, **options}
    return kerasland.unet(landmarks, options.pop("image_shape", SHAPE), **options)


def compile_small(model, **options):
    losses = {
        "heatmaps": kerasland.HeatmapLoss(SHAPE, 1.5),
        "embedding": kerasland.SpatialConfigurationLoss(SHAPE),
    }
    metrics = {
        "landmarks": [
            kerasland.RadialError((0, 2), name="error"),
            kerasland.SuccessDetectionRate(12.0, (0, 2), name="sdr"),
        ]
    }
    model.compile(
        optimizer=keras.optimizers.Adam(5e-3),
        loss=losses,
        loss_weights={"heatmaps": 1.0, "embedding": 5.0},
        metrics=metrics,
        **options,
    )


def examples(count=12, seed=0):
    rng = np.random.default_rng(seed)
    points = rng.uniform((3, 3), (20, 28), (count, 3, 2)).astype("float32")
    images = [
        sum(h * disc(SHAPE, p, 2.5) for h, p in zip(HEIGHTS, sample, strict=True))
        for sample in points
    ]
    return np.stack(images)[..., None].astype("float32"), points


def targets_of(model, points):
    return dict.fromkeys(model.output, points)


@pytest.mark.parametrize("stem", [1, 2, 4])
@pytest.mark.parametrize("output", [1, 2, 4])
def test_named_outputs_and_their_shapes(stem, output):
    model = kerasland.unet(
        5, (48, 32), width=4, depth=3, stem_stride=stem, output_stride=output, maps="both"
    )
    assert isinstance(model, keras.Model) and model.input_shape == (None, 48, 32, 1)
    grid = (48 // output, 32 // output)
    wanted = {
        "heatmaps": (None, *grid, 5),
        "landmarks": (None, 5, 2),
        "confidence": (None, 5),
        "embedding": (None, 5, 5),
    }
    assert {name: tensor.shape for name, tensor in model.output.items()} == wanted
    found = model(np.random.default_rng(0).random((2, 48, 32, 1), "float32"))
    assert {n: tuple(v.shape) for n, v in found.items()} == {
        n: (2, *shape[1:]) for n, shape in wanted.items()
    }
    # the decoder reads the heatmaps that the model gives, in pixels of the input
    heatmap = np.array(found["heatmaps"])[1, :, :, 3]
    radius = max(2, round(8 / output))
    point, mass = naive.decoded(heatmap, (48, 32), radius)
    np.testing.assert_allclose(found["landmarks"][1, 3], point, atol=1e-3)
    np.testing.assert_allclose(found["confidence"][1, 3], mass, atol=1e-4)


@pytest.mark.parametrize(
    ("setting", "stride", "cells"),
    [([], 4, 2), (["decode_radius_px=24"], 4, 6), (["decode_radius_px=24"], 2, 12)],
)
def test_the_decoders_window_is_a_setting_in_pixels(setting, stride, cells):
    settings = [*setting, f"stem_stride={stride}", f"output_stride={stride}"]
    small = ["image_shape=64x64", "width=4", "max_width=4", "depth=2"]
    chosen = experiment.preset("cpu").with_settings([*small, *settings])
    model = train.build(chosen, ["a", "b"])
    assert model.get_layer("decoder").radius_cells == cells


@pytest.mark.parametrize(
    ("options", "components"),
    [
        ({"normalization": "group", "maps": "cartesian", "width": 12}, 2),
        ({"normalization": "layer", "maps": "polar", "depth": 1}, 3),
        ({"normalization": "none", "maps": "polar", "angle": "raw", "depth": 2}, 2),
        ({"dropout": 0.3, "maps": "none"}, None),
        ({"learn_beta": True, "beta": 0.5, "depth": 4}, 5),
    ],
)
def test_variants(options, components):
    model = small(**options)
    found = model(np.ones((1, *SHAPE, 1), "float32"))
    assert all(np.isfinite(value).all() for value in found.values())
    assert ("embedding" in found) == (components is not None)
    if components:
        assert found["embedding"].shape == (1, 3, components)
    assert any("log_beta" in w.path for w in model.weights) == bool(options.get("learn_beta"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_shape": (30, 24)}, r"image_shape \(30, 24\) must be multiples of .* = 4"),
        ({"stem_stride": 3}, "stem_stride must be a power of 2, not 3"),
        ({"stem_stride": 0}, "stem_stride must be a whole number, 1 or more, not 0"),
        ({"output_stride": 8}, "output_stride must be at most the last level's 4, not 8"),
        ({"output_stride": 0}, "output_stride must be a whole number, 1 or more, not 0"),
        ({"landmarks": "abc"}, "landmarks='abc': expected a number or a list of names"),
        ({"landmarks": ["a", "b", "a"]}, "expected one or more, of different names"),
        ({"depth": 0}, "depth must be a whole number, 1 or more, not 0"),
        ({"decode_radius_px": -5.0}, "decode_radius_px must be above 0"),
        ({"image_shape": (32, 24, 1)}, r"image_shape \(32, 24, 1\): expected \(height, width\)"),
        ({"image_shape": 32}, r"image_shape 32: expected \(height, width\)"),
        ({"width": 4.0}, "width must be a whole number, 1 or more, not 4.0"),
        ({"width": True}, "width must be a whole number, 1 or more, not True"),
        ({"width": np.array([4])}, "width must be a whole number, 1 or more, not array"),
        ({"landmarks": 0}, "landmarks=0: expected one or more"),
        ({"landmarks": 3.0}, "landmarks=3.0: expected a number or a list of names"),
        ({"output_stride": 3}, "output_stride 3 is none of the levels' strides"),
        ({"stem_stride": 2, "output_stride": 3}, "output_stride 3 .* stem_stride 2"),
        ({"normalization": "instance"}, "normalization must be one of .* not 'instance'"),
        ({"maps": "spherical"}, "maps must be one of .* not 'spherical'"),
        ({"angle": "degrees"}, "angle must be one of"),
        ({"beta": -1.0}, "beta must be above 0"),
    ],
)
def test_impossible_models_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_whole_numbers_of_any_kind():
    whole = {"width": 4, "max_width": 8, "depth": 2, "stem_stride": 2, "output_stride": 1}
    wanted = small(2, **whole)
    model = small(np.int64(2), **{name: np.int64(number) for name, number in whole.items()})
    assert kerasland.landmark_names(model) == ("0", "1")
    assert [weight.shape for weight in model.weights] == [w.shape for w in wanted.weights]


def test_channels_come_last_whatever_keras_is_set_to():
    options = {"dropout": 0.1, "stem_stride": 2}
    wanted = small(**options)
    keras.config.set_image_data_format("channels_first")
    try:
        found = small(**options)
    finally:
        keras.config.set_image_data_format("channels_last")
    for one, other in zip(found.layers, wanted.layers, strict=True):
        assert {**one.get_config(), "name": ""} == {**other.get_config(), "name": ""}


def test_a_damaged_file_is_named(tmp_path):
    """Nothing of a model, and a model with a hole in its weights, or in the list of its parts."""
    small().save(tmp_path / "m.keras")
    whole = (tmp_path / "m.keras").read_bytes()
    middle = len(whole) // 2
    listed = whole.rindex(b"PK\1\2")
    method = listed + 10
    hole = bytes(255 - byte for byte in whole[middle : middle + 64])
    for content, said in (
        (b"text", "cut off, or no .keras file"),
        (whole[:-100], "cut off, or no .keras file"),
        (whole[:middle] + hole + whole[middle + 64 :], "damaged, its model.weights.h5"),
        (whole[:method] + b"\x0c" + whole[method + 1 :], "damaged, its table of contents"),
        (whole[:listed] + b"?" + whole[listed + 1 :], "damaged, its table of contents"),
    ):
        (tmp_path / "m.keras").write_bytes(content)
        with pytest.raises(DataError, match=f"m.keras: {said}"):
            kerasland.load_model(tmp_path / "m.keras")


def test_a_model_of_another_version_is_named_so(tmp_path):
    """By the experiment.json beside it, which may hold settings that this version lacks."""
    path = tmp_path / "m.keras"
    small().save(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content.replace(b"HeatmapDecoder", b"SparkleDecoder"))
    notes = {"experiment": {}, "versions": {"kerasland": "9.9"}}
    (tmp_path / "experiment.json").write_text(json.dumps(notes))
    with pytest.raises(DataError, match=rf"of kerasland 9\.9, which {kerasland.__version__} can't"):
        kerasland.load_model(path)
    (tmp_path / "experiment.json").write_text(json.dumps({**notes, "experiment": {"hue": 1}}))
    with pytest.raises(DataError, match=r"unknown key 'hue'.* \(written by kerasland 9\.9; this"):
        model_notes.model_scale(path)


def test_names_travel_with_the_model(tmp_path):
    model = small(["wrist", "thumb", "tip"])
    assert kerasland.landmark_names(model) == ("wrist", "thumb", "tip")
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert kerasland.landmark_names(again) == ("wrist", "thumb", "tip")
    assert kerasland.landmark_names(small(2)) == ("0", "1")
    logits = model.get_layer("heatmaps").output
    second = kerasland.HeatmapDecoder(model.input_shape[1:3], names=("a", "b", "c"))(logits)
    two = keras.Model(model.inputs[0], {**model.output, "again": second[0]})
    with pytest.raises(ValueError, match="HeatmapDecoder"):  # whose names would they be?
        kerasland.landmark_names(two)
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="not made by unet"):
        kerasland.landmark_names(other)


def by_hand(outputs, points):
    """Losses and metrics from what `predict` gives, with loops over the images."""
    found, images = {}, range(len(points))
    heatmap = [
        naive.heatmap_loss(outputs["heatmaps"][i], points[i], SHAPE, 1.5, "cross_entropy")
        for i in images
    ]
    vectors = outputs["embedding"].astype(float)
    configuration = [
        naive.configuration_loss(vectors[i], points[i], SHAPE, "both", "cosine", "absolute")
        for i in images
    ]
    found["heatmaps_loss"], found["embedding_loss"] = np.mean(heatmap), np.mean(configuration)
    found["loss"] = found["heatmaps_loss"] + 5 * found["embedding_loss"]
    error_px = np.linalg.norm(outputs["landmarks"] - points, axis=-1)
    error_mm = error_px * geometry.mm_per_px(points, (0, 2), 50.0)[:, None]
    found["landmarks_error"] = np.nanmean(error_mm)
    known = error_mm[np.isfinite(error_mm)]
    found["landmarks_sdr"] = 100 * np.mean(known <= 12.0)
    return found


def assert_evaluates_as_by_hand(model, images, points):
    found = model.evaluate(
        images, targets_of(model, points), batch_size=4, verbose=0, return_dict=True
    )
    wanted = by_hand(model.predict(images, verbose=0), points)
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-4, atol=2e-4, err_msg=name)
    return found


@pytest.mark.slow
def test_mixed_precision_trains_under_xla():
    """Whose gradient of bilinear up-sampling knows single precision alone."""
    with devices.precision("bfloat16"):
        model = small()
    compile_small(model, jit_compile=True)
    images, points = examples()
    history = model.fit(images, targets_of(model, points), batch_size=4, verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_images_of_a_pipeline_that_does_not_know_their_size():
    model = small()
    compile_small(model)
    images, points = examples()

    def of_unknown_size(image, point):
        image = tf.py_function(lambda x: x, [image], tf.float32)
        return tf.ensure_shape(image, (None, None, None, 1)), dict.fromkeys(model.output, point)

    data = tf.data.Dataset.from_tensors((images, points)).map(of_unknown_size)
    assert np.isfinite(model.evaluate(data, verbose=0, return_dict=True)["loss"])


def test_a_model_knows_the_size_of_its_images_whatever_becomes_of_it(tmp_path):
    model = small()
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    for one in (model, again, keras.models.clone_model(model)):
        graph = tf.function(one, input_signature=[tf.TensorSpec((None, None, None, 1))])
        assert graph.get_concrete_function().output_shapes["heatmaps"] == (None, *SHAPE, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="not compatible with expected shape"):
        graph(np.ones((1, 32, 48, 1), "float32"))


def test_weights_that_ship_are_taken_over():
    there = kerasland.load_pretrained("drawn_hands")
    hand = kerasland.unet(kerasland.landmark_names(there), (128, 64))
    other = kerasland.unet(["tip"], (128, 64))
    for model, same in ((hand, True), (other, False)):
        kerasland.take_weights(model, "drawn_hands")
        for one, known in zip(model.weights, there.weights, strict=True):
            if same or "head" not in one.path:
                np.testing.assert_array_equal(one, known)
    with pytest.raises(UsageError, match="its layer stem_conv has other weights"):
        kerasland.take_weights(small(), "drawn_hands")


@pytest.mark.parametrize("options", [{"normalization": "layer"}, {"max_width": 16}])
def test_weights_that_do_not_fit_are_refused_before_any_is_taken(options, tmp_path):
    small(normalization="group").save(tmp_path / "m.keras")
    model = small(**{"normalization": "group", **options})
    before = model.get_weights()
    with pytest.raises(UsageError, match="has other weights than this network"):
        kerasland.take_weights(model, tmp_path / "m.keras")
    for one, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, kept)


@pytest.mark.slow
def test_compile_fit_evaluate_save_with_each_head_its_own_values(tmp_path):
    keras.utils.set_random_seed(1)
    images, points = examples()
    points[3, 1] = np.nan
    points[5, 2] = (50.0, 2.0)
    model = small()
    compile_small(model, jit_compile=False)
    before = assert_evaluates_as_by_hand(model, images, points)
    targets = targets_of(model, points)
    history = model.fit(
        images,
        targets,
        validation_data=(images, targets),
        batch_size=4,
        epochs=8,
        shuffle=False,
        verbose=0,
    ).history
    for name, values in history.items():
        assert np.isfinite(values).all(), name
    assert history["loss"][-1] < 0.85 * history["loss"][0]
    assert history["heatmaps_loss"][-1] < history["heatmaps_loss"][0]
    after = assert_evaluates_as_by_hand(model, images, points)
    assert after["loss"] < before["loss"] and after["landmarks_error"] < before["landmarks_error"]
    for name, value in after.items():  # the history's validation is that of the last epoch
        np.testing.assert_allclose(history[f"val_{name}"][-1], value, rtol=1e-4, err_msg=name)

    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    outputs, reloaded = (m.predict(images, verbose=0) for m in (model, again))
    for name, value in outputs.items():
        np.testing.assert_allclose(reloaded[name], value, atol=1e-5)
    assert int(again.optimizer.iterations) == int(model.optimizer.iterations) == 24
    for one, other in zip(again.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)
    rest = [m.fit(images, targets, batch_size=4, verbose=0, shuffle=False) for m in (again, model)]
    np.testing.assert_allclose(rest[0].history["loss"], rest[1].history["loss"], rtol=1e-3)

    plain = bare(model)
    assert getattr(plain, "optimizer", None) is None
    np.testing.assert_array_equal(
        plain.predict(images, verbose=0)["landmarks"], model.predict(images, verbose=0)["landmarks"]
    )


def test_pipeline_is_the_path_by_hand():
    keras.utils.set_random_seed(3)
    model = small(4, output_stride=2)
    whole = kerasland.pipeline(model)
    assert whole.input_shape == (None, None, None, 1)
    rng = np.random.default_rng(0)
    for size in (RAW, (20, 90), (48, 36)):
        raw = rng.integers(0, 255, (2, *size, 1)).astype("uint8")
        found = whole.predict(raw, verbose=0)
        frames = np.stack([letterboxed(image[..., 0], SHAPE) for image in raw])[..., None]
        wanted = model.predict(frames, verbose=0)
        back = geometry.letterbox(size, SHAPE).invert(wanted["landmarks"])
        np.testing.assert_allclose(found["landmarks"], back, atol=1e-3)
        np.testing.assert_allclose(found["confidence"], wanted["confidence"], atol=1e-4)
        assert set(found) == {"landmarks", "confidence"}


def test_a_pipeline_of_8_bits_takes_no_others():
    model = small()
    whole = kerasland.pipeline(model, "uint8")
    image = np.random.default_rng(0).integers(0, 255, (1, 40, 30, 1)).astype("uint8")
    found, wanted = (p.predict(image, verbose=0) for p in (whole, kerasland.pipeline(model)))
    np.testing.assert_allclose(found["landmarks"], wanted["landmarks"], atol=1e-4)
    for run in (whole, lambda image: whole.predict(image, verbose=0)):
        with pytest.raises(ValueError, match="expected dtype=uint8, found dtype=uint16"):
            run(256 * image.astype("uint16"))


def test_a_pipeline_is_not_put_into_another():
    with pytest.raises(ValueError, match="'pipeline' takes images of any size already"):
        kerasland.pipeline(kerasland.pipeline(small()))


def test_range_of_intensities_does_not_matter():
    model = small()
    image = np.random.default_rng(0).random((1, *SHAPE, 1), "float32")
    wanted = model(image)["landmarks"]
    for scaled in (image * 255, image * 65535, image * 3 - 7):
        np.testing.assert_allclose(model(scaled)["landmarks"], wanted, atol=1e-2)


def test_mixed_precision_keeps_outputs_in_single_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = small()
    finally:
        keras.config.set_dtype_policy("float32")
    image = 65535 * np.random.default_rng(0).random((1, *SHAPE, 1), "float32")
    outputs = model(image)
    assert {value.dtype for value in outputs.values()} == {outputs["landmarks"].dtype}
    assert outputs["landmarks"].dtype == "float32"
    assert all(np.isfinite(value).all() for value in outputs.values())
