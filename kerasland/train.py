"""Trains one model: a prepared data set and an experiment become a run's folder."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from kerasland import __version__, dataset, files, optimizers
from kerasland import experiment as experiments
from kerasland.callbacks import (
    CHECKPOINTS,
    Averaging,
    Checkpoint,
    Progress,
    Reseeding,
    TensorBoardLog,
)
from kerasland.errors import DataError, UsageError
from kerasland.experiment import Experiment
from kerasland.losses import HeatmapLoss, SpatialConfigurationLoss
from kerasland.metrics import RadialError, SuccessDetectionRate
from kerasland.models import bare, unet
from kerasland.predict import MODEL, load_model
from kerasland.prepared import Prepared, Scale

EXPERIMENT, BEST, HISTORY = "experiment.json", "best.keras", "history.csv"


@dataclass(frozen=True)
class Split:
    """Which images a run learns from, watches and never sees."""

    fold: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


def split(data: Prepared, fold: str | None, experiment: Experiment) -> Split:
    """The images of a run.

    The validation images, for the curves and `best.keras`, are taken from the training list, so
    that no choice is ever made on the test list. Without a fold, everything is trained on.

    Raises:
        UsageError: if the validation images would leave nothing to train on.
        DataError: if the fold is not sound.
    """
    train, test = data.fold(fold) if fold else (data.ids, ())
    held = experiment.validation_images
    if held >= len(train):
        raise UsageError(
            f"validation_images={held} leaves none of the {len(train)} training images: "
            f"use --set validation_images=0"
        )
    order = np.random.default_rng(20231201).permutation(len(train))
    validation = tuple(train[i] for i in sorted(order[:held]))
    kept = tuple(image_id for image_id in train if image_id not in set(validation))
    return Split(fold or "all", kept, validation, tuple(test))


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


def build(experiment: Experiment, landmarks: Sequence[str]) -> keras.Model:
    """The network of an experiment for K named landmarks, not yet compiled."""
    e = experiment
    return unet(
        landmarks,
        e.image_shape,
        width=e.width,
        max_width=e.max_width,
        depth=e.depth,
        stem_stride=e.stem_stride,
        output_stride=e.output_stride,
        normalization=e.normalization,
        synchronized=tf.distribute.get_strategy().num_replicas_in_sync > 1,
        dropout=e.dropout,
        maps=e.maps,
        angle=e.angle,
        beta=e.beta,
        learn_beta=e.learn_beta,
    )


def compile_model(
    model: keras.Model,
    experiment: Experiment,
    steps: int,
    scale: Scale,
    shrunk: float = 1.0,
) -> None:
    """Gives a model its losses, metrics and optimiser.

    Args:
        model: what `build` returns.
        experiment: loss, optimiser and schedule.
        steps: of the whole training.
        scale: of the data set, for the metrics.
        shrunk: pixels of an original image a pixel of the network's input, for a scale that is a
            spacing. Where images differ in size, their mean serves the curves; `evaluate` is
            exact.
    """
    e = experiment
    losses = {"heatmaps": HeatmapLoss(e.image_shape, e.sigma_px, e.heatmap_loss)}
    weights = {"heatmaps": 1.0}
    if e.maps != "none":
        losses["embedding"] = SpatialConfigurationLoss(
            e.image_shape, e.maps, e.angle, e.correlation
        )
        weights["embedding"] = e.configuration_weight
    in_mm = {"scale_landmarks": scale.landmarks, "length_mm": scale.length_mm}
    if scale.mm_per_px is not None:
        in_mm = {"scale_landmarks": None, "mm_per_px": scale.mm_per_px * shrunk}
    model.compile(
        optimizer=_optimizer(e, steps),
        loss=losses,
        loss_weights=weights,
        metrics={"landmarks": [RadialError(**in_mm), SuccessDetectionRate(2.0, **in_mm)]},
        jit_compile=False,
    )


def _optimizer(e: Experiment, steps: int) -> keras.optimizers.Optimizer:
    warmup = min(int(e.warmup_epochs * steps / e.epochs), steps - 1)
    schedule = keras.optimizers.schedules.CosineDecay(
        e.learning_rate / 100 if warmup else e.learning_rate,
        decay_steps=max(1, steps - warmup),
        alpha=0.01,
        warmup_target=e.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    common = {
        "clip_norm": e.clip_norm or None,
        "use_ema": e.ema_momentum > 0,
        "ema_momentum": e.ema_momentum or 0.99,
    }
    if e.optimizer == "sgd":
        return optimizers.SGD(schedule, **common)
    return optimizers.AdamW(schedule, weight_decay=e.weight_decay, **common)


def train(
    data: Prepared,
    experiment: Experiment,
    run: str | os.PathLike,
    fold: str | None = None,
    resume: bool = False,
    quiet: bool = False,
    title: str = "",
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> keras.Model:
    """Trains a model and writes its run's folder.

    Args:
        data: prepared data set.
        experiment: everything else.
        run: folder to write; must not hold a run unless `resume`.
        fold: name of a fold of the data set, or None to train on all images.
        resume: go on after the last whole epoch of an interrupted run; a new run starts from the
            beginning, a finished one returns its model.
        quiet: no progress.
        title: what the progress line begins with.
        callbacks: called after those that write the run, so that an epoch's row and checkpoint
            are there already.

    Returns:
        The trained model with averaged weights, which is also in `run/model.keras`.

    Raises:
        DataError: the fold or an image is not sound; the run was made from other data.
        UsageError: the folder is in use, or the run to resume is of another experiment.
    """
    run = Path(run)
    parts = split(data, fold, experiment)
    _check_run(run, data, experiment, parts, resume)
    if resume and (run / MODEL).exists():
        return load_model(run)
    scope = strategy(experiment.replicas)
    if experiment.batch_size % scope.num_replicas_in_sync:
        raise UsageError(
            f"batch_size={experiment.batch_size} does not divide by "
            f"{scope.num_replicas_in_sync} replicas"
        )
    frames = dataset.load_frames(data, parts.train + parts.validation, experiment.image_shape)
    watched = frames.take(parts.validation) if parts.validation else None
    frames = frames.take(parts.train)
    steps = dataset.steps_per_epoch(len(parts.train), experiment.batch_size)
    keras.utils.set_random_seed(experiment.seed)
    checkpoint, first_epoch = last_checkpoint(run)
    with scope.scope(), _precision(experiment.precision):
        if checkpoint:
            model = keras.saving.load_model(checkpoint)
        else:
            model = build(experiment, data.landmarks)
            shrunk = float(frames.shrunk.mean())
            compile_model(model, experiment, steps * experiment.epochs, data.scale, shrunk)
            model.optimizer.build(model.trainable_variables)
    experiment.save(run / EXPERIMENT, **_notes(data, parts))
    own = [
        Reseeding(experiment.seed),
        # before the averaging, so that its pictures show the averaged weights
        TensorBoardLog(run / "tensorboard", experiment, data.landmarks, watched or frames),
        Averaging(run / BEST, experiment.ema_momentum > 0),
        Checkpoint(run / CHECKPOINTS, run / HISTORY, first_epoch),
    ]
    if not quiet:
        own.append(Progress(title or run.name, first_epoch))
    batches = dataset.with_targets(dataset.training(frames, experiment, first_epoch), model)
    held_out = dataset.with_targets(dataset.validation(watched, 8), model) if watched else None
    model.fit(
        _distributed(batches, scope),
        epochs=experiment.epochs,
        initial_epoch=first_epoch,
        steps_per_epoch=steps,
        validation_data=_distributed(held_out, scope) if watched else None,
        callbacks=[*own, *callbacks],
        shuffle=False,
        verbose=0,
    )
    _finish(model, run, experiment, _notes(data, parts))
    return load_model(run)


def _distributed(data: tf.data.Dataset, scope: tf.distribute.Strategy):
    """The batches shared out to the replicas.

    On CPUs without the iterator that copies ahead to each device: there is nothing to copy, and
    its autotuning, which takes no options, kept `fit` waiting for up to a minute at its end
    (TensorFlow 2.21).
    """
    ahead = bool(tf.config.list_logical_devices("GPU"))
    options = tf.distribute.InputOptions(experimental_fetch_to_device=ahead)
    return scope.experimental_distribute_dataset(data, options)


@contextmanager
def _precision(name: str):
    """Layers made within compute in this precision, with weights and losses in float32."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name if name == "float32" else f"mixed_{name}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def last_checkpoint(run: Path) -> tuple[Path | None, int]:
    """The newest checkpoint of a run and how many epochs it has behind it."""
    found = sorted((run / CHECKPOINTS).glob("epoch_*.keras"))
    return (found[-1], int(found[-1].stem.split("_")[1])) if found else (None, 0)


def _check_run(
    run: Path, data: Prepared, experiment: Experiment, parts: Split, resume: bool
) -> None:
    """Raises unless the folder is free for this run, or holds this very run to be resumed."""
    path = run / EXPERIMENT
    if not path.exists():
        if run.exists() and (not run.is_dir() or any(run.iterdir())):
            raise UsageError(f"{run}: not empty and not a run; choose another --out")
        return
    if not resume:
        raise UsageError(f"{run}: holds a run already; add --resume to go on, or choose another")
    there, notes = experiments.load(path)
    if notes["data"]["hash"] != data.hash:
        raise DataError(f"{run}: was trained on other data than {data.folder}; cannot resume")
    for key, value in asdict(experiment).items():
        if asdict(there)[key] != value:
            raise UsageError(
                f"{run}: was started with {key}={asdict(there)[key]}, not {value}; cannot resume"
            )
    if tuple(notes["train_ids"]) != parts.train:
        raise UsageError(f"{run}: was started with fold {notes['fold']}, not {parts.fold}")


def _notes(data: Prepared, parts: Split) -> dict:
    return {
        "data": {
            "name": data.name,
            "hash": data.hash,
            "landmarks": list(data.landmarks),
            "scale": asdict(data.scale),
        },
        "fold": parts.fold,
        "train_ids": list(parts.train),
        "validation_ids": list(parts.validation),
        "pixel_hashes": [data.pixel_hashes[i] for i in parts.train + parts.validation],
        "versions": {
            "kerasland": __version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "numpy")},
        },
    }


def _finish(model: keras.Model, run: Path, experiment: Experiment, notes: dict) -> None:
    """Writes the final model, without its optimiser, last of all; the checkpoints have served."""
    minutes = round(pd.read_csv(run / HISTORY)["seconds"].sum() / 60, 2)
    parameters = model.count_params()
    experiment.save(run / EXPERIMENT, **notes, minutes=minutes, parameters=parameters)
    final = bare(model)
    names = [MODEL] if (run / BEST).exists() else [BEST, MODEL]
    for name in names:
        with files.replacing(run / name) as temporary:
            final.save(temporary)
    shutil.rmtree(run / CHECKPOINTS)
