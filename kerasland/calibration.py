"""How far off a landmark is expected to be, in mm, learnt from errors on images not trained on.

The expected error of a point rises with the difficulty of its landmark and falls with the
confidence of its heatmap: a generalised linear model of the error with a logarithmic link and the
gamma distribution (McCullagh and Nelder 1989),

    expected_mm = exp(offset_k + slope * log(1 - confidence + FLOOR)),

which `kerasland.layers.ExpectedError` computes. The ratio of errors to expected errors on other
images says with what probability an error stays within a multiple of the expected one
(cross-conformal prediction, Vovk 2015).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd
from sklearn.linear_model import GammaRegressor

from kerasland import tables
from kerasland.errors import DataError
from kerasland.layers import ExpectedError
from kerasland.models import landmark_names

LEAST_MM = 1e-3
LEVELS = np.round(np.arange(0.05, 1.0, 0.05), 2)
RIDGE = 1e-4


@dataclass(frozen=True)
class Calibration:
    """What `fit` found.

    offsets: by the landmark's name; slope: see the module; ratios: of an error to the expected
    one, at each of `LEVELS`.
    """

    offsets: dict[str, float]
    slope: float
    ratios: tuple[float, ...]

    def expected_mm(self, errors: pd.DataFrame) -> np.ndarray:
        """The expected error of each row of an errors table, mm."""
        offsets = errors["landmark"].map(self.offsets).to_numpy(np.float64)
        return np.exp(offsets + self.slope * _lacking(errors))


def _lacking(errors: pd.DataFrame) -> np.ndarray:
    return np.log(
        np.maximum(1.0 - errors["confidence"].to_numpy(np.float64), 0.0) + ExpectedError.FLOOR
    )


def fit(errors: pd.DataFrame) -> Calibration:
    """Fits the expected error to errors on images that the models had not seen.

    Args:
        errors: errors table (see `kerasland.tables`); points without an error in mm, or of
            confidence 0, are left out. A landmark without any such point gets the offset of an
            average one. With a column `fold`, the ratios of each fold are to what was fitted to
            the others; without one, or with one fold alone, to what was fitted to themselves, and
            so a little small.
    """
    found, known = _regression(errors), usable(errors)
    expected = found.expected_mm(known)
    if "fold" in known and known["fold"].nunique() > 1:
        for here, others in _each_fold(errors):
            expected[here] = _regression(others).expected_mm(known[here])
    ratios = np.quantile(_at_least(known["error_mm"]) / expected, LEVELS)
    return dataclasses.replace(found, ratios=tuple(ratios.tolist()))


def usable(errors: pd.DataFrame) -> pd.DataFrame:
    """The points that are learnt from: of a known error, and found by their heatmap, which those
    of confidence 0 are not, see `kerasland.ShapePrior`."""
    return errors[np.isfinite(errors["error_mm"]) & (errors["confidence"] > 0)]


def _at_least(error_mm: pd.Series) -> np.ndarray:
    return np.maximum(error_mm.to_numpy(np.float64), LEAST_MM)


def _each_fold(errors: pd.DataFrame) -> Iterator[tuple[np.ndarray, pd.DataFrame]]:
    """For each fold, which of the known errors are its own; and all errors, with its own unknown:
    their landmarks stay."""
    folds = usable(errors)["fold"].to_numpy()
    for fold in dict.fromkeys(folds):
        others = errors.assign(error_mm=errors["error_mm"].where(errors["fold"] != fold))
        yield folds == fold, others


def _regression(errors: pd.DataFrame) -> Calibration:
    """Offsets and slope, without ratios."""
    known = usable(errors)
    names = list(dict.fromkeys(errors["landmark"]))
    which = known["landmark"].map({name: k for k, name in enumerate(names)}).to_numpy()
    features = np.column_stack([np.eye(len(names))[which], _lacking(known)])
    model = GammaRegressor(alpha=RIDGE, max_iter=1000).fit(features, _at_least(known["error_mm"]))
    offsets = model.intercept_ + model.coef_[:-1]
    seen = np.isin(np.arange(len(names)), which)
    offsets[~seen] = offsets[seen].mean()
    offset_of = dict(zip(names, offsets.tolist(), strict=True))
    return Calibration(offset_of, float(model.coef_[-1]), ())


def reliability(errors: pd.DataFrame) -> pd.DataFrame:
    """Whether what is said holds: each fold judged by a calibration from the other folds.

    Args:
        errors: errors table with a column `fold`, at least two of them with `usable` points, which
            alone count; no image in two folds.

    Returns:
        A row a level: nominal_coverage (the share of points said to be within their radius),
        empirical_coverage (the share that is), empirical_coverage_low and _high (95 %, images
        resampled), radius_mm_median (of the radii), constant_mm (the one radius for all points that
        holds that share).
    """
    known = usable(errors)
    radii = np.empty((len(known), len(LEVELS)))
    for here, others in _each_fold(errors):
        fitted = fit(others)
        radii[here] = np.outer(fitted.expected_mm(known[here]), fitted.ratios)
    error_mm = known["error_mm"].to_numpy(np.float64)
    within = pd.DataFrame(error_mm[:, None] <= radii).groupby(known["image_id"].to_numpy())
    sums, counts = within.sum().to_numpy(), within.size().to_numpy()
    low, high = tables.bootstrap_interval(sums.T, np.tile(counts, (len(LEVELS), 1)), 2000, 0)
    return pd.DataFrame(
        {
            "nominal_coverage": LEVELS,
            "empirical_coverage": sums.sum(axis=0) / counts.sum(),
            "empirical_coverage_low": low,
            "empirical_coverage_high": high,
            "radius_mm_median": np.median(radii, axis=0),
            "constant_mm": np.quantile(error_mm, LEVELS),
        }
    )


def attach(model: keras.Model, calibration: Calibration) -> keras.Model:
    """The same model with one output more, "error_mm" (B, K), the expected error in mm.

    Args:
        model: what `unet` returns.
        calibration: for the same landmarks.

    Raises:
        DataError: if the calibration lacks a landmark.
    """
    landmarks = landmark_names(model)
    if lacking := [name for name in landmarks if name not in calibration.offsets]:
        raise DataError(f"the calibration lacks landmark {lacking[0]!r}")
    layer = ExpectedError(
        [calibration.offsets[name] for name in landmarks],
        calibration.slope,
        LEVELS,
        calibration.ratios,
        name="expected_error",
    )
    outputs = dict(model.output)
    outputs["error_mm"] = layer(outputs["confidence"])
    return keras.Model(model.inputs[0], outputs, name=model.name)
