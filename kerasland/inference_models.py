"""A trained network made ready to be used: precision, shapes, the way from and to raw images."""

from __future__ import annotations

import keras
import numpy as np

from kerasland import shapes
from kerasland.closer_look import usual_place
from kerasland.layers import ExpectedError, HeatmapDecoder, PixelSize, layer_of
from kerasland.looks import Looks
from kerasland.scale import Scale
from kerasland.shape_layers import ShapePosterior, ShapePrior

# the kinds of layers that work between the standardised image and the head
BETWEEN = (
    keras.layers.Conv2D,
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.Dropout,
    keras.layers.Activation,
    keras.layers.MaxPooling2D,
    keras.layers.UpSampling2D,
    keras.layers.Concatenate,
)


def bare(model: keras.Model, dtype: str = "float32") -> keras.Model:
    """The same network and weights, without optimiser, losses and metrics.

    Args:
        model: what `unet` returns.
        dtype: in which the layers before the last convolution compute; that one, decoder and
            embedding have float32, since pixels are fractions of what separates two logits.

    Returns:
        `keras.Model`, not compiled.
    """
    policies = {layer.name: _policy(layer, dtype) for layer in model.layers}
    if any(layer.dtype_policy.name != policies[layer.name] for layer in model.layers):
        copy = keras.models.clone_model(
            model,
            clone_function=lambda layer: layer.__class__.from_config(
                {**layer.get_config(), "dtype": policies[layer.name]}
            ),
        )
        copy.set_weights(model.get_weights())
        model = copy  # which Keras has compiled like the original
    return keras.Model(model.inputs[0], model.output, name=model.name)


def _policy(layer: keras.layers.Layer, dtype: str) -> str:
    between = isinstance(layer, BETWEEN) and layer.name not in ("head", "heatmaps")
    return f"mixed_{dtype}" if between and dtype != "float32" else "float32"


def with_shapes(
    model: keras.Model, points: np.ndarray, sigma_px: float | None = None
) -> keras.Model:
    """The same model, whose landmarks know the shapes that it was trained on.

    Args:
        model: what `unet` returns.
        points: (N, K, 2), annotation of the images that it was trained on, pixels of the
            network's frame, NaN where unknown.
        sigma_px: None for `ShapePrior`, which corrects landmarks that all others contradict; the
            standard deviation that the heatmaps were trained towards for `ShapePosterior`, which
            weighs each landmark against all others.

    Returns:
        `keras.Model`; `model` itself if so few points do not tell what is plausible, see
        `kerasland.shapes.fit`.
    """
    known = shapes.fit(points)
    if known is None:
        return model
    outputs = dict(model.output)
    if sigma_px is None:
        usual = usual_place(known.mean, points)
        layer = ShapePrior(place=usual and usual.numbers(), name="shape_prior")
        corrected = layer(outputs["landmarks"], outputs["confidence"])
        outputs["landmarks"], outputs["confidence"] = corrected
    else:
        decoder = layer_of(model, HeatmapDecoder)
        window = decoder.image_shape, sigma_px, decoder.radius_cells, decoder.beta
        layer = ShapePosterior(*window, name="shape_posterior")
        found = (outputs[name] for name in ("landmarks", "heatmaps", "confidence"))
        outputs["landmarks"] = layer(*found)
    layer.set_weights(known[: len(layer.weights)])
    return keras.Model(model.inputs[0], outputs, name=model.name)


def pipeline(model: keras.Model, dtype: str = "float32", scale: Scale | None = None) -> keras.Model:
    """The whole path from a raw image to landmarks in its own pixels, as one model.

    Args:
        model: what `unet` returns.
        dtype: of the raw image. "uint8" saves the export a pass over it, "uint16" has it begin at
            its darkest intensity, as `predict` does; both refuse others (but not once the pipeline
            itself was saved and loaded).
        scale: by which the model's errors are in millimetres, see `model_notes.model_scale`.

    Returns:
        `keras.Model` from "image" (B, H, W, 1), any H and W and any range of intensities (in
        float32 they should begin at 0), to "landmarks" (B, K, 2), pixels of that image,
        "confidence" (B, K), and, of a model that `kerasland.calibration` has been at, "error_mm"
        (B, K); where the scale is two landmarks a known length apart, also "mm_per_px" (B,), see
        `PixelSize`. It looks again at images as `localizers.localizer` does, see `Looks`,
        and shares the weights of `model`.

    Raises:
        ValueError: if the model has no frame that images are fitted into, as what this returns.
    """
    image_shape = model.input_shape[1:3]
    if None in image_shape:
        raise ValueError(
            f"model {model.name!r} takes images of any size already; give what unet() returns"
        )
    image = keras.Input((None, None, 1), name="image", dtype=dtype)
    wanted = {name: model.output[name] for name in ("landmarks", "confidence")}
    alone = keras.Model(model.inputs[0], wanted, name=model.name)  # without its optimiser
    prior = layer_of(model, ShapePrior)
    landmarks, confidence = Looks(alone, prior and prior.name, name="looks")(image)
    outputs = {"landmarks": landmarks, "confidence": confidence}
    calibrated = layer_of(model, ExpectedError)
    if calibrated is not None:
        outputs["error_mm"] = calibrated(confidence)
    if scale is not None and scale.landmarks is not None:
        size = PixelSize(scale.landmarks, scale.length_mm, name="mm_per_px")
        outputs["mm_per_px"] = size(landmarks, confidence)
    whole = keras.Model(image, outputs, name="pipeline")
    if image.dtype != "float32":
        whole.input_spec = keras.InputSpec(
            dtype=image.dtype, shape=image.shape, allow_last_axis_squeeze=True
        )
    return whole
