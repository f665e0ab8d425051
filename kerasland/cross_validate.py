"""An honest estimate from all images, a calibration of the errors, and a model from all of them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pandas as pd

from kerasland import calibration, evaluate, files, plots, point_errors, run_folder, train
from kerasland.errors import UsageError
from kerasland.experiment import EXPERIMENT, Experiment
from kerasland.folds import ALL
from kerasland.model_notes import MODEL
from kerasland.prepared import Prepared
from kerasland.table_files import ERRORS, EVALUATION, SUMMARY, read_errors, read_summary


def cross_validate(
    out: str | os.PathLike,
    data: Prepared,
    experiment: Experiment,
    folds: tuple[str, ...],
    init: str | os.PathLike | None = None,
    final: bool = False,
) -> dict:
    """Trains and evaluates once a fold, pools the errors; goes on where an earlier call stopped.

    Args:
        out: folder to write: a run in `out/FOLD` for each fold; of the pooled errors, in which
            each test image occurs once, `errors.csv`, `table`, `per_landmark`, figures and
            `summary.json`; where millimetres are known in two folds or more, `reliability.csv` and
            its figure, see `kerasland.calibration`.
        data: prepared data set.
        experiment: of every training.
        folds: two names or more, whose test lists share no image.
        init: weights to start from, see `train.train`; they must not know the images.
        final: train on all images as well, in `out/all`; `out` then is itself a run's folder,
            for `predict` and `export`, and its model states its expected error in mm.

    Returns:
        What `summary.json` holds: `tables.summarize` of the pooled errors, "minutes" of all
        trainings but the final one, "folds" with their counts, "mean_shape".

    Raises:
        UsageError: fewer than two folds or one twice, test lists that overlap, or `out` holds
            something else: a run, or runs of another experiment.
        DataError: a fold is not sound, `out` holds another `summary.json`, or `init` was trained
            on an image of a test list, or on nobody knows which.
    """
    out = Path(out)
    if len(folds) < 2:
        raise UsageError(f"--folds {','.join(folds)}: cross-validation needs two folds or more")
    _check_free(out, folds)
    splits = run_folder.splits(data, folds, experiment)
    if init is not None:
        run_folder.check_unseen(splits, data, init)
    found, baseline, evaluated = [], [], []
    for number, (fold, part) in enumerate(splits.items(), start=1):
        run = out / fold
        title = f"[{number}/{len(folds) + final}] fold {fold}"
        train.train(data, experiment, run, fold, resume=run.exists(), title=title, init=init)
        evaluated.append(evaluate.evaluate(run, data, fold))
        found.append(read_errors(run / EVALUATION / ERRORS).assign(fold=fold))
        baseline.append(
            point_errors.mean_shape_errors(data, part.train + part.validation, part.test)
        )
    errors = pd.concat(found, ignore_index=True)
    pooled = {experiment.method: errors, "mean_shape": pd.concat(baseline, ignore_index=True)}
    facts = {
        "minutes": round(sum(each["minutes"] for each in evaluated), 2),
        "parameters": evaluated[0]["parameters"],
        "subset": f"cross-validation over {', '.join(folds)}",
        "folds": {fold: len(part.test) for fold, part in splits.items()},
        "init": None if init is None else str(init),
    }
    summary = evaluate.write(out, data, pooled, facts)
    calibrated = None
    if calibration.usable(errors)["fold"].nunique() > 1:
        reliability = calibration.reliability(errors)
        with files.replacing(out / "reliability.csv") as temporary:
            reliability.to_csv(temporary, index=False)
        plots.save(plots.reliability(reliability), out / "reliability.png")
        calibrated = calibration.fit(errors)
    else:
        for name in ("reliability.csv", "reliability.png"):  # of a scale that is known no more
            (out / name).unlink(missing_ok=True)
    if final:
        title = f"[{len(folds) + 1}/{len(folds) + 1}] all images"
        _train_final(out, data, experiment, init, calibrated, title)
    return summary


def _check_free(out: Path, folds: tuple[str, ...]) -> None:
    """Raises unless the folder is new, or holds the beginning or all of a cross-validation over
    these folds."""
    if (out / EXPERIMENT).exists() and not (out / ALL).exists():
        raise UsageError(f"{out}: holds a run already; choose another --out")
    if not out.is_dir() or not any(out.iterdir()):
        return
    pooled = out / SUMMARY
    if not pooled.exists():
        if not any((out / name).is_dir() for name in (*folds, ALL)):
            raise UsageError(f"{out}: not empty and no cross-validation; choose another --out")
        return
    known = read_summary(pooled).get("folds", {})
    if set(known) != set(folds):
        raise UsageError(
            f"{out}: holds {'a cross-validation over ' + ', '.join(known) if known else 'errors'}, "
            f"not one over {', '.join(folds)}; choose another --out"
        )


def _train_final(
    out: Path,
    data: Prepared,
    experiment: Experiment,
    init: str | os.PathLike | None,
    calibrated: calibration.Calibration | None,
    title: str,
) -> None:
    run = out / ALL
    model = train.train(data, experiment, run, resume=run.exists(), title=title, init=init)
    if calibrated:
        model = calibration.attach(model, calibrated)
    with files.replacing(out / MODEL) as temporary:
        model.save(temporary)
    with files.replacing(out / EXPERIMENT) as temporary:
        shutil.copyfile(run / EXPERIMENT, temporary)
