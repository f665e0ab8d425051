"""Does more work at test time pay? A run's errors with other decoders, and averaged over views.

    python -m benchmarks.at_test_time RUN --data data/hand_atlas

Each row changes one thing: the half width of the decoder's window, the inverse temperature of the
softmax in it, the geometric median of the heatmap in place of its mean, and the mean or median of
the landmarks over rotated and scaled copies of the image, turned back.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from kerasland import experiment as experiments
from kerasland import geometry, prepared, tables
from kerasland.geometry import letterboxed
from kerasland.images import read_image
from kerasland.model_files import load_model
from kerasland.point_errors import check_landmarks, point_errors
from kerasland.progress import track

HALF_WIDTHS_PX = (4, 8, 16, 32)
BETAS = (0.5, 1.0, 2.0)
ROTATIONS_DEG = (-12, -6, 0, 6, 12)
SCALES = (0.9, 1.0, 1.1)
MEDIAN_STEPS = 15


def decoded(logits: np.ndarray, start: np.ndarray, image_shape) -> Iterator[tuple[str, np.ndarray]]:
    """Landmarks (K, 2) in pixels of the frame by each decoder, from logits (h, w, K)."""
    (h, w), (height, width) = logits.shape[:2], image_shape
    x = ((np.arange(w) + 0.5) * width / w - 0.5)[None, :, None]
    y = ((np.arange(h) + 0.5) * height / h - 0.5)[:, None, None]

    def mean(weight):
        total = weight.sum((0, 1))
        return np.stack([(weight * x).sum((0, 1)), (weight * y).sum((0, 1))], -1) / total[:, None]

    for beta in BETAS:
        mass = np.exp(beta * (logits - logits.max((0, 1))))
        for half in HALF_WIDTHS_PX:
            points = start
            for _ in range(3):  # the window follows its mean
                near = (np.abs(x - points[:, 0]) <= half) & (np.abs(y - points[:, 1]) <= half)
                points = mean(mass * near)
            yield f"window ± {half} px, beta {beta:g}", points
    mass, points = np.exp(logits - logits.max((0, 1))), start
    for _ in range(MEDIAN_STEPS):  # Weiszfeld 1937
        distance = np.hypot(x - points[:, 0], y - points[:, 1]) + 0.5
        points = mean(mass / distance)
    yield "geometric median of the heatmap", points


def views(frame: np.ndarray) -> Iterator[tuple[tuple[float, float], np.ndarray, np.ndarray]]:
    """Rotated and scaled copies of a frame about its centre, with the matrix back."""
    centre = (np.array(frame.shape) - 1) / 2  # (y, x)
    for angle in ROTATIONS_DEG:
        for scale in SCALES:
            turn = np.deg2rad(angle)
            forth = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
            back = np.linalg.inv(forth)
            rows = back[::-1, ::-1]  # in (y, x)
            offset = centre - rows @ centre
            moved = ndimage.affine_transform(frame, rows, offset, order=1, mode="nearest")
            yield (angle, scale), moved, back


def averaged(found: dict[tuple[float, float], np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Landmarks averaged over some of the views."""
    groups = {
        "rotations ± 6°": [(a, 1.0) for a in (-6, 0, 6)],
        "rotations ± 6°, ± 12°": [(a, 1.0) for a in ROTATIONS_DEG],
        "scales 0.9, 1, 1.1": [(0, s) for s in SCALES],
        "all 15": list(found),
    }
    for name, chosen in groups.items():
        yield f"mean of {name}", np.mean([found[view] for view in chosen], axis=0)
    yield "median of all 15", np.median(list(found.values()), axis=0)


def main() -> None:
    """Prints a row a variant: mean and median error in mm, SDR at 2 mm."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    args = parser.parse_args()
    data, model = prepared.read(args.data), load_model(args.run)
    check_landmarks(model, data)
    ids = data.fold(experiments.load(args.run / "experiment.json")[1]["fold"])[1]
    frame_shape = model.input_shape[1:3]
    centre = (np.array(frame_shape[::-1]) - 1) / 2
    variants: dict[str, list[np.ndarray]] = {}
    for image_id in track(ids, "localising"):
        image = read_image(data.image_path(image_id))
        back = geometry.letterbox(image.shape, frame_shape)
        (keys, frames, matrices) = zip(*views(letterboxed(image, frame_shape)), strict=True)
        outputs = model.predict(np.stack(frames)[..., None], batch_size=5, verbose=0)
        found = {
            key: (points - centre) @ matrix.T + centre
            for key, points, matrix in zip(keys, outputs["landmarks"], matrices, strict=True)
        }
        plain = keys.index((0, 1.0))
        rows = [("as shipped", found[keys[plain]])]
        rows += decoded(outputs["heatmaps"][plain], found[keys[plain]], frame_shape)
        rows += averaged(found)
        for name, points in rows:
            variants.setdefault(name, []).append(back.invert(points))
    print("| variant | mean, mm | median, mm | SDR 2 mm, % |\n|---|---|---|---|")
    for name, points in variants.items():
        stacked = np.stack(points)
        errors: pd.DataFrame = point_errors(data, ids, stacked, np.ones(stacked.shape[:2]))
        row = tables.summarize(errors, samples=1)
        print(
            f"| {name} | {row['error_mm_mean']:.3f} | {row['error_mm_median']:.3f} "
            f"| {row['sdr_2mm']:.1f} |"
        )


if __name__ == "__main__":
    main()
