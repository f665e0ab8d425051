"""One HTML file to look at: tables, curves and every test image of one run, or of several."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from kerasland import files, point_errors, report_data, report_runs, tables
from kerasland.closer_look import quarter_turned
from kerasland.errors import DataError, UsageError
from kerasland.images import read_image
from kerasland.localizers import last_view
from kerasland.model_files import load_model
from kerasland.prepared import Prepared
from kerasland.progress import track
from kerasland.report_runs import Run
from kerasland.table_files import ERRORS
from kerasland.table_text import Grid, grid

ASSETS = Path(__file__).parent / "assets" / "report"
SCRIPTS = ("page.js", "charts.js", "viewer.js")
MEAN_SHAPE = "mean shape"
FAR_MM = 2.0
MOST_ELLIPSES = 60  # of more landmarks, along contours say, they cover the image
SAME_POINT_PX = 1.0
FEW_IMAGES = 20  # of which the chart of the landmarks has every point: those of 112 took seconds
COLORS = FORMS = 4  # of the runs; a form is a dash and a marker


def report(
    runs: Sequence[str | os.PathLike],
    out: str | os.PathLike,
    data: str | os.PathLike | None = None,
) -> None:
    """Writes the report of evaluated runs as one file that needs nothing else, no network either.

    Args:
        runs: folders of runs, or of cross-validations, that were evaluated on the same images; the
            others are compared with the first.
        out: the HTML file.
        data: the prepared folder of those images, where it is no longer where it was.

    Raises:
        DataError: a run was not evaluated, or on other images or other data than the first; its
            model was changed since.
        UsageError: `out` is a folder, a run is named twice, or the packages of the extra `report`
            are missing.
    """
    template, plotly = _template(), _plotly()
    if Path(out).is_dir():
        raise UsageError(f"{out}: is a folder; --out names the HTML file to write")
    runs = report_runs.read(runs)
    data = report_runs.data_of(runs, data)
    ids, names = runs[0].ids, data.landmarks
    unit = tables.unit_of(runs[0].errors)
    errors = [(run.name, run.errors) for run in runs]
    if baseline := _mean_shape(runs[0], data):
        errors.insert(0, (MEAN_SHAPE, pd.concat(baseline)))
    overview = {
        "landmarks": names,
        "ids": ids,
        "unit": unit,
        "far": FAR_MM if unit == "mm" else None,
        "runs": [run.name for run in runs],
        "looks": _looks(len(runs)),
        "points": "all" if len(ids) <= FEW_IMAGES else "outliers",
        "errors": [
            report_data.numbers(report_runs.by_image(table, f"error_{unit}", ids, names), 4)
            for _, table in errors
        ],
        "methods": [name for name, _ in errors],
    }
    scripts = [plotly, "\n".join((ASSETS / name).read_text("utf-8") for name in SCRIPTS)]
    html = template.render(
        runs=runs,
        data=data,
        unit=unit,
        far_mm=FAR_MM,
        ellipses=len(names) <= MOST_ELLIPSES,
        scale=data.scale.describe(names),
        images=_images(runs, data, unit),
        overview=overview,
        summary=_summary(errors, runs, data, unit),
        landmarks=[(run, _per_landmark(run, unit)) for run in runs],
        comparisons=[_comparison(runs[0], other, unit) for other in runs[1:]],
        settings=_settings(runs),
        style=(ASSETS / "report.css").read_text("utf-8"),
        scripts=scripts,
        policy=_policy(scripts),
    )
    files.write_text(out, html)


def _looks(count: int) -> list[tuple[int, int]]:
    """Colour and form of each run: of the first four both differ, of 16 at least one."""
    return [(run % COLORS, (run + run // COLORS) % FORMS) for run in range(count)]


def _template():
    try:
        import jinja2
        from markupsafe import Markup, escape
    except ImportError as error:
        raise _missing(error) from None
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # what is not known is null: NaN is no JSON
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    # a line may break within a name
    environment.filters["breaks"] = lambda text: Markup(
        re.sub(r"([_+/])", r"\1<wbr>", str(escape(text)))
    )
    return environment.get_template("template.html")


def _plotly() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise _missing(error) from None
    return get_plotlyjs()


def _missing(error: ImportError) -> UsageError:
    return UsageError(
        f'the report needs {error.name}, which is not installed: pip install "kerasland[report]"'
    )


def _policy(scripts: list[str]) -> str:
    """A content security policy: the report's own scripts run, and nothing is ever loaded."""
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts]
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {hashes}"


def _images(runs: list[Run], data: Prepared, unit: str) -> list[dict]:
    """What the report shows of each image, in the order of the evaluation.

    Each has what its thumbnail needs and, under "view", what opening it needs.
    """
    models = {folder: load_model(folder) for run in runs for folder in run.models}
    for model in models.values():
        point_errors.check_landmarks(model, data)
    views_of = {folder: last_view(model) for folder, model in models.items()}
    columns = ("x", "y", "error_px", "error_mm", "confidence")
    tabled = [{c: run.values(c, data.landmarks) for c in columns} for run in runs]
    number, of_image, found = report_data.numbers, report_data.mean_and_largest, []
    for i, image_id in enumerate(track(runs[0].ids, "looking at images")):
        image = read_image(data.image_path(image_id))
        truth = data.points[data.index([image_id])[0]]
        views = []
        for run, table in zip(runs, tabled, strict=True):
            folder = run.model_of[image_id]
            points = np.stack([table["x"][i], table["y"][i]], axis=1)
            for view in (lambda image: quarter_turned(image.shape, 0), views_of[folder]):
                seen = report_data.look(models[folder], run.experiment, image, truth, view(image))
                if np.median(np.linalg.norm(seen.points - points, axis=1)) < SAME_POINT_PX:
                    break
            else:
                raise DataError(
                    f"{folder}: its model gives other points than {ERRORS}; first run: "
                    f"{run.again(data.folder)}"
                )
            views.append(
                {
                    "points": number(points, 2),
                    "error_px": number(table["error_px"][i], 2),
                    "error_mm": number(table["error_mm"][i], 3),
                    "confidence": number(table["confidence"][i], 3),
                    "spreads": number(seen.spreads, 3),
                    "heatmaps": seen.heatmaps,
                    "predicted": seen.predicted,
                    "annotated": seen.annotated,
                }
            )
        thumbnail, _ = report_data.jpeg(image, report_data.THUMBNAIL_PX)
        picture, covers = report_data.jpeg(image, report_data.PICTURE_PX)
        size = {"id": image_id, "width": image.shape[1], "height": image.shape[0]}
        of_first = tabled[0][f"error_{unit}"][i]
        found.append(
            {
                **size,
                "thumbnail": thumbnail,
                "errors": [of_image(table[f"error_{unit}"][i]) for table in tabled],
                "rings": [views[0]["points"][k] for k in _worth_a_ring(of_first, unit)],
                "view": {
                    **size,
                    "picture": picture,
                    "covers": covers,
                    "truth": number(truth, 2),
                    "runs": views,
                },
            }
        )
    return found


def _mean_shape(run: Run, data: Prepared) -> list[pd.DataFrame]:
    """The errors of the mean shape of what each model was trained on, on the images it was tested
    on; nothing where the data set has none of those."""
    found = []
    for folder, notes in run.models.items():
        seen = point_errors.trained_on(data, notes)
        ids = tuple(image_id for image_id in run.ids if run.model_of[image_id] == folder)
        if not seen:
            return []
        found.append(point_errors.mean_shape_errors(data, tuple(sorted(seen)), ids))
    return found


def _worth_a_ring(errors: np.ndarray, unit: str) -> np.ndarray:
    """The landmarks that a thumbnail marks: those far off, and the worst in any case."""
    known = np.nan_to_num(errors, nan=-1.0)
    far = known > (FAR_MM if unit == "mm" else np.inf)
    return np.flatnonzero(far | ((known == known.max()) & (known >= 0)))


def _summary(
    errors: list[tuple[str, pd.DataFrame]], runs: list[Run], data: Prepared, unit: str
) -> Grid:
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


def _per_landmark(run: Run, unit: str) -> Grid:
    table = tables.per_landmark(run.errors)
    if unit == "mm":
        table = table.drop(columns="error_px_mean")
    return grid(table, f"{run.name}: errors of each landmark.")


def _comparison(first: Run, other: Run, unit: str) -> dict:
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
        "verdict": _verdict(paired, other.name, unit),
        "closer": int((of_images[1] - of_images[0] < 0).sum()),
        "extremes": {which: (name, change[name]) for which, name in extremes.items()},
        "first": first,
        "other": other,
        "paired": paired,
        "landmarks": grid(table.rename_axis("landmark").reset_index(), caption),
    }


def _verdict(paired: dict[str, float], name: str, unit: str) -> str:
    """Whether a run differs from the first by more than the choice of the images explains."""
    low, high = (paired[f"difference_{unit}_{end}"] for end in ("low", "high"))
    if np.isnan(low):
        return "Too few images to tell"
    if low <= 0 <= high:
        return "No difference beyond chance"
    return f"{name} is {'better' if high < 0 else 'worse'}"


def _settings(runs: list[Run]) -> Grid:
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
