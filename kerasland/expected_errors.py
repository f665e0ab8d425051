"""What a calibrated model says of its errors in an image, in the millimetres of that image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import numpy as np

from kerasland.geometry import Spacing
from kerasland.layers import ExpectedError, layer_of
from kerasland.scale import Scale


def of_model(model: keras.Model) -> Callable[[np.ndarray], list[dict[str, np.ndarray]]]:
    """A function from the confidence (N, K) of N images to what the model expects of its errors in
    each, in the millimetres that it was calibrated in.

    Args:
        model: what `model_files.load_model` returns.

    Returns:
        A function that gives N times `error_mm` and `error_mm_95`, (K,) each, as
        `predictions.Prediction` has them; nothing of a model that is not calibrated.
    """
    layer = layer_of(model, ExpectedError)
    if layer is None:
        return lambda confidence: [{}] * len(confidence)
    ratio = layer.ratio(0.95)

    def expected(confidence: np.ndarray) -> list[dict[str, np.ndarray]]:
        of_images = np.asarray(layer(confidence), np.float64)
        return [{"error_mm": errors, "error_mm_95": ratio * errors} for errors in of_images]

    return expected


def spacing_by(
    scale: Scale | None, points: np.ndarray, confidence: np.ndarray, names: Sequence[str]
) -> Spacing | None:
    """The spacing of an image by two of its landmarks, if the scale is of that kind.

    Args:
        scale: the model's.
        points: (K, 2), pixels.
        confidence: (K,).
        names: of the landmarks.

    Returns:
        The spacing; None where a landmark that it rests on was not found, see `ShapePrior`.
    """
    if scale is None or scale.landmarks is None or not confidence[list(scale.landmarks)].all():
        return None
    mm_per_px = float(scale.per_image(points[None])[0])
    return Spacing(mm_per_px, mm_per_px, scale.describe(names)) if np.isfinite(mm_per_px) else None


def rescaled(
    expected: dict[str, np.ndarray],
    scale: Scale | None,
    derived: Spacing | None,
    used: Spacing | None,
) -> dict[str, np.ndarray]:
    """Expected errors in the millimetres that are used of an image.

    Args:
        expected: arrays (K,) in millimetres by the model's scale.
        scale: the model's.
        derived: the image's spacing by that scale, see `spacing_by`.
        used: the spacing that is used, such as one that its file states.

    Returns:
        The same arrays by `used`; NaN where the model's scale is not known in this image and
        another is used.
    """
    by_spacing = scale is not None and scale.landmarks is None
    if used is derived or by_spacing:
        return expected
    factor = np.nan
    if derived is not None:
        factor = (used.x_mm + used.y_mm) / (derived.x_mm + derived.y_mm)
    return {name: factor * errors for name, errors in expected.items()}
