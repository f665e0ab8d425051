"""What a training runs on: replicas of CPUs and GPUs, and the type that layers compute in."""

from __future__ import annotations

import sys
from contextlib import contextmanager

import keras
import tensorflow as tf

from kerasland import machine
from kerasland.errors import UsageError


def strategy(replicas: int = 0) -> tf.distribute.MirroredStrategy:
    """A MirroredStrategy over the devices at hand; the same code path for one and for many.

    Args:
        replicas: 0 for all GPUs, or one CPU where there is none; N for N GPUs, or, without
            GPUs, N logical CPU devices.

    Raises:
        UsageError: if there are fewer GPUs, or TensorFlow has started with fewer devices.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        wanted = replicas or len(gpus)
        if wanted > len(gpus):
            raise UsageError(f"replicas={wanted}: this machine has {len(gpus)} GPUs")
        return tf.distribute.MirroredStrategy([f"GPU:{i}" for i in range(wanted)])
    wanted = max(1, replicas)
    if wanted > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        devices = [tf.config.LogicalDeviceConfiguration() for _ in range(wanted)]
        try:
            tf.config.set_logical_device_configuration(cpu, devices)
        except RuntimeError:
            if len(tf.config.list_logical_devices("CPU")) < wanted:
                raise UsageError(
                    f"replicas={wanted}: TensorFlow has already started with fewer devices; "
                    "ask for replicas in a fresh process"
                ) from None
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(wanted)])


def distributed(data: tf.data.Dataset, scope: tf.distribute.Strategy):
    """The batches shared out to the replicas.

    On CPUs without the iterator that copies ahead to each device: there is nothing to copy, and
    its autotuning, which takes no options, kept `fit` waiting for up to a minute at its end
    (TensorFlow 2.21).
    """
    ahead = bool(tf.config.list_logical_devices("GPU"))
    options = tf.distribute.InputOptions(experimental_fetch_to_device=ahead)
    return scope.experimental_distribute_dataset(data, options)


@contextmanager
def collectives():
    """Says in one line that logical devices can't train a second network in a process.

    Raises:
        UsageError: they were asked to.
    """
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        if "collective instance" not in error.message:
            raise
        raise UsageError(
            "another network was trained on several replicas in this process, which TensorFlow "
            "can't do twice; train each in a fresh process"
        ) from None


def precision_here(name: str, title: str, quiet: bool) -> str:
    """In what an experiment's `precision` is computed on this machine.

    Args:
        name: float32, bfloat16, float16 or auto.
        title: what a line on stderr begins with, where the precision asked for is slow here.
        quiet: no such line.

    Returns:
        float32, bfloat16 or float16.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        native = all(found.get("compute_capability", (0, 0)) >= (8, 0) for found in details)
    else:
        native = machine.multiplies_in_bfloat16()
    if name == "auto":
        return "bfloat16" if native else "float32"
    if name == "bfloat16" and native is False and not quiet:
        print(
            f"{title}: precision=bfloat16, for which this {'GPU' if gpus else 'processor'} has no "
            f"instructions{'' if gpus else ': it takes about ten times as long as float32'}; "
            "precision=auto takes it where it is fast",
            file=sys.stderr,
        )
    return name


@contextmanager
def precision(name: str):
    """Layers made within compute in this precision, with weights and losses in float32."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name if name == "float32" else f"mixed_{name}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
