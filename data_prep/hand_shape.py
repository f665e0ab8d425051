"""Derives the shape model of the drawn hands from the atlas's landmark annotations.

    python -m data_prep.hand_shape --landmarks all.csv --images images \\
        --out kerasland/assets/hand_shape.json

Generalized Procrustes analysis (Gower 1975), then principal components of the aligned shapes
(Cootes et al. 1995). The output holds means, modes, spreads and the bones' forms that the phantom
draws around them; no picture and no single hand.
"""

import argparse
import csv
import json
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.bone_outlines import LONG_BONES, WRIST_BONES
from kerasland.phantom import LANDMARK_NAMES

COMMAND = (
    "python -m data_prep.hand_shape --landmarks all.csv --images images "
    "--out kerasland/assets/hand_shape.json"
)
WRIST_LANDMARKS = (0, 4)
WRIST_WIDTH_MM = 50.0
KEPT_VARIANCE = 0.98
MAX_ALIGNMENTS = 50
ALIGNED_BELOW = 1e-10
DECIMALS = 4


def read_landmarks(path: Path) -> dict[str, np.ndarray]:
    """Reads rows of ``id, x0, y0, ..., x36, y36``.

    Args:
        path: CSV file without a header; coordinates in pixels, x right, y down.

    Returns:
        Points of shape (37, 2), float64, pixels, by picture id.

    Raises:
        ValueError: A row has the wrong length, a value is no finite number, or an id repeats.
    """
    points_by_id: dict[str, np.ndarray] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.reader(file), start=1):
            if len(row) != 1 + 2 * len(LANDMARK_NAMES):
                raise ValueError(f"{path.name}, row {number}: {len(row)} fields, expected 75")
            try:
                points = np.array(row[1:], dtype=np.float64).reshape(-1, 2)
            except ValueError:
                raise ValueError(f"{path.name}, row {number}: a value is no number") from None
            if not np.isfinite(points).all():
                raise ValueError(f"{path.name}, row {number}: a value is not finite")
            if row[0] in points_by_id:
                raise ValueError(f"{path.name}, row {number}: id {row[0]} repeats")
            points_by_id[row[0]] = points
    if len(points_by_id) < 2:
        raise ValueError(f"{path.name}: fewer than two rows")
    return points_by_id


def _as_complex(points: np.ndarray) -> np.ndarray:
    """Centred shapes of RMS radius 1, as complex rows, so that a rotation is one factor."""
    flat = points[..., 0] + 1j * points[..., 1]
    flat = flat - flat.mean(axis=-1, keepdims=True)
    return flat / np.sqrt((np.abs(flat) ** 2).mean(axis=-1, keepdims=True))


def align(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Aligns shapes by rotation, translation and scale (generalized Procrustes analysis).

    Args:
        points: (hands, 37, 2), pixels.

    Returns:
        Aligned shapes (hands, 37, 2) of RMS radius 1; their mean (37, 2) of RMS radius 1, turned
        so that the mean rotation of the hands is zero; rotation of each hand (hands,), degrees,
        positive from x towards y.
    """
    shapes = _as_complex(points)
    mean = shapes[0]
    for _ in range(MAX_ALIGNMENTS):
        turns = shapes @ mean.conj()
        turns /= np.abs(turns)
        new_mean = _as_complex(_as_real((shapes / turns[:, None]).mean(axis=0)))
        moved = np.abs(new_mean - mean).max()
        mean = new_mean
        if moved < ALIGNED_BELOW:
            break
    upright = turns.mean() / np.abs(turns.mean())
    aligned = shapes / turns[:, None] * upright
    rotation_deg = np.degrees(np.angle(turns / upright))
    return _as_real(aligned), _as_real(mean * upright), rotation_deg


def _as_real(shape: np.ndarray) -> np.ndarray:
    return np.stack([shape.real, shape.imag], axis=-1)


def principal_modes(aligned: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Finds the modes that hold `KEPT_VARIANCE` of the variance.

    Args:
        aligned: (hands, 37, 2), aligned shapes.
        mean: (37, 2), their mean shape.

    Returns:
        Modes (modes, 37, 2), orthonormal, the largest component of each positive; their standard
        deviations (modes,) in the unit of the shapes; share of the variance kept, 0..1.
    """
    deviations = (aligned - mean).reshape(len(aligned), -1)
    deviations = deviations - deviations.mean(axis=0)
    _, singular, modes = np.linalg.svd(deviations, full_matrices=False)
    share = np.cumsum(singular**2) / np.sum(singular**2)
    kept = int(np.searchsorted(share, KEPT_VARIANCE)) + 1
    modes, singular = modes[:kept], singular[:kept]
    largest = np.abs(modes).argmax(axis=1)
    modes = modes * np.sign(modes[np.arange(kept), largest])[:, None]
    sd = singular / np.sqrt(len(aligned) - 1)
    return modes.reshape(kept, -1, 2), sd, float(share[kept - 1])


def frame_of_pictures(points_by_id: dict[str, np.ndarray], images: Path) -> dict[str, np.ndarray]:
    """Measures how the landmarks lie in the pictures that are at hand.

    Args:
        points_by_id: Points (37, 2), pixels, by picture id.
        images: Folder of ``<id>.jpg``.

    Returns:
        One value a picture: `fill`, the larger of the landmark box's width and height as a share
        of the picture's; `left` and `top`, the share of the remaining space that lies left of
        and above the box, 0..1.

    Raises:
        ValueError: Fewer than two annotated pictures were found.
    """
    rows = []
    for path in sorted(images.glob("*.jpg")):
        if path.stem not in points_by_id:
            continue
        with Image.open(path) as picture:
            size = np.array(picture.size, dtype=np.float64)
        low, high = points_by_id[path.stem].min(axis=0), points_by_id[path.stem].max(axis=0)
        left_top = low / (size - (high - low))
        rows.append([((high - low) / size).max(), *left_top])
    if len(rows) < 2:
        raise ValueError("fewer than two annotated pictures in the image folder")
    return dict(zip(("fill", "left", "top"), np.array(rows).T, strict=True))


def _spread(values: np.ndarray) -> dict[str, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    numbers = {"mean": values.mean(), "sd": values.std(ddof=1), "low": low, "high": high}
    return {name: round(float(number), DECIMALS) for name, number in numbers.items()}


def derive(landmarks: Path, images: Path | None = None) -> dict:
    """Derives the shape model.

    Args:
        landmarks: CSV of ``id, x0, y0, ..., x36, y36``, pixels.
        images: Folder of ``<id>.jpg``; without it the model has no frame spread, which the
            phantom needs.

    Returns:
        The model as JSON-ready numbers, rounded to four decimals.

    Raises:
        OSError: The CSV cannot be read.
        ValueError: The CSV or the folder does not hold what it should.
    """
    points_by_id = read_landmarks(landmarks)
    aligned, mean, rotation_deg = align(np.stack(list(points_by_id.values())))
    modes, sd, share = principal_modes(aligned, mean)
    pose = {"rotation_deg": _spread(rotation_deg)}
    pictures = 0
    if images is not None:
        frame = frame_of_pictures(points_by_id, images)
        pictures = len(frame["fill"])
        pose |= {name: _spread(values) for name, values in frame.items()}
    return {
        "about": "Procrustes mean (RMS radius 1, x right, y down) and modes of hand landmarks",
        "command": COMMAND,
        "rows": len(points_by_id),
        "pictures": pictures,
        "landmarks": list(LANDMARK_NAMES),
        "wrist_landmarks": list(WRIST_LANDMARKS),
        "wrist_width_mm": WRIST_WIDTH_MM,
        "kept_variance": round(share, DECIMALS),
        "pose": pose,
        "mean": mean.round(DECIMALS).tolist(),
        "sd": sd.round(DECIMALS).tolist(),
        "modes": modes.round(DECIMALS).tolist(),
        "wrist_bones": {
            name: {
                "anchor": anchor,
                "thickness": thickness,
                "outline": [[int(v) / 1000 for v in pair.split(",")] for pair in text.split()],
            }
            for name, (anchor, thickness, text) in WRIST_BONES.items()
        },
        "long_bones": LONG_BONES,
    }


def write_json(model: dict, out: Path) -> None:
    """Writes the model as JSON, whole or not at all.

    Args:
        model: JSON-ready numbers.
        out: File to write or replace.

    Raises:
        OSError: The file cannot be written.
    """
    temporary = out.with_name(out.name + ".tmp")
    lines = [
        f"{json.dumps(key)}: {json.dumps(value, separators=(', ', ': '))}"
        for key, value in model.items()
    ]
    temporary.write_text("{\n  " + ",\n  ".join(lines) + "\n}\n", encoding="utf-8")
    os.replace(temporary, out)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m data_prep.hand_shape", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--landmarks", type=Path, required=True, help="annotations, CSV")
    parser.add_argument("--images", type=Path, help="folder of <id>.jpg, for the frame's spread")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args(arguments)
    try:
        model = derive(args.landmarks, args.images)
        write_json(model, args.out)
    except (OSError, ValueError) as error:
        print(f"hand_shape: {error}", file=sys.stderr)
        return 1
    print(f"{model['rows']} hands, {len(model['sd'])} modes, {model['kept_variance']:.1%} kept")
    return 0


if __name__ == "__main__":
    sys.exit(main())
