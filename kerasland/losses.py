"""Keras losses of the method: thin classes over `embedding` and `heatmaps`.

Their targets are points, (B, K, 2) in pixels of the network's input, NaN where a landmark is not
annotated; no heatmap travels with a batch. Each returns one value a sample, which is what lets
`tf.distribute` scale it rightly.
"""

from __future__ import annotations

import keras
import tensorflow as tf
from keras import ops

from kerasland import embedding, heatmaps
from kerasland.settings import above_0, height_and_width

HEATMAP_LOSSES = ("cross_entropy", "squared_error")  # functions of `heatmaps`
_register = keras.saving.register_keras_serializable(package="kerasland")


class _PointLoss(keras.losses.Loss):
    """A loss whose configuration is the constructor's arguments, given as keywords."""

    def __init__(self, reduction, name, dtype, **settings):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self._settings = settings
        for key, value in settings.items():
            setattr(self, key, value)

    def __call__(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None:
            sample_weight = self._one_a_sample(ops.convert_to_tensor(sample_weight, self.dtype))
        return super().__call__(y_true, y_pred, sample_weight)

    def _one_a_sample(self, weight):
        """Refuses weights that would be broadcast; in a graph that does not know, when it runs."""
        ones = (1,) * len(weight.shape[1:]) if weight.shape.rank is not None else None
        if ones is None or not weight.shape[1:].is_compatible_with(ones):
            raise ValueError(
                f"{self.name}: sample_weight of shape {weight.shape}: expected one a sample, (B,); "
                "to leave a landmark out, make its point NaN"
            )
        return weight if weight.shape[1:] == ones else tf.ensure_shape(weight, (None, *ones))

    def _check_head(self, y_pred, dimensions: int, what: str):
        """Refuses another output of the network than that which the loss is about."""
        if len(y_pred.shape) != dimensions:
            raise ValueError(f"{self.name}: y_pred of shape {tuple(y_pred.shape)}: expected {what}")

    def get_config(self):
        return {**super().get_config(), "dtype": self.dtype, **self._settings}


@_register
class HeatmapLoss(_PointLoss):
    """Compares heatmaps with Gaussians about the annotated points, made within the loss.

    Args:
        image_shape: (H, W) of the network's input, pixels.
        sigma_px: standard deviation of the Gaussian, pixels of the network's input.
        kind: "cross_entropy" of the softmax over the grid, or "squared_error" of the heatmap
            against a Gaussian of height 1, summed over the grid. Such heatmaps are flat where
            logits are steep: build the network with `beta=15`.

    Call arguments:
        y_true: (B, K, 2), points.
        y_pred: (B, h, w, K), logits.

    Returns:
        (B,) before reduction: the mean over the landmarks that are annotated and inside the
        image, 0 where there is none.

    Raises:
        ValueError: for another kind, or `sigma_px` not above 0; when called, for points of
            another shape, weights of landmarks, another output than heatmaps, or heatmaps that
            do not divide `image_shape` or whose size a graph does not know.
    """

    def __init__(
        self,
        image_shape,
        sigma_px=2.5,
        kind="cross_entropy",
        reduction="sum_over_batch_size",
        name="heatmap_loss",
        dtype="float32",
    ):
        if kind not in HEATMAP_LOSSES:
            raise ValueError(f"kind must be one of {HEATMAP_LOSSES}, not {kind!r}")
        super().__init__(
            reduction,
            name,
            dtype,
            image_shape=height_and_width(image_shape),
            sigma_px=above_0("sigma_px", sigma_px),
            kind=kind,
        )

    def call(self, y_true, y_pred):
        self._check_head(y_pred, 4, "heatmaps (B, h, w, K)")
        y_true = heatmaps.points_of(y_pred.shape[-1], y_true, f"{self.name}: y_true")
        (height, width), (rows, columns) = self.image_shape, heatmaps.grid_of(y_pred)
        if height % rows or width % columns:
            raise ValueError(
                f"{self.name}: heatmaps of {rows} x {columns} cells are no image of "
                f"{height} x {width} pixels; image_shape is (height, width)"
            )
        compare = getattr(heatmaps, self.kind)
        values = compare(y_pred, y_true, self.image_shape, self.sigma_px)
        return heatmaps.masked_mean(values, heatmaps.annotated(y_true, self.image_shape))


@_register
class SpatialConfigurationLoss(_PointLoss):
    """Compares the correlation map between landmarks with that of the annotation.

    The mean over the pairs of annotated landmarks of |M - M*| (or its square), with M the
    correlation map of the predicted spatial feature vectors and M* that of the annotated points.

    Args:
        image_shape: (H, W) of the network's input, pixels.
        maps, angle: as in the `SpatialEmbedding` that makes y_pred.
        correlation: "cosine", "pearson", "inner" or "distance", see
            `kerasland.embedding.correlation_map`.
        difference: "absolute" or "squared".

    Call arguments:
        y_true: (B, K, 2), points.
        y_pred: (B, K, C), spatial feature vectors.

    Returns:
        (B,) before reduction; 0 where fewer than two landmarks are annotated.

    Raises:
        ValueError: for unknown names, and for "pearson" of two-component vectors; when called, for
            points of another shape, weights of landmarks, another output than vectors, or those
            of other maps.
    """

    def __init__(
        self,
        image_shape,
        maps="both",
        angle="unit",
        correlation="cosine",
        difference="absolute",
        reduction="sum_over_batch_size",
        name="spatial_configuration_loss",
        dtype="float32",
    ):
        components = embedding.feature_count(maps, angle)
        if correlation not in embedding.CORRELATIONS:
            raise ValueError(
                f"correlation must be one of {embedding.CORRELATIONS}, not {correlation!r}"
            )
        if correlation == "pearson" and components < 3:
            raise ValueError("pearson needs vectors of three components or more: use maps='both'")
        if difference not in ("absolute", "squared"):
            raise ValueError(f"difference must be 'absolute' or 'squared', not {difference!r}")
        super().__init__(
            reduction,
            name,
            dtype,
            image_shape=height_and_width(image_shape),
            maps=maps,
            angle=angle,
            correlation=correlation,
            difference=difference,
        )

    def call(self, y_true, y_pred):
        self._check_head(y_pred, 3, "spatial feature vectors (B, K, C)")
        y_true = heatmaps.points_of(y_pred.shape[1], y_true, f"{self.name}: y_true")
        components = embedding.feature_count(self.maps, self.angle)
        if y_pred.shape[-1] != components:
            raise ValueError(
                f"{self.name}: spatial feature vectors of {y_pred.shape[-1]} components, where "
                f"maps={self.maps!r}, angle={self.angle!r} have {components}: build network and "
                "loss with the same"
            )
        valid = heatmaps.annotated(y_true, self.image_shape)
        known = ops.where(valid[..., None], y_true, ops.zeros_like(y_true))
        target = embedding.embed_points(known, self.image_shape, self.maps, self.angle)
        wanted = embedding.correlation_map(target, self.correlation)
        found = embedding.correlation_map(ops.cast(y_pred, "float32"), self.correlation)
        gap = ops.abs(found - wanted)
        if self.difference == "squared":
            gap = gap * gap
        landmarks = y_pred.shape[1]
        distinct = ops.logical_not(ops.eye(landmarks, dtype="bool"))
        pairs = ops.logical_and(valid[:, :, None], valid[:, None, :])
        return heatmaps.masked_mean(gap, ops.logical_and(pairs, distinct))
