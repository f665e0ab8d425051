"""Keras optimisers that behave the same with several replicas, after a reload and from step one on.

Keras clips each replica's gradient before the replicas are summed, so that N replicas take other
steps than one; here the norm is that of the sum. And Keras forgets on saving which variables are
excluded from weight decay; here it follows from the class. And Keras's average of the weights lags
as far behind at first as ever after; here it follows closely at first. And under float16 Keras asks
one replica alone whether its gradient overflowed. (All seen with Keras 3.15.)
"""

from __future__ import annotations

import keras
import tensorflow as tf

from kerasland.settings import above_0

HOOKS = (
    "_apply_weight_decay",
    "_clip_gradients",
    "_update_model_variables_moving_average",
)  # methods of Keras's that are overridden here
_register = keras.saving.register_keras_serializable(package="kerasland")


class _Steps:
    """What both optimisers add to those of Keras: `clip_norm`, the global norm of the batch's
    gradient at most, above 0; and an average of the weights (`use_ema`) that is of use early."""

    def __init__(self, *args, clip_norm=None, **kwargs):
        for hook in HOOKS:
            if not hasattr(keras.optimizers.Optimizer, hook):  # else not done, or twice
                raise ImportError(f"Keras {keras.__version__} has no Optimizer.{hook}: take 3.15")
        super().__init__(*args, **kwargs)
        self.clip_norm = None if clip_norm is None else above_0("clip_norm", clip_norm)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        if clip_norm and self.gradient_accumulation_steps and replicas > 1:
            raise ValueError(
                f"gradient_accumulation_steps={self.gradient_accumulation_steps} with clip_norm: "
                f"on one replica only, here are {replicas}"
            )

    def _clip_gradients(self, grads):
        """Of the gradients that a step takes: unscaled, and accumulated."""
        grads = super()._clip_gradients(grads)
        return clip_batch_gradient(grads, self.clip_norm) if self.clip_norm else grads

    def _update_model_variables_moving_average(self, trainable_variables):
        """With a momentum of at most (1 + t) / (10 + t) at step t.

        So does `tf.train.ExponentialMovingAverage`. A momentum of 0.99 from the start on gives the
        first weights a share of 0.37 after 100 steps, when a short training is over.
        """
        whole, steps = self.ema_momentum, tf.cast(self.iterations, tf.float32)
        self.ema_momentum = tf.minimum(whole, (1.0 + steps) / (10.0 + steps))
        try:
            super()._update_model_variables_moving_average(trainable_variables)
        finally:
            self.ema_momentum = whole

    def get_config(self):
        return {**super().get_config(), "clip_norm": self.clip_norm}


@_register
class AdamW(_Steps, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` with `clip_norm`, None for no clipping.

    Biases and the scales and shifts of normalisation do not decay. The step of a variable is one
    operation of TensorFlow, where Keras makes a dozen, so that a training begins sooner.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])

    def _apply_weight_decay(self, variables):
        """Nothing: `update_step` does it, with the learning rate that it is given."""

    def update_step(self, gradient, variable, learning_rate):
        rate = tf.cast(learning_rate, variable.dtype)
        if self.weight_decay and self._use_weight_decay(variable):
            variable.assign_sub(variable * (self.weight_decay * rate))
        if self.amsgrad:
            return super().update_step(gradient, variable, learning_rate)
        step = tf.cast(self.iterations + 1, variable.dtype)
        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=self.beta_1**step,
            beta2_power=self.beta_2**step,
            lr=rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, variable.dtype),
        )


@_register
class SGD(_Steps, keras.optimizers.SGD):
    """`keras.optimizers.SGD` with `clip_norm`, None for no clipping."""


@_register
class LossScaleOptimizer(keras.optimizers.LossScaleOptimizer):
    """`keras.optimizers.LossScaleOptimizer`, which no replica passes where another overflows.

    Keras asks the first replica whether gradients are finite, as if they were summed already.
    """

    def check_finite(self, grads):
        finite = super().check_finite(grads)
        replica = tf.distribute.get_replica_context()
        if replica is None or replica.num_replicas_in_sync == 1:
            return finite
        overflowing = tf.cast(tf.logical_not(finite), tf.float32)
        return replica.all_reduce(tf.distribute.ReduceOp.SUM, overflowing) == 0.0


def clip_batch_gradient(grads, clip_norm: float):
    """Scales gradients so that the global norm of their sum over replicas is at most `clip_norm`.

    Args:
        grads: list of dense tensors, each replica's own part of the sum; None is kept.
        clip_norm: above 0.

    Returns:
        The list, each tensor times the same factor on every replica.
    """
    replica = tf.distribute.get_replica_context()
    known = [grad for grad in grads if grad is not None]
    whole = known
    if replica is not None and replica.num_replicas_in_sync > 1:
        whole = replica.all_reduce(tf.distribute.ReduceOp.SUM, known)
    norm = tf.linalg.global_norm([tf.cast(grad, tf.float32) for grad in whole])
    factor = clip_norm / tf.maximum(norm, clip_norm)
    return [None if grad is None else grad * tf.cast(factor, grad.dtype) for grad in grads]
