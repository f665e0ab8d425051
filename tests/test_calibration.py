"""Expected errors in mm: found again where they were put in, held by what is said of them."""

import keras
import numpy as np
import pandas as pd
import pytest

from kerasland import calibration, expected_errors, inference_models, models
from kerasland.errors import DataError
from kerasland.geometry import Spacing
from kerasland.scale import Scale

NAMES = ("tip", "wrist", "thumb")
OFFSETS = np.array([-0.5, 0.9, 0.2])
SLOPE = 0.4


def drawn_errors(images=200, folds=("a", "b"), seed=0, harder=1.0):
    """Gamma errors about exp(offset + slope * log(1 - confidence + 0.001)), mm."""
    rng = np.random.default_rng(seed)
    confidence = rng.beta(20, 1, (images, 3))
    expected = np.exp(OFFSETS + SLOPE * np.log(1 - confidence + 1e-3))
    error = rng.gamma(2.0, expected / 2.0) * harder
    return pd.DataFrame(
        {
            "image_id": np.repeat([f"{seed}_{i}" for i in range(images)], 3),
            "landmark": NAMES * images,
            "error_mm": error.ravel(),
            "confidence": confidence.ravel(),
            "fold": np.repeat([folds[i % len(folds)] for i in range(images)], 3),
            "true": expected.ravel(),
        }
    )


def test_the_law_behind_the_errors_is_found():
    errors = drawn_errors(4000)
    found = calibration.fit(errors)
    assert found.slope == pytest.approx(SLOPE, abs=0.03)
    np.testing.assert_allclose([found.offsets[name] for name in NAMES], OFFSETS, atol=0.12)
    np.testing.assert_allclose(found.expected_mm(errors), errors["true"], rtol=0.15)
    # quantiles of a gamma distribution of shape 2 and mean 1, by its own formula
    ratios = np.array(found.ratios)
    np.testing.assert_allclose(
        1 - np.exp(-2 * ratios) * (1 + 2 * ratios), calibration.LEVELS, atol=0.015
    )


def test_points_without_an_error_and_those_no_heatmap_found_change_nothing():
    errors = drawn_errors()
    gaps = errors.assign(error_mm=np.nan, image_id="gap").head(30)
    moved = errors.assign(error_mm=50.0, confidence=0.0, image_id="moved").head(30)
    together = pd.concat([errors, gaps, moved], ignore_index=True)
    assert calibration.fit(together) == calibration.fit(errors)
    pd.testing.assert_frame_equal(
        calibration.reliability(together), calibration.reliability(errors)
    )


def test_a_fold_in_which_nothing_was_found_is_none():
    errors = drawn_errors()
    of_a = errors["fold"] == "a"
    errors.loc[of_a, "confidence"] = 0.0
    assert set(calibration.usable(errors)["fold"]) == {"b"}
    found, wanted = calibration.fit(errors), calibration.fit(errors[~of_a])
    assert found.offsets == pytest.approx(wanted.offsets)
    assert found.ratios == pytest.approx(wanted.ratios)


def test_a_landmark_that_was_never_annotated_is_taken_for_an_average_one():
    errors = drawn_errors(1000)
    known = calibration.fit(errors)
    errors.loc[errors["landmark"] == "wrist", "error_mm"] = np.nan
    offsets = calibration.fit(errors).offsets
    assert offsets["tip"] < offsets["wrist"] < offsets["thumb"] < known.offsets["wrist"]


def test_reliability_holds_where_folds_are_alike():
    table = calibration.reliability(drawn_errors(600, folds=("a", "b", "c")))
    found = table["empirical_coverage"]
    assert np.abs(found - table["nominal_coverage"]).max() < 0.04
    assert found.between(table["empirical_coverage_low"], table["empirical_coverage_high"]).all()
    assert (np.diff(table["radius_mm_median"]) > 0).all()


def test_a_landmark_of_one_fold_alone_has_a_radius_there():
    errors = drawn_errors(300, folds=("a", "b"))
    rare = errors["landmark"] == "wrist"
    errors.loc[rare & (errors["fold"] == "a"), "error_mm"] = np.nan
    table = calibration.reliability(errors)
    assert np.isfinite(table["radius_mm_median"]).all()


def test_ratios_are_of_errors_that_were_not_fitted():
    """With eight images the regression fits its own errors too well; it is not asked about them."""
    within, alone = [], []
    for seed in range(12):
        few, new = drawn_errors(8, folds=("a", "b"), seed=seed), drawn_errors(200, seed=100 + seed)
        for shares, table in ((within, few), (alone, few.drop(columns="fold"))):
            fitted = calibration.fit(table)
            said = new["error_mm"] <= fitted.ratios[-1] * fitted.expected_mm(new)
            shares.append(said.mean())
    assert np.mean(alone) < np.mean(within) and abs(np.mean(within) - 0.95) < 0.03


def test_no_fold_judges_itself():
    """A fold twice as hard is said to hold more than it does: nothing of it was in its fit."""
    easy, hard = drawn_errors(300, ("a",)), drawn_errors(300, ("b",), seed=1, harder=3.0)
    median = calibration.LEVELS.tolist().index(0.5)
    found = {}
    for name, own, other in (("a", easy, hard), ("b", hard, easy)):
        fitted = calibration.fit(other)
        radius = fitted.expected_mm(own) * fitted.ratios[median]
        found[name] = (own["error_mm"] <= radius).mean()
    both = calibration.reliability(pd.concat([easy, hard], ignore_index=True))
    assert both["empirical_coverage"][median] == pytest.approx((found["a"] + found["b"]) / 2)
    assert found["a"] > 0.85 and found["b"] < 0.2


def test_the_model_says_its_error(tmp_path):
    errors = drawn_errors()
    fitted = calibration.fit(errors)
    model = models.unet(NAMES, (32, 32), width=4, depth=2)
    said = calibration.attach(model, fitted)
    said.save(tmp_path / "said.keras")
    again = keras.saving.load_model(tmp_path / "said.keras")
    image = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 1)).astype("float32")
    outputs = again.predict(image, verbose=0)
    table = pd.DataFrame(
        {"landmark": NAMES * 2, "confidence": outputs["confidence"].ravel().astype(float)}
    )
    np.testing.assert_allclose(outputs["error_mm"].ravel(), fitted.expected_mm(table), rtol=1e-4)
    whole = inference_models.pipeline(again).predict(image, verbose=0)
    np.testing.assert_allclose(whole["error_mm"], outputs["error_mm"], rtol=1e-3)
    layer = again.get_layer("expected_error")
    assert layer.ratio(0.9) == pytest.approx(fitted.ratios[17])
    assert np.isnan([layer.ratio(level) for level in (0.01, 0.99)]).all()  # not known
    found = expected_errors.of_model(again)(outputs["confidence"])
    for of_image, error_mm in zip(found, outputs["error_mm"], strict=True):
        np.testing.assert_allclose(of_image["error_mm"], error_mm, rtol=1e-4)
        np.testing.assert_allclose(of_image["error_mm_95"], fitted.ratios[18] * error_mm, rtol=1e-4)
    assert expected_errors.of_model(model)(outputs["confidence"]) == [{}, {}]
    with pytest.raises(DataError, match="'elbow'"):
        calibration.attach(models.unet(("tip", "elbow"), (32, 32), width=4, depth=2), fitted)


def test_expected_errors_are_in_the_millimetres_that_are_used():
    by_wrist, by_spacing, stated = Scale((0, 1), 50.0), Scale(mm_per_px=0.1), Spacing(0.2, 0.3, "")
    points, sure = np.array([[0.0, 0.0], [30.0, 40.0]]), np.ones(2)
    derived = expected_errors.spacing_by(by_wrist, points, sure, ("a", "b"))
    assert derived == Spacing(1.0, 1.0, "a to b (0, 1) = 50 mm")
    for scale, where, confidence in (
        (by_wrist, points, np.array([1, 0])),  # not found
        (by_wrist, points * 0, sure),
        (by_spacing, points, sure),
        (None, points, sure),
    ):
        assert expected_errors.spacing_by(scale, where, confidence, ("a", "b")) is None
    for scale, own, used, wanted in (
        (by_wrist, derived, derived, [4, 8]),
        (by_wrist, derived, stated, [1, 2]),
        (by_wrist, None, stated, [np.nan] * 2),
        (by_spacing, None, stated, [4, 8]),
        (None, None, stated, [np.nan] * 2),
    ):
        said = expected_errors.rescaled({"error_mm": np.array([4.0, 8.0])}, scale, own, used)
        np.testing.assert_allclose(said["error_mm"], wanted)
