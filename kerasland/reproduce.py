"""The main job: every row of the ablation trained, evaluated, and set side by side."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pandas as pd

from kerasland import evaluate, point_errors, run_folder, synthetic, tables, train
from kerasland import experiment as experiments
from kerasland.errors import UsageError
from kerasland.experiment import METHODS, Experiment
from kerasland.prepared import Prepared
from kerasland.table_files import ERRORS, EVALUATION, read_errors, write_table

SYNTHETIC = {"count": 120, "shape": (700, 500)}


def reproduce(
    out: str | os.PathLike,
    data: Prepared | None = None,
    experiment: Experiment | None = None,
    folds: tuple[str, ...] = ("dev",),
    seeds: int = 1,
    init: str | os.PathLike | None = None,
) -> pd.DataFrame:
    """Trains and evaluates every row of the ablation; goes on where an earlier call stopped.

    The rows differ in their spatial feature maps alone: plain U-Net, + Cartesian, + polar, +
    both. Errors of all folds and seeds are pooled.

    Args:
        out: folder for `ablation.csv`, `.md`, `.tex`, `paired.*`, `per_landmark.*`, figures, and
            `runs/` with a folder for each training.
        data: prepared data set; None for drawn hands, which are written into `out`.
        experiment: what the rows have in common; by default the preset `cpu`, or `quick` for
            drawn hands.
        folds: names of folds of the data set, each once.
        seeds: how many seeds, from that of the experiment on.
        init: weights that each training starts from, see `train.train`; they must not know the
            images.

    Returns:
        The table of `ablation.csv`.

    Raises:
        UsageError: if `seeds` is below 1, a fold is named twice, folds test the same image, or
            `out` holds runs of another experiment, or other data than drawn hands in `data`.
        DataError: if a fold is not sound, or `init` was trained on an image of a test list, or on
            nobody knows which.
    """
    if seeds < 1:
        raise UsageError(f"--seeds {seeds}: at least 1")
    out = Path(out)
    experiment = experiment or (experiments.QUICK if data is None else experiments.CPU)
    if experiment.maps != Experiment().maps:
        raise UsageError(
            f"maps={experiment.maps}: reproduce trains every kind of maps; leave it out"
        )
    try:
        methods = {method: experiment.replace(maps=maps) for method, maps in METHODS.items()}
    except UsageError as error:
        raise UsageError(
            f"{error}; reproduce trains every kind of maps, `train` and `evaluate` a single one"
        ) from None
    if data is None:
        data = synthetic.write(out / "data", **SYNTHETIC)
    splits = run_folder.splits(data, folds, experiment)
    if init is not None:
        run_folder.check_unseen(splits, data, init)
    pooled, rows, trained = {}, [], set()
    baseline = [
        point_errors.mean_shape_errors(data, part.train + part.validation, part.test)
        for part in splits.values()
    ]
    pooled["mean_shape"] = pd.concat(baseline, ignore_index=True)
    rows.append({"method": "mean_shape", **tables.summarize(pooled["mean_shape"])})
    for number, (method, of_method) in enumerate(methods.items(), start=1):
        errors, minutes = [], []
        for fold in folds:
            for seed in range(experiment.seed, experiment.seed + seeds):
                run = out / "runs" / f"{method}_{fold}_seed{seed}"
                trained.add(run.name)
                title = f"[{number}/{len(METHODS)}] {method}, fold {fold}, seed {seed}"
                one = of_method.replace(seed=seed)
                train.train(data, one, run, fold, resume=run.exists(), title=title, init=init)
                summary = evaluate.evaluate(run, data, fold)
                table = read_errors(run / EVALUATION / ERRORS)
                errors.append(table.assign(seed=seed))
                minutes.append(summary["minutes"])
        pooled[method] = pd.concat(errors, ignore_index=True)
        rows.append(
            {
                "method": method,
                **tables.summarize(pooled[method]),
                **_each_seed("error_mean_of_seeds", pooled[method]),
                "minutes": round(sum(minutes), 2),
                "parameters": summary["parameters"],
            }
        )
    table = pd.DataFrame(rows)
    trained_on = " + ".join(str(len(p.train) + len(p.validation)) for p in splits.values())
    held = " + ".join(str(len(p.validation)) for p in splits.values())
    tested = pooled["mean_shape"]["image_id"].nunique()
    caption = (
        f"Ablation on {data.name}, fold {', '.join(folds)}: {trained_on} training images "
        f"({held} of them held out for validation), {tested} test images, {seeds} "
        f"seed{'s' if seeds > 1 else ''}{evaluate.begun(init)}; "
        f"{evaluate.scale_of(data, pooled['mean_shape'])}."
    )
    if others := sorted({path.name for path in (out / "runs").iterdir()} - trained):
        print(
            f"{out}: {len(others)} other runs are there, which the tables do not hold, such as "
            f"{others[0]}",
            file=sys.stderr,
        )
    write_table(table, out / "ablation", caption)
    unit = tables.unit_of(pooled["mean_shape"])
    means = f"Mean error of each landmark, {unit}. {caption}"
    write_table(_by_landmark(pooled, unit), out / "per_landmark", means)
    if table["error_px_mean"].notna().all():
        write_table(_comparisons(pooled), out / "paired", f"Paired over images. {caption}")
    evaluate.write_figures(out, data, pooled[list(METHODS)[-1]], pooled)
    return table


def _each_seed(
    name: str, errors: pd.DataFrame, other: pd.DataFrame | None = None
) -> dict[str, str]:
    """The cell that shows `tables.of_seeds`, where there are several."""
    of_seeds = tables.of_seeds(errors, other).values()
    form = "{:.3f}" if other is None else "{:+.3f}"
    shown = ", ".join(map(form.format, of_seeds))
    return {name: shown} if len(of_seeds) > 1 else {}


def _by_landmark(pooled: dict[str, pd.DataFrame], unit: str) -> pd.DataFrame:
    """The mean error of each landmark, a column a row of the ablation."""
    means = {
        method: errors.groupby("landmark", sort=False)[f"error_{unit}"].mean()
        for method, errors in pooled.items()
    }
    return pd.DataFrame(means).rename_axis("landmark").reset_index()


def _comparisons(pooled: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Each regularised row against the plain U-Net."""
    plain, *others = METHODS
    unit = tables.unit_of(pooled[plain])
    return pd.DataFrame(
        {
            "method": f"{method} - {plain}",
            **tables.paired(pooled[plain], pooled[method], unit=unit),
            **_each_seed("difference_of_seeds", pooled[plain], pooled[method]),
        }
        for method in others
    )
