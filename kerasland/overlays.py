"""Figures of radiographs with their landmarks, names and errors, which `plots` passes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from kerasland.errors import DataError
from kerasland.figure_style import DPI, INK, shortened
from kerasland.pictures import ANNOTATED, PREDICTED, scaled, shown_names

_DISPLAY_PX = 1200
_LABELLED_MM, _LABELLED = 2.0, 10
_LETTERS_PT = 6.0  # at least


class Overlay(NamedTuple):
    """One radiograph with its landmarks: the arguments of `overlay`, in their order.

    image: (H, W) or (H, W, 1), any number type. points, truth: (K, 2), pixels of the image, NaN
    where there is none; either may be None. names: K labels. mm_per_px: millimetres a pixel, along
    x and y where they differ. shrunk: pixels of the original a pixel of the image.
    """

    image: np.ndarray
    points: np.ndarray | None = None
    truth: np.ndarray | None = None
    names: Sequence[str] | None = None
    mm_per_px: float | tuple[float, float] | None = None
    title: str | None = None
    shrunk: float = 1.0


def _millimetres(mm_per_px: float | tuple[float, float] | None) -> bool:
    return mm_per_px is not None and bool(np.isfinite(mm_per_px).all())


def _shown(item: Overlay) -> np.ndarray:
    """(K, 2), the predicted landmarks, or the annotated ones where nothing was predicted."""
    return np.asarray(item.truth if item.points is None else item.points, dtype=np.float64)


def _errors(item: Overlay) -> tuple[np.ndarray, str]:
    """The error of each point (NaN where there is none) and its unit, mm if the scale is known."""
    if item.truth is None or item.points is None:
        return np.full(len(_shown(item)), np.nan), "px"
    known = _millimetres(item.mm_per_px)
    apart = np.asarray(item.points) - np.asarray(item.truth)
    error = np.linalg.norm(apart * (item.mm_per_px if known else item.shrunk), axis=-1)
    return error, "mm" if known else "px"


def _error_note(item: Overlay) -> str:
    error, unit = _errors(item)
    error = error[np.isfinite(error)]
    if not error.size:
        return ""
    digits = 2 if unit == "mm" else 1
    return f"error: mean {error.mean():.{digits}f} {unit}, largest {error.max():.{digits}f} {unit}"


def _stroke(width_pt: float) -> list[patheffects.AbstractPathEffect]:
    return [patheffects.withStroke(linewidth=width_pt, foreground="black")]


def _scale_bar(axes: Axes, shape: tuple[int, int], mm_per_px: float, size_pt: float) -> None:
    height, width = shape
    x, y, length = 0.06 * width, 0.97 * height, 10.0 / mm_per_px
    axes.plot(
        [x, x + length],
        [y, y],
        color="white",
        linewidth=size_pt * 0.25,
        solid_capstyle="butt",
        path_effects=_stroke(size_pt * 0.25),
    )
    axes.annotate(
        "10 mm",
        (x + length / 2, y),
        (0, size_pt * 0.35),
        textcoords="offset points",
        ha="center",
        va="bottom",
        color="white",
        fontsize=size_pt,
        path_effects=_stroke(size_pt * 0.25),
    )


def _draw_joins(axes: Axes, points: np.ndarray, truth: np.ndarray, size_pt: float) -> None:
    both = np.isfinite(points + truth).all(axis=-1)
    lines = list(np.stack([truth[both], points[both]], axis=1))
    for color, width_pt in (("black", 0.3), (PREDICTED, 0.2)):
        axes.add_collection(
            LineCollection(lines, colors=color, linewidths=size_pt * width_pt, zorder=2),
            autolim=False,
        )


def _shown_names(names: Sequence[object]) -> list[str]:
    """As `shown_names`, of the fonts that Matplotlib is set to."""
    families = matplotlib.rcParams["font.family"]
    fonts = [get_font(findfont(FontProperties(family=[family]))) for family in families]
    return shown_names(names, lambda c: any(font.get_char_index(ord(c)) for font in fonts))


def _draw_labels(axes: Axes, item: Overlay, size_pt: float) -> None:
    """Beside a landmark its name, and its error if above 2 mm and among the ten largest."""
    letters_pt = max(size_pt, _LETTERS_PT)
    error, unit = _errors(item)
    largest = np.argsort(-error)[:_LABELLED]
    names = None if item.names is None else _shown_names(item.names)
    for k, (x, y) in enumerate(_shown(item)):
        parts = [] if names is None else [(names[k], "white")]
        if unit == "mm" and error[k] > _LABELLED_MM and k in largest:
            parts.append((f"{error[k]:.1f} mm", PREDICTED))
        side = -1 if x > 0.85 * np.shape(item.image)[1] else 1
        for row, (text, color) in enumerate(parts):
            if np.isfinite(x + y):
                axes.annotate(
                    text,
                    (x, y),
                    (side * size_pt * 0.7, letters_pt * (0.6 - 1.1 * row)),
                    textcoords="offset points",
                    ha="left" if side > 0 else "right",
                    va="center",
                    color=color,
                    fontsize=letters_pt,
                    path_effects=_stroke(letters_pt * 0.25),
                    parse_math=False,
                )


def _draw_landmarks(axes: Axes, points: np.ndarray, label: str, **marker) -> None:
    known = points[np.isfinite(points).all(axis=-1)]
    axes.plot(*known.T, linestyle="none", marker="o", label=label, **marker)


def _draw_overlay(axes: Axes, item: Overlay, size_pt: float) -> None:
    """`size_pt`: diameter of a ring and height of the letters, in points."""
    shape = np.shape(item.image)[:2]
    scale = min(1.0, _DISPLAY_PX / np.shape(item.image)[0])
    grey = scaled(item.image, scale)
    rows, columns = grey.shape
    extent = (-0.5, columns / scale - 0.5, rows / scale - 0.5, -0.5)
    axes.imshow(grey, cmap="gray", vmin=0.0, vmax=1.0, extent=extent, interpolation="antialiased")
    axes.set_axis_off()
    if item.truth is not None:
        truth = np.asarray(item.truth, dtype=np.float64)
        if item.points is not None:
            _draw_joins(axes, _shown(item), truth, size_pt)
        _draw_landmarks(
            axes,
            truth,
            "annotated",
            markersize=size_pt,
            markerfacecolor="none",
            markeredgecolor=ANNOTATED,
            markeredgewidth=size_pt * 0.2,
        )
    if item.points is not None:
        _draw_landmarks(
            axes,
            _shown(item),
            "predicted",
            markersize=size_pt * 0.6,
            markerfacecolor=PREDICTED,
            markeredgecolor="black",
            markeredgewidth=size_pt * 0.06,
        )
    _draw_labels(axes, item, size_pt)
    if _millimetres(item.mm_per_px):
        _scale_bar(axes, shape, np.ravel(item.mm_per_px)[0], size_pt * 1.4)
    axes.set(xlim=(-0.5, shape[1] - 0.5), ylim=(shape[0] - 0.5, -0.5))


def overlay(
    image: np.ndarray,
    points: np.ndarray | None,
    truth: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    mm_per_px: float | tuple[float, float] | None = None,
    title: str | None = None,
    shrunk: float = 1.0,
) -> Figure:
    """The radiograph in grey with its landmarks and, if known, the annotated ones.

    Args:
        image: (H, W) or (H, W, 1), any number type; shown between its 0.5 and 99.5
            percentiles.
        points: (K, 2), predicted landmarks, pixels of the image; those with NaN are left out. None:
            the annotation alone is shown.
        truth: (K, 2), annotated landmarks, each joined to its prediction by a line;
            errors above 2 mm, the ten largest, are written beside them.
        names: K labels to write beside the predictions, such as their numbers; see
            `pictures.shown_names`.
        mm_per_px: millimetres a pixel, along x and y where they differ, for errors in mm and a bar
            of 10 mm.
        title: above the image, shortened to what there is room for.
        shrunk: pixels of the original a pixel of the image, for errors where no scale is known.

    Returns:
        A figure in the shape of the image, its longer side 8 inches.
    """
    item = Overlay(image, points, truth, names, mm_per_px, title, shrunk)
    height, width = np.shape(image)[:2]
    long_in, head_in = 8.0, 0.4 if title else 0.0
    note = _error_note(item)
    foot_in = 0.56 if note else 0.36
    width_in, height_in = np.array([width, height]) / max(height, width) * long_in
    total_in = height_in + head_in + foot_in
    figure = Figure(figsize=(width_in, total_in), dpi=DPI)
    axes = figure.add_axes((0, foot_in / total_in, 1, height_in / total_in))
    _draw_overlay(axes, item, 0.8 * long_in)
    if title:
        figure.text(
            0.5,
            1 - head_in / 2 / total_in,
            shortened(title),
            ha="center",
            va="center",
            fontsize=12,
            color=INK,
            parse_math=False,
        )
    figure.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, (foot_in - 0.32) / total_in),
        ncols=2,
        frameon=False,
        fontsize=10,
        borderpad=0,
    )
    if note:
        figure.text(0.5, 0.14 / total_in, note, ha="center", va="center", fontsize=10, color=INK)
    return figure


def overlay_grid(items: Sequence[Overlay]) -> Figure:
    """Radiographs, such as the worst cases, three a row, each with its title and errors.

    Args:
        items: `Overlay` tuples.

    Returns:
        A figure whose rows are as tall as the tallest image in them needs.

    Raises:
        DataError: There are no items.
    """
    if not items:
        raise DataError("no images to draw")
    columns = min(3, len(items))
    aspects = [np.shape(item.image)[0] / np.shape(item.image)[1] for item in items]
    tallest = [max(aspects[first : first + columns]) for first in range(0, len(items), columns)]
    cell_in, title_in = 3.2, 0.45
    height_in = sum(cell_in * aspect + title_in for aspect in tallest) + 0.35
    figure = Figure(figsize=(columns * cell_in, height_in), dpi=DPI, layout="constrained")
    grid = figure.subplots(len(tallest), columns, squeeze=False, height_ratios=tallest).ravel()
    for k, (axes, item) in enumerate(zip(grid, items, strict=False)):
        height, width = np.shape(item.image)[:2]
        _draw_overlay(axes, item, 1.1 * cell_in * max(1.0, height / width))
        axes.set_ylim(tallest[k // columns] * width - 0.5, -0.5)
        lines = [line for line in (shortened(item.title or ""), _error_note(item)) if line]
        axes.set_title("\n".join(lines), fontsize=9, color=INK, parse_math=False)
    for axes in grid[len(items) :]:
        axes.set_axis_off()
    handles, labels = max(
        (axes.get_legend_handles_labels() for axes in grid), key=lambda h: len(h[0])
    )
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=10)
    return figure
