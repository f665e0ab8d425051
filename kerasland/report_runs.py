"""The runs and cross-validations of a report, all of the same images; where these are."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kerasland import experiment as experiments
from kerasland import model_notes, prepared
from kerasland.errors import DataError, UsageError
from kerasland.experiment import Experiment
from kerasland.folds import ALL, ALL_IMAGES, GIVEN_IDS
from kerasland.prepared import Prepared
from kerasland.table_files import ERRORS, EVALUATION, SUMMARY, read_errors, read_summary

POOLED = "folds"  # what the summary of a cross-validation has, and of no single model


@dataclass(frozen=True, eq=False)
class Run:
    """A model with its evaluation, or the runs of a cross-validation with its pooled errors.

    folder: of the run or cross-validation, or the evaluation's where that lies elsewhere. name: how
    a report calls it. experiment: of all its models. models: each model, see
    `model_notes.location`, and what its `experiment.json` says beside the experiment. model_of: by
    image, the model that was tested on it. evaluated: `summary.json`. errors: errors table.
    """

    folder: Path
    name: str
    experiment: Experiment
    models: dict[str | Path, dict]
    model_of: dict[str, str | Path]
    evaluated: dict
    errors: pd.DataFrame

    @property
    def data(self) -> dict:
        """Hash and, where noted, folder of the prepared data set that the errors are of."""
        return self.evaluated.get("data", next(iter(self.models.values()))["data"])

    def again(self, data: str | os.PathLike) -> str:
        """The command that makes the errors anew, from a prepared folder."""
        subset, (model, notes) = self.evaluated["subset"], next(iter(self.models.items()))
        chosen = ""
        if subset.startswith(ALL_IMAGES):
            chosen = f" --fold {ALL}"
        elif subset == GIVEN_IDS:
            chosen = " --ids FILE"
        elif subset.startswith("fold ") and subset != f"fold {notes['fold']}":
            chosen = f" --{subset}"
        if POOLED in self.evaluated:
            return _crossvalidate(self.folder, data)
        elsewhere = "" if model == self.folder else f" --out {self.folder}"
        return f"{_evaluate(model, data)}{chosen}{elsewhere}"

    @property
    def ids(self) -> tuple[str, ...]:
        """The evaluated images, in their order."""
        return tuple(self.errors["image_id"].unique())

    def values(self, column: str, landmarks: Sequence[str]) -> np.ndarray:
        """(N, K), a column of the errors table by image and landmark; NaN where there is none."""
        return by_image(self.errors, column, self.ids, landmarks)


def by_image(
    errors: pd.DataFrame, column: str, ids: Sequence[str], landmarks: Sequence[str]
) -> np.ndarray:
    """(N, K), a column of an errors table by image and landmark; NaN where there is none."""
    places = pd.MultiIndex.from_product([ids, landmarks])
    values = errors.set_index(["image_id", "landmark"])[column].reindex(places)
    return values.to_numpy(dtype=np.float64).reshape(len(ids), len(landmarks))


def read(folders: Sequence[str | os.PathLike]) -> list[Run]:
    """Reads runs that were evaluated on the same images.

    Args:
        folders: of runs, cross-validations or evaluations; or patterns of such.

    Raises:
        DataError: a run was not evaluated, or on other images or other data than the first.
        UsageError: a run is named twice.
    """
    folders = [meant for folder in folders for meant in _meant(Path(folder))]
    count = Counter(folder.resolve().name for folder in folders)
    runs: list[Run] = []
    for folder in folders:
        name = folder.resolve().name
        runs.append(_read_one(folder, name if count[name] == 1 else str(folder)))
        if len(runs) > 1:
            _check_pair(runs[0], runs[-1])
    return runs


def _meant(folder: Path) -> list[Path]:
    """A folder, or those that a pattern matches: not every shell does that for a program."""
    if folder.exists():
        return [folder]
    return [*map(Path, sorted(glob.glob(str(folder))))] or [folder]


def _read_one(folder: Path, name: str) -> Run:
    home = folder / EVALUATION
    of_a_run = (folder.resolve().parent / experiments.EXPERIMENT).exists()
    if of_a_run and folder.name.startswith(EVALUATION):
        home, folder = folder, folder.parent  # of images from elsewhere, say
    elif not (home / ERRORS).exists() and (folder / ERRORS).exists():
        home = folder
    for path in (home / ERRORS, home / SUMMARY):
        if not path.exists():
            if home == folder:
                first = f"{_crossvalidate(folder)}; or evaluate with --out {folder}"
            else:
                _check_run(folder)
                first = _evaluate(folder)
            raise DataError(f"{path}: missing; first run: {first}")
    evaluated = read_summary(home / SUMMARY)
    errors = read_errors(home / ERRORS)
    if home == folder and POOLED not in evaluated:
        model_of = dict.fromkeys(errors["image_id"], _model(evaluated, home / SUMMARY))
    else:
        parts = errors["fold"] if "fold" in errors else pd.Series("", errors.index)
        model_of = {i: folder / part for i, part in zip(errors["image_id"], parts, strict=True)}
    models = {}
    for model in dict.fromkeys(model_of.values()):
        file = model_notes.location(model)
        beside = file.parent if file.is_file() else file
        experiment, models[model] = experiments.load(beside / experiments.EXPERIMENT)
    return Run(folder, name, experiment, models, model_of, evaluated, errors)


def _model(evaluated: dict, path: Path) -> str | Path:
    """The model of an evaluation that does not lie in its run's folder."""
    model = evaluated.get("model")
    if not isinstance(model, str):
        raise DataError(f"{path}: does not say of which model it is; evaluate again")
    return model if model in model_notes.RELEASES else Path(model)


def _check_run(folder: Path) -> None:
    """Raises where a folder is no run at all, and names those in it, as `reproduce` leaves them."""
    if not (folder / experiments.EXPERIMENT).exists():
        for home in (folder / "runs", folder):
            if any(home.glob(f"*/{experiments.EXPERIMENT}")):
                raise DataError(f"{folder}: is no run but holds some; name these: {home}/*")
    experiments.load(folder / experiments.EXPERIMENT)


def _crossvalidate(folder: Path, data: str | os.PathLike = "DIR") -> str:
    return f"kerasland crossvalidate --data {data} --out {folder}, with its folds and settings"


def _evaluate(model: str | os.PathLike, data: str | os.PathLike = "DIR") -> str:
    return f"kerasland evaluate {model} --data {data}"


def _check_pair(first: Run, other: Run) -> None:
    if other.folder.resolve() == first.folder.resolve():
        raise UsageError(f"{other.folder}: named twice")
    if other.data["hash"] != first.data["hash"]:
        raise DataError(
            f"{other.folder}: was evaluated on other data than {first.folder}; a comparison needs "
            "the same images and annotations"
        )
    if other.evaluated.get("scale") != first.evaluated.get("scale"):
        raise DataError(
            f"{other.folder}: was evaluated with the scale {other.evaluated.get('scale')}, "
            f"{first.folder} with {first.evaluated.get('scale')}; evaluate both anew"
        )
    if odd := sorted(set(other.ids) ^ set(first.ids)):
        has, lacks = (other, first) if odd[0] in other.ids else (first, other)
        raise DataError(
            f"{lacks.folder}: was not evaluated on image {odd[0]}, but {has.folder} was "
            f"({len(odd)} such images); a comparison needs the same"
        )


def data_of(runs: Sequence[Run], folder: str | os.PathLike | None = None) -> Prepared:
    """The prepared data set that runs were evaluated on.

    Args:
        runs: what `read` returns.
        folder: where it is now; by default where it was.

    Raises:
        DataError: it is not there, is other data, or a run's millimetres are not by its spacings.
        UsageError: nobody says where it is.
    """
    run = runs[0]
    folder = folder or run.data.get("folder")
    if folder is None:
        raise UsageError(f"{run.folder}: does not note where its images are; add --data DIR")
    if not Path(folder).is_dir():
        raise DataError(f"{folder}: no such folder; say where the images are with --data DIR")
    data = prepared.read(folder)
    if data.hash != run.data["hash"]:
        raise DataError(
            f"{folder}: is other data than {run.folder} was evaluated on; name that with --data, "
            f"or first run: {run.again(folder)}"
        )
    scale = data.scale.describe(data.landmarks)
    if run.evaluated.get("scale", scale) != scale:
        raise DataError(
            f"{folder}: has the scale {scale}, but {run.folder} was evaluated with "
            f"{run.evaluated['scale']}; first run: {run.again(folder)}"
        )
    for each in runs:
        _check_millimetres(each, data)
    return data


def _check_millimetres(run: Run, data: Prepared) -> None:
    """Raises where errors were measured before the spacing of an image was corrected."""
    errors = run.errors
    spacing = data.spacing[data.index(errors["image_id"])]
    apart = errors[["x", "y"]].to_numpy() - errors[["x_true", "y_true"]].to_numpy()
    error_mm = np.linalg.norm(apart * spacing, axis=1)
    other = ~np.isclose(error_mm, errors["error_mm"], rtol=1e-4, equal_nan=True)
    if other.any():
        raise DataError(
            f"{run.folder}: image {errors['image_id'][other].iloc[0]} was evaluated with another "
            f"spacing than {data.folder} has; first run: {run.again(data.folder)}"
        )
