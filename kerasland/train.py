"""Trains one model: a prepared data set and an experiment become a run's folder."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from kerasland import advice, dataset, devices, optimizers, run_folder, tensorboard_log
from kerasland import experiment as experiments
from kerasland.callbacks import (
    CHECKPOINTS,
    Averaging,
    Checkpoint,
    Progress,
    Reseeding,
)
from kerasland.errors import UsageError
from kerasland.experiment import Experiment
from kerasland.losses import HeatmapLoss, SpatialConfigurationLoss
from kerasland.metrics import RadialError, SuccessDetectionRate
from kerasland.model_files import check_whole, load_model, take_weights
from kerasland.model_notes import BEST, MODEL
from kerasland.models import unet
from kerasland.prepared import Prepared
from kerasland.scale import Scale

BETA_2 = 0.99  # of AdamW: Keras's 0.999 looks back over more steps than a short training has
WATCHED = 8  # validation images a step


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
        dropout=e.dropout,
        maps=e.maps,
        angle=e.angle,
        beta=e.beta,
        learn_beta=e.learn_beta,
        decode_radius_px=e.decode_radius_px,
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
            spacing, or where there is none. Where images differ in size, their mean serves the
            curves; `evaluate` is exact.
    """
    e = experiment
    losses = {"heatmaps": HeatmapLoss(e.image_shape, e.sigma_px, e.heatmap_loss)}
    weights = {"heatmaps": 1.0}
    if e.maps != "none":
        losses["embedding"] = SpatialConfigurationLoss(
            e.image_shape, e.maps, e.angle, e.correlation
        )
        weights["embedding"] = e.configuration_weight
    if scale.landmarks:
        scaled = {"scale_landmarks": scale.landmarks, "length_mm": scale.length_mm}
    else:
        scaled = {"scale_landmarks": None, "mm_per_px": (scale.mm_per_px or 1.0) * shrunk}
    unit = "mm" if scale.landmarks or scale.mm_per_px else "px"  # of the original image
    metrics = [
        RadialError(**scaled, name=f"radial_error_{unit}"),
        SuccessDetectionRate(2.0, **scaled, name=f"sdr_2{unit}"),
    ]
    optimizer = _optimizer(e, steps)
    if keras.config.dtype_policy().compute_dtype == "float16":
        optimizer = optimizers.LossScaleOptimizer(optimizer)
    model.compile(
        optimizer=optimizer,
        loss=losses,
        loss_weights=weights,
        metrics={"landmarks": metrics},
        jit_compile=e.xla,
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
    return optimizers.AdamW(schedule, weight_decay=e.weight_decay, beta_2=BETA_2, **common)


def train(
    data: Prepared,
    experiment: Experiment,
    run: str | os.PathLike,
    fold: str | None = None,
    resume: bool = False,
    quiet: bool = False,
    title: str = "",
    callbacks: Sequence[keras.callbacks.Callback] = (),
    init: str | os.PathLike | None = None,
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
        init: weights to start from, see `model_notes.location`. The experiment must have their
            network, see `Experiment.with_settings` and `model_notes.experiment_of`; the size of
            the image may differ; where the landmarks do, the head starts anew. Given again to
            resume.

    Returns:
        The trained model with averaged weights, which is also in `run/model.keras`.

    Raises:
        DataError: the fold or an image is not sound; the run was made from other data.
        UsageError: the folder is in use, also by another process, or the run to resume is of
            another experiment.
    """
    run = Path(run)
    parts = run_folder.split(data, fold, experiment)
    run_folder.check(run, data, experiment, parts, resume, init)
    with run_folder.alone(run):
        # another process may have finished it since
        run_folder.check(run, data, experiment, parts, resume, init)
        run_folder.update_scale(run, data)
        if resume and (run / MODEL).exists():
            return load_model(run)
        return _train(data, experiment, run, parts, quiet, title, callbacks, init)


def _train(
    data: Prepared,
    experiment: Experiment,
    run: Path,
    parts: run_folder.Split,
    quiet: bool,
    title: str,
    callbacks: Sequence[keras.callbacks.Callback],
    init: str | os.PathLike | None,
) -> keras.Model:
    """As `train`, in a folder that may be written, from its last checkpoint if it has one."""
    scope, name = devices.strategy(experiment.replicas), title or run.name
    _check_replicas(experiment, parts, scope.num_replicas_in_sync)
    steps = dataset.steps_per_epoch(len(parts.train), experiment.batch_size)
    keras.utils.set_random_seed(experiment.seed)
    checkpoint, first_epoch = run_folder.last_checkpoint(run)
    with scope.scope():  # before the images, which take longer to read
        if checkpoint:
            check_whole(checkpoint, f"delete {checkpoint.parent} to train from the start")
            model = keras.saving.load_model(checkpoint)
            begun_in = model.get_layer("stem_conv").compute_dtype  # perhaps on another machine
            devices.precision_here(begun_in, name, quiet)
            # what the weights have seen stays known, whatever became of those of `init`
            notes = experiments.load(run / experiments.EXPERIMENT)[1]
        else:
            computed_in = devices.precision_here(experiment.precision, name, quiet)
            with devices.precision(computed_in):
                model = build(experiment, data.landmarks)
            if init is not None:
                take_weights(model, init)
            notes = {**run_folder.notes_of(data, parts, init), "computed_in": computed_in}
    frames = dataset.load_frames(
        data, parts.train + parts.validation, experiment.image_shape, quiet
    )
    if not checkpoint:
        shrunk = float(frames.shrunk.mean())
        with scope.scope(), devices.precision(notes["computed_in"]):
            compile_model(model, experiment, steps * experiment.epochs, _scale(data, parts), shrunk)
            model.optimizer.build(model.trainable_variables)
    count = len(parts.train)
    watched = frames[count:] if parts.validation else None
    frames = frames[:count]
    experiment.save(run / experiments.EXPERIMENT, **notes)
    own = [
        Reseeding(experiment.seed),
        # before the averaging, so that its pictures show the averaged weights
        tensorboard_log.TensorBoardLog(
            run / tensorboard_log.FOLDER,
            experiment,
            data,
            watched or frames,
            "validation" if watched else "train",
            notes["init"],
        ),
        Averaging(run / BEST, experiment.ema_momentum > 0),
        Checkpoint(run / CHECKPOINTS, run / run_folder.HISTORY, first_epoch),
    ]
    if not quiet:
        advice.say(experiment, name, data, parts.train, steps, notes, parts.test)
        own.append(Progress(name, first_epoch))
    batches = dataset.with_targets(dataset.training(frames, experiment, first_epoch), model)
    held_out = None
    if watched:
        share = max(1, WATCHED // scope.num_replicas_in_sync)
        held_out = dataset.validation(watched, share * scope.num_replicas_in_sync)
        held_out = devices.distributed(dataset.with_targets(held_out, model), scope)
    with devices.collectives():
        model.fit(
            devices.distributed(batches, scope),
            epochs=experiment.epochs,
            initial_epoch=first_epoch,
            steps_per_epoch=steps,
            validation_data=held_out,
            callbacks=[*own, *callbacks],
            shuffle=False,
            verbose=0,
        )
    run_folder.finish(model, run, experiment, notes, frames.points)
    return load_model(run)


def _check_replicas(experiment: Experiment, parts: run_folder.Split, replicas: int) -> None:
    """Raises UsageError where replicas would not have as many images each, or not work at all.

    Keras fails on the first batch of a validation of which they have not, and weighs others wrong.
    """
    if experiment.xla and replicas > 1:
        raise UsageError(
            f"xla=true with {replicas} replicas: XLA compiles for one; use --replicas 1"
        )
    if experiment.batch_size % replicas:
        whole = replicas * math.ceil(experiment.batch_size / replicas)
        raise UsageError(
            f"batch_size={experiment.batch_size} does not divide by {replicas} replicas: "
            f"use --set batch_size={whole}"
        )
    held = len(parts.validation)
    if held % replicas:
        raise UsageError(
            f"{held} validation images do not divide by {replicas} replicas: "
            f"use --set validation_images={held - held % replicas}"
        )


def _scale(data: Prepared, parts: run_folder.Split) -> Scale:
    """For the curves: in pixels where no image that they are of has millimetres."""
    seen = parts.validation or parts.train
    known_mm = np.isfinite(data.mm_per_px[data.index(seen)]).any()
    return data.mean_scale(parts.train) if known_mm else Scale()
