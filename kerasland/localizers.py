"""A trained model on images in memory: raw ones of either side, or frames of the network."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kerasland import geometry, machine
from kerasland.errors import UsageError
from kerasland.layers import ShapePrior
from kerasland.volumes import is_nifti

SIDES = ("left", "right")
AUTO = "auto"
BATCH = 4  # images a pass, where there are that many; 8 cost no less each
Localizer = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
BatchLocalizer = Callable[
    [np.ndarray, Sequence[tuple[int, int]]], tuple[np.ndarray, np.ndarray, list[str]]
]


def localizer(model: keras.Model, side: str = "left") -> Localizer:
    """A function from a raw image (H, W) to landmarks (K, 2), its pixels, and confidence (K,).

    Args:
        model: what `model_files.load_model` returns.
        side: "left", or "right" for the other hand where the model knows left ones: the network
            sees the image mirrored, and the landmarks are mirrored back. Or "auto": an image whose
            landmarks form no shape as it is is looked at mirrored as well, and counts as a right
            hand if they do then; for models that know shapes, see `layers.ShapePrior`.

    Raises:
        UsageError: another side, or "auto" of a model that knows no shapes.
    """
    locate, shape = batch_localizer(model, side), model.input_shape[1:3]

    def localize(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        points, confidence, _ = locate(in_frame(image, shape, side)[None], [image.shape])
        return points[0], confidence[0]

    return localize


def batch_localizer(model: keras.Model, side: str = "left") -> BatchLocalizer:
    """As `localizer`, for N images of any sizes in one pass.

    Returns:
        A function from `in_frame` of each image for the same side, (N, h, w), N at least 1, and
        their shapes (H, W) to landmarks (N, K, 2), pixels of each image, confidence (N, K), and the
        side each was taken for.
    """
    _check_side(side, model)
    locate = frame_localizer(model)

    def localize(
        frames: np.ndarray, shapes: Sequence[tuple[int, int]]
    ) -> tuple[np.ndarray, np.ndarray, list[str]]:
        points, confidence = locate(frames)
        sides = [SIDES[0] if side == AUTO else side] * len(frames)
        odd = np.flatnonzero(~confidence.any(axis=1)) if side == AUTO else ()
        if len(odd):
            for i, of_right, sure in zip(odd, *locate(frames[odd, :, ::-1]), strict=True):
                if sure.any():
                    points[i], confidence[i], sides[i] = of_right, sure, "right"
        found = []
        for shape, in_its_frame, of_side in zip(shapes, points, sides, strict=True):
            seen = geometry.letterbox(shape, frames.shape[1:]).invert(in_its_frame)
            found.append(geometry.mirrored(seen, shape[1]) if of_side == "right" else seen)
        return np.stack(found), confidence, sides

    return localize


def in_frame(image: np.ndarray, shape: tuple[int, int], side: str = "left") -> np.ndarray:
    """An image (H, W) in the frame (h, w) of the network, as it looks at it first for a side."""
    return geometry.letterboxed(image[:, ::-1] if side == "right" else image, shape)


def frame_localizer(model: keras.Model) -> Localizer:
    """As `localizer`, for images that are in the frame of the network already, and in its pixels.

    Returns:
        A function from frames (N, H, W), any range of intensities, to landmarks (N, K, 2), pixels
        of the frame, and confidence (N, K). One graph, whatever N is and the sizes of the images
        were before `geometry.letterboxed`.
    """
    spec = tf.TensorSpec((None, *model.input_shape[1:3], 1), tf.float32)

    @tf.function(input_signature=[spec], autograph=False)
    def graph(frames):
        outputs = model(frames, training=False)
        return outputs["landmarks"], outputs["confidence"]

    def locate(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        twice = len(frames) == 1 and machine.slow_alone()
        seen = np.repeat(frames, 2, axis=0) if twice else frames
        landmarks, confidence = graph(tf.constant(seen[..., None]))
        return landmarks.numpy()[: len(frames)], confidence.numpy()[: len(frames)]

    return locate


def _check_side(side: str, model: keras.Model) -> None:
    if side not in (*SIDES, AUTO):
        raise UsageError(f"side {side!r}: expected {', '.join(SIDES)} or {AUTO}")
    if side == AUTO and not knows_shapes(model):
        raise UsageError(
            f"side {AUTO}: this model does not tell one side from the other, it knows no shapes "
            f"(shape_prior=true and enough images to train on); choose {' or '.join(SIDES)}"
        )


def knows_shapes(model: keras.Model) -> bool:
    """Whether a model tells by a confidence of 0 what forms no shape, see `layers.ShapePrior`."""
    return any(isinstance(layer, ShapePrior) for layer in model.layers)


def warn_of_no_shape(path: Path, confidence: np.ndarray, side: str = SIDES[0]) -> None:
    """Says so where the landmarks of an image contradict each other, see `layers.ShapePrior`."""
    if not confidence.any():
        other = "" if side == AUTO else "the other side (predict --side auto tries both), "
        turned = " (NIfTI made from DICOM has its rows upside down)" if is_nifti(path) else ""
        print(
            f"doubtful: {path}: its landmarks form no shape like those trained on: {other}another "
            f"position{turned}, too small in the picture (crop it), a negative (bones must be "
            "bright), or something else; their confidence is 0",
            file=sys.stderr,
        )
