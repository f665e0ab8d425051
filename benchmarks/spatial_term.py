"""What the spatial configuration term costs: embedding, correlation map, loss and gradient.

The share is that of a whole training step of the cpu preset, with the term against without. How it
grows is measured on the heatmap losses alone, without a network, since there is nothing else that
depends on landmarks and heatmap size in the same way.

    python -m benchmarks.spatial_term
"""

from __future__ import annotations

from kerasland import embedding, machine

machine.compute_with_onednn()

from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf

from benchmarks.measure import Ratio, compare, fastest, record, row
from benchmarks.steps import repeated, training_step
from kerasland import experiment, files
from kerasland.losses import HeatmapLoss, SpatialConfigurationLoss

COMMAND = "python -m benchmarks.spatial_term"
GROWTH = Path(__file__).parent / "results" / "spatial_term.csv"
LIMIT = 0.03
LANDMARKS = (19, 37, 68, 133)
GRIDS = ((64, 48), (128, 96), (256, 192))


def share(pairs: int = 9, steps: int = 4) -> Ratio:
    """Seconds of a step with the term over those of one without, less 1.

    Of three times some steps the fastest counts: other work adds more than the term is.
    """
    cpu = experiment.preset("cpu")
    work = {
        maps: repeated(training_step(cpu.replace(maps=maps)), steps) for maps in ("both", "none")
    }
    quotients = compare(lambda: fastest(work["both"], 3), lambda: fastest(work["none"], 3), pairs)
    return Ratio(tuple(quotient - 1.0 for quotient in quotients.quotients))


def gradient_ms(landmarks: int, grid: tuple[int, int], with_term: bool, images: int = 4) -> float:
    """Milliseconds an image of the losses and their gradient with respect to the logits."""
    rng = np.random.default_rng(0)
    shape = (2 * grid[0], 2 * grid[1])
    logits = tf.constant(rng.normal(size=(images, *grid, landmarks)), tf.float32)
    points = tf.constant(rng.uniform(0, shape[1] - 1, (images, landmarks, 2)), tf.float32)
    losses = HeatmapLoss(shape), SpatialConfigurationLoss(shape)

    @tf.function
    def gradient():
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = losses[0](points, logits)
            if with_term:
                loss += losses[1](points, embedding.embed(logits))
        return tape.gradient(loss, logits)

    gradient()
    return fastest(gradient, 9) / images * 1000


def growth() -> pd.DataFrame:
    """Milliseconds an image of the heatmap loss, and of the term beside it."""
    cases = [(k, (128, 96)) for k in LANDMARKS] + [
        (37, grid) for grid in GRIDS if grid != (128, 96)
    ]
    rows = []
    for landmarks, grid in cases:
        alone, both = (gradient_ms(landmarks, grid, term) for term in (False, True))
        rows.append((landmarks, f"{grid[0]} x {grid[1]}", alone, both - alone))
    columns = ["landmarks", "heatmap", "heatmap_loss_ms", "term_ms"]
    return pd.DataFrame(rows, columns=columns).round(3)


def main() -> None:
    name = "spatial configuration term, share of a training step"
    record([row(name, share(), LIMIT, "the same step without it", COMMAND)])
    table = growth()
    with files.replacing(GROWTH) as temporary:
        table.to_csv(temporary, index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
