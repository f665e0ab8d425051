"""A trained model on images in memory: raw ones of either side, or frames of the network."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kerasland import geometry, machine
from kerasland.closer_look import Place, View, closer, place, quarter_turned
from kerasland.errors import UsageError
from kerasland.inference_models import shape_prior
from kerasland.volumes import is_nifti

SIDES = ("left", "right")
AUTO = "auto"
BATCH = 4  # images a pass, where there are that many; 8 cost no less each
Localizer = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
BatchLocalizer = Callable[
    [np.ndarray, Sequence[tuple[int, int]], Callable[[int], np.ndarray]],
    tuple[np.ndarray, np.ndarray, list[str]],
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
        frame = in_frame(image, shape, side)
        points, confidence, _ = locate(frame[None], [image.shape], lambda _: image)
        return points[0], confidence[0]

    return localize


def batch_localizer(model: keras.Model, side: str = "left") -> BatchLocalizer:
    """As `localizer`, for N images of any sizes in one pass.

    Models that know shapes look again, each time at a few images only:

    - where the landmarks form no shape, at the image turned by 90, 180 and 270 degrees, and with
      "auto" mirrored before;
    - where a model also knows how large and upright its subject should be, see `layers.ShapePrior`,
      and it is smaller or turned, at the part of the image that shows it as training images did,
      see `closer_look.view`. If no shape is found there, the look before holds.

    Returns:
        A function from `in_frame` of each image for the same side, (N, h, w), N at least 1, their
        shapes (H, W), and a function that gives the image of that number, (H, W), to landmarks
        (N, K, 2), pixels of each image, confidence (N, K), and the side each was taken for.
    """
    _check_side(side, model)
    first, *others = SIDES if side == AUTO else (side,)
    again = [(turns, of_side) for turns in range(4) for of_side in (first, *others)][1:]
    locate, prior = frame_localizer(model), shape_prior(model)
    frame_shape = model.input_shape[1:3]

    def localize(
        frames: np.ndarray, shapes: Sequence[tuple[int, int]], image: Callable[[int], np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, list[str]]:
        image, (in_frames, confidence) = functools.cache(image), locate(frames)
        points = np.stack(
            [
                geometry.letterbox(shape, frame_shape).invert(found)
                for shape, found in zip(shapes, in_frames, strict=True)
            ]
        )
        sides = [first] * len(frames)

        def look(views: dict[int, View | None], of_sides: Sequence[str]) -> None:
            """Takes over what is found in views of images, where that is a shape."""
            views = {i: view for i, view in views.items() if view is not None}
            if not views:
                return
            seen = [view.of(_as_left(image(i), of_sides[i])) for i, view in views.items()]
            found = locate(np.stack([geometry.letterboxed(part, frame_shape) for part in seen]))
            for (i, view), in_its_frame, sure in zip(views.items(), *found, strict=True):
                if sure.any():
                    in_view = geometry.letterbox(view.shape, frame_shape).invert(in_its_frame)
                    points[i], confidence[i], sides[i] = view.invert(in_view), sure, of_sides[i]

        for turns, of_side in again if prior else ():
            odd = np.flatnonzero(~confidence.any(axis=1))
            look({i: quarter_turned(shapes[i], turns) for i in odd}, [of_side] * len(frames))
        if prior and prior.place:
            usual, mean = Place.by(prior.place), np.asarray(prior.mean)

            def parts(which: np.ndarray) -> dict[int, View | None]:
                """Of images, by where their points are, whatever these are worth."""
                weight = np.where(confidence.any(axis=1, keepdims=True), confidence, 1.0)
                places = {i: place(mean, points[i], weight[i]) for i in np.flatnonzero(which)}
                return {i: closer(shapes[i], frame_shape, p, usual) for i, p in places.items()}

            look(parts(~confidence.any(axis=1)), sides)
            look(parts(confidence.any(axis=1)), sides)
        for i, of_side in enumerate(sides):
            if of_side == "right":
                points[i] = geometry.mirrored(points[i], shapes[i][1])
        return points, confidence, sides

    return localize


def _as_left(image: np.ndarray, side: str) -> np.ndarray:
    return image[:, ::-1] if side == "right" else image


def in_frame(image: np.ndarray, shape: tuple[int, int], side: str = "left") -> np.ndarray:
    """An image (H, W) in the frame (h, w) of the network, as it looks at it first for a side."""
    return geometry.letterboxed(_as_left(image, side), shape)


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
    return shape_prior(model) is not None


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
