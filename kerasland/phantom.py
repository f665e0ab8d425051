"""Drawn hand radiographs with known landmarks.

The landmarks come from a statistical shape model (Cootes et al. 1995) of annotated hands, stored
in `assets/hand_shape.json`; the picture is drawn around them, the bones by `phantom_bones`, the
rest by `phantom_film`. No pixel comes from a real radiograph.
"""

import functools
import json
from pathlib import Path

import numpy as np
from PIL import Image

from kerasland.geometry import rotation
from kerasland.phantom_bones import draw_bones
from kerasland.phantom_film import add_props, develop, soft_tissue, with_grain

FINGERS = ("index", "middle", "ring", "little")
LANDMARK_NAMES: tuple[str, ...] = (
    *("ulna_metaphysis_ulnar", "ulna_styloid", "ulna_metaphysis_radial"),
    *("radius_metaphysis_ulnar", "radius_metaphysis_radial", "radius_styloid"),
    *("triquetrum_proximal", "lunate_proximal", "scaphoid_proximal", "hamate_proximal"),
    *("capitate_proximal", "trapezoid_proximal", "trapezium_proximal"),
    *(f"{finger}_metacarpal_base" for finger in reversed(FINGERS)),
    *("thumb_metacarpal_base", "thumb_mcp", "thumb_ip", "thumb_tip"),
    *(f"{finger}_{joint}" for finger in FINGERS for joint in ("mcp", "pip", "dip", "tip")),
)

SHAPE_FILE = Path(__file__).with_name("assets") / "hand_shape.json"
MAX_MODE_SD = 2.5
MIN_SIDE_PX = 64
MARGIN_SHARE = 0.01
BONE_SCALE = 0.62


def hand(seed: int, shape: tuple[int, int] = (1400, 1000)) -> tuple[np.ndarray, np.ndarray]:
    """Draws one hand radiograph.

    Args:
        seed: Picks the hand, its pose and its picture; 0 or more.
        shape: Height and width of the picture, pixels, each at least 64.

    Returns:
        The picture, uint8 of shape (H, W), bone bright; and its landmarks, float64 of shape
        (37, 2), (x, y) in pixels, x right, y down, the first pixel's centre at (0, 0), in the
        order of `LANDMARK_NAMES`. Equal arguments give equal bytes.

    Raises:
        ValueError: `seed` is negative or `shape` too small.
    """
    height, width = shape
    if min(shape) < MIN_SIDE_PX:
        raise ValueError(f"shape {shape} has a side below {MIN_SIDE_PX} pixels")
    rng = np.random.default_rng(seed)
    points = _draw_landmarks(rng, shape)
    bone_shape = (round(height * BONE_SCALE), round(width * BONE_SCALE))
    scale = np.array(bone_shape[::-1]) / (width, height)
    drawn = (points + 0.5) * scale - 0.5
    unit_px = float(np.linalg.norm(drawn[15] - drawn[25]))

    bone = draw_bones(_shape_model(), drawn, bone_shape, unit_px, rng)
    tissue, mask = soft_tissue(drawn, bone_shape, unit_px, rng)
    picture = develop(bone, tissue, rng).resize((width, height), Image.Resampling.BICUBIC)
    add_props(picture, mask, rng)
    return with_grain(picture, rng), points


@functools.cache
def _shape_model() -> dict:
    model = json.loads(SHAPE_FILE.read_text(encoding="utf-8"))
    for name in ("mean", "sd", "modes"):
        model[name] = np.array(model[name])
    return model


def _draw_landmarks(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Draws a shape and its pose; every point stays inside the picture."""
    model = _shape_model()
    weights = np.clip(rng.standard_normal(len(model["sd"])), -MAX_MODE_SD, MAX_MODE_SD)
    points = model["mean"] + np.tensordot(weights * model["sd"], model["modes"], axes=1)
    pose = {
        name: np.clip(rng.normal(spread["mean"], spread["sd"]), spread["low"], spread["high"])
        for name, spread in model["pose"].items()
    }
    points = points @ rotation(np.radians(pose["rotation_deg"])).T
    size = np.array(shape[::-1], dtype=np.float64)
    low, extent = points.min(axis=0), np.ptp(points, axis=0)
    scale = pose["fill"] * np.min(size / extent)
    box = extent * scale
    margin = np.minimum(MARGIN_SHARE * size, (size - 1 - box) / 2)
    corner = (size - box) * [pose["left"], pose["top"]]
    return (points - low) * scale + np.clip(corner, margin, size - 1 - margin - box)
