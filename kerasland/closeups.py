"""Single points close up: what a large error looks like, to tell whose it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from kerasland.pictures import ANNOTATED, PREDICTED, scaled

_DPI = 110
_SIDE_PX = 240


class Closeup(NamedTuple):
    """A predicted point and its annotation in a radiograph.

    image: (H, W), any number type. point, truth: (2,), pixels. side_px: of the square to show,
    pixels. title: to write above.
    """

    image: np.ndarray
    point: np.ndarray
    truth: np.ndarray
    side_px: float
    title: str


def closeups(items: Sequence[Closeup], columns: int = 5) -> Figure:
    """Squares about annotated points: the annotation as a ring, the prediction as a cross.

    Args:
        items: at least one.
        columns: pictures a row.

    Returns:
        A figure.
    """
    rows = -(-len(items) // columns)
    figure = Figure(figsize=(2.3 * columns, 2.6 * rows), dpi=_DPI, layout="constrained")
    all_axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, item in zip(all_axes, items, strict=False):
        left, top = np.round(np.asarray(item.truth) - item.side_px / 2).astype(int)
        side = round(item.side_px)
        height, width = item.image.shape
        rows_shown = np.s_[max(top, 0) : min(top + side, height)]
        columns_shown = np.s_[max(left, 0) : min(left + side, width)]
        grey, scale = scaled(item.image[rows_shown, columns_shown], min(1.0, _SIDE_PX / side))
        corner = np.array([max(left, 0), max(top, 0)])
        axes.imshow(grey, cmap="gray", vmin=0, vmax=1)
        for place, style in (
            (item.truth, {"marker": "o", "mfc": "none", "mec": ANNOTATED, "ms": 11}),
            (item.point, {"marker": "x", "mec": PREDICTED, "ms": 8}),
        ):
            x, y = (np.asarray(place) - corner + 0.5) * scale - 0.5
            axes.plot(x, y, linestyle="none", mew=1.8, clip_on=False, **style)
        axes.set_title(item.title, fontsize=7.5, loc="left", color="#222222")
    for axes in all_axes:
        axes.set_axis_off()
    return figure
