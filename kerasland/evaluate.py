"""How far a model is off on images it has not seen: errors per point, tables, figures."""

from __future__ import annotations

import json
import os
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from kerasland import closeups, files, geometry, overlays, plots, tables
from kerasland import experiment as experiments
from kerasland.dataset import letterboxed
from kerasland.errors import DataError, UsageError
from kerasland.folds import ALL
from kerasland.images import image_shape, read_image
from kerasland.model_files import load_model
from kerasland.models import landmark_names
from kerasland.predict import network, warn_of_no_shape
from kerasland.prepared import Prepared
from kerasland.progress import track

BATCH = 4  # at most; with oneDNN a convolution takes ten times as long for one image as for two
WORST_IMAGES, WORST_POINTS = 6, 20
CLOSEUP_MM, CLOSEUP_SHARE = 24.0, 0.12


def model_errors(model: keras.Model, data: Prepared, ids: tuple[str, ...]) -> pd.DataFrame:
    """The errors of a model on images of a data set, in the pixels of the originals.

    Args:
        model: what `load_model` returns.
        data: prepared data set with the same landmarks.
        ids: images.

    Returns:
        One row a point, with the columns `tables.ERROR_COLUMNS`; the error of a landmark that is
        not annotated is NaN.

    Raises:
        DataError: if the landmarks of model and data differ, an image cannot be read, or the model
            gives no numbers.
    """
    check_landmarks(model, data)
    locate, frame_shape = network(model), model.input_shape[1:3]
    points, confidence = [], []
    parts = np.array_split(np.array(ids, dtype=object), -(-len(ids) // BATCH))
    for part in track(parts, "evaluating"):
        pictures = [read_image(data.image_path(image_id)) for image_id in part]
        found, sure = locate(np.stack([letterboxed(image, frame_shape) for image in pictures]))
        for image, of_image in zip(pictures, found, strict=True):
            points.append(geometry.letterbox(image.shape, frame_shape).invert(of_image))
        confidence.extend(sure)
    points, confidence = np.stack(points), np.stack(confidence)
    for image_id, of_image in zip(ids, confidence, strict=True):
        warn_of_no_shape(data.image_path(image_id), of_image)
    if not np.isfinite(points).all():
        raise DataError("the model gives coordinates that are not numbers: its training failed")
    return point_errors(data, ids, points, confidence)


def mean_shape_errors(
    data: Prepared, train_ids: tuple[str, ...], test_ids: tuple[str, ...]
) -> pd.DataFrame:
    """The errors of a guess that does not look: the mean of the training annotations.

    Each image is letterboxed to a common frame, where the annotated points are averaged; the
    mean goes back to the pixels of each test image.

    Returns:
        As `model_errors`; confidence is NaN, and so is the error of a landmark that no training
        image has.
    """
    frame = (1024, 768)

    def fits(ids):
        return [geometry.letterbox(image_shape(data.image_path(i)), frame) for i in ids]

    annotated = data.points[data.index(train_ids)]
    moved = np.stack(
        [fit.apply(points) for fit, points in zip(fits(train_ids), annotated, strict=True)]
    )
    known = np.isfinite(moved).all(axis=2, keepdims=True)
    count = known.sum(axis=0)
    total = np.where(known, moved, 0.0).sum(axis=0)
    mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    points = np.stack([fit.invert(mean) for fit in fits(test_ids)])
    return point_errors(data, test_ids, points, np.full(points.shape[:2], np.nan))


def point_errors(
    data: Prepared, ids: tuple[str, ...], points: np.ndarray, confidence: np.ndarray
) -> pd.DataFrame:
    """The table of errors of predicted points.

    Args:
        data: prepared data set.
        ids: N images.
        points: (N, K, 2), pixels of the originals.
        confidence: (N, K).

    Returns:
        N * K rows with the columns `tables.ERROR_COLUMNS`.
    """
    where = data.index(ids)
    truth = data.points[where]
    error_px = np.linalg.norm(points - truth, axis=-1)
    error_mm = np.linalg.norm((points - truth) * data.spacing[where][:, None], axis=-1)
    count = len(data.landmarks)
    columns = (
        np.repeat(np.array(ids, dtype=object), count),
        np.tile(np.array(data.landmarks, dtype=object), len(ids)),
        *points.reshape(-1, 2).T,
        *truth.reshape(-1, 2).T,
        error_px.ravel(),
        error_mm.ravel(),
        confidence.ravel(),
    )
    return pd.DataFrame(dict(zip(tables.ERROR_COLUMNS, columns, strict=True)))


def check_landmarks(model: keras.Model, data: Prepared) -> None:
    """Raises DataError if the model does not localise the landmarks of the data set."""
    names = landmark_names(model)
    if len(names) != len(data.landmarks):
        raise DataError(
            f"the model localises {len(names)} landmarks, {data.folder} has {len(data.landmarks)}"
        )
    for position, (ours, theirs) in enumerate(zip(names, data.landmarks, strict=True)):
        if ours != theirs:
            raise DataError(
                f"landmark {position} is {ours!r} for the model and {theirs!r} in {data.folder}"
            )


def evaluate(
    run: str | os.PathLike,
    data: Prepared,
    fold: str | None = None,
    ids: tuple[str, ...] | None = None,
    out: str | os.PathLike | None = None,
) -> dict:
    """Evaluates a run on images that it was not trained on and writes tables and figures.

    Args:
        run: a run's folder.
        data: prepared data set.
        fold: its test list is evaluated; by default the fold that the run was trained on.
        ids: images to evaluate, instead of a fold.
        out: folder to write; by default `evaluation/` in the run's folder.

    Returns:
        What `summary.json` holds: `tables.summarize` of the model, and of the mean shape of those
        images that the run was trained on under "mean_shape", None if the data set has none.

    Raises:
        DataError: if an image was trained on, or the landmarks differ.
        UsageError: if the run has no fold, and neither a fold nor ids are given.
    """
    run = Path(run)
    out = Path(out) if out else run / "evaluation"
    experiment, notes = experiments.load(run / "experiment.json")
    model = load_model(run)
    if not (ids or fold) and notes["fold"] == ALL:
        raise UsageError(f"{run}: was trained on all images; say what to evaluate: --fold or --ids")
    subset = "given ids" if ids else f"fold {fold or notes['fold']}"
    ids = ids or data.fold(fold or notes["fold"])[1]
    data.index(ids)  # names an id that the data set lacks
    seen = trained_on(data, notes)
    if known := sorted(seen & set(ids)):
        raise DataError(
            f"{run}: image {known[0]} and {len(known) - 1} more of the {len(ids)} to evaluate "
            "were trained on; an error on them would mean nothing"
        )
    errors = {experiment.method: model_errors(model, data, ids)}
    if seen:
        errors["mean_shape"] = mean_shape_errors(data, tuple(sorted(seen)), ids)
    rows = {method: tables.summarize(table) for method, table in errors.items()}
    summary = {
        "method": experiment.method,
        **rows[experiment.method],
        "minutes": notes.get("minutes"),
        "parameters": model.count_params(),
        "subset": subset,
        "data": data.identity,
        "scale": data.scale.describe(data.landmarks),
        "mean_shape": rows.get("mean_shape"),
    }
    write(out, data, errors, rows, summary)
    return summary


def write(
    out: Path,
    data: Prepared,
    by_method: dict[str, pd.DataFrame],
    rows: dict[str, dict],
    summary: dict,
) -> None:
    """Writes errors, summary, tables and figures of a method, its baselines above it in the table.

    Args:
        out: folder.
        data: prepared data set.
        by_method: errors tables; the first is the method's.
        rows: `tables.summarize` of each, in the same order.
        summary: for `summary.json`; its "subset" goes into the captions.
    """
    method, errors = next(iter(by_method.items()))
    with files.replacing(out / tables.ERRORS) as temporary:
        errors.to_csv(temporary, index=False)
    files.write_text(out / tables.SUMMARY, json.dumps(files.without_nan(summary), indent=2) + "\n")
    caption = (
        f"{errors['image_id'].nunique()} test images of {data.name}, {summary['subset']}; "
        f"scale: {summary['scale']}."
    )
    table = pd.DataFrame([{"method": name, **row} for name, row in reversed(rows.items())])
    tables.write_table(table, out / "table", caption)
    per_landmark = tables.per_landmark(errors)
    tables.write_table(per_landmark, out / "per_landmark", f"Per landmark: {caption}")
    write_figures(out, data, errors, by_method)
    plots.save(plots.per_landmark_bars(per_landmark), out / "per_landmark.png")


def trained_on(data: Prepared, notes: dict) -> set[str]:
    """The images of a data set that a run has seen, by their pixels: names may differ."""
    seen = set(notes["pixel_hashes"])
    return {image_id for image_id in data.ids if data.pixel_hashes.get(image_id) in seen}


def write_figures(
    out: Path, data: Prepared, errors: pd.DataFrame, by_method: dict[str, pd.DataFrame]
) -> None:
    """Error curves of some methods; the worst images of one as overlays, its worst points close."""
    if np.isfinite(errors["error_mm"]).any():
        plots.save(plots.cumulative_error(by_method), out / "cumulative_error.png")
    unit = "error_mm" if np.isfinite(errors["error_mm"]).any() else "error_px"
    worst = errors.groupby("image_id")[unit].max().sort_values(ascending=False)
    items = []
    for image_id in worst.index[:WORST_IMAGES]:
        rows = errors[errors["image_id"] == image_id]
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


def _worst_points(data: Prepared, errors: pd.DataFrame, unit: str) -> list[closeups.Closeup]:
    """The points with the largest errors, the worst first."""
    items = []
    for row in errors.dropna(subset=[unit]).nlargest(WORST_POINTS, unit).itertuples():
        image = read_image(data.image_path(row.image_id))
        mm_per_px = float(data.mm_per_px[data.index([row.image_id])][0])
        side_px = CLOSEUP_MM / mm_per_px
        if not np.isfinite(side_px):
            side_px = CLOSEUP_SHARE * max(image.shape)
        amount = f"{getattr(row, unit):.1f} {unit.removeprefix('error_')}"
        title = f"{row.image_id} {row.landmark}\n{amount}"
        items.append(
            closeups.Closeup(image, (row.x, row.y), (row.x_true, row.y_true), side_px, title)
        )
    return items
