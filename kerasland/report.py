"""One HTML file to look at: tables, curves and every test image of one run, or of several."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from kerasland import files, point_errors, report_data, report_runs, report_tables, tables
from kerasland.closer_look import quarter_turned
from kerasland.errors import DataError, UsageError
from kerasland.images import read_image
from kerasland.localizers import last_view
from kerasland.model_files import load_model
from kerasland.prepared import Prepared
from kerasland.progress import track
from kerasland.report_runs import Run
from kerasland.table_files import ERRORS

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
        runs: folders of runs, cross-validations or evaluations, of the same images; the others are
            compared with the first.
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
        "styles": _styles(len(runs)),
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
        unknown=tables.scale_unknown(runs[0].errors),
        images=_images(runs, data, unit),
        overview=overview,
        summary=report_tables.summary(errors, runs, data, unit),
        landmarks=[(run, report_tables.per_landmark(run, unit)) for run in runs],
        comparisons=[report_tables.comparison(runs[0], other, unit) for other in runs[1:]],
        settings=report_tables.settings(runs),
        style=(ASSETS / "report.css").read_text("utf-8"),
        scripts=scripts,
        policy=_policy(scripts),
    )
    files.write_text(out, html)


def _styles(count: int) -> list[tuple[int, int]]:
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
    places = {name: point_errors.landmark_places(model, data) for name, model in models.items()}
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
                of_model = models[folder], places[folder], run.experiment
                seen = report_data.look(*of_model, image, truth, view(image))
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
