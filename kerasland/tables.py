"""The statistics of the field, from the errors of points to the rows of a paper's table.

Input everywhere is an "errors" table: one row a point, with the columns `ERROR_COLUMNS` (error_px
and error_mm in the units they name; NaN where the landmark is not annotated, and error_mm NaN as
well where no scale is known) and, where runs are pooled, a column `seed`.

An outlier at radius r is a point with error > r, strictly; SDR_r is 100 minus the percentage of
outliers. A standard deviation divides by n (ddof = 0), as the field's own code does. Points of
several seeds are pooled: each counts once, so counts grow with the number of seeds.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy import stats

from kerasland.errors import DataError

ERROR_COLUMNS = (
    "image_id",
    "landmark",
    "x",
    "y",
    "x_true",
    "y_true",
    "error_px",
    "error_mm",
    "confidence",
)
THRESHOLDS_MM = (2.0, 2.5, 3.0, 4.0, 10.0)
OUTLIERS_MM = (2.0, 4.0, 10.0)


def _radius_name(radius_mm: float) -> str:
    return f"{radius_mm:g}mm".replace(".", "_")


def _statistics(values: np.ndarray, name: str) -> dict[str, float]:
    """Median, mean and SD, under `name`_median, ...; NaN of nothing."""
    functions = {"median": np.median, "mean": np.mean, "sd": np.std}
    return {
        f"{name}_{key}": float(function(values)) if values.size else math.nan
        for key, function in functions.items()
    }


def _finite(values: pd.Series) -> np.ndarray:
    values = values.to_numpy(dtype=np.float64)
    return values[np.isfinite(values)]


def _outliers(error_mm: np.ndarray, radius_mm: float) -> float:
    return int(np.count_nonzero(error_mm > radius_mm)) if error_mm.size else math.nan


def _sdr(error_mm: np.ndarray, radius_mm: float) -> float:
    return 100.0 - 100.0 * _outliers(error_mm, radius_mm) / max(error_mm.size, 1)


def bootstrap_interval(
    sums: np.ndarray, counts: np.ndarray, samples: int, seed: int
) -> tuple[float | np.ndarray, float | np.ndarray]:
    """The 95 % percentile interval of sum / count, when images are resampled with replacement.

    Args:
        sums, counts: (..., N), of N images.
        samples: resamples.
        seed: of the draws.

    Returns:
        Its ends, (...) each; NaN with fewer than two images.
    """
    if np.shape(sums)[-1] < 2:
        return math.nan, math.nan
    return stats.bootstrap(
        (sums, counts),
        lambda sums, counts, axis: sums.sum(axis) / counts.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=samples,
        batch=max(1, 1_000_000 // np.size(sums)),  # all at once may take gigabytes
        axis=-1,
        method="percentile",
        random_state=np.random.default_rng(seed),
    ).confidence_interval


def _known(errors: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows whose error in that column is known."""
    return errors[np.isfinite(errors[name].to_numpy(dtype=np.float64))]


def unit_of(errors: pd.DataFrame) -> str:
    """The unit in which a reader wants the errors: "mm" where most are known so, else "px"."""
    known = _finite(errors["error_mm"]).size
    return "mm" if known and 2 * known >= _finite(errors["error_px"]).size else "px"


def check_each_once(errors: pd.DataFrame, where: str = "errors") -> None:
    """Raises DataError, which begins with `where`, if a point occurs more than once, of a seed."""
    keys = ["image_id", "landmark", *(["seed"] if "seed" in errors else [])]
    if (again := errors.duplicated(keys)).any():
        first = ", ".join(
            f"{key} {value}" for key, value in errors.loc[again, keys].iloc[0].items()
        )
        raise DataError(
            f"{where}: {first} occurs more than once; of several trainings, give the errors of "
            "each a column `seed`"
        )


def _in_unit(errors: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows known in `unit_of`, and those known in mm if it is mm; else none."""
    unit = unit_of(errors)
    known = _known(errors, f"error_{unit}")
    return known, known if unit == "mm" else known[:0]


def scale_unknown(errors: pd.DataFrame) -> int:
    """Of how many images the errors are known in pixels only; 0 where they all are."""
    images = _known(errors, "error_px")["image_id"].nunique()
    in_mm = _known(errors, "error_mm")["image_id"].nunique()
    return images - in_mm if in_mm else 0


def _interval_of_mean(errors: pd.DataFrame, name: str, samples: int, seed: int) -> dict[str, float]:
    """`name`_mean_low and `name`_mean_high, when images are resampled with all their points."""
    of_image = _known(errors, name).groupby("image_id")[name].agg(["sum", "count"])
    sums, counts = of_image["sum"].to_numpy(), of_image["count"].to_numpy()
    low, high = bootstrap_interval(sums, counts, samples, seed)
    return {f"{name}_mean_low": low, f"{name}_mean_high": high}


def _of_images(errors: pd.DataFrame, unit: str) -> dict[str, float]:
    """Mean and SD over the mean error of each image, each seed for itself."""
    keys = ["image_id", *(column for column in errors if column == "seed")]
    name = f"error_{unit}"
    found = _statistics(_known(errors, name).groupby(keys)[name].mean().to_numpy(), f"ipe_{unit}")
    return {key: found[key] for key in (f"ipe_{unit}_mean", f"ipe_{unit}_sd")}


def summarize(errors: pd.DataFrame, samples: int = 10_000, seed: int = 0) -> dict[str, float]:
    """The statistics of one table row.

    Args:
        errors: errors table, as in the module docstring; several seeds are pooled.
        samples: resamples of the bootstrap. It draws images with replacement, and every point of
            an image, of all seeds, travels with it, since the errors within an image depend on
            each other.
        seed: of the bootstrap.

    Returns:
        error_mm_median, error_mm_mean, error_mm_sd (over points), error_mm_mean_low and
        error_mm_mean_high (95 % interval of the mean; NaN with fewer than two images),
        outliers_{2,4,10}mm (counts), sdr_{2,2_5,3,4,10}mm (percent), ipe_mm_mean and ipe_mm_sd
        (over the mean error of each image, each seed for itself); of pixels error_px_median,
        ..._mean, ..._sd, ..._mean_low, ..._mean_high, ipe_px_mean, ipe_px_sd; points (with an
        error in `unit_of`), images (with such a point), seeds. What is in millimetres covers the
        points whose scale is known, and is NaN if `unit_of` is px.

    Raises:
        DataError: a point occurs more than once, of one seed.
    """
    check_each_once(errors)
    known, in_mm = _in_unit(errors)
    seeds = errors["seed"] if "seed" in errors else pd.Series(0, index=errors.index)
    error_mm, error_px = _finite(in_mm["error_mm"]), _finite(errors["error_px"])
    return {
        **_statistics(error_mm, "error_mm"),
        **_interval_of_mean(in_mm, "error_mm", samples, seed),
        **{f"outliers_{_radius_name(r)}": _outliers(error_mm, r) for r in OUTLIERS_MM},
        **{f"sdr_{_radius_name(r)}": _sdr(error_mm, r) for r in THRESHOLDS_MM},
        **_of_images(in_mm, "mm"),
        **_statistics(error_px, "error_px"),
        **_interval_of_mean(errors, "error_px", samples, seed),
        **_of_images(errors, "px"),
        "points": len(known),
        "images": int(known["image_id"].nunique()),
        "seeds": int(seeds.nunique()),
    }


def per_landmark(errors: pd.DataFrame) -> pd.DataFrame:
    """The statistics of each landmark.

    Args:
        errors: errors table.

    Returns:
        A row a landmark, in the order of first appearance: landmark, points (with an error in
        `unit_of` the table), error_mm_median, error_mm_mean, error_mm_sd, sdr_2mm, sdr_10mm
        (percent), outliers_10mm (count), error_mm_max, error_px_mean. NaN where nothing is known,
        and what is in millimetres if `unit_of` is px.
    """
    rows, unit = [], unit_of(errors)
    for landmark, group in errors.groupby("landmark", sort=False):
        in_mm = group if unit == "mm" else group[:0]
        error_mm, error_px = _finite(in_mm["error_mm"]), _finite(group["error_px"])
        rows.append(
            {
                "landmark": landmark,
                "points": len(_known(group, f"error_{unit}")),
                **_statistics(error_mm, "error_mm"),
                "sdr_2mm": _sdr(error_mm, 2.0),
                "sdr_10mm": _sdr(error_mm, 10.0),
                "outliers_10mm": _outliers(error_mm, 10.0),
                "error_mm_max": float(error_mm.max()) if error_mm.size else math.nan,
                "error_px_mean": float(error_px.mean()) if error_px.size else math.nan,
            }
        )
    return pd.DataFrame(rows)


def of_seeds(errors: pd.DataFrame, other: pd.DataFrame | None = None) -> dict[int, float]:
    """The mean error of each seed, in `unit_of`, or by how much it is less than that of the same
    seed in another table of the same points: how far trainings differ by chance."""
    name = f"error_{unit_of(errors)}"
    means = errors.groupby("seed")[name].mean()
    if other is not None:
        means = other.groupby("seed")[name].mean() - means
    return means.to_dict()


def paired(
    errors_a: pd.DataFrame,
    errors_b: pd.DataFrame,
    samples: int = 10_000,
    seed: int = 0,
    unit: str = "mm",
) -> dict[str, float]:
    """Compares two methods on the same points, image by image.

    Args:
        errors_a, errors_b: errors tables. A point's error is its mean over the seeds; an image's
            error the mean over its points.
        samples: resamples of the bootstrap over images.
        seed: of the bootstrap.
        unit: "mm" or "px".

    Returns:
        difference_mm_mean (mean over images of b - a: negative where b is better),
        difference_mm_low, difference_mm_high (95 % interval), wilcoxon_p (two-sided signed-rank
        test over images; 1 where no image differs), in millimetres also sdr_2mm_difference (mean
        over images of b - a in the percentage of points, of all seeds, within 2 mm: positive where
        b is better), sdr_2mm_difference_low, sdr_2mm_difference_high; images.

    Raises:
        DataError: a point is known in that unit on one side only, or nowhere, or occurs more than
            once, of one seed.
    """
    name, points, within = f"error_{unit}", [], []
    for errors in (errors_a, errors_b):
        check_each_once(errors)
        known = _known(errors, name)
        points.append(known.groupby(["image_id", "landmark"], sort=True)[name].mean())
        within.append(100.0 * (known[name] <= 2.0).groupby(known["image_id"]).mean())
    for which, here, there in (("second", *points), ("first", *points[::-1])):
        missing = here.index.difference(there.index)
        if len(missing):
            shown = "; ".join(f"image {i}, landmark {k}" for i, k in missing[:3])
            more = " ..." if len(missing) > 3 else ""
            raise DataError(
                f"the {which} table of errors lacks {len(missing)} of the other's points: "
                f"{shown}{more}"
            )
    if points[0].empty:
        hint = "; unit='px' compares pixels" if unit == "mm" else ""
        raise DataError(f"neither table of errors holds an error in {unit}{hint}")
    mean_a, mean_b = (point.groupby(level="image_id").mean() for point in points)
    difference = (mean_b - mean_a).to_numpy()
    each = np.ones(len(difference))
    low, high = map(float, bootstrap_interval(difference, each, samples, seed))
    p = float(stats.wilcoxon(difference).pvalue) if np.any(difference) else 1.0
    compared = {
        f"difference_{unit}_mean": float(difference.mean()),
        f"difference_{unit}_low": low,
        f"difference_{unit}_high": high,
        "wilcoxon_p": p,
    }
    if unit == "mm":
        gain = (within[1] - within[0]).to_numpy()
        gain_low, gain_high = map(float, bootstrap_interval(gain, each, samples, seed))
        compared["sdr_2mm_difference"] = float(gain.mean())
        compared["sdr_2mm_difference_low"] = gain_low
        compared["sdr_2mm_difference_high"] = gain_high
    return {**compared, "images": len(difference)}
