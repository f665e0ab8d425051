"""The bones of a drawn hand: a ray's way through them, around given landmarks.

Long bones are tubes as bright as a ray's way through their walls is long; the wrist's bones are
outlines that a thin-plate spline carries from the mean shape to the drawn one.
"""

import functools
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy.interpolate import CubicSpline, RBFInterpolator
from scipy.ndimage import distance_transform_edt, uniform_filter

# Landmarks by their number, as `kerasland.phantom.LANDMARK_NAMES` orders them.
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
TABLE_SIZE = 1024
TEXTURE_PX = 512

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


def draw_bones(
    model: dict,
    points: np.ndarray,
    shape: tuple[int, int],
    unit_px: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draws the bones of one hand.

    Args:
        model: The shape model; its `mean`, `wrist_bones` and `long_bones` are read.
        points: (37, 2), the landmarks, pixels of the sheet.
        shape: Height and width of the sheet, pixels.
        unit_px: The third metacarpal's length, pixels.
        rng: Varies the bones; drawn from.

    Returns:
        A ray's way through bone, in third metacarpals; float32 of the given shape.
    """
    sheet = _Sheet(np.zeros(shape, np.float32), unit_px, rng.uniform(), rng)
    _add_fingers(sheet, points, model["long_bones"])
    _add_forearm(sheet, points)
    _add_wrist(sheet, points, model)
    return sheet.layer


def unit_vector(vector: np.ndarray) -> np.ndarray:
    """Returns the vector at length 1."""
    return vector / np.linalg.norm(vector)


def toward(start: np.ndarray, end: np.ndarray, distance_px: float) -> np.ndarray:
    """Returns the point that lies `distance_px` from `start` on the way to `end`."""
    return start + unit_vector(end - start) * distance_px


def down_the_arm(points: np.ndarray) -> np.ndarray:
    """Returns the unit vector from the metacarpals' bases to the forearm's ends."""
    return unit_vector(points[FOREARM].mean(axis=0) - points[METACARPAL_BASES].mean(axis=0))


@functools.cache
def _texture() -> np.ndarray:
    """Spongy bone: a tileable field around 1."""
    noise = np.random.default_rng(0).standard_normal((TEXTURE_PX, TEXTURE_PX)).astype(np.float32)
    fine = uniform_filter(noise, 2, mode="wrap") * 2
    coarse = uniform_filter(noise[::-1], 6, mode="wrap") * 6
    return 1 + np.float32(0.1) * fine + np.float32(0.06) * coarse


def _add_fingers(sheet: _Sheet, points: np.ndarray, forms: dict) -> None:
    unit = sheet.unit_px
    hand_width = 0.95 * sheet.vary(0.08)
    gap, mcp_gap = JOINT_GAP * unit * sheet.vary(0.2), MCP_GAP * unit * sheet.vary(0.2)
    ulnar = unit_vector(points[13] - points[16])
    for ray, ray_width, offset in zip(RAYS, RAY_WIDTHS, RAY_BASE_OFFSETS, strict=True):
        joints = points[ray]
        starts = [joints[0] + ulnar * offset * unit, joints[1]]
        starts += [toward(joints[i], joints[i + 1], gap) for i in (2, 3)]
        ends = [toward(joints[1], joints[0], mcp_gap), *joints[2:]]
        for kind, start, end in zip(RAY_BONES, starts, ends, strict=True):
            _add_finger_bone(sheet, forms[kind], start, end, ray_width * hand_width)
    base, mcp, ip, tip = points[THUMB]
    starts = [base, mcp, toward(ip, tip, gap)]
    ends = [toward(mcp, base, mcp_gap), ip, tip]
    for kind, start, end, width in zip(THUMB_BONES, starts, ends, THUMB_WIDTHS, strict=True):
        _add_finger_bone(sheet, forms[kind], start, end, width * hand_width)


def _add_finger_bone(
    sheet: _Sheet, form: dict, start: np.ndarray, end: np.ndarray, width: float
) -> None:
    form = form | {"slope": sheet.rng.normal(0, 0.06)}
    along = np.linspace(0, 1, TABLE_SIZE)
    half_width = np.interp(along, form["stations"], form["half_widths"])
    half_width = uniform_filter(half_width, TABLE_SIZE // 10, mode="nearest")
    waist = np.sin(np.pi * along) ** 2
    half_width *= width * (sheet.vary(0.045) + (sheet.vary(0.07) - 1) * waist)
    bow_px = sheet.rng.normal(0, 0.008) * sheet.unit_px * np.sin(np.pi * along)
    _add_long_bone(sheet, form, start, end, half_width * sheet.unit_px, bow_px)


def _add_forearm(sheet: _Sheet, points: np.ndarray) -> None:
    """Adds the shafts of ulna and radius, from their growth plates to beyond the border."""
    down = down_the_arm(points)
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


def _add_wrist(sheet: _Sheet, points: np.ndarray, model: dict) -> None:
    """Adds the carpals, the ends of radius and ulna, and the thumb's sesamoid."""
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
        along = unit_vector(points[18] - points[17])
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
