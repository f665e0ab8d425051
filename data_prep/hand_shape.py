"""Derives the shape model of the drawn hands from the atlas's landmark annotations.

Generalized Procrustes analysis (Gower 1975), then principal components of the aligned shapes
(Cootes et al. 1995). The output holds means, modes, spreads and the bones' forms that the phantom
draws around them; no picture and no single hand.
"""

import json
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA

from data_prep import common, hand_atlas
from data_prep.bone_outlines import LONG_BONES, WRIST_BONES
from kerasland import files
from kerasland.command import leave, run
from kerasland.errors import DataError
from kerasland.geometry import as_complex, as_points
from kerasland.images import image_shape
from kerasland.phantom import LANDMARK_NAMES
from kerasland.scale import WRIST

EXAMPLE = "--landmarks all.csv --images images --out kerasland/assets/hand_shape.json"
KEPT_VARIANCE = 0.98
MAX_ALIGNMENTS = 50
ALIGNED_BELOW = 1e-10
DECIMALS = 4


def _normalised(shapes: np.ndarray) -> np.ndarray:
    """Shapes (..., K) of complex numbers, centred, with an RMS radius of 1."""
    shapes = shapes - shapes.mean(axis=-1, keepdims=True)
    return shapes / np.sqrt((np.abs(shapes) ** 2).mean(axis=-1, keepdims=True))


def align(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Aligns shapes by rotation, translation and scale (generalized Procrustes analysis).

    Args:
        points: (hands, 37, 2), pixels.

    Returns:
        Aligned shapes (hands, 37, 2) of RMS radius 1; their mean (37, 2) of RMS radius 1, turned
        so that the mean rotation of the hands is zero; rotation of each hand (hands,), degrees,
        positive from x towards y.
    """
    shapes = _normalised(as_complex(points))
    mean = shapes[0]
    for _ in range(MAX_ALIGNMENTS):
        turns = shapes @ mean.conj()
        turns /= np.abs(turns)
        new_mean = _normalised((shapes / turns[:, None]).mean(axis=0))
        moved = np.abs(new_mean - mean).max()
        mean = new_mean
        if moved < ALIGNED_BELOW:
            break
    upright = turns.mean() / np.abs(turns.mean())
    aligned = shapes / turns[:, None] * upright
    rotation_deg = np.degrees(np.angle(turns / upright))
    return as_points(aligned), as_points(mean * upright), rotation_deg


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
    analysis = PCA(KEPT_VARIANCE, svd_solver="full").fit(deviations)
    modes = analysis.components_
    largest = np.abs(modes).argmax(axis=1)
    modes = modes * np.sign(modes[np.arange(len(modes)), largest])[:, None]
    share = float(analysis.explained_variance_ratio_.sum())
    return modes.reshape(len(modes), -1, 2), np.sqrt(analysis.explained_variance_), share


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
        DataError: Fewer than two annotated pictures were found.
    """
    rows = []
    for path in sorted(images.glob("*.jpg")):
        if path.stem not in points_by_id:
            continue
        size = np.array(image_shape(path)[::-1], dtype=np.float64)
        low, high = points_by_id[path.stem].min(axis=0), points_by_id[path.stem].max(axis=0)
        left_top = low / (size - (high - low))
        rows.append([((high - low) / size).max(), *left_top])
    if len(rows) < 2:
        raise DataError(f"{images}: fewer than two annotated pictures <id>.jpg in this folder")
    return dict(zip(("fill", "left", "top"), np.array(rows).T, strict=True))


def _spread(values: np.ndarray) -> dict[str, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    numbers = {"mean": values.mean(), "sd": values.std(ddof=1), "low": low, "high": high}
    return {name: round(float(number), DECIMALS) for name, number in numbers.items()}


def derive(landmarks: Path, images: Path) -> dict:
    """Derives the shape model.

    Args:
        landmarks: CSV of ``id, x0, y0, ..., x36, y36``, pixels.
        images: Folder of ``<id>.jpg``, for how hands lie in their pictures.

    Returns:
        The model as JSON-ready numbers, rounded to four decimals.

    Raises:
        DataError: The CSV or the folder does not hold what it should.
    """
    points_by_id = {i: row.points for i, row in hand_atlas.read_table(landmarks).items()}
    aligned, mean, rotation_deg = align(np.stack(list(points_by_id.values())))
    modes, sd, share = principal_modes(aligned, mean)
    frame = frame_of_pictures(points_by_id, images)
    spread = {"rotation_deg": rotation_deg, **frame}
    return {
        "about": "Procrustes mean (RMS radius 1, x right, y down) and modes of hand landmarks",
        "command": f"python -m data_prep.hand_shape {EXAMPLE}",
        "rows": len(points_by_id),
        "pictures": len(frame["fill"]),
        "landmarks": list(LANDMARK_NAMES),
        "wrist_landmarks": list(WRIST.landmarks),
        "wrist_width_mm": WRIST.length_mm,
        "kept_variance": round(share, DECIMALS),
        "pose": {name: _spread(values) for name, values in spread.items()},
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


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = common.parser(
        "hand_shape",
        "Derives the shape model of the drawn hands from the atlas's landmark annotations.",
        EXAMPLE,
    )
    parser.add_argument("--landmarks", type=Path, required=True, help="annotations, CSV")
    parser.add_argument("--images", type=Path, required=True, help="folder of <id>.jpg")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args(argv)

    def body() -> None:
        model = derive(args.landmarks, args.images)
        lines = ",\n  ".join(f"{json.dumps(key)}: {json.dumps(model[key])}" for key in model)
        files.write_text(args.out, f"{{\n  {lines}\n}}\n")
        modes, share = len(model["sd"]), model["kept_variance"]
        print(f"{model['rows']} hands, {modes} modes, {share:.1%} of the variance kept")

    return run(body, args.debug)


if __name__ == "__main__":
    leave(main())
