"""Keras layers of images and feature maps within the network."""

from __future__ import annotations

import keras
import tensorflow as tf
from keras import ops

from kerasland import settings

_register = keras.saving.register_keras_serializable(package="kerasland")


@_register
class ImageStandardization(keras.layers.Layer):
    """Each image to mean 0 and standard deviation 1.

    Call arguments:
        image: (B, H, W, C), any real dtype.

    Returns:
        The same shape, in the layer's compute dtype; computed in float32. An image of one
        number becomes 0, one that hardly varies (by less than 1e-6) is not stretched further.
    """

    def __init__(self, **kwargs):
        # a cast to float16 on the way in would overflow on 16-bit images
        super().__init__(**{**kwargs, "autocast": False})
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def call(self, image):
        # what a pipeline does not know, a functional model does, and other layers of it need
        wanted = getattr(self, "input", None)
        if wanted is not None and isinstance(image, tf.Tensor) and None in image.shape[1:]:
            image = tf.ensure_shape(image, (None, *wanted.shape[1:]))
        image = ops.cast(image, "float32")
        image = image - image[:, :1, :1, :1]  # so that of one number, whose mean is rounded, is 0
        image = image - ops.mean(image, axis=(1, 2, 3), keepdims=True)
        deviation = ops.sqrt(ops.mean(image * image, axis=(1, 2, 3), keepdims=True))
        return ops.cast(image / ops.maximum(deviation, 1e-6), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape


@_register
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` by TensorFlow's fused kernel.

    The same function, statistics and weights; on a CPU a third of the time. A replica that gets no
    sample keeps its statistics. Where those are taken over several replicas, or the kernel can't
    do what is asked, Keras's own computation is used.

    Call arguments:
        inputs: (B, H, W, C).
    """

    def call(self, inputs, training=None, mask=None):
        fused = (
            len(inputs.shape) == 4
            and self.axis in (3, -1)
            and (self.center and self.scale)
            and not (self.synchronized or self.renorm)
            and self.variable_dtype == "float32"
            and inputs.dtype != "float64"
        )
        if mask is not None or not fused:
            return super().call(inputs, training=training, mask=mask)
        learn = bool(training) and self.trainable
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma,
            offset=self.beta,
            mean=tf.zeros([0]) if learn else self.moving_mean,
            variance=tf.zeros([0]) if learn else self.moving_variance,
            epsilon=self.epsilon,
            is_training=learn,
        )
        if learn:
            samples = ops.cast(ops.prod(ops.shape(inputs)[:3]), "float32")
            biased = variance * ((samples - 1) / tf.maximum(samples, 1))  # as Keras keeps it
            for moving, batch in ((self.moving_mean, mean), (self.moving_variance, biased)):
                after = moving * self.momentum + batch * (1.0 - self.momentum)
                moving.assign(tf.where(samples > 0, after, moving))
        return outputs


@_register
class DepthToSpace(keras.layers.Layer):
    """Trades channels for resolution: (B, h, w, s * s * C) to (B, h * s, w * s, C).

    Args:
        factor: s.

    Raises:
        ValueError: if s is no whole number above 0; when called, if the channels are no multiple
            of s * s.
    """

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.input_spec = keras.layers.InputSpec(ndim=4)
        self.factor = settings.whole("factor", factor)

    def build(self, input_shape):
        channels, s = input_shape[3], self.factor
        if channels % (s * s):
            raise ValueError(f"{self.name}: {channels} channels are no multiple of {s} * {s}")

    def call(self, inputs):
        (height, width), s = ops.shape(inputs)[1:3], self.factor
        channels = inputs.shape[3] // (s * s)
        x = ops.reshape(inputs, (-1, height, width, s, s, channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (-1, height * s, width * s, channels))

    def compute_output_shape(self, input_shape):
        batch, *grid, channels = input_shape
        s = self.factor
        return (batch, *(n and n * s for n in grid), channels // (s * s))

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}
