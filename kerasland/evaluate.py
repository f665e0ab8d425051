"""How far a model is off on images it has not seen: its tables and figures."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from kerasland import closeups, files, model_notes, overlays, plots, tables, tensorboard_log
from kerasland.errors import DataError, UsageError
from kerasland.figure_style import shortened
from kerasland.folds import ALL, ALL_IMAGES, GIVEN_IDS, check_list
from kerasland.images import read_image
from kerasland.model_files import load_model
from kerasland.point_errors import (
    landmark_places,
    mean_shape_errors,
    model_errors,
    trained_on,
)
from kerasland.prepared import Prepared
from kerasland.prepared_tables import check_no_data_set
from kerasland.table_files import ERRORS, EVALUATION, SUMMARY, write_table

WORST_IMAGES, WORST_POINTS = 6, 20
CLOSEUP_MM, CLOSEUP_SHARE, CLOSEUP_ERRORS = 24.0, 0.12, 2.4
LEAST_MM, LEAST_PX = 10.0, 100.0  # where the axis of the curves ends, or later


def evaluate(
    run: str | os.PathLike,
    data: Prepared,
    fold: str | None = None,
    ids: tuple[str, ...] | None = None,
    out: str | os.PathLike | None = None,
) -> dict:
    """Evaluates a model on images that it was not trained on and writes tables and figures.

    Args:
        run: a run's folder, or another model with an `experiment.json` beside it, such as
            "pretrained"; see `model_notes.location`.
        data: prepared data set, with landmarks of the model: all or some, in any order.
        fold: its test list is evaluated, or every image, of "all"; by default the fold that the
            run was trained on.
        ids: images to evaluate, instead of a fold.
        out: folder to write; by default `evaluation/` in the run's folder, `evaluation_NAME/` that
            of a data set of other images than those it was trained on. A model that is no run's
            folder needs one. TensorBoard's log gets the errors of the run's own test list too.

    Returns:
        What `summary.json` holds: `tables.summarize` of the model, and of the mean shape of those
        images that the run was trained on under "mean_shape", None if the data set has none. And
        the folder written, under "folder".

    Raises:
        DataError: if an image was trained on, or the data set has a landmark that the model has
            not.
        UsageError: if neither a fold nor ids are given, and the run has no fold or the data set
            none of its images; if nothing says what the model was trained on; `out` is missing, or
            a prepared data set.
    """
    experiment, notes = model_notes.beside(run)
    if "data" not in notes:
        raise UsageError(
            f"{run}: no experiment.json of a run beside it says what it was trained on. From "
            "Python, kerasland.point_errors.model_errors gives the errors of any model"
        )
    folder = None if Path(run).is_file() or model_notes.is_release(run) else Path(run)
    if folder is None and out is None:
        raise UsageError(f"{run}: is no run's folder; say where to write with --out")
    if out is not None:
        check_no_data_set(Path(out))
    model = load_model(run)
    landmark_places(model, data)  # what is wrong with them is told at once
    seen = trained_on(data, notes)
    own_data = data.hash == notes["data"]["hash"]
    own_test_list = own_data and not ids and fold in (None, notes["fold"])
    out = Path(out or folder / _folder_name(data, bool(seen) or own_data))
    ids, subset = _chosen(run, data, notes, bool(seen), fold, ids)
    if known := sorted(seen & set(ids)):
        raise DataError(
            f"{run}: image {known[0]} and {len(known) - 1} more of the {len(ids)} to evaluate "
            "were trained on; an error on them would mean nothing"
        )
    known_init = notes.get("pixel_hashes_complete", True)
    if not known_init:
        subset += f"; on what --init {notes.get('init')} was trained is not known"
        print(
            f"{run}: nothing tells all images that --init {notes.get('init')} was trained on; if "
            "these are among them, their errors mean nothing",
            file=sys.stderr,
        )
    errors = {experiment.method: model_errors(model, data, ids)}
    if seen:
        errors["mean_shape"] = mean_shape_errors(data, tuple(sorted(seen)), ids)
    else:
        print(f"no mean shape: {data.folder} has no image that was trained on", file=sys.stderr)
    facts = {
        "model": str(run if model_notes.location(run) != Path(run) else Path(run).resolve()),
        "minutes": notes.get("minutes"),
        "parameters": model.count_params(),
        "subset": subset,
        "init": notes.get("init"),
        "init_images_known": known_init,
    }
    summary = write(out, data, errors, facts)
    if own_test_list and folder and out.resolve() == (folder / EVALUATION).resolve():
        unit = tables.unit_of(errors[experiment.method])
        shown = {name: summary[name] for name in (f"error_{unit}_mean", "sdr_2mm")}
        tensorboard_log.log_test(folder / tensorboard_log.FOLDER, experiment.epochs, shown)
    return {**summary, "folder": str(out)}


def _chosen(
    run: str | os.PathLike,
    data: Prepared,
    notes: dict,
    own: bool,
    fold: str | None,
    ids: tuple[str, ...] | None,
) -> tuple[tuple[str, ...], str]:
    """The images to evaluate, and what they are called; see `evaluate`. `own`: the data set has
    images that the run was trained on."""
    if not (ids or own) and fold is None:
        alike = len(set(data.ids) & set(notes["train_ids"]))
        same = f" ({alike} are called so: if those are the same, --fold {notes['fold']})"
        raise UsageError(
            f"{data.folder}: has no image that {run} was trained on{same if alike else ''}; say "
            f"what to evaluate: --fold {ALL} for all {len(data.ids)} images, another, or --ids"
        )
    if not ids and fold is None and notes["fold"] == ALL:
        raise UsageError(f"{run}: was trained on all images; say what to evaluate: --fold or --ids")
    if ids:
        check_list(ids, set(data.ids), data.folder)
        return ids, GIVEN_IDS
    if fold == ALL:
        return data.ids, ALL_IMAGES
    fold = notes["fold"] if fold is None else fold
    return data.fold(fold)[1], f"fold {fold}"


def _folder_name(data: Prepared, own: bool) -> str:
    """Where an evaluation goes in a run's folder; `own`: the run was trained on this data set."""
    name = re.sub(r"[^\w.-]", "_", data.folder.resolve().name)
    return EVALUATION if own else f"{EVALUATION}_{name}"


def write(
    out: Path,
    data: Prepared,
    by_method: dict[str, pd.DataFrame],
    facts: dict,
) -> dict:
    """Writes errors, summary, tables and figures of a method, its baselines above it in the table.

    Args:
        out: folder.
        data: prepared data set.
        by_method: errors tables; the first is the method's.
        facts: for `summary.json`, beside the statistics; "subset" goes into the captions.

    Returns:
        What `summary.json` holds.
    """
    method, errors = next(iter(by_method.items()))
    rows = {name: tables.summarize(table) for name, table in by_method.items()}
    summary = {
        "method": method,
        **rows[method],
        **facts,
        "data": data.identity,
        "scale": data.scale.describe(data.landmarks),
        "mean_shape": rows.get("mean_shape"),
    }
    with files.replacing(out / ERRORS) as temporary:
        errors.to_csv(temporary, index=False)
    files.write_text(out / SUMMARY, json.dumps(files.without_nan(summary), indent=2) + "\n")
    caption = (
        f"{errors['image_id'].nunique()} test images of {data.name}, {summary['subset']}"
        f"{begun(summary['init'])}; {scale_of(data, errors)}."
    )
    table = pd.DataFrame([{"method": name, **row} for name, row in reversed(rows.items())])
    write_table(table, out / "table", caption)
    per_landmark = tables.per_landmark(errors)
    write_table(per_landmark, out / "per_landmark", f"Per landmark: {caption}")
    write_figures(out, data, errors, by_method)
    plots.save(plots.per_landmark_bars(per_landmark), out / "per_landmark.png")
    return summary


def begun(init: str | os.PathLike | None) -> str:
    """For a caption: the weights that the trainings started from, if not from random ones."""
    return "" if init is None else f", trained from {Path(init).name}"


def scale_of(data: Prepared, errors: pd.DataFrame) -> str:
    """How the errors became millimetres, and in how many of their images they could not."""
    known = f"scale: {data.scale.describe(data.landmarks)}"
    lacking = tables.scale_unknown(errors)
    so = "which what is in mm leaves out" if tables.unit_of(errors) == "mm" else "hence pixels"
    return f"{known}, unknown in {lacking} of the images, {so}" if lacking else known


def write_figures(
    out: Path, data: Prepared, errors: pd.DataFrame, by_method: dict[str, pd.DataFrame]
) -> None:
    """Error curves of some methods; the worst images of one as overlays, its worst points close."""
    unit = tables.unit_of(errors)
    column = f"error_{unit}"
    if known := {m: table for m, table in by_method.items() if np.isfinite(table[column]).any()}:
        curves = plots.cumulative_error(known, _right_end(errors[column], unit), unit)
        plots.save(curves, out / "cumulative_error.png")
    # of an image that several trainings were tested on, the one that is furthest off
    one = ["image_id", *(key for key in ("fold", "seed") if key in errors)]
    apart = errors[column].fillna(errors["error_px"] * (errors[column] / errors["error_px"]).mean())
    order = np.argsort(-apart.to_numpy(), kind="stable")  # what is not known comes last
    worst = errors.iloc[order].drop_duplicates("image_id")
    items = []
    for image_id, *of_training in worst[one].head(WORST_IMAGES).itertuples(index=False):
        rows = errors[(errors[one] == [image_id, *of_training]).all(axis=1)]
        items.append(
            overlays.Overlay(
                read_image(data.image_path(image_id)),
                rows[["x", "y"]].to_numpy(),
                rows[["x_true", "y_true"]].to_numpy(),
                mm_per_px=tuple(data.spacing[data.index([image_id])][0]),
                title=image_id,
            )
        )
    plots.save(overlays.overlay_grid(items), out / "worst.png")
    plots.save(closeups.closeups(_worst_points(data, errors, unit)), out / "worst_points.png")


def _right_end(errors: pd.Series, unit: str) -> float:
    """Of the axis of the curves: where all but a few points are."""
    least = LEAST_MM if unit == "mm" else LEAST_PX
    right = max(least, errors.quantile(0.95))
    return next((x for x in plots.TICKS if x >= right), plots.TICKS[-1])


def _worst_points(data: Prepared, errors: pd.DataFrame, unit: str) -> list[closeups.Closeup]:
    """The points with the largest errors, the worst first."""
    column, items = f"error_{unit}", []
    known = errors.dropna(subset=[column]).sort_values(column, ascending=False, kind="stable")
    for row in known.drop_duplicates(["image_id", "landmark"]).head(WORST_POINTS).itertuples():
        image = read_image(data.image_path(row.image_id))
        mm_per_px = float(data.mm_per_px[data.index([row.image_id])][0])
        side_px = CLOSEUP_MM / mm_per_px
        if not np.isfinite(side_px):
            side_px = CLOSEUP_SHARE * max(image.shape)
        side_px = max(side_px, CLOSEUP_ERRORS * row.error_px)  # so that both points are in sight
        amount = f"{getattr(row, column):.1f} {unit}"
        name = f"{shortened(row.image_id, 16)} {shortened(row.landmark, 24)}"
        title = f"{name}\n{amount}"
        items.append(
            closeups.Closeup(image, (row.x, row.y), (row.x_true, row.y_true), side_px, title)
        )
    return items
