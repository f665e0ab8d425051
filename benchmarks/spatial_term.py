"""What the spatial configuration term costs: embedding, correlation map, loss and gradient.

Measured on the heatmap losses and their gradient, without a network, with the term against without:
the difference of two whole training steps scatters by more than the term is. The share is that of a
whole step of the cpu preset.

    python -m benchmarks.spatial_term
"""

from __future__ import annotations

from kerasland import embedding, machine

machine.compute_with_onednn()

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf

from benchmarks import steps
from benchmarks.measure import Ratio, compare, fastest, record, row
from kerasland import experiment, files
from kerasland.losses import HeatmapLoss, SpatialConfigurationLoss

COMMAND = "python -m benchmarks.spatial_term"
GROWTH = Path(__file__).parent / "results" / "spatial_term.csv"
LIMIT = 0.03
LANDMARKS = (19, 37, 68, 133)
IMAGES = 4
GRIDS = ((64, 48), (128, 96), (256, 192))


def share(pairs: int = 9) -> Ratio:
    """Seconds that the term adds to the losses and their gradient, over those of a training step.

    Of some times the fastest counts, since what else the machine does only ever adds.
    """
    cpu = experiment.preset("cpu")
    grid = tuple(side // cpu.output_stride for side in cpu.image_shape)
    step = steps.training_step(cpu)
    both, alone = (gradient(steps.LANDMARKS, grid, term, cpu.batch_size) for term in (True, False))

    def term() -> float:
        return fastest(both, 9) - fastest(alone, 9)

    return compare(term, lambda: fastest(step, 3), pairs)


def gradient(
    landmarks: int, grid: tuple[int, int], with_term: bool, images: int
) -> Callable[[], object]:
    """The losses and their gradient with respect to the logits, compiled."""
    rng = np.random.default_rng(0)
    shape = (2 * grid[0], 2 * grid[1])
    logits = tf.constant(rng.normal(size=(images, *grid, landmarks)), tf.float32)
    points = tf.constant(rng.uniform(0, shape[1] - 1, (images, landmarks, 2)), tf.float32)
    losses = HeatmapLoss(shape), SpatialConfigurationLoss(shape)

    @tf.function
    def compiled():
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = losses[0](points, logits)
            if with_term:
                loss += losses[1](points, embedding.embed(logits))
        return tape.gradient(loss, logits)

    compiled()
    return compiled


def growth() -> pd.DataFrame:
    """Milliseconds an image of the heatmap loss, and of the term beside it."""
    cases = [(k, (128, 96)) for k in LANDMARKS] + [
        (37, grid) for grid in GRIDS if grid != (128, 96)
    ]
    rows = []
    for landmarks, grid in cases:
        work = (gradient(landmarks, grid, term, IMAGES) for term in (False, True))
        alone, both = (fastest(losses, 9) / IMAGES * 1000 for losses in work)
        rows.append((landmarks, f"{grid[0]} x {grid[1]}", alone, both - alone))
    columns = ["landmarks", "heatmap", "heatmap_loss_ms", "term_ms"]
    return pd.DataFrame(rows, columns=columns).round(3)


def main() -> None:
    name = "spatial configuration term, share of a training step"
    record([row(name, share(), LIMIT, "a training step", COMMAND)])
    table = growth()
    with files.replacing(GROWTH) as temporary:
        table.to_csv(temporary, index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
