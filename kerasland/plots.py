"""Pictures: landmarks on a radiograph, error curves, correlation maps, training curves.

Every function returns a `matplotlib.figure.Figure` of its own (no pyplot, no global state, no
window); `save` writes it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kerasland import files
from kerasland.correlation_plots import correlation_maps, single_correlation_maps
from kerasland.errors import DataError
from kerasland.figure_style import CYCLE, DPI, INK, clean, shortened, title
from kerasland.overlays import Overlay, overlay, overlay_grid

__all__ = [
    "Overlay",
    "correlation_maps",
    "cumulative_error",
    "history",
    "overlay",
    "overlay_grid",
    "per_landmark_bars",
    "reliability",
    "save",
    "single_correlation_maps",
]

TICKS = (0.1, 0.2, 0.5, 1, 2, 4, 10, 20, 50, 100, 200, 500, 1000)  # of errors


def save(figure: Figure, path: str | os.PathLike) -> None:
    """Writes a figure, whole or not at all; the suffix (.png, .pdf, .svg) says the format."""
    with files.replacing(path) as temporary:
        figure.savefig(temporary)


def cumulative_error(
    errors_by_method: Mapping[str, pd.DataFrame], largest: float = 10.0, unit: str = "mm"
) -> Figure:
    """The percentage of points with error <= x, for each method; of millimetres 2 and 4 are marked.

    Args:
        errors_by_method: errors tables by the name to show.
        largest: right end of the axis, which is logarithmic from a hundredth of it.
        unit: "mm" or "px".

    Returns:
        A figure; the legend gives the mean of each method.

    Raises:
        DataError: A method has no error in that unit.
    """
    figure = Figure(figsize=(7.0, 4.6), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    for x in (2.0, 4.0) if unit == "mm" else ():
        axes.axvline(x, color="#AAAAAA", linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
    for i, (method, errors) in enumerate(errors_by_method.items()):
        error = np.sort(errors[f"error_{unit}"].to_numpy(dtype=np.float64))
        error = error[np.isfinite(error)]
        if not error.size:
            raise DataError(f"{method}: no error in {unit} to draw")
        share = 100.0 * np.arange(error.size + 1) / error.size
        axes.step(
            np.concatenate([[1e-6], error, [1e6]]),
            np.concatenate([share, share[-1:]]),
            where="post",
            color=CYCLE[i % len(CYCLE)],
            linewidth=1.8,
            linestyle=("-", "--", "-.")[i // len(CYCLE) % 3],
            label=f"{method}: {error.mean():.2f} {unit}",
        )
    ticks = [x for x in TICKS if largest / 100 <= x <= largest]
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{x:g}" for x in ticks])
    axes.set_xticks([], minor=True)
    axes.set(xlim=(largest / 100, largest), ylim=(0, 101))
    axes.set_xlabel(f"error, {unit}", fontsize=10, color=INK)
    axes.set_ylabel("points with error ≤ x, %", fontsize=10, color=INK)
    legend = axes.legend(
        title="Mean error",
        loc="upper left",
        frameon=True,
        framealpha=0.9,
        edgecolor="none",
        fontsize=9,
    )
    legend.set_alignment("left")
    clean(axes)
    return figure


def per_landmark_bars(table: pd.DataFrame) -> Figure:
    """Mean and median error of each landmark, in their order.

    Args:
        table: as from `kerasland.tables.per_landmark`; pixels stand in where no mm are known.

    Returns:
        A figure with a horizontal bar a landmark (its mean) and a mark (its median).
    """
    mm = bool(table["error_mm_mean"].notna().any())
    mean = table["error_mm_mean" if mm else "error_px_mean"].to_numpy(dtype=np.float64)
    place = np.arange(len(table))
    figure = Figure(figsize=(6.5, 1.0 + 0.2 * len(table)), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.barh(place, mean, height=0.7, color=CYCLE[5], label="mean")
    if mm:
        axes.plot(
            table["error_mm_median"],
            place,
            linestyle="none",
            marker="|",
            markersize=9,
            markeredgewidth=2.0,
            color=CYCLE[0],
            label="median",
        )
    axes.set_yticks(place, table["landmark"].astype(str).map(shortened), parse_math=False)
    axes.set(ylim=(len(table) - 0.4, -0.6))
    axes.set_xlabel(f"error, {'mm' if mm else 'px'}", fontsize=10, color=INK)
    clean(axes, grid="x")
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.spines["left"].set_visible(False)
    figure.legend(reverse=True, loc="outside upper right", ncols=2, frameon=False, fontsize=9)
    return figure


def history(frame: pd.DataFrame) -> Figure:
    """Losses, other quantities and the learning rate by epoch; whatever of them there is.

    Args:
        frame: a row an epoch, columns as in a Keras history (`loss`, `heatmaps_loss`, ...,
            `val_...`, `learning_rate`) and optionally `epoch`, else counted from 1.

    Returns:
        A figure with a panel for the losses, one for each other quantity and one for the learning
        rate; training dashed, validation solid, a loss with only positive values on a log axis.

    Raises:
        DataError: No column of numbers to draw.
    """
    epoch = frame["epoch"] if "epoch" in frame else pd.Series(np.arange(1, len(frame) + 1))
    numeric = frame.select_dtypes("number").drop(columns="epoch", errors="ignore")
    numeric = numeric.dropna(axis="columns", how="all")
    panels: dict[str, list[str]] = {}
    for column in numeric:
        quantity = str(column).removeprefix("val_")
        panel = "loss" if quantity.endswith("loss") else quantity
        bases = panels.setdefault(panel, [])
        if quantity not in bases:
            bases.append(quantity)
    if not panels:
        raise DataError("the training history holds no numbers to draw")
    ordered = sorted(panels, key=lambda p: (p != "loss", p == "learning_rate"))
    columns = min(3, len(ordered))
    rows = -(-len(ordered) // columns)
    figure = Figure(figsize=(4.4 * columns, 3.3 * rows), dpi=DPI, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, panel in zip(grid, ordered, strict=False):
        drawn = []
        for i, quantity in enumerate(panels[panel]):
            for column, style, kind in (
                (quantity, "--", "training"),
                (f"val_{quantity}", "-", "validation"),
            ):
                if column not in numeric:
                    continue
                name = f"{quantity.replace('_', ' ')}, {kind}" if panel == "loss" else kind
                axes.plot(
                    epoch,
                    numeric[column],
                    linestyle="-" if panel == "learning_rate" else style,
                    color=CYCLE[i % len(CYCLE)],
                    linewidth=1.6,
                    label=name,
                )
                drawn.append(numeric[column])
        title(axes, panel.replace("_", " "))
        axes.set_xlabel("epoch", fontsize=10, color=INK)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if panel in ("loss", "learning_rate") and min(float(d.min()) for d in drawn) > 0:
            axes.set_yscale("log")
        clean(axes)
        if panel != "learning_rate":
            axes.legend(frameon=False, fontsize=8)
    for axes in grid[len(ordered) :]:
        axes.set_axis_off()
    return figure


def reliability(table: pd.DataFrame) -> Figure:
    """The share of points that is within the radius said to hold that share.

    Args:
        table: as from `kerasland.calibration.reliability`.

    Returns:
        A figure: the curve with its 95 % band, and the diagonal on which it should lie.
    """
    said, found = 100 * table["nominal_coverage"], 100 * table["empirical_coverage"]
    low, high = (100 * table[f"empirical_coverage_{end}"] for end in ("low", "high"))
    figure = Figure(figsize=(4.6, 4.6), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 100], [0, 100], color="#888888", linewidth=1.0, linestyle=(0, (4, 3)))
    axes.fill_between(said, low, high, color=CYCLE[0], alpha=0.2, linewidth=0, label="95 %")
    axes.plot(said, found, color=CYCLE[0], marker="o", markersize=3.5, label="found")
    axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
    axes.set_xlabel("said to be within the radius, % of points", fontsize=10, color=INK)
    axes.set_ylabel("found within it, %", fontsize=10, color=INK)
    axes.legend(loc="upper left", frameon=False, fontsize=9)
    clean(axes)
    return figure
