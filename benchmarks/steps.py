"""Training steps to be timed: a compiled model and one batch, as `train` makes them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kerasland import devices, experiment, train
from kerasland.scale import Scale

LANDMARKS = 37


def training_step(settings: experiment.Experiment, landmarks: int = LANDMARKS) -> Callable:
    """A function that takes one step on the same random batch and returns its loss."""
    with devices.strategy(settings.replicas).scope(), devices.precision(settings.precision):
        model = train.build(settings, [str(k) for k in range(landmarks)])
        train.compile_model(model, settings, 10_000, Scale((0, 1), 50.0, None))
    rng = np.random.default_rng(0)
    height, width = settings.image_shape
    images = rng.random((settings.batch_size, height, width, 1), "float32")
    points = rng.uniform(0, (width - 1, height - 1), (settings.batch_size, landmarks, 2))
    targets = dict.fromkeys(model.output, points.astype("float32"))

    def step() -> float:
        return model.train_on_batch(images, targets)[0]

    for _ in range(3):
        step()
    return step


def repeated(step: Callable, times: int) -> Callable[[], None]:
    """`times` steps as one piece of work."""

    def work() -> None:
        for _ in range(times):
            step()

    return work
