"""Drawn hand radiographs with known landmarks.

The landmarks come from a statistical shape model (Cootes et al. 1995) of annotated hands, stored
in `assets/hand_shape.json`; the picture is drawn around them. Long bones are tubes as bright as
a ray's way through their walls is long; the wrist's bones are outlines that a thin-plate spline
carries from the mean shape to the drawn one. No pixel comes from a real radiograph.
"""

import functools
import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy.interpolate import CubicSpline, RBFInterpolator
from scipy.ndimage import distance_transform_edt, uniform_filter
from scipy.special import ndtri

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
WRIST = slice(0, 18)
FOREARM = [0, 2, 3, 4]
METACARPAL_BASES = [13, 14, 15, 16]
THUMB = [17, 18, 19, 20]
RAYS = ([16, 21, 22, 23, 24], [15, 25, 26, 27, 28], [14, 29, 30, 31, 32], [13, 33, 34, 35, 36])
RAY_BONES = ("metacarpal", "proximal", "middle", "distal")
THUMB_BONES = ("thumb_metacarpal", "proximal", "distal")
RAY_WIDTHS = (1.0, 1.0, 0.89, 0.86)
RAY_BASE_OFFSETS = (0.0, 0.0, 0.012, 0.035)
THUMB_WIDTHS = (1.0, 0.84, 1.05)

SHAPE_FILE = Path(__file__).with_name("assets") / "hand_shape.json"
MAX_MODE_SD = 2.5
MIN_SIDE_PX = 64
MARGIN_SHARE = 0.01
BONE_SCALE = 0.62
TISSUE_SCALE = 0.31
TABLE_SIZE = 1024
TEXTURE_PX = 512
GRAIN_LEVELS = 1024

# Lengths are shares of the third metacarpal's length, as in the shape file's long bones.
JOINT_GAP = 0.015
MCP_GAP = 0.026
CORTEX_SHAFT = 0.021
CORTEX_END = 0.0038
CAVITY_STATIONS = (0.0, 0.5, 0.8, 1.0)
CAVITY_SHARES = (0.8, 0.8, 0.84, 0.87)
HEAD_CUP = 0.4
PLATE_SIGMA = 0.011
FOREARM_STATIONS = (0.0, 0.3, 0.75, 1.3, 2.2, 9.0)
FOREARM_WIDTHS = (1.0, 0.97, 0.85, 0.74, 0.65, 0.6)
CARPAL_BODY = 0.031
CARPAL_RIM = 0.019
SESAMOID_FROM_MATURITY = 0.45
HAMATE_HOOK_FROM_MATURITY = 0.4
RAY_FAT = (1.0, 1.0, 0.95, 0.85)
WEB_HEIGHT = 0.45
SKIN_DEPTH = 0.08
PALM_TISSUE = 1.9
WRIST_TISSUE = 1.0

MARKER_STROKES = {
    "L": (((0.2, 0.0), (0.2, 1.0), (0.8, 1.0)),),
    "V": (((0.1, 0.0), (0.5, 1.0), (0.9, 0.0)),),
    "F": (((0.2, 1.0), (0.2, 0.0), (0.8, 0.0)), ((0.2, 0.5), (0.7, 0.5))),
    "M": (((0.1, 1.0), (0.1, 0.0), (0.5, 0.7), (0.9, 0.0), (0.9, 1.0)),),
}


@dataclass
class _Sheet:
    """What the bones are drawn on: a ray's way through bone, in third metacarpals."""

    layer: np.ndarray
    unit_px: float
    maturity: float
    rng: np.random.Generator

    def vary(self, sd: float) -> float:
        """Draws a positive factor around 1."""
        return float(np.exp(np.clip(self.rng.normal(0.0, sd), -2.5 * sd, 2.5 * sd)))


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

    sheet = _Sheet(np.zeros(bone_shape, np.float32), unit_px, rng.uniform(), rng)
    _add_fingers(sheet, drawn)
    _add_forearm(sheet, drawn)
    _add_wrist(sheet, drawn)
    tissue, mask = _soft_tissue(drawn, bone_shape, unit_px, rng)
    picture = _develop(sheet.layer, tissue, rng).resize((width, height), Image.Resampling.BICUBIC)
    _add_props(picture, mask, rng)
    return _with_grain(picture, rng), points


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
    points = points @ _rotation(np.radians(pose["rotation_deg"])).T
    size = np.array(shape[::-1], dtype=np.float64)
    low, extent = points.min(axis=0), np.ptp(points, axis=0)
    scale = pose["fill"] * np.min(size / extent)
    box = extent * scale
    margin = np.minimum(MARGIN_SHARE * size, (size - 1 - box) / 2)
    corner = (size - box) * [pose["left"], pose["top"]]
    return (points - low) * scale + np.clip(corner, margin, size - 1 - margin - box)


def _rotation(angle_rad: float) -> np.ndarray:
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[cos, -sin], [sin, cos]])


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _toward(start: np.ndarray, end: np.ndarray, distance_px: float) -> np.ndarray:
    return start + _unit(end - start) * distance_px


def _down_the_arm(points: np.ndarray) -> np.ndarray:
    return _unit(points[FOREARM].mean(axis=0) - points[METACARPAL_BASES].mean(axis=0))


@functools.cache
def _texture() -> np.ndarray:
    """Spongy bone: a tileable field around 1."""
    noise = np.random.default_rng(0).standard_normal((TEXTURE_PX, TEXTURE_PX)).astype(np.float32)
    fine = uniform_filter(noise, 2, mode="wrap") * 2
    coarse = uniform_filter(noise[::-1], 6, mode="wrap") * 6
    return 1 + np.float32(0.1) * fine + np.float32(0.06) * coarse


def _add_fingers(sheet: _Sheet, points: np.ndarray) -> None:
    unit = sheet.unit_px
    hand_width = 0.95 * sheet.vary(0.08)
    gap, mcp_gap = JOINT_GAP * unit * sheet.vary(0.2), MCP_GAP * unit * sheet.vary(0.2)
    ulnar = _unit(points[13] - points[16])
    for ray, ray_width, offset in zip(RAYS, RAY_WIDTHS, RAY_BASE_OFFSETS, strict=True):
        joints = points[ray]
        starts = [joints[0] + ulnar * offset * unit, joints[1]]
        starts += [_toward(joints[i], joints[i + 1], gap) for i in (2, 3)]
        ends = [_toward(joints[1], joints[0], mcp_gap), *joints[2:]]
        for kind, start, end in zip(RAY_BONES, starts, ends, strict=True):
            _add_finger_bone(sheet, kind, start, end, ray_width * hand_width)
    base, mcp, ip, tip = points[THUMB]
    starts = [base, mcp, _toward(ip, tip, gap)]
    ends = [_toward(mcp, base, mcp_gap), ip, tip]
    for kind, start, end, width in zip(THUMB_BONES, starts, ends, THUMB_WIDTHS, strict=True):
        _add_finger_bone(sheet, kind, start, end, width * hand_width)


def _add_finger_bone(
    sheet: _Sheet, kind: str, start: np.ndarray, end: np.ndarray, width: float
) -> None:
    form = _shape_model()["long_bones"][kind] | {"slope": sheet.rng.normal(0, 0.06)}
    along = np.linspace(0, 1, TABLE_SIZE)
    half_width = np.interp(along, form["stations"], form["half_widths"])
    half_width = uniform_filter(half_width, TABLE_SIZE // 10, mode="nearest")
    waist = np.sin(np.pi * along) ** 2
    half_width *= width * (sheet.vary(0.045) + (sheet.vary(0.07) - 1) * waist)
    bow_px = sheet.rng.normal(0, 0.008) * sheet.unit_px * np.sin(np.pi * along)
    _add_long_bone(sheet, form, start, end, half_width * sheet.unit_px, bow_px)


def _add_forearm(sheet: _Sheet, points: np.ndarray) -> None:
    """Adds the shafts of ulna and radius, from their growth plates to beyond the border."""
    down = _down_the_arm(points)
    across = np.array([-down[1], down[0]])
    for ulnar, radial, dome, lean in ((0, 2, 0.06, 0.8), (3, 4, 0.11, -0.1)):
        edge = points[radial] - points[ulnar]
        half_px = abs(edge @ across) / 2
        dome *= 0.65 + 0.6 * sheet.maturity
        start = (points[ulnar] + points[radial]) / 2 - down * dome * sheet.unit_px
        length_px = 1.6 * sheet.unit_px + half_px
        below = (np.linspace(0, length_px, TABLE_SIZE) - dome * sheet.unit_px) / half_px
        profile = np.interp(below, FOREARM_STATIONS, FOREARM_WIDTHS)
        profile = uniform_filter(profile, TABLE_SIZE // 16, mode="nearest") * half_px
        form = {"base_round": dome, "head_round": 0.05, "cup": 0, "density": 1, "plate": None}
        form["slope"] = (edge @ down) / (edge @ across)
        bow_px = lean * (half_px - profile)
        _add_long_bone(sheet, form, start, start + down * length_px, profile, bow_px)


def _add_long_bone(
    sheet: _Sheet,
    form: dict,
    start: np.ndarray,
    end: np.ndarray,
    half_width_px: np.ndarray,
    bow_px: np.ndarray,
) -> None:
    """Adds a hollow tube; the tables `half_width_px` and `bow_px` run from `start` to `end`."""
    unit = np.float32(sheet.unit_px)
    reach = half_width_px.max() * 1.3 + 4
    window, x, y = _window(sheet, np.stack([start, end]), reach)
    length = np.linalg.norm(end - start)
    axis = ((end - start) / length).astype(np.float32)
    x, y = x - np.float32(start[0]), y - np.float32(start[1])
    along = axis[0] * x[None, :] + axis[1] * y[:, None]
    across = axis[0] * y[:, None] - axis[1] * x[None, :]
    from_middle = np.clip(1 - along * np.float32(2 / length), -1, 1)
    cup = np.float32(form["cup"] * sheet.vary(0.2) * sheet.unit_px / half_width_px[0] ** 2)
    near_base = np.maximum(from_middle, 0)
    cup = cup * np.maximum(near_base, np.float32(-HEAD_CUP) * from_middle)
    bent = along + (cup * across - near_base * np.float32(form["slope"])) * across

    outer, inner, cavity, strength = _tube_tables(sheet, form, half_width_px, length)
    index = np.clip(bent * np.float32((TABLE_SIZE - 1) / length), 0, TABLE_SIZE - 1).astype(np.intp)
    off_axis = across - bow_px.astype(np.float32)[index]
    square = off_axis * off_axis
    ray = np.sqrt(np.maximum(outer[index] ** 2 - square, 0))
    ray -= cavity[index] * np.sqrt(np.maximum(inner[index] ** 2 - square, 0))
    rows, columns = sheet.rng.integers(TEXTURE_PX, size=2)
    # Slower along the bone than across it, so that the spongy bone shows as streaks.
    streak = (along * np.float32(0.3)).astype(np.intp) + columns
    spongy = _texture()[(off_axis.astype(np.intp) + rows) % TEXTURE_PX, streak % TEXTURE_PX]
    sheet.layer[window] += ray * strength[index] * spongy / unit


def _window(
    sheet: _Sheet, points: np.ndarray, reach_px: float
) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """Returns the part of the sheet around the points: its slices, its x and its y (pixels)."""
    limit = sheet.layer.shape[::-1]
    low = np.clip(np.floor(points.min(axis=0) - reach_px).astype(int), 0, limit)
    high = np.clip(np.ceil(points.max(axis=0) + reach_px).astype(int) + 1, low, limit)
    x, y = (np.arange(a, b, dtype=np.float32) for a, b in zip(low, high, strict=True))
    return (slice(low[1], high[1]), slice(low[0], high[0])), x, y


def _tube_tables(
    sheet: _Sheet, form: dict, half_width_px: np.ndarray, length_px: float
) -> list[np.ndarray]:
    """Along a long bone: outer and inner half-width (pixels), the cavity's share, the density."""
    unit = sheet.unit_px
    s = np.linspace(0, length_px, TABLE_SIZE)
    base_px = form["base_round"] * unit * sheet.vary(0.15)
    head_px = form["head_round"] * unit * sheet.vary(0.15)

    def rounded(inset_px: float) -> np.ndarray:
        to_base = np.clip(1 - (s - inset_px) / base_px, 0, 1)
        to_head = np.clip(1 - (length_px - inset_px - s) / head_px, 0, 1)
        return ((1 - to_base**2.5) * (1 - to_head**2.5)) ** 0.4

    middle = np.maximum(np.sin(np.pi * s / length_px), 0) ** 1.5
    cortex_px = unit * (CORTEX_END + (CORTEX_SHAFT * sheet.vary(0.2) - CORTEX_END) * middle)
    outer = half_width_px * rounded(0)
    inner = np.maximum(half_width_px - cortex_px, 0) * rounded(1.3 * CORTEX_END * unit)
    cavity = np.interp(s / length_px, CAVITY_STATIONS, CAVITY_SHARES)
    density = np.full(TABLE_SIZE, form["density"] * sheet.vary(0.08))
    if form["plate"] is not None:
        plate_px = form["plate"] * unit * sheet.vary(0.05)
        # A negative distance counts from the head, as an index does.
        sigmas = (s - plate_px % length_px) / (PLATE_SIGMA * unit)
        density *= 1 - np.clip(1.3 - 1.6 * sheet.maturity, 0, 0.9) * np.exp(-(sigmas**2))
        density *= 1 + 0.3 * (np.exp(-((sigmas - 2) ** 2)) + np.exp(-((sigmas + 2) ** 2)))
    outer[[0, -1]] = inner[[0, -1]] = 0
    return [table.astype(np.float32) for table in (outer, inner, cavity, density)]


def _add_wrist(sheet: _Sheet, points: np.ndarray) -> None:
    """Adds the carpals, the ends of radius and ulna, and the thumb's sesamoid."""
    model = _shape_model()
    warp = RBFInterpolator(model["mean"][WRIST], points[WRIST], kernel="thin_plate_spline")
    for name, bone in model["wrist_bones"].items():
        if name == "hamate_hook" and sheet.maturity < HAMATE_HOOK_FROM_MATURITY:
            continue
        outline = warp(np.array(bone["outline"]))
        if "epiphysis" not in name:
            anchor = points[bone["anchor"]]
            size = (0.92 + 0.13 * sheet.maturity) * sheet.vary(0.04)
            outline = anchor + (outline - anchor) * min(size, 1.06)
        _add_outlined_bone(sheet, outline, bone["thickness"] * sheet.vary(0.1))
    if sheet.maturity > SESAMOID_FROM_MATURITY:
        along = _unit(points[18] - points[17])
        ulnar = np.array([along[1], -along[0]])
        offset = ulnar * 0.075 * sheet.vary(0.2) - along * 0.065 * sheet.vary(0.2)
        angle = np.linspace(0, 2 * np.pi, 9)[:-1, None]
        ring = (1.2 * np.cos(angle) * along + np.sin(angle) * ulnar) * 0.033 * sheet.vary(0.15)
        _add_outlined_bone(sheet, points[18] + (offset + ring) * sheet.unit_px, 0.5)


def _add_outlined_bone(sheet: _Sheet, outline: np.ndarray, thickness: float) -> None:
    """Adds a rounded bone with a thin bright rim."""
    closed = np.vstack([outline, outline[:1]])
    spline = CubicSpline(np.arange(len(closed)), closed, bc_type="periodic")
    outline = spline(np.arange(0, len(outline), 0.2))
    window, x, y = _window(sheet, outline, 4)
    if not len(x) or not len(y):
        return
    mask = Image.new("1", (len(x), len(y)))
    ImageDraw.Draw(mask).polygon([tuple(vertex) for vertex in outline - (x[0], y[0])], fill=1)
    depth = distance_transform_edt(np.asarray(mask)).astype(np.float32) / np.float32(sheet.unit_px)
    body = CARPAL_BODY * (1 - np.exp(-depth / 0.012))
    rim = CARPAL_RIM * np.exp(-(((depth - 0.007) / 0.007) ** 2)) * (depth > 0)
    ray = uniform_filter((body + rim) * np.float32(thickness), 3)
    row, column = sheet.rng.integers(TEXTURE_PX, size=2)
    spongy = np.roll(_texture(), (row, column), axis=(0, 1))[: len(y), : len(x)]
    sheet.layer[window] += ray * spongy


def _hand_mask(p: np.ndarray, size: tuple[int, int], unit: float, fat: float) -> Image.Image:
    """Paints the outline of the skin around landmarks `p`."""
    palm = Image.new("L", size)

    def paint_tube(picture: Image.Image, line: np.ndarray, radii: tuple[float, ...]) -> None:
        draw = ImageDraw.Draw(picture)
        for a, b, radius_a, radius_b in zip(line, line[1:], radii, radii[1:], strict=False):
            for t in np.linspace(0, 1, max(int(np.linalg.norm(b - a) / 2), 2)):
                x, y = a + t * (b - a)
                r = (radius_a + t * (radius_b - radius_a)) * unit * fat
                draw.ellipse([x - r, y - r, x + r, y + r], fill=255)

    across = _unit(p[4] - p[0]) * unit
    far = _down_the_arm(p) * 1.5 * unit
    ulnar, radial = p[0] - across * 0.12 * fat, p[4] + across * 0.14 * fat
    arm = [p[13] - across * 0.2, ulnar, ulnar + far - across * 0.04, radial + far + across * 0.04]
    thumb = [radial, p[12] + across * 0.2 * fat, p[17], p[18], 0.55 * p[18] + 0.45 * p[21]]
    outline = [p[33], *arm, *thumb, p[21], p[25], p[29]]
    ImageDraw.Draw(palm).polygon([tuple(vertex) for vertex in outline], fill=255)
    for (base, mcp, pip, *_), width in zip(RAYS, RAY_FAT, strict=True):
        web = p[mcp] + WEB_HEIGHT * (p[pip] - p[mcp])
        radii = 0.25 * width, 0.18 * width, 0.165 * width
        paint_tube(palm, np.stack([p[base], p[mcp], web]), radii)
    paint_tube(palm, p[THUMB[:3]], (0.27, 0.2, 0.152))
    # Blurring and cutting rounds the webs between the fingers.
    mask = palm.filter(ImageFilter.GaussianBlur(0.055 * unit)).point(lambda v: 255 * (v > 125))
    for ray, width in zip((*RAYS, THUMB), (*RAY_FAT, 1.06), strict=True):
        line = np.vstack([p[ray[-4:-1]], _toward(p[ray[-1]], p[ray[-2]], 0.06 * unit)])
        radii = (0.18, 0.15, 0.127, 0.114) if ray is not THUMB else (0.25, 0.19, 0.145, 0.115)
        paint_tube(mask, line, tuple(radius * width for radius in radii))
    for ray, next_ray in itertools.pairwise(RAYS):
        between = (p[ray] + p[next_ray]) / 2
        web = between[1] + WEB_HEIGHT * (between[2] - between[1])
        ImageDraw.Draw(mask).line([tuple(v) for v in (web, *between[2:])], fill=0, width=2)
    return mask


def _soft_tissue(
    points: np.ndarray, shape: tuple[int, int], unit_px: float, rng: np.random.Generator
) -> tuple[np.ndarray, Image.Image]:
    """Returns the thickness of soft tissue (1 is a finger's) and a smaller mask of the hand."""
    factor = TISSUE_SCALE / BONE_SCALE
    unit = unit_px * factor
    width, height = max(round(shape[1] * factor), 8), max(round(shape[0] * factor), 8)
    pad = int(0.25 * unit) + 1
    p = points * factor + pad
    mask = _hand_mask(p, (width + 2 * pad, height + 2 * pad), unit, np.exp(rng.normal(0, 0.08)))
    depth = distance_transform_edt(np.asarray(mask)).astype(np.float32) / np.float32(unit)
    # Smoothing blurs the skin's edge too; cutting its foot off makes it sharp again.
    depth = uniform_filter(uniform_filter(depth, 5), 3)[pad:-pad, pad:-pad]
    depth = np.maximum(depth - np.float32(0.9 / unit), 0)
    x, y = (np.arange(side, dtype=np.float32) + pad for side in (width, height))

    def beyond(landmark: int, direction: np.ndarray) -> np.ndarray:
        (x0, y0), (dx, dy) = p[landmark].astype(np.float32), (direction / unit).astype(np.float32)
        return (x[None, :] - x0) * dx + (y[:, None] - y0) * dy

    below_bases = beyond(15, _down_the_arm(p))
    palm = np.clip((depth - 0.02) / 0.22, 0, 1) * np.clip((below_bases + 1.4) / 0.5, 0, 1)
    palm *= np.clip(1 - beyond(18, _unit(p[18] - p[17])) / 0.35, 0, 1)
    palm = uniform_filter(palm, max(int(0.1 * unit), 1))
    wrist = np.clip(below_bases / 0.5 + 0.4, 0, 1)
    skin = np.sqrt(1 - (1 - np.clip(depth / SKIN_DEPTH, 0, 1)) ** 2)
    thickness = skin * (1 + PALM_TISSUE * palm + WRIST_TISSUE * wrist)
    large = Image.fromarray(thickness).resize(shape[::-1], Image.Resampling.BILINEAR)
    return np.asarray(large), mask.crop((pad, pad, pad + width, pad + height))


def _develop(bone: np.ndarray, tissue: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Turns thicknesses into grey levels: exposure, film response, uneven background."""
    background = rng.uniform(8, 40) if rng.random() < 0.35 else rng.uniform(40, 105)
    contrast = rng.uniform(265, 300) - background
    exposure = np.exp(rng.normal(0, 0.12))
    bone_gain = np.float32(13 * exposure * np.exp(rng.normal(0, 0.1)))
    tissue_gain = np.float32(0.18 * exposure * np.exp(rng.normal(0, 0.12)))
    absorbed = 1 - np.exp(-(bone_gain * bone + tissue_gain * tissue))
    gamma = np.float32(rng.uniform(0.92, 1.08))
    grey = np.float32(background) + np.float32(contrast) * np.maximum(absorbed, 0) ** gamma
    knots = Image.fromarray(rng.standard_normal((6, 4), dtype=np.float32) * rng.uniform(1, 4))
    grey += np.asarray(knots.resize(bone.shape[::-1], Image.Resampling.BILINEAR))
    streaks = rng.standard_normal(bone.shape[1], dtype=np.float32) * np.float32(rng.uniform(0, 1))
    grey += streaks * (1 - np.clip(tissue, 0, 1))
    picture = Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
    return picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.75)))


def _free_corner(
    rng: np.random.Generator, mask: Image.Image, share: np.ndarray, at_edge: bool
) -> np.ndarray | None:
    """Finds and takes a place of `share` of width and height that nothing covers yet."""
    for _ in range(12):
        corner = rng.uniform(0.02, 0.98 - share)
        if at_edge:
            side = rng.integers(2)
            corner[side] = rng.choice([0.0, 1 - share[side]])
        box = [int(v) for v in np.concatenate([corner, corner + share]) * np.tile(mask.size, 2)]
        if not mask.crop(box).getbbox():
            mask.paste(255, box)
            return corner
    return None


def _add_props(picture: Image.Image, mask: Image.Image, rng: np.random.Generator) -> None:
    """Adds covered name plates, a side marker, a collimated border."""
    draw = ImageDraw.Draw(picture)
    size = np.array(picture.size)
    for _ in range(rng.integers(0, 3)):
        share = rng.uniform([0.1, 0.06], [0.26, 0.16])
        corner = _free_corner(rng, mask, share, at_edge=True)
        if corner is not None:
            _add_plate(picture, corner * size, (corner + share) * size, rng)
    share = np.array([0.11, 0.13])
    if rng.random() < 0.5:
        corner = _free_corner(rng, mask, share, at_edge=False)
        if corner is not None:
            _add_marker(draw, corner * size, share * size, rng)
    if rng.random() < 0.2:
        low, high = rng.uniform(0, 0.02, 2) * size, size * (1 - rng.uniform(0, 0.02, 2))
        (left, top), (right, bottom), (width, height) = low, high, size
        grey = int(rng.integers(0, 15))
        for box in ((0, 0, left, height), (0, 0, width, top)):
            draw.rectangle(box, fill=grey)
        for box in ((right, 0, width, height), (0, bottom, width, height)):
            draw.rectangle(box, fill=grey)


def _add_plate(
    picture: Image.Image, low: np.ndarray, high: np.ndarray, rng: np.random.Generator
) -> None:
    """Adds a dark (seldom white) plate with a strip of its tape showing."""
    draw = ImageDraw.Draw(picture)
    size = np.array(picture.size)
    around = picture.getpixel(tuple(int(v) for v in np.clip(low, 0, size - 1)))
    tape_low = low + rng.normal(0, 0.015, 2) * size
    tape_high = np.maximum(high + rng.normal(0, 0.015, 2) * size, tape_low + 1)
    draw.rectangle([*tape_low, *tape_high], fill=min(around + int(rng.integers(15, 45)), 255))
    tilt = rng.normal(0, 0.005, 4) * size[1]
    corners = [(low[0], low[1] + tilt[0]), (high[0], low[1] + tilt[1])]
    corners += [(high[0] + tilt[2], high[1]), (low[0] + tilt[3], high[1])]
    draw.polygon(corners, fill=240 if rng.random() < 0.15 else int(rng.integers(0, 12)))


def _add_marker(
    draw: ImageDraw.ImageDraw, corner: np.ndarray, size: np.ndarray, rng: np.random.Generator
) -> None:
    """Adds a lead L with two initials, most often on a faint tape."""
    turn = _rotation(rng.normal(0, 0.2)).T * (size * [[1], [1]]).T

    def place(points: np.ndarray) -> list[tuple[float, float]]:
        return [tuple(point) for point in (np.array(points) - 0.5) @ turn + corner + size / 2]

    if rng.random() < 0.7:
        draw.polygon(place([[0, 0], [1, 0], [1, 1], [0, 1]]), fill=int(rng.integers(80, 115)))
    grey = int(rng.integers(235, 256))
    first, second = rng.choice(list("VFM"), 2)
    for letter, origin, extent, thickness in (
        ("L", (0.25, 0.12), (0.5, 0.45), 0.1),
        (first, (0.2, 0.68), (0.27, 0.2), 0.05),
        (second, (0.54, 0.68), (0.27, 0.2), 0.05),
    ):
        for stroke in MARKER_STROKES[letter]:
            line = place(np.array(origin) + np.array(stroke) * extent)
            r = max(thickness * size[0] / 2, 0.5)
            draw.line(line, fill=grey, width=max(round(2 * r), 1))
            for x, y in line:
                draw.ellipse([x - r, y - r, x + r, y + r], fill=grey)


def _with_grain(picture: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Returns the picture with film grain, a little smeared along the scanner's rows."""
    # Quantiles picked at random are normal noise at a third of the generator's time.
    quantiles = ndtri((np.arange(GRAIN_LEVELS) + 0.5) / GRAIN_LEVELS) * rng.uniform(1.0, 3.0)
    picked = rng.integers(0, GRAIN_LEVELS, picture.size[::-1], dtype=np.uint16)
    grain = quantiles.astype(np.float32)[picked]
    grain[:, 1:] += 0.5 * grain[:, :-1]
    grain += np.asarray(picture)
    grain += np.float32(0.5)
    return np.clip(grain, 0, 255, out=grain).astype(np.uint8)
