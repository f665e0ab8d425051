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

# Traced by eye on the mean shape, in thousandths of its unit: the landmark on the bone's border at
# which a small (young) bone stays fixed, a share of full thickness, the outline.
WRIST_BONES = {
    "capitate": (
        10,
        1.0,
        "-30,549 17,535 73,544 112,579 116,620 92,649 76,684 98,733 110,781 98,832 57,857 "
        "12,853 -49,836 -76,810 -54,760 -43,701 -44,643 -45,589",
    ),
    "hamate": (
        9,
        0.9,
        "-280,635 -250,599 -201,560 -145,544 -80,545 -59,576 -54,643 -64,711 -88,770 "
        "-116,802 -141,787 -166,736 -194,693 -241,667 -274,657",
    ),
    "hamate_hook": (
        9,
        0.35,
        "-192,566 -164,551 -142,557 -135,594 -138,636 -161,666 -186,662 -197,629 -197,592",
    ),
    "triquetrum": (
        6,
        0.8,
        "-319,747 -307,713 -272,691 -231,698 -194,740 -164,789 -149,820 -182,861 -211,899 "
        "-232,909 -258,885 -280,829 -308,779",
    ),
    "pisiform": (
        6,
        0.45,
        "-208,838 -220,887 -250,921 -288,926 -317,901 -329,855 -318,808 -288,775 -249,770 -219,793",
    ),
    "lunate": (
        7,
        0.9,
        "-199,940 -183,898 -149,854 -107,834 -62,836 -16,861 -1,895 -5,938 -25,966 "
        "-87,985 -139,987 -178,979 -198,960",
    ),
    "scaphoid": (
        8,
        0.9,
        "119,734 136,704 169,703 197,728 243,760 262,793 243,842 206,882 177,917 145,938 "
        "92,947 14,952 0,916 46,874 98,845 118,806 119,772",
    ),
    "trapezoid": (
        11,
        0.8,
        "133,574 167,545 201,535 237,549 263,584 266,626 244,667 205,697 167,678 134,650 126,610",
    ),
    "trapezium": (
        12,
        0.8,
        "223,568 274,538 316,534 332,570 333,597 368,634 368,680 336,740 281,764 242,745 "
        "199,712 184,681 219,643 232,604",
    ),
    "radius_epiphysis": (
        5,
        1.2,
        "-148,1042 -121,1017 -36,1006 104,979 174,957 211,920 242,894 266,904 273,948 "
        "271,1019 261,1082 237,1065 201,1054 141,1032 57,1030 -39,1038 -91,1049 -142,1064",
    ),
    "radius_epiphysis_surface": (
        5,
        0.7,
        "-140,1030 -118,1015 -36,1004 104,977 174,955 211,918 242,894 262,902 "
        "250,925 215,955 178,985 108,1006 -34,1028 -116,1040",
    ),
    "ulna_epiphysis": (
        1,
        0.9,
        "-358,1111 -373,1073 -370,1032 -348,1005 -321,983 -302,1005 -293,1040 -252,1045 "
        "-201,1040 -165,1058 -146,1082 -175,1115 -241,1113 -285,1099 -324,1105",
    ),
}
# Half-widths at stations 0..1 from base to head, and the ends' rounding, in shares of the third
# metacarpal's length; the growth plate lies that far from the base, or (negative) from the head.
LONG_BONES = {
    "metacarpal": {
        "stations": [0, 0.1, 0.22, 0.36, 0.5, 0.65, 0.8, 0.89, 1],
        "half_widths": [0.112, 0.11, 0.082, 0.058, 0.05, 0.056, 0.08, 0.097, 0.092],
        "base_round": 0.06,
        "head_round": 0.075,
        "cup": 0.012,
        "plate": -0.185,
        "density": 0.92,
    },
    "proximal": {
        "stations": [0, 0.1, 0.25, 0.5, 0.72, 0.87, 1],
        "half_widths": [0.114, 0.106, 0.082, 0.066, 0.064, 0.084, 0.082],
        "base_round": 0.05,
        "head_round": 0.05,
        "cup": 0.022,
        "plate": 0.055,
        "density": 0.95,
    },
    "middle": {
        "stations": [0, 0.1, 0.3, 0.6, 0.75, 0.88, 1],
        "half_widths": [0.092, 0.088, 0.065, 0.054, 0.054, 0.071, 0.068],
        "base_round": 0.04,
        "head_round": 0.04,
        "cup": 0.015,
        "plate": 0.047,
        "density": 0.85,
    },
    "distal": {
        "stations": [0, 0.12, 0.3, 0.6, 0.75, 0.88, 1],
        "half_widths": [0.07, 0.068, 0.047, 0.034, 0.034, 0.046, 0.042],
        "base_round": 0.03,
        "head_round": 0.04,
        "cup": 0.01,
        "plate": 0.04,
        "density": 0.55,
    },
    "thumb_metacarpal": {
        "stations": [0, 0.12, 0.3, 0.55, 0.75, 0.9, 1],
        "half_widths": [0.1, 0.098, 0.072, 0.06, 0.072, 0.092, 0.086],
        "base_round": 0.05,
        "head_round": 0.07,
        "cup": 0.012,
        "plate": 0.13,
        "density": 1.0,
    },
}


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
