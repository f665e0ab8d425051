"""The tables of a report: runs side by side, their landmarks, paired tests and settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import pandas as pd

from kerasland import tables
from kerasland.prepared import Prepared
from kerasland.report_runs import Run
from kerasland.table_text import Grid, grid

LEAST_IMAGES = 6  # of fewer no signed-rank test can have p < 0.05, whatever their errors


def summary(
    errors: list[tuple[str, pd.DataFrame]], runs: list[Run], data: Prepared, unit: str
) -> Grid:
    """The statistics of each method over all images, by its name in `errors`."""
    table = pd.DataFrame([{"method": name, **tables.summarize(of)} for name, of in errors])
    table = table.drop(columns="images")
    if unit == "mm":
        table = table.drop(columns=[c for c in table if c.startswith("error_px")])
    if (table["seeds"] == 1).all():
        table = table.drop(columns="seeds")
    caption = (
        f"{len(runs[0].ids)} test images of {data.name}, {runs[0].evaluated['subset']}. PE: "
        "distance of a predicted point from the annotated one; IPE: its mean over an image."
    )
    return grid(table, caption)


def per_landmark(run: Run, unit: str) -> Grid:
    """The errors of each landmark of one run."""
    table = tables.per_landmark(run.errors)
    if unit == "mm":
        table = table.drop(columns="error_px_mean")
    return grid(table, f"{run.name}: errors of each landmark.")


def comparison(first: Run, other: Run, unit: str) -> dict:
    """The paired test of two runs, in millimetres or else in pixels, and their landmarks."""
    pair = [run.errors for run in (first, other)]
    paired = tables.paired(*pair, unit=unit)
    of_images, means = (
        [errors.groupby(by, sort=False)[f"error_{unit}"].mean() for errors in pair]
        for by in ("image_id", "landmark")
    )
    table = pd.DataFrame(
        {
            f"{first.name}, {unit}": means[0],
            f"{other.name}, {unit}": means[1],
            "difference": means[1] - means[0],
        }
    )
    caption = (
        f"Mean error of each landmark; difference, {unit}: {other.name} minus {first.name}, "
        f"negative where {other.name} is better."
    )
    change = table["difference"]
    extremes = {"Largest gain": change.idxmin(), "Largest loss": change.idxmax()}
    return {
        "verdict": verdict(paired, other.name, unit),
        "alike": differs_by_seed_alone(first, other),
        "closer": int((of_images[1] - of_images[0] < 0).sum()),
        "extremes": {which: (name, change[name]) for which, name in extremes.items()},
        "first": first,
        "other": other,
        "paired": paired,
        "landmarks": grid(table.rename_axis("landmark").reset_index(), caption),
    }


def verdict(paired: dict[str, float], name: str, unit: str) -> str:
    """Whether a run differs from the first by more than the choice of the images explains; other
    trainings might not."""
    low, high = (paired[f"difference_{unit}_{end}"] for end in ("low", "high"))
    if paired["images"] < LEAST_IMAGES:
        return "Too few images to tell"
    if low <= 0 <= high or paired["wilcoxon_p"] >= 0.05:
        return "These images do not tell them apart"
    return f"{name} is {'better' if high < 0 else 'worse'} on these images"


def differs_by_seed_alone(first: Run, other: Run) -> bool:
    """Whether two runs were trained alike but for the seed, which may differ."""
    experiments = {run.experiment.replace(seed=0) for run in (first, other)}
    of_init = {_distinct(run, lambda notes: notes.get("init")) for run in (first, other)}
    images = [
        {tuple(notes["train_ids"]) for notes in run.models.values()} for run in (first, other)
    ]
    return len(experiments) == len(of_init) == 1 and images[0] == images[1]


def settings(runs: list[Run]) -> Grid:
    """What the runs were made with; settings that differ come first."""
    columns = [
        {
            "method": run.experiment.method,
            **asdict(run.experiment),
            "init": _distinct(run, lambda notes: notes.get("init") or "random weights"),
            "fold trained on": _distinct(run, lambda notes: notes["fold"]),
            "images trained on": _distinct(run, lambda notes: len(notes["train_ids"])),
            "minutes of training": run.evaluated.get("minutes"),
            "parameters": run.evaluated.get("parameters"),
            "kerasland": _distinct(run, lambda notes: notes["versions"]["kerasland"]),
        }
        for run in runs
    ]
    rows = [(key, *(str(column[key]) for column in columns)) for key in columns[0]]
    rows.sort(key=lambda row: len(set(row[1:])) == 1)
    headers = ["Setting", *(run.name for run in runs)]
    caption = "Settings of each run" + ("; those that differ come first." if len(runs) > 1 else ".")
    return Grid(caption, headers, [[(text, text) for text in row] for row in rows])


def _distinct(run: Run, value: Callable[[dict], object]) -> str:
    """What the notes of a run say, of a cross-validation what those of its runs say."""
    return ", ".join(dict.fromkeys(str(value(notes)) for notes in run.models.values()))
