"""The film of a drawn hand: soft tissue, exposure, what else lies on the film, grain."""

import itertools

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy.ndimage import distance_transform_edt, uniform_filter
from scipy.special import ndtri

from kerasland.geometry import rotation
from kerasland.phantom_bones import RAYS, THUMB, down_the_arm, toward, unit_vector

# Soft tissue is drawn at this share of the bones' resolution.
TISSUE_SCALE = 0.5
GRAIN_LEVELS = 1024
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


def soft_tissue(
    points: np.ndarray, shape: tuple[int, int], unit_px: float, rng: np.random.Generator
) -> tuple[np.ndarray, Image.Image]:
    """Draws the soft tissue around the bones.

    Args:
        points: (37, 2), the landmarks, pixels of the bones' sheet.
        shape: Height and width of the bones' sheet, pixels.
        unit_px: The third metacarpal's length, pixels.
        rng: Varies the hand's fat; drawn from.

    Returns:
        Thickness (1 is a finger's), float32 of the given shape; a smaller mask of the hand.
    """
    unit = unit_px * TISSUE_SCALE
    width, height = max(round(shape[1] * TISSUE_SCALE), 8), max(round(shape[0] * TISSUE_SCALE), 8)
    pad = int(0.25 * unit) + 1
    p = points * TISSUE_SCALE + pad
    mask = _hand_mask(p, (width + 2 * pad, height + 2 * pad), unit, np.exp(rng.normal(0, 0.08)))
    depth = distance_transform_edt(np.asarray(mask)).astype(np.float32) / np.float32(unit)
    # Smoothing blurs the skin's edge too; cutting its foot off makes it sharp again.
    depth = uniform_filter(uniform_filter(depth, 5), 3)[pad:-pad, pad:-pad]
    depth = np.maximum(depth - np.float32(0.9 / unit), 0)
    x, y = (np.arange(side, dtype=np.float32) + pad for side in (width, height))

    def beyond(landmark: int, direction: np.ndarray) -> np.ndarray:
        (x0, y0), (dx, dy) = p[landmark].astype(np.float32), (direction / unit).astype(np.float32)
        return (x[None, :] - x0) * dx + (y[:, None] - y0) * dy

    below_bases = beyond(15, down_the_arm(p))
    palm = np.clip((depth - 0.02) / 0.22, 0, 1) * np.clip((below_bases + 1.4) / 0.5, 0, 1)
    palm *= np.clip(1 - beyond(18, unit_vector(p[18] - p[17])) / 0.35, 0, 1)
    palm = uniform_filter(palm, max(int(0.1 * unit), 1))
    wrist = np.clip(below_bases / 0.5 + 0.4, 0, 1)
    skin = np.sqrt(1 - (1 - np.clip(depth / SKIN_DEPTH, 0, 1)) ** 2)
    thickness = skin * (1 + PALM_TISSUE * palm + WRIST_TISSUE * wrist)
    large = Image.fromarray(thickness).resize(shape[::-1], Image.Resampling.BILINEAR)
    return np.asarray(large), mask.crop((pad, pad, pad + width, pad + height))


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

    across = unit_vector(p[4] - p[0]) * unit
    far = down_the_arm(p) * 1.5 * unit
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
        line = np.vstack([p[ray[-4:-1]], toward(p[ray[-1]], p[ray[-2]], 0.06 * unit)])
        radii = (0.18, 0.15, 0.127, 0.114) if ray is not THUMB else (0.25, 0.19, 0.145, 0.115)
        paint_tube(mask, line, tuple(radius * width for radius in radii))
    for ray, next_ray in itertools.pairwise(RAYS):
        between = (p[ray] + p[next_ray]) / 2
        web = between[1] + WEB_HEIGHT * (between[2] - between[1])
        ImageDraw.Draw(mask).line([tuple(v) for v in (web, *between[2:])], fill=0, width=2)
    return mask


def develop(bone: np.ndarray, tissue: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Turns thicknesses into grey levels: exposure, film response, uneven background.

    Args:
        bone: (H, W), a ray's way through bone, in third metacarpals.
        tissue: (H, W), thickness of soft tissue; 1 is a finger's.
        rng: Varies the film; drawn from.

    Returns:
        The picture, 8 bits of grey, bone bright.
    """
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


def add_props(picture: Image.Image, mask: Image.Image, rng: np.random.Generator) -> None:
    """Adds covered name plates, a side marker, a collimated border.

    Args:
        picture: Drawn on.
        mask: What is covered, at any size; the places that are taken are marked in it.
        rng: Picks the props; drawn from.
    """
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
    turn = rotation(rng.normal(0, 0.2)).T * size[:, None]

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


def with_grain(picture: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Returns the picture with film grain, a little smeared along the scanner's rows.

    Args:
        picture: 8 bits of grey.
        rng: Picks the grain; drawn from.

    Returns:
        uint8 of shape (H, W).
    """
    # Quantiles picked at random are normal noise at a third of the generator's time.
    quantiles = ndtri((np.arange(GRAIN_LEVELS) + 0.5) / GRAIN_LEVELS) * rng.uniform(1.0, 3.0)
    picked = rng.integers(0, GRAIN_LEVELS, picture.size[::-1], dtype=np.uint16)
    grain = quantiles.astype(np.float32)[picked]
    grain[:, 1:] += 0.5 * grain[:, :-1]
    grain += np.asarray(picture)
    grain += np.float32(0.5)
    return np.clip(grain, 0, 255, out=grain).astype(np.uint8)
