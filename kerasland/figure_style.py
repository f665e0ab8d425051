"""How figures look: ink, colours, axes.

The colours are those of Okabe and Ito, told apart by colour-blind readers too.
"""

from __future__ import annotations

from matplotlib.axes import Axes

CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
INK, FAINT = "#222222", "#D9D9D9"
DPI = 150


def clean(axes: Axes, grid: str | None = "both") -> None:
    """Two spines and a faint grid, along `x`, `y` or `both`, or none."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#888888")
    axes.tick_params(colors=INK, labelsize=9, color="#888888")
    if grid:
        axes.grid(axis=grid, color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)


def shortened(name: str, most: int = 40) -> str:
    """A name of an image or a landmark, of which the middle is left out where it is longer."""
    if len(name) <= most:
        return name
    return f"{name[: (most - 1) // 2]}…{name[-(most // 2) :]}"


def title(axes: Axes, text: str, size_pt: float = 11) -> None:
    """A title at the left; what it says is no formula, whatever signs a name has."""
    axes.set_title(text, fontsize=size_pt, color=INK, loc="left", parse_math=False)
