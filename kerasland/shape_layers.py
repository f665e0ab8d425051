"""Keras layers that know shapes: thin classes over `shape_prior` and `shape_posterior`."""

from __future__ import annotations

import keras

from kerasland import heatmaps, settings, shape_posterior, shape_prior

_register = keras.saving.register_keras_serializable(package="kerasland")


class ShapeLayer(keras.layers.Layer):
    """Has the mean shape (K, 2) and the precision (2K, 2K) as weights, which are not trained."""

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})  # whatever the policy

    def _add_shapes(self, landmarks_shape):
        size = 2 * landmarks_shape[1]
        still = {"trainable": False, "initializer": "zeros"}
        self.mean = self.add_weight(shape=landmarks_shape[1:], name="mean", **still)
        still["initializer"] = keras.initializers.Identity()
        self.precision = self.add_weight(shape=(size, size), name="precision", **still)


@_register
class ShapePrior(ShapeLayer):
    """Corrects landmarks that all others contradict, see `shape_prior.corrected`.

    Its weights, which are not trained, are the mean shape (K, 2), the precision (2K, 2K) and the
    least distance of each two landmarks (K, K); as they start, nothing is corrected.

    Args:
        doubtful: a confidence; points below it are corrected from `far` on.
        far: standard deviations from where the others say.
        absurd: standard deviations from which on a point is corrected whatever its confidence.
        place: where the mean shape lies in training images, see `closer_look.Place.numbers`,
            pixels of the network's frame; for `localizers` and `looks`, which look closer.

    Call arguments:
        landmarks: (B, K, 2), pixels of any frame.
        confidence: (B, K).

    Returns:
        Landmarks (B, K, 2) and confidence (B, K), float32. The confidence is 0 where a landmark was
        corrected or is on one spot with another, and everywhere where the landmarks are no such
        shape.
    """

    def __init__(self, doubtful=0.5, far=4.0, absurd=8.0, place=None, **kwargs):
        super().__init__(**kwargs)
        self.doubtful = doubtful
        self.far = far
        self.absurd = absurd
        self.place = None if place is None else tuple(place)

    def build(self, landmarks_shape, confidence_shape):
        self._add_shapes(landmarks_shape)
        self.apart = self.add_weight(
            shape=2 * landmarks_shape[1:2], name="apart", trainable=False, initializer="zeros"
        )

    def load_own_variables(self, store):
        for index, weight in enumerate(self.weights):
            if str(index) in store:  # older files do not know how far apart landmarks are
                weight.assign(store[str(index)])

    def call(self, landmarks, confidence):
        return shape_prior.corrected(
            landmarks,
            confidence,
            self.mean,
            self.precision,
            self.apart,
            self.doubtful,
            self.far,
            self.absurd,
        )

    def compute_output_shape(self, landmarks_shape, confidence_shape):
        return landmarks_shape, confidence_shape

    def get_config(self):
        config = {"doubtful": self.doubtful, "far": self.far, "absurd": self.absurd}
        return {**super().get_config(), **config, "place": self.place}


@_register
class ShapePosterior(ShapeLayer):
    """Weighs each landmark against all others, for those along contours, see `shape_posterior`.

    Its weights, which are not trained, are the mean shape (K, 2) and the precision (2K, 2K); as
    they start, no landmark moves.

    Args:
        image_shape: (H, W) of the network's input, pixels.
        sigma_px: standard deviation of the Gaussian that the heatmaps were trained towards.
        radius_cells, beta: of the `HeatmapDecoder`.

    Call arguments:
        landmarks: (B, K, 2), what the decoder returns.
        logits: (B, h, w, K).
        confidence: (B, K), what the decoder returns; None: of all alike, as in older files.

    Returns:
        Landmarks (B, K, 2), float32.
    """

    def __init__(self, image_shape, sigma_px, radius_cells=4, beta=1.0, **kwargs):
        super().__init__(**kwargs)
        self.image_shape = settings.height_and_width(image_shape)
        self.sigma_px = settings.above_0("sigma_px", sigma_px)
        self.radius_cells = settings.whole("radius_cells", radius_cells, least=0)
        self.beta = settings.above_0("beta", beta)

    def build(self, landmarks_shape, logits_shape, confidence_shape=None):
        self._add_shapes(landmarks_shape)

    def call(self, landmarks, logits, confidence=None):
        seen = heatmaps.peak_covariance(
            logits, landmarks, self.image_shape, self.radius_cells, self.beta
        )
        covariance = shape_posterior.unblurred(seen, self.sigma_px**2)
        if confidence is not None:
            covariance = shape_posterior.doubted(covariance, confidence)
        return shape_posterior.posterior(landmarks, covariance, self.mean, self.precision)

    def compute_output_shape(self, landmarks_shape, logits_shape, confidence_shape=None):
        return landmarks_shape

    def get_config(self):
        config = {
            "image_shape": self.image_shape,
            "sigma_px": self.sigma_px,
            "radius_cells": self.radius_cells,
            "beta": self.beta,
        }
        return {**super().get_config(), **config}
