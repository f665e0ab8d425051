"""Figures of correlation maps, which `plots` passes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from kerasland.figure_style import DPI, FAINT, INK, title


def correlation_maps(
    predicted: np.ndarray, annotated: np.ndarray, names: Sequence[str] | None = None
) -> Figure:
    """The correlation map of the prediction, of the annotation, and their difference.

    Args:
        predicted, annotated: (K, K); NaN where a landmark is not annotated, drawn grey.
        names: K labels; with more than 20, every fifth is written, or fewer.

    Returns:
        A figure of three matrices; the first two share a scale, the third's is symmetric about 0.
    """
    figure = Figure(figsize=(11.5, 3.7), dpi=DPI, layout="constrained")
    all_axes = figure.subplots(1, 3)
    size = len(predicted)
    ticks = np.arange(0, size, 1 if size <= 20 else _tick_step(size, 16))
    labels = [str(k if names is None else names[k]) for k in ticks]
    for i, (axes, matrix) in enumerate(zip(all_axes, _compared(predicted, annotated), strict=True)):
        drawn = _draw_matrix(axes, matrix, 8)
        axes.set_xticks(ticks, labels, rotation=90 if names is not None else 0, parse_math=False)
        axes.set_yticks(*((ticks, labels) if i == 0 else ([], [])), parse_math=False)
        if i > 0:
            where = all_axes[:2] if i == 1 else axes
            _draw_bar(figure, drawn, {"ax": where, "shrink": 0.95, "aspect": 25}, 8)
    return figure


def single_correlation_maps(predicted: np.ndarray, annotated: np.ndarray) -> list[Figure]:
    """As `correlation_maps`, a square figure each, whose numbers are read at the size of a stamp.

    Args:
        predicted, annotated: (K, K); NaN where a landmark is not annotated, drawn grey.

    Returns:
        Three figures of one size.
    """
    figures = []
    size = len(predicted)
    ticks = np.arange(0, size, _tick_step(size, 8))
    for matrix in _compared(predicted, annotated):
        figure = Figure(figsize=(4.4, 3.6), dpi=DPI)
        # places by hand: a layout that is solved takes longer than all else
        axes = figure.add_axes((0.12, 0.08, 0.65, 0.8))
        drawn = _draw_matrix(axes, matrix, 12)
        axes.set_xticks(ticks)
        axes.set_yticks(ticks)
        _draw_bar(figure, drawn, {"cax": figure.add_axes((0.79, 0.08, 0.03, 0.8))}, 12)
        figures.append(figure)
    return figures


class _Matrix(NamedTuple):
    title: str
    values: np.ndarray
    palette: str
    low: float
    high: float


def _compared(predicted: np.ndarray, annotated: np.ndarray) -> list[_Matrix]:
    """Two maps on one scale and their difference on one symmetric about 0."""
    predicted, annotated = (np.asarray(m, dtype=np.float64) for m in (predicted, annotated))
    both = np.concatenate([predicted.ravel(), annotated.ravel()])
    both = both[np.isfinite(both)]
    low, high = (both.min(), both.max()) if both.size else (0.0, 1.0)
    difference = predicted - annotated
    finite = np.abs(difference[np.isfinite(difference)])
    reach = max(float(finite.max()), 1e-12) if finite.size else 1.0
    return [
        _Matrix("Predicted", predicted, "viridis", low, high),
        _Matrix("Annotated", annotated, "viridis", low, high),
        _Matrix("Predicted − annotated", difference, "RdBu_r", -reach, reach),
    ]


def _tick_step(size: int, most: int) -> int:
    """The step between labels that leaves no more than `most` of them."""
    return next(step for step in (1, 2, 5, 10, 20, 50, size) if size <= most * step)


def _draw_matrix(axes: Axes, matrix: _Matrix, size_pt: float) -> AxesImage:
    axes.set_facecolor(FAINT)
    axes.spines[:].set_visible(False)
    axes.tick_params(labelsize=size_pt, color="#888888", labelcolor=INK)
    title(axes, matrix.title, max(11, size_pt + 1))
    shown = np.ma.masked_invalid(matrix.values)
    return axes.imshow(shown, cmap=matrix.palette, vmin=matrix.low, vmax=matrix.high)


def _draw_bar(figure: Figure, drawn: AxesImage, place: Mapping, size_pt: float) -> None:
    bar = figure.colorbar(drawn, **place)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=size_pt, color="#888888", labelcolor=INK)
