"""A Keras layer that finds landmarks in raw images, and looks again where `predict` does."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from kerasland import resampling, shape_prior, views

# the numbers of looks after the first: three times turned by 90 degrees, closer at what is found in
# none of these, and closer at what is found
TURNED, CLOSER, CLOSER_STILL = 3, 4, 5


@keras.saving.register_keras_serializable(package="kerasland")
class Looks(keras.layers.Layer):
    """What `localizers.localizer` does of left sides, for a batch and in a graph.

    All images are looked at at once, as they are. Then a loop takes those images that have to be
    looked at again one by one, and one look a pass: which of most batches is none.

    Args:
        network: what `unet` returns; the layer shares its weights.
        prior: the name of its `ShapePrior`, by which it looks again; None to look once.

    Call arguments:
        image: (B, any H, any W, 1), any real dtype.

    Returns:
        Landmarks (B, K, 2), pixels of the image, and confidence (B, K), float32.
    """

    def __init__(self, network, prior=None, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})  # whatever the policy
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={-1: 1})
        self.network = network
        self.frame_shape = network.input_shape[1:3]
        self.prior = prior
        self.supports_jit = prior is None  # XLA wants shapes that do not depend on what is found

    def build(self, input_shape):
        pass  # the network is

    def call(self, image):
        size = ops.shape(image)[1:3]
        deep = keras.backend.standardize_dtype(image.dtype) == "uint16"
        if deep:  # of which LiteRT can do little
            image = ops.cast(image, "float32")
        frames = resampling.letterboxed(image, self.frame_shape, begin_at_0=deep)
        points, confidence = self._found(frames, size)
        if self.prior is None:
            return points, confidence
        few = shape_prior.most_moved(points.shape[1]) // 2  # as in `localizers`
        turned = views.quarter_turned(size)

        def look(points, confidence, number, close):
            which = ops.argmax(number)
            at = ops.arange(ops.shape(number)[0]) == which
            done, sure = number[which], confidence[which]
            quarter = turned[ops.minimum(done, TURNED) - 1]
            view = ops.where(done <= TURNED, quarter, close[which])
            frame, shape = self._frame(image, deep, which, done, view)
            seen, again = self._found(frame, shape)
            allowed = ops.where(ops.any(sure > 0.0), ops.maximum(few, _moved(sure)), few)
            kept = at & (_moved(again[0]) <= allowed)
            points = ops.where(kept[:, None, None], views.in_image(seen, view), points)
            confidence = ops.where(kept[:, None], again, confidence)
            follows, close = self._next(points, confidence, done, size)
            return points, confidence, ops.where(at, follows, number), close

        def wanted(points, confidence, number, close):
            return ops.any(number > 0)

        state = (points, confidence, *self._next(points, confidence, 0, size))
        points, confidence, *_ = ops.while_loop(wanted, look, state)
        return points, confidence

    def _found(self, frames, size):
        """Landmarks, pixels of the pictures (H, W) that are in the frames, and confidence."""
        found = self.network(frames, training=False)
        points = resampling.out_of_frame(found["landmarks"], size, self.frame_shape)
        return points, found["confidence"]

    def _next(self, points, confidence, done, size):
        """The number of the look that follows on a number, (B,), 0 for none, and the views (B, 6)
        that a closer look would have."""
        found = ops.any(confidence > 0.0, axis=1)
        known = self.network.get_layer(self.prior)
        if known.place is None:
            wanted, close = found & False, points[:, :1, 0] * np.zeros(6, "float32")
        else:
            usual = known.mean, known.place
            close, wanted = views.closer(points, confidence, *usual, size, self.frame_shape)
        odd = ops.where(wanted & (done < CLOSER), CLOSER, 0)
        odd = ops.where(done < TURNED, done + 1, odd)
        small = ops.where(wanted & (done < CLOSER_STILL), CLOSER_STILL, 0)
        return ops.where(found, small, odd), close

    def _frame(self, image, deep, which, number, view):
        """What a view shows, in the frame of the network, (1, h, w, 1), and the view's (H, W);
        `deep`: it is to begin at 0."""
        height, width = ops.shape(image)[1:3]
        quarters = number <= TURNED
        oblique = ~quarters & (view[0] < 1.0)
        step = ops.where(oblique, views.step(view), 1.0)
        pixels = ops.ceil(view[4:] / step)
        left, top, high, wide = (
            ops.cast(value, "int32") for value in (view[2], view[3], pixels[0], pixels[1])
        )
        # an upright part is cut out here, the others are made of the whole image
        whole = quarters | oblique
        rows, columns = ops.where(whole, height, high), ops.where(whole, width, wide)
        corner = (which, ops.where(whole, 0, top), ops.where(whole, 0, left), 0)
        part = ops.reshape(ops.slice(image, corner, (1, rows, columns, 1)), (rows, columns))

        def lying():
            picture = ops.reshape(part, (1, rows, columns, 1))
            frame = resampling.letterboxed(picture, self.frame_shape[::-1], deep)
            return ops.transpose(frame, (0, 2, 1, 3))

        def standing():
            picture = ops.cond(oblique, lambda: views.turned(part, view, step), lambda: part)
            picture = ops.reshape(picture, (1, high, wide, 1))
            return resampling.letterboxed(picture, self.frame_shape, deep)

        # both of one shape: LiteRT keeps that of a square picture, where branches may differ
        frame = ops.cond(quarters & (number != 2), lying, standing)
        # a quarter turn is a transposition, and then rows or columns or both reversed
        for axis, numbers in ((1, (1, 2)), (2, (2, 3))):
            there = np.arange(self.frame_shape[axis - 1], dtype="int32")
            reverse = quarters & (number >= numbers[0]) & (number <= numbers[1])
            frame = ops.take(frame, ops.where(reverse, there[-1] - there, there), axis=axis)
        return frame, step * pixels

    def compute_output_shape(self, image_shape):
        frame = (image_shape[0], *self.frame_shape, 1)
        found = self.network.compute_output_shape(frame)
        return found["landmarks"], found["confidence"]

    def get_config(self):
        network = keras.saving.serialize_keras_object(self.network)
        return {**super().get_config(), "network": network, "prior": self.prior}

    @classmethod
    def from_config(cls, config):
        network = keras.saving.deserialize_keras_object(config["network"])
        return cls(**{**config, "network": network})


def _moved(confidence):
    """How many of (K,) the prior moved."""
    return ops.sum(ops.cast(confidence == 0.0, "int32"))
