"""What a user would rather know before a training than after it."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import numpy as np

from kerasland import shapes
from kerasland.experiment import Experiment
from kerasland.images import image_shape
from kerasland.prepared import Prepared

FEW_STEPS = 200  # what a training from weights that know hands needs; others need more
SAMPLE, FILLED, GAINED = 100, 0.7, 0.1  # images looked at; what they fill of the frame


def say(
    experiment: Experiment,
    name: str,
    data: Prepared,
    ids: tuple[str, ...],
    steps: int,
    notes: dict,
    test: tuple[str, ...] = (),
) -> None:
    """Says on stderr what may be a mistake, a line each.

    Args:
        experiment: of the training.
        name: what a line begins with.
        data: prepared data set.
        ids: images to train on.
        steps: of an epoch.
        notes: `run_folder.notes_of`.
        test: images that the fold holds back.
    """
    points, said = data.points[data.index(ids)], []
    if not notes.get("pixel_hashes_complete", True):
        said.append(
            f"--init {notes['init']}: no experiment.json beside it tells all images that it was "
            "trained on, so evaluate can't refuse them as test images"
        )
    behind = set(notes.get("pixel_hashes", ()))
    if known := [image_id for image_id in test if data.pixel_hashes[image_id] in behind]:
        said.append(
            f"--init {notes['init']}: was trained on {len(known)} of the {len(test)} test images, "
            f"such as {known[0]}; evaluate will refuse them"
        )
    wanted = [key for key in ("shape_prior", "shape_posterior") if getattr(experiment, key)]
    if wanted and shapes.fit(points) is None:
        said.append(
            f"no {wanted[0]}: it needs {shapes.LEAST_SHAPES} training images with all landmarks "
            f"annotated, and {shapes.LEAST_LANDMARKS} landmarks"
        )
    if steps * experiment.epochs < FEW_STEPS:
        said.append(
            f"{steps * experiment.epochs} steps are few (one is {experiment.batch_size} images of "
            f"{len(ids)}); --set epochs={math.ceil(FEW_STEPS / steps)} would make {FEW_STEPS}"
        )
    if nowhere := np.flatnonzero(~np.isfinite(points).all(axis=-1).any(axis=0)).tolist():
        said.append(
            f"{', '.join(data.landmarks[k] for k in nowhere)}: annotated in no image trained on; "
            "what the model says of it means nothing"
        )
    frame = experiment.image_shape
    height, width = np.median([image_shape(data.image_path(i)) for i in ids[:SAMPLE]], axis=0)
    filled = _filled(frame, height, width)
    coarsest = experiment.coarsest_stride
    better = np.sqrt(math.prod(frame) * np.array([height / width, width / height]))
    better = np.maximum(np.rint(better / coarsest), 1).astype(int) * coarsest
    if filled < FILLED and filled + GAINED < _filled(better, height, width):
        said.append(
            f"images of {height:g} x {width:g} (height x width) fill {filled:.0%} of image_shape="
            f"{frame[0]}x{frame[1]}; --set image_shape={better[0]}x{better[1]} would suit them"
        )
    for line in said:
        print(f"{name}: {line}", file=sys.stderr)


def _filled(frame: Sequence[int], height: float, width: float) -> float:
    """The share of a frame (H, W) that an image fills."""
    scale = min(frame[0] / height, frame[1] / width)
    return float(scale**2 * height * width / math.prod(frame))
