"""A table as Markdown, LaTeX and cells: which columns a reader sees, which headers, how rounded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import pandas as pd

FEW_IMAGES = 20  # of fewer the percentile bootstrap's interval is clearly too narrow


@dataclass(frozen=True)
class _Column:
    """One column as shown: `header` in Markdown, `label` under `group` in LaTeX."""

    header: str
    group: str
    label: str
    sources: tuple[str, ...]
    form: Callable[..., str]


def _count(value: float) -> str:
    return "–" if pd.isna(value) else f"{int(value):,}"


def _number(value: float, decimals: int = 2) -> str:
    return "–" if pd.isna(value) else f"{value:z.{decimals}f}"


def _plus_minus(mean: float, sd: float) -> str:
    return "–" if pd.isna(mean) else f"{mean:.2f} ± {sd:.2f}"


def _interval(low: float, high: float) -> str:
    return "–" if pd.isna(low) else f"{low:.2f} – {high:.2f}"


def _difference(mean: float, low: float, high: float, decimals: int = 2) -> str:
    interval = "" if pd.isna(low) else f" ({low:z.{decimals}f} to {high:z.{decimals}f})"
    return f"{mean:+z.{decimals}f}{interval}"


def _outliers_cell(count: float, sdr: float) -> str:
    return "–" if pd.isna(count) else f"{int(count):,} ({100.0 - sdr:.2f})"


def _text(value: object) -> str:
    if isinstance(value, float):
        return _number(value)
    return str(value)


_MEAN_SD, _LIMITS = ("error_mm_mean", "error_mm_sd"), ("error_mm_mean_low", "error_mm_mean_high")
_LIMITS_PX = ("error_px_mean_low", "error_px_mean_high")
_WITHOUT_MM = (_LIMITS_PX[0], "ipe_px_mean")  # the reader has them in millimetres, where known
_COLUMNS = (
    _Column("Method", "", "Method", ("method",), _text),
    _Column("Landmark", "", "Landmark", ("landmark",), _text),
    _Column("PE median, mm", "PE, mm", "median", ("error_mm_median",), _number),
    _Column("PE mean ± SD, mm", "PE, mm", "mean ± SD", _MEAN_SD, _plus_minus),
    _Column("95 % CI", "PE, mm", "95 % CI", _LIMITS, _interval),
    _Column("PE mean, each seed", "", "each seed", ("error_mean_of_seeds",), _text),
    _Column("PE max, mm", "PE, mm", "max", ("error_mm_max",), _number),
    _Column("IPE mean ± SD, mm", "IPE, mm", "mean ± SD", ("ipe_mm_mean", "ipe_mm_sd"), _plus_minus),
    _Column("PE median, px", "PE, px", "median", ("error_px_median",), _number),
    _Column(
        "PE mean ± SD, px", "PE, px", "mean ± SD", ("error_px_mean", "error_px_sd"), _plus_minus
    ),
    _Column("95 % CI, px", "PE, px", "95 % CI", _LIMITS_PX, _interval),
    _Column("IPE mean ± SD, px", "IPE, px", "mean ± SD", ("ipe_px_mean", "ipe_px_sd"), _plus_minus),
    _Column("PE mean, px", "PE, px", "mean", ("error_px_mean",), _number),
    *(
        _Column(
            f"#O{r} (%)",
            "#O (%)",
            f"{r} mm",
            (f"outliers_{r}mm", f"sdr_{r}mm"),
            _outliers_cell,
        )
        for r in (2, 4, 10)
    ),
    *(
        _Column(f"SDR {r} mm, %", "SDR, %", f"{r} mm", (f"sdr_{r}mm".replace(".", "_"),), _number)
        for r in (2, 2.5, 3, 4, 10)
    ),
    _Column(
        "Difference, mm (95 % CI)",
        "Difference (95 % CI)",
        "PE, mm",
        ("difference_mm_mean", "difference_mm_low", "difference_mm_high"),
        partial(_difference, decimals=3),
    ),
    _Column(
        "Difference, px (95 % CI)",
        "Difference (95 % CI)",
        "PE, px",
        ("difference_px_mean", "difference_px_low", "difference_px_high"),
        _difference,
    ),
    _Column("Difference, each seed", "", "each seed", ("difference_of_seeds",), _text),
    _Column("Wilcoxon p", "", "Wilcoxon p", ("wilcoxon_p",), "{:.2g}".format),
    _Column(
        "Difference of SDR 2 mm, % (95 % CI)",
        "Difference (95 % CI)",
        "SDR 2 mm, %",
        ("sdr_2mm_difference", "sdr_2mm_difference_low", "sdr_2mm_difference_high"),
        _difference,
    ),
    _Column("Points", "", "Points", ("points",), _count),
    _Column("Images", "", "Images", ("images",), _count),
    _Column("Seeds", "", "Seeds", ("seeds",), _count),
    _Column("Minutes", "", "Minutes", ("minutes",), partial(_number, decimals=1)),
    _Column("Parameters", "", "Parameters", ("parameters",), _count),
)


def _shown_columns(table: pd.DataFrame) -> list[_Column]:
    """The known columns in their order, then the others; without what no row knows."""
    shown: dict[str, _Column] = {}
    for column in _COLUMNS:
        if set(column.sources) <= set(table):
            shown.setdefault(column.sources[0], column)
    used = {source for column in shown.values() for source in column.sources}
    others = [_Column(str(c), "", str(c), (c,), _text) for c in table if c not in used]
    in_mm = "error_mm_mean" in table and table["error_mm_mean"].notna().any()
    return [
        column
        for column in (*shown.values(), *others)
        if table[column.sources[0]].notna().any()
        and not (in_mm and column.sources[0] in _WITHOUT_MM)
    ]


def _cells(table: pd.DataFrame, columns: list[_Column]) -> list[list[str]]:
    return [
        [column.form(*(row[source] for source in column.sources)) for column in columns]
        for row in table.to_dict("records")
    ]


def _explained(table: pd.DataFrame, columns: list[_Column], caption: str) -> str:
    if any(column.group.startswith(("#O", "SDR")) for column in columns):
        caption += " #Or: points with error > r mm, strictly; SDR r: 100 % − their percentage."
    if any(column.sources in (_LIMITS, _LIMITS_PX) for column in columns):
        caption += f" CI: of the mean, {_bootstrap(table)}."
    if any("sdr_2mm_difference" in column.sources for column in columns):
        caption += (
            " Differences as the rows name them: better where below 0 in mm, above 0 in SDR 2 mm, "
            f"the percentage of points within 2 mm. CI: {_bootstrap(table)}.{_compared(table)}"
        )
    if any("difference_px_mean" in column.sources for column in columns):
        caption += (
            " Differences as the rows name them: better where below 0. CI: "
            f"{_bootstrap(table)}.{_compared(table)}"
        )
    return caption


def _bootstrap(table: pd.DataFrame) -> str:
    few = "images" in table and table["images"].max() < FEW_IMAGES
    too_narrow = ", too narrow with so few" if few else ""
    return f"bootstrap over images{too_narrow}; other seeds would differ too"


def _compared(table: pd.DataFrame) -> str:
    several = f" CI and p are not adjusted for {len(table)} comparisons."
    return several if len(table) > 1 else ""


class Grid(NamedTuple):
    """A table for another writer: its caption with abbreviations explained, a header a column,
    and for each row and column the text shown and the value to sort by."""

    caption: str
    headers: list[str]
    rows: list[list[tuple[str, object]]]


def grid(table: pd.DataFrame, caption: str) -> Grid:
    """The columns that `markdown` shows, cell by cell; Args as there."""
    columns = _shown_columns(table)
    values = table[[column.sources[0] for column in columns]].itertuples(index=False)
    rows = [
        list(zip(texts, of_row, strict=True))
        for texts, of_row in zip(_cells(table, columns), values, strict=True)
    ]
    return Grid(_explained(table, columns, caption), [column.header for column in columns], rows)


def markdown(table: pd.DataFrame, caption: str) -> str:
    """The caption and an aligned GitHub table.

    Args:
        table: rows with the column names of `kerasland.tables`; others are shown as they are.
        caption: its abbreviations are explained after it.

    Returns:
        Text that ends in a newline. What no row knows is left out; an unknown value is a dash.
    """
    columns = _shown_columns(table)
    cells = _cells(table, columns)
    lines = [[column.header for column in columns], *cells]
    lines = [[" ".join(cell.split()).replace("|", "\\|") for cell in line] for line in lines]
    width = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    rows = [
        [c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(line, width, strict=True))]
        for line in lines
    ]
    rule = ["-" * w if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(width)]
    body = "\n".join("| " + " | ".join(row) + " |" for row in (rows[0], rule, *rows[1:]))
    return f"{_explained(table, columns, caption)}\n\n{body}\n"


_LATEX = str.maketrans(
    {
        **{c: f"\\{c}" for c in "&%$#_{}"},
        **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
        **{"<": "$<$", ">": "$>$", "±": r"$\pm$", "−": "$-$", "–": "--", "·": r"$\cdot$"},
    }
)


def latex(table: pd.DataFrame, caption: str) -> str:
    """The table as a `table` environment with booktabs rules, escaped, to be read with \\input.

    Args and Returns are those of `markdown`. The packages it needs stand in its first line.
    """
    columns = _shown_columns(table)
    groups: list[list] = []
    for column in columns:
        if groups and column.group and groups[-1][0] == column.group:
            groups[-1][1] += 1
        else:
            groups.append([column.group, 1])
    top, rules, start = [], [], 1
    for name, size in groups:
        top.append(rf"\multicolumn{{{size}}}{{c}}{{{name.translate(_LATEX)}}}" if name else "")
        rules += [rf"\cmidrule(lr){{{start}-{start + size - 1}}}"] if name else []
        start += size
    rows = [[cell.translate(_LATEX) for cell in row] for row in _cells(table, columns)]
    labels = [column.label.translate(_LATEX) for column in columns]
    return "\n".join(
        [
            r"% needs \usepackage{booktabs,graphicx}",
            r"\begin{table}[tb]",
            r"\centering",
            rf"\caption{{{_explained(table, columns, caption).translate(_LATEX)}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}",
            r"\toprule",
            " & ".join(top) + r" \\",
            *rules,
            " & ".join(labels) + r" \\",
            r"\midrule",
            *(" & ".join(row) + r" \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
            "",
        ]
    )
