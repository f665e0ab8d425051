"""Single points close up: what a large error looks like, to tell whose it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from kerasland.figure_style import title
from kerasland.pictures import ANNOTATED, PREDICTED, scaled

_DPI = 110
_SIDE_PX = 240
_COLUMNS = 5


class Closeup(NamedTuple):
    """A predicted point and its annotation in a radiograph.

    image: (H, W), any number type. point, truth: (2,), pixels; truth in the image. side_px: of the
    square to show, pixels. title: to write above.
    """

    image: np.ndarray
    point: np.ndarray
    truth: np.ndarray
    side_px: float
    title: str


def closeups(items: Sequence[Closeup]) -> Figure:
    """Squares about annotated points, five a row: the annotation as a ring, the prediction as a
    cross, or, out of the square, a line towards it.

    Args:
        items: at least one.

    Returns:
        A figure.
    """
    rows = -(-len(items) // _COLUMNS)
    # inches; a layout that is solved takes seconds
    wide, tall, head, gap, foot = 2.3, 2.6, 0.35, 0.06, 0.3
    height = tall * rows + foot
    figure = Figure(figsize=(wide * _COLUMNS, height), dpi=_DPI)
    for number, item in enumerate(items):
        row, column = divmod(number, _COLUMNS)
        size = (wide - 2 * gap) / (wide * _COLUMNS), (tall - head - gap) / height
        corner = (wide * column + gap) / (wide * _COLUMNS), 1 - (tall * (row + 1) - gap) / height
        axes = figure.add_axes((*corner, *size))
        axes.set_axis_off()
        side = max(2, round(item.side_px))  # also where a pixel is said to be huge
        left, top = np.rint(np.asarray(item.truth, np.float64) - side / 2)
        right, bottom = left + side, top + side
        limits = np.clip([[top, bottom], [left, right]], 0, np.array(item.image.shape)[:, None])
        rows_shown, columns_shown = (slice(*pair) for pair in limits.astype(int))
        grey = scaled(item.image[rows_shown, columns_shown], min(1.0, _SIDE_PX / side))
        extent = (columns_shown.start, columns_shown.stop, rows_shown.stop, rows_shown.start)
        axes.imshow(grey, cmap="gray", vmin=0, vmax=1, extent=np.array(extent) - 0.5)
        axes.set(xlim=(left - 0.5, right - 0.5), ylim=(bottom - 0.5, top - 0.5))
        joined = np.stack([item.truth, item.point], axis=1)
        axes.plot(*joined, color=PREDICTED, linewidth=0.8)  # leads to a prediction out of sight
        ring = {"marker": "o", "ls": "", "mfc": "none", "mec": ANNOTATED, "ms": 11, "mew": 1.8}
        cross = {"marker": "x", "ls": "", "mec": PREDICTED, "ms": 8, "mew": 1.8}
        handles = axes.plot(*item.truth, **ring) + axes.plot(*item.point, **cross)
        title(axes, item.title, 7.5)
    figure.legend(
        handles, ("annotated", "predicted"), loc="lower left", ncols=2, frameon=False, fontsize=9
    )
    return figure
