"""Metrics with numbers worked out by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasland.metrics import RadialError, SuccessDetectionRate

# a wrist of 100 px between landmarks 0 and 4 is 50 mm: half a millimetre a pixel
TRUE = np.array([[(0, 0), (10, 10), (20, 30), (50, 50), (100, 0)]], "float32")
# 5, 10, 4, 0 and 2 px away, that is 2.5, 5, 2, 0 and 1 mm
PRED = TRUE + np.array([[(3, 4), (-6, 8), (0, 4), (0, 0), (2, 0)]], "float32")
ERROR_PX = np.array([5, 10, 4, 0, 2.0])


def value(metric, *batches):
    for batch in batches:
        metric.update_state(*batch)
    return float(metric.result())


def test_error_by_hand():
    assert value(RadialError(), (TRUE, PRED)) == pytest.approx(2.1)
    assert value(RadialError(None), (TRUE, PRED)) == pytest.approx(4.2)
    assert value(RadialError(length_mm=100.0), (TRUE, PRED)) == pytest.approx(4.2)
    assert value(RadialError(mm_per_px=0.1), (TRUE, PRED)) == pytest.approx(0.42)
    width = np.hypot(90, 10)
    assert value(RadialError((1, 4)), (TRUE, PRED)) == pytest.approx(4.2 * 50 / width)


def test_a_point_at_the_radius_is_a_success():
    for radius, percentage in ((2.0, 60), (1.999, 40), (2.5, 80), (4.99, 80), (5.0, 100), (0, 20)):
        found = value(SuccessDetectionRate(radius), (TRUE, PRED))
        assert found == pytest.approx(percentage), radius
    assert value(SuccessDetectionRate(4.0, None), (TRUE, PRED)) == pytest.approx(60)
    assert value(SuccessDetectionRate(0.5, mm_per_px=0.1), (TRUE, PRED)) == pytest.approx(80)


def test_each_image_has_its_own_scale():
    true, pred = np.concatenate([TRUE, 2 * TRUE]), np.concatenate([PRED, 2 * PRED])
    assert value(RadialError(), (true, pred)) == pytest.approx(2.1)
    assert value(RadialError(None), (true, pred)) == pytest.approx(6.3)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32"])
def test_points_of_another_type_count_the_same(dtype):
    true, pred = tf.cast(TRUE, dtype), tf.cast(PRED, dtype)
    for batch in ((true, PRED), (TRUE, pred)):
        assert value(RadialError(), batch) == pytest.approx(2.1)


def test_points_without_annotation_are_left_out():
    true = TRUE.copy()
    true[0, 1] = np.nan
    assert value(RadialError(), (true, PRED)) == pytest.approx(5.5 / 4)
    assert value(SuccessDetectionRate(), (true, PRED)) == pytest.approx(75)
    true = TRUE.copy()
    true[0, 1, 0] = np.nan  # one coordinate is as bad as none
    assert value(RadialError(), (true, PRED)) == pytest.approx(5.5 / 4)


def test_a_prediction_that_is_no_number_is_a_failure():
    pred = PRED.copy()
    pred[0, 1] = np.nan
    assert np.isnan(value(RadialError(), (TRUE, pred)))
    found = value(SuccessDetectionRate(10.0), (TRUE, PRED))
    assert value(SuccessDetectionRate(10.0), (TRUE, pred)) == pytest.approx(found - 20)


@pytest.mark.parametrize("wrist", [np.nan, 0.0])
def test_images_without_a_scale_are_left_out(wrist):
    broken = TRUE.copy()
    broken[0, 4] = wrist
    batch = np.concatenate([TRUE, broken]), np.concatenate([PRED, PRED])
    assert value(RadialError(), batch) == pytest.approx(2.1)
    assert value(SuccessDetectionRate(), batch) == pytest.approx(60)
    assert np.isnan(value(RadialError(), (broken, PRED)))


def test_batches_accumulate_over_points_and_reset():
    few = TRUE.copy()
    few[0, 1:4] = np.nan  # leaves 2.5 and 1 mm
    metric = RadialError()
    assert value(metric, (TRUE, PRED), (few, PRED)) == pytest.approx((10.5 + 3.5) / 7)
    metric.reset_state()
    assert value(metric, (few, PRED)) == pytest.approx(1.75)
    together = np.concatenate([TRUE, few]), np.concatenate([PRED, PRED])
    assert value(RadialError(), together) == pytest.approx(14 / 7)


def test_weights():
    true, pred = np.concatenate([TRUE, TRUE]), np.concatenate([PRED, TRUE])
    assert value(RadialError(), (true, pred)) == pytest.approx(1.05)
    assert value(RadialError(), (true, pred, [1.0, 0.0])) == pytest.approx(2.1)
    assert value(RadialError(), (true, pred, [1.0, 3.0])) == pytest.approx(2.1 / 4)
    assert np.isnan(value(RadialError(), (true, pred, [0.0, 0.0])))
    points = np.array([[1, 0, 0, 0, 1], [0, 0, 0, 0, 0.0]])
    assert value(RadialError(), (true, pred, points)) == pytest.approx((2.5 + 1) / 2)
    assert value(SuccessDetectionRate(), (true, pred, points)) == pytest.approx(50)
    assert value(RadialError(), (true, pred, np.float32(2.0))) == pytest.approx(1.05)


def test_nothing_measured_is_no_number():
    """0 mm would be the best there is."""
    for metric in (RadialError(), SuccessDetectionRate()):
        assert np.isnan(value(metric, (np.full_like(TRUE, np.nan), PRED)))
        assert np.isfinite(value(metric, (TRUE, PRED)))


def test_scales_that_are_none_are_refused():
    for options in (
        {"length_mm": -5.0},
        {"length_mm": None},
        {"mm_per_px": 0.0},
        {"mm_per_px": "0.1"},
        {"scale_landmarks": (0, 0)},
        {"scale_landmarks": (-1, 2)},
        {"scale_landmarks": 5},
    ):
        with pytest.raises(ValueError, match="|".join(options)):
            RadialError(**options)
    assert RadialError(None, length_mm=None).name == "radial_error_px"
    for radius in (-1.0, np.nan, np.inf, "2", None):
        with pytest.raises(ValueError, match="radius_mm must be 0 or more, and finite"):
            SuccessDetectionRate(radius)
    with pytest.raises(ValueError, match=r"scale_landmarks=\(0, 4\) of 3 landmarks"):
        value(RadialError(), (TRUE[:, :3], PRED[:, :3]))


@pytest.mark.parametrize(
    ("true", "pred", "said"),
    [
        (TRUE[:, :1], PRED, r"y_true of shape \(1, 1, 2\): .* of 5 landmarks, \(B, 5, 2\)"),
        (TRUE, PRED[:, :1], r"y_true of shape \(1, 5, 2\)"),
        (TRUE[..., :1], PRED, r"y_true of shape \(1, 5, 1\)"),
        (TRUE.reshape(1, 10), PRED.reshape(1, 10), r"y_pred of shape \(1, 10\)"),
    ],
)
def test_points_that_would_be_broadcast_are_refused(true, pred, said):
    with pytest.raises(ValueError, match=said):
        value(RadialError(None), (true, pred))


def test_a_number_of_points_that_a_graph_does_not_know():
    metric = RadialError()
    spec = tf.TensorSpec((None, None, 2))
    for known in (spec, tf.TensorSpec(PRED.shape)):
        graph = tf.function(metric.update_state).get_concrete_function(spec, known)
        metric.reset_state()
        graph(tf.constant(TRUE), tf.constant(PRED))
        assert float(metric.result()) == pytest.approx(2.1)
    with pytest.raises(tf.errors.InvalidArgumentError, match="not compatible with expected"):
        graph(tf.constant(TRUE[:, :1]), tf.constant(PRED))


def test_keras_callbacks_know_which_way_is_better(tmp_path):
    for metric, direction in ((RadialError, "down"), (SuccessDetectionRate, "up")):
        assert metric._direction == direction
    model = keras.Sequential([keras.Input((5, 2)), keras.layers.Dense(2)])
    model.compile(loss="mse", metrics=[RadialError()])
    stop = keras.callbacks.EarlyStopping("val_radial_error_mm", patience=9)
    model.fit(TRUE, TRUE, validation_data=(TRUE, TRUE), epochs=1, verbose=0, callbacks=[stop])
    assert stop.monitor_op is np.less or stop.monitor_op is keras.ops.less


def test_names():
    assert RadialError().name == "radial_error_mm"
    assert SuccessDetectionRate(2.5).name == "sdr_2_5mm"
    assert SuccessDetectionRate(10).name == "sdr_10mm"
    for make in (RadialError, SuccessDetectionRate):
        own = make(name="mine", dtype="float64")
        assert (own.name, own.dtype) == ("mine", "float64")
