"""Tables as files: errors and summaries read; tables written as CSV, Markdown and LaTeX."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd

from kerasland import files, table_text
from kerasland.errors import DataError
from kerasland.tables import ERROR_COLUMNS, check_each_once

# what `evaluate` writes, and the folder of a run that it writes by default
ERRORS, SUMMARY, EVALUATION = "errors.csv", "summary.json", "evaluation"


def read_summary(path: str | os.PathLike) -> dict:
    """Reads a `summary.json`.

    Raises:
        DataError: not what `evaluate` or `crossvalidate` writes.
    """
    reason = "another JSON"
    try:
        summary = json.loads(Path(path).read_text(encoding="utf-8"))
        texts, folds = (summary["method"], summary["subset"]), summary.get("folds", {})
        if all(isinstance(text, str) for text in texts) and isinstance(folds, dict):
            return summary
    except OSError as error:
        reason = error.strerror
    except (ValueError, KeyError, TypeError) as error:
        reason = repr(error)
    raise DataError(f"{path}: not the summary of an evaluation ({reason})")


def read_errors(path: str | os.PathLike) -> pd.DataFrame:
    """Reads an `errors.csv`.

    Args:
        path: CSV with the columns `tables.ERROR_COLUMNS` and, optionally, others such as `seed`.

    Returns:
        The errors table, see `kerasland.tables`; image_id and landmark are strings ("007" and "NA"
        stay as they are).

    Raises:
        DataError: No such file, not a table, no rows, a column is missing or not of numbers, or a
            point occurs twice.
    """
    numbers = list(ERROR_COLUMNS[2:])
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{path}: cannot be read as a table of errors ({error})") from error
    missing = [column for column in ERROR_COLUMNS if column not in table]
    if missing:
        raise DataError(f"{path}: lacks the column(s) {', '.join(missing)}")
    if table.empty:
        raise DataError(f"{path}: holds no errors; evaluate again")
    for column in numbers + [c for c in table if c == "seed"]:
        value = pd.to_numeric(table[column], errors="coerce")
        blank = table[column].str.strip().str.lower().isin(("", "nan", "na"))
        wrong = np.flatnonzero(value.isna() & ~blank)
        if len(wrong):
            row = int(wrong[0])
            found = table[column].iloc[row]
            raise DataError(f"{path}: row {row + 1}, {column}: {found!r} is not a number")
        if column in numbers:  # to_numeric is off by a last digit before pandas 3.1
            value = table[column].mask(blank, "nan").astype(np.float64)
        table[column] = value
    check_each_once(table, str(path))
    return table


def write_table(table: pd.DataFrame, stem: str | os.PathLike, caption: str) -> None:
    """Writes one table as `stem.csv`, `stem.md` and `stem.tex`.

    The CSV holds every column with all digits, under the names of the code. Markdown and LaTeX
    hold the columns a reader wants, rounded, under human headers; a column that no row knows is
    left out there, and a value that is not known is a dash.

    Args:
        table: rows of `tables.summarize` (with `method`, `minutes`, `parameters`), or
            `tables.per_landmark`.
        stem: path without a suffix.
        caption: what the table shows, and the scale that its millimetres rest on. What the
            abbreviations mean is added, with the strict > of an outlier.
    """
    stem = Path(stem)
    with files.replacing(stem.with_name(f"{stem.name}.csv")) as temporary:
        table.to_csv(temporary, index=False)
    for suffix, text in (("md", table_text.markdown), ("tex", table_text.latex)):
        files.write_text(stem.with_name(f"{stem.name}.{suffix}"), text(table, caption))
