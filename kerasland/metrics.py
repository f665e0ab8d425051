"""Keras metrics of the field, in millimetres: point-to-point error and success detection rate."""

from __future__ import annotations

import numbers
import operator

import keras
import numpy as np
from keras import ops

from kerasland import heatmaps
from kerasland.scale import WRIST
from kerasland.settings import above_0

_register = keras.saving.register_keras_serializable(package="kerasland")


class _PointMetric(keras.metrics.Mean):
    """A mean over annotated points; subclasses turn errors in millimetres into values.

    The scale is `mm_per_px` if given, else it follows from the annotated points themselves: the
    distance between the two `scale_landmarks` is `length_mm`. An image where one of those two is
    not annotated is left out. With neither, errors stay in pixels. NaN where nothing could be
    measured.
    """

    def __init__(self, scale_landmarks, length_mm, mm_per_px, name, **kwargs):
        super().__init__(name=name, **kwargs)
        self.scale_landmarks = None if scale_landmarks is None else _two(scale_landmarks)
        if mm_per_px is not None:
            above_0("mm_per_px", mm_per_px)
        elif scale_landmarks is not None:
            above_0("length_mm", length_mm)
        self.length_mm = length_mm
        self.mm_per_px = mm_per_px

    def point_values(self, error_mm):
        raise NotImplementedError

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds a batch.

        Args:
            y_true: (B, K, 2), annotated points in pixels, NaN where there is none.
            y_pred: (B, K, 2), in the same pixels.
            sample_weight: None, (B,) or (B, K).
        """
        y_true = ops.cast(y_true, self.dtype)
        y_pred = ops.cast(y_pred, self.dtype)
        y_pred = heatmaps.points_of(None, y_pred, f"{self.name}: y_pred")
        landmarks = y_pred.shape[1]
        y_true = heatmaps.points_of(landmarks, y_true, f"{self.name}: y_true")
        error = _distance(y_true, y_pred)
        valid = ops.all(ops.isfinite(y_true), axis=-1)
        if self.mm_per_px is not None:
            error = error * self.mm_per_px
        elif self.scale_landmarks is not None:
            a, b = self.scale_landmarks
            if landmarks is not None and max(a, b) >= landmarks:
                raise ValueError(
                    f"{self.name}: scale_landmarks={a, b} of {landmarks} landmarks, from 0; "
                    "None for errors in pixels"
                )
            scale = self.length_mm / _distance(y_true[:, a], y_true[:, b])
            error = error * scale[:, None]
            valid = ops.logical_and(valid, ops.isfinite(scale)[:, None])
        values = self.point_values(ops.where(valid, error, ops.zeros_like(error)))
        weight = ops.cast(valid, self.dtype)
        if sample_weight is not None:
            sample_weight = ops.cast(sample_weight, self.dtype)
            if len(sample_weight.shape) == 1:
                sample_weight = sample_weight[:, None]
            weight = weight * sample_weight
        super().update_state(values, sample_weight=weight)

    def result(self):
        return ops.where(self.count > 0, super().result(), np.nan)

    def get_config(self):
        config = {
            "scale_landmarks": self.scale_landmarks,
            "length_mm": self.length_mm,
            "mm_per_px": self.mm_per_px,
        }
        return {**super().get_config(), **config}


@_register
class RadialError(_PointMetric):
    """Mean point-to-point error in millimetres, over all annotated points pooled.

    Args:
        scale_landmarks: the two landmarks, counted from 0, whose distance is `length_mm`; None
            for errors in pixels.
        length_mm: the field sets the width of the wrist to 50 mm.
        mm_per_px: a known scale in the pixels of the points, used instead of the landmarks.

    Raises:
        ValueError: a length or scale not above 0, or no two different landmarks; when called,
            landmarks that are not there, or points of other shapes.
    """

    _direction = "down"  # for Keras's callbacks

    def __init__(
        self,
        scale_landmarks=WRIST.landmarks,
        length_mm=WRIST.length_mm,
        mm_per_px=None,
        name=None,
        **kwargs,
    ):
        name = name or f"radial_error_{_unit(scale_landmarks, mm_per_px)}"
        super().__init__(scale_landmarks, length_mm, mm_per_px, name, **kwargs)

    def point_values(self, error_mm):
        return error_mm


@_register
class SuccessDetectionRate(_PointMetric):
    """Percentage of annotated points whose error is not above a radius.

    Args:
        radius_mm: the radius, in pixels where no scale is given; a point at error > radius_mm is
            an outlier.
        scale_landmarks, length_mm, mm_per_px: see `RadialError`, also for what is raised.
    """

    _direction = "up"

    def __init__(
        self,
        radius_mm=2.0,
        scale_landmarks=WRIST.landmarks,
        length_mm=WRIST.length_mm,
        mm_per_px=None,
        name=None,
        **kwargs,
    ):
        if not (isinstance(radius_mm, numbers.Real) and 0 <= radius_mm < np.inf):
            raise ValueError(f"radius_mm must be 0 or more, and finite, not {radius_mm!r}")
        unit = _unit(scale_landmarks, mm_per_px)
        name = name or f"sdr_{radius_mm:g}{unit}".replace(".", "_")
        super().__init__(scale_landmarks, length_mm, mm_per_px, name, **kwargs)
        self.radius_mm = radius_mm

    def point_values(self, error_mm):
        return 100.0 * ops.cast(error_mm <= self.radius_mm, self.dtype)

    def get_config(self):
        return {**super().get_config(), "radius_mm": self.radius_mm}


def _two(landmarks) -> tuple[int, int]:
    try:
        a, b = map(operator.index, landmarks)
    except (TypeError, ValueError):
        a = b = 0
    if min(a, b) < 0 or a == b:
        raise ValueError(f"scale_landmarks={landmarks}: expected two different ones, from 0")
    return a, b


def _unit(scale_landmarks, mm_per_px) -> str:
    return "px" if scale_landmarks is None and mm_per_px is None else "mm"


def _distance(a, b):
    return ops.sqrt(ops.sum(ops.square(a - b), axis=-1))
