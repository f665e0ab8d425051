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
from kerasland.closer_look import Place, View, closer, laid_onto, quarter_turned
from kerasland.errors import UsageError
from kerasland.layers import layer_of
from kerasland.shape_layers import ShapePrior
from kerasland.shape_prior import most_moved
from kerasland.volumes import is_nifti

SIDES = ("left", "right")
AUTO = "auto"
BATCH = 4  # images a pass, where there are that many; 8 cost no less each
Localizer = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
BatchLocalizer = Callable[
    [np.ndarray, Sequence[tuple[int, int]], Callable[[int], np.ndarray | None]],
    tuple[np.ndarray, np.ndarray, list[str]],
]


def localizer(model: keras.Model, side: str = "left") -> Localizer:
    """A function from a raw image (H, W) to landmarks (K, 2), its pixels, and confidence (K,).

    It looks at some images again, see `batch_localizer`.

    Args:
        model: what `model_files.load_model` returns.
        side: "left", or "right" for the other hand where the model knows left ones: the network
            sees the image mirrored, and the landmarks are mirrored back. Or "auto": an image whose
            landmarks form no shape as it is is looked at mirrored as well, and counts as a right
            hand if they do then; for models that know shapes, see `ShapePrior`.

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

    - where the landmarks form no shape, with "auto" at the mirrored image, then at the image turned
      by 90, 180 and 270 degrees;
    - where a model also knows how large and upright its subject should be, see `ShapePrior`,
      and it is smaller or turned, at the part of the image that shows it as training images did,
      see `closer_look.closer`. If no shape is found there, the look before holds.

    (Of left sides `looks.Looks` does the same within a graph.)

    Returns:
        A function from `in_frame` of each image for the same side, (N, h, w), N at least 1, their
        shapes (H, W), and a function that gives the image of that number, (H, W), or None where
        there must be no further look, to landmarks (N, K, 2), pixels of each image, confidence
        (N, K), and the side each was taken for.
    """
    search = _search(model, side)
    return lambda frames, shapes, image: search(frames, shapes, image).results()


def last_view(model: keras.Model) -> Callable[[np.ndarray], View]:
    """A function from a raw image (H, W) to the part of it where `localizer` finds its landmarks:
    all of it, unless it is looked at again."""
    search, shape = _search(model), model.input_shape[1:3]

    def view(image: np.ndarray) -> View:
        return search(in_frame(image, shape)[None], [image.shape], lambda _: image).views[0]

    return view


def _search(model: keras.Model, side: str = "left") -> Callable[..., _Looks]:
    """What `batch_localizer` returns, but for a `_Looks` of what was found."""
    _check_side(side, model)
    first, *others = SIDES if side == AUTO else (side,)
    again = [(turns, of_side) for turns in range(4) for of_side in (first, *others)][1:]
    locate, prior = frame_localizer(model), layer_of(model, ShapePrior)
    usual = Place.by(prior.place) if prior and prior.place else None
    mean = np.asarray(prior.mean) if usual else None

    def search(frames, shapes, image) -> _Looks:
        looks = _Looks(locate, frames, shapes, first, functools.cache(image))
        # the more often one looks, the likelier is a shape where there is none
        few = most_moved(looks.points.shape[1]) // 2
        for turns, of_side in again if prior else ():
            looks.look_turned(turns, of_side, few if turns else None)
        if usual:
            looks.look_closer(~looks.found(), mean, usual, few)
            looks.look_closer(looks.found(), mean, usual, few)
        return looks

    return search


class _Looks:
    """What is known of N images so far, and further looks at some of them.

    A look counts where it finds a shape of which the prior moved no more points than in the look
    before, or than it is told.
    """

    def __init__(
        self,
        locate: Localizer,
        frames: np.ndarray,
        shapes: Sequence[tuple[int, int]],
        side: str,
        image: Callable[[int], np.ndarray | None],
    ):
        self.locate, self.shapes, self.image = locate, shapes, image
        self.frame_shape = frames.shape[1:]
        self.sides = [side] * len(frames)
        self.views = [quarter_turned(shape, 0) for shape in shapes]
        in_frames, self.confidence = locate(frames)
        pairs = zip(shapes, in_frames, strict=True)
        self.points = np.stack([self._fit(shape).invert(points) for shape, points in pairs])

    def found(self) -> np.ndarray:
        """Whether the landmarks of an image form a shape, (N,)."""
        return self.confidence.any(axis=1)

    def look_turned(self, turns: int, side: str, most: int | None) -> None:
        """Looks at images without a shape, turned by so many times 90 degrees.

        Args:
            most: points that may be moved; None for what the prior allows.
        """
        odd = np.flatnonzero(~self.found())
        views = {i: quarter_turned(self.shapes[i], turns) for i in odd}
        self._look(views, dict.fromkeys(odd, side), most)

    def look_closer(self, which: np.ndarray, mean: np.ndarray, usual: Place, most: int) -> None:
        """Looks at the parts of images, (N,) of bool, that show the mean shape as usual, by where
        their points are."""
        views = {}
        for i in np.flatnonzero(which):
            weight = self.confidence[i] if self.confidence[i].any() else np.ones(len(mean))
            there = laid_onto(mean, self.points[i], weight)
            view = closer(self.shapes[i], self.frame_shape, there, usual)
            if view is not None:
                views[i] = view
        self._look(views, {i: self.sides[i] for i in views}, most)

    def results(self) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Points in the images as they are, confidence and sides."""
        for i, side in enumerate(self.sides):
            if side == "right":
                self.points[i] = geometry.mirrored(self.points[i], self.shapes[i][1])
        return self.points, self.confidence, self.sides

    def _look(self, views: dict[int, View], sides: dict[int, str], most: int | None) -> None:
        pictures = {i: self.image(i) for i in views}
        views = {i: view for i, view in views.items() if pictures[i] is not None}
        if not views:
            return
        seen = [view.of(_as_left(pictures[i], sides[i])) for i, view in views.items()]
        frames = np.stack([geometry.letterboxed(part, self.frame_shape) for part in seen])
        for (i, view), points, confidence in zip(views.items(), *self.locate(frames), strict=True):
            allowed = len(confidence) - 1 if most is None else most
            if self.confidence[i].any():
                allowed = max(allowed, _moved(self.confidence[i]))
            if _moved(confidence) <= allowed:
                self.points[i] = view.invert(self._fit(view.shape).invert(points))
                self.confidence[i], self.sides[i], self.views[i] = confidence, sides[i], view

    def _fit(self, shape: tuple[int, int]) -> geometry.Similarity:
        return geometry.letterbox(shape, self.frame_shape)


def _moved(confidence: np.ndarray) -> int:
    """How many points the prior moved; all of them where they form no shape."""
    return int(np.sum(confidence == 0))


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
    if side == AUTO and not layer_of(model, ShapePrior):
        raise UsageError(
            f"side {AUTO}: this model does not tell one side from the other, it knows no shapes "
            f"(shape_prior=true and enough images to train on); choose {' or '.join(SIDES)}"
        )


def warn_of_no_shape(path: Path, confidence: np.ndarray, side: str = SIDES[0]) -> None:
    """Says so where the landmarks of an image contradict each other, see `ShapePrior`."""
    if not confidence.any():
        other = "" if side == AUTO else "the other side (predict --side auto tries both), "
        turned = " (NIfTI made from DICOM has its rows upside down)" if is_nifti(path) else ""
        print(
            f"doubtful: {path}: its landmarks form no shape like those trained on: {other}another "
            f"posture or view{turned}, far too small in the picture (crop it), a negative (bones "
            "must be bright), or something else; their confidence is 0",
            file=sys.stderr,
        )
