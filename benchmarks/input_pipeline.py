"""What reading, augmenting and batching cost beside the network.

python -m benchmarks.input_pipeline [--data data/hand_atlas]
"""

from __future__ import annotations

from kerasland import machine

machine.compute_with_onednn()

import argparse
import time
from pathlib import Path

import numpy as np

from benchmarks.measure import Ratio, compare, record, row, seconds
from benchmarks.steps import training_step
from kerasland import dataset, experiment, prepared

COMMAND = "python -m benchmarks.input_pipeline"
IMAGES = 64
BATCHES = 24


def frames(data: Path | None, shape: tuple[int, int]) -> dataset.Frames:
    """Real images, or random ones of the same size, which cost the pipeline the same."""
    if data:
        opened = prepared.read(data)
        return dataset.load_frames(opened, opened.ids[:IMAGES], shape)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES, *shape), np.uint8)
    points = rng.uniform(0, shape[1] - 1, (IMAGES, 37, 2)).astype("float32")
    ids = tuple(str(i) for i in range(IMAGES))
    return dataset.Frames(ids, images, points, np.ones(IMAGES))


def sink_over_training(
    source: dataset.Frames, e: experiment.Experiment, pairs: int = 7, batches: int = BATCHES
) -> Ratio:
    """Batches thrown away, over as many training steps."""
    step = training_step(e)
    ready = iter(dataset.training(source, e))
    next(ready)

    def sink() -> None:
        for _ in range(batches):
            next(ready)

    def train() -> None:
        for _ in range(batches):
            step()

    return compare(lambda: seconds(sink), lambda: seconds(train), pairs)


def waiting(
    source: dataset.Frames, e: experiment.Experiment, repeats: int = 7, batches: int = BATCHES
) -> Ratio:
    """Of a training loop's time, the part that it waits for the next batch."""
    step = training_step(e)
    ready = iter(dataset.training(source, e))
    next(ready)
    shares = []
    for _ in range(repeats):
        waited, began = 0.0, time.perf_counter()
        for _ in range(batches):
            waited += seconds(lambda: next(ready))
            step()
        shares.append(waited / (time.perf_counter() - began))
    return Ratio(tuple(shares))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, help="prepared data set (default: random images)")
    args = parser.parse_args()
    rows = []
    for precision in ["float32", "bfloat16"][: 2 if machine.multiplies_in_bfloat16() else 1]:
        e = experiment.preset("cpu").replace(precision=precision)
        source = frames(args.data, e.image_shape)
        peer = f"training steps in {precision}"
        rows.append(
            row(
                f"input pipeline into a sink, {precision}",
                sink_over_training(source, e),
                0.10,
                peer,
                COMMAND,
            )
        )
        name = f"waiting for input, share of training, {precision}"
        rows.append(row(name, waiting(source, e), 0.03, peer, COMMAND))
    record(rows)


if __name__ == "__main__":
    main()
