"""The folder of a run: which images it is about, what is written in it, and whether it may be."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from kerasland import __version__, files, model_notes
from kerasland import experiment as experiments
from kerasland.callbacks import CHECKPOINTS
from kerasland.errors import DataError, UsageError
from kerasland.experiment import EXPERIMENT, Experiment
from kerasland.folds import ALL
from kerasland.inference_models import bare, with_shapes
from kerasland.model_notes import BEST, MODEL, RELEASES
from kerasland.prepared import Prepared
from kerasland.scale import Scale

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

HISTORY = "history.csv"


@dataclass(frozen=True)
class Split:
    """Which images a run learns from, watches and never sees."""

    fold: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


def split(data: Prepared, fold: str | None, experiment: Experiment) -> Split:
    """The images of a run.

    The validation images, for the curves and `best.keras`, are taken from the training list, so
    that no choice is ever made on the test list; at most a third of it, so that a few annotated
    images are mostly learnt from. Without a fold, everything is trained on.

    Raises:
        DataError: if the fold is not sound.
    """
    train, test = (data.ids, ()) if fold is None else data.fold(fold)
    held = min(experiment.validation_images, len(train) // 3)
    order = np.random.default_rng(20231201).permutation(len(train))
    validation = tuple(train[i] for i in sorted(order[:held]))
    watched = set(validation)
    kept = tuple(image_id for image_id in train if image_id not in watched)
    of_pixels = {data.pixel_hashes[image_id]: image_id for image_id in train}
    for image_id in test:
        if same := of_pixels.get(data.pixel_hashes[image_id]):
            raise DataError(
                f"{data.folder}: images {same} and {image_id} have the same pixels; one is in the "
                f"train list of {fold}, the other in its test list"
            )
    return Split(ALL if fold is None else fold, kept, validation, tuple(test))


def splits(data: Prepared, folds: Sequence[str], experiment: Experiment) -> dict[str, Split]:
    """The images of a run for each of some folds, by its name.

    Raises:
        UsageError: a fold is named twice, an image is in the test lists of two, and as `split`.
        DataError: as `split`.
    """
    for fold in folds:
        if list(folds).count(fold) > 1:
            raise UsageError(f"--folds {','.join(folds)}: names {fold} more than once")
    parts = {fold: split(data, fold, experiment) for fold in folds}
    home: dict[str, str] = {}
    for fold, part in parts.items():
        for image_id in part.test:
            if image_id in home:
                raise UsageError(
                    f"image {image_id} is in the test lists of {home[image_id]} and {fold}; "
                    "errors of several folds are pooled, each image tested in one"
                )
            home[image_id] = fold
    return parts


def last_checkpoint(run: Path) -> tuple[Path | None, int]:
    """The newest checkpoint of a run and how many epochs it has behind it."""
    found = sorted((run / CHECKPOINTS).glob("epoch_*.keras"))
    return (found[-1], int(found[-1].stem.split("_")[1])) if found else (None, 0)


def check(
    run: Path,
    data: Prepared,
    experiment: Experiment,
    parts: Split,
    resume: bool,
    init: str | os.PathLike | None = None,
) -> None:
    """Raises unless the folder is free for this run, or holds this very run to be resumed."""
    path = run / EXPERIMENT
    if not path.exists():
        if str(run) in RELEASES:
            raise UsageError(f"{run}: is what a model that ships is called; choose another --out")
        if run.exists() and (not run.is_dir() or any(run.iterdir())):
            raise UsageError(f"{run}: not empty and not a run; choose another --out")
        return
    if not resume:
        raise UsageError(f"{run}: holds a run already; add --resume to go on, or choose another")
    there, notes = experiments.load(path)
    if "data" not in notes:
        raise UsageError(f"{path}: holds settings but no run; choose another --out")
    if notes["data"]["hash"] != data.hash:
        raise DataError(f"{run}: was trained on other data than {data.folder}; cannot resume")
    if notes["data"]["landmarks"] != list(data.landmarks):
        raise DataError(
            f"{run}: was trained on other landmarks, or in another order, than {data.folder} has; "
            "cannot resume"
        )
    for key, value in asdict(experiment).items():
        if asdict(there)[key] != value:
            raise UsageError(
                f"{run}: was started with {key}={asdict(there)[key]}, not {value}; cannot resume"
            )
    if notes.get("init") != _noted(init):
        raise UsageError(
            f"{run}: was started with init={notes.get('init')}, not {_noted(init)}; cannot resume"
        )
    if tuple(notes["train_ids"]) != parts.train:
        raise UsageError(
            f"{run}: was started with fold {notes['fold']} and other training images than fold "
            f"{parts.fold} has today; cannot resume: restore that list or choose another --out"
        )


def update_scale(run: Path, data: Prepared) -> None:
    """Notes the scale that the data set states today: no weight depends on it, millimetres do."""
    path = run / EXPERIMENT
    if path.exists():
        there, notes = experiments.load(path)
        known = notes["data"].get("scale")
        if known is None or Scale(**known) != data.scale:
            notes["data"]["scale"] = asdict(data.scale)
            there.save(path, **notes)


@contextmanager
def alone(run: Path) -> Iterator[None]:
    """Holds the folder of a run, made if need be, against other processes while the block runs.

    The system lets go of it when the process ends, however it does. Where there are no locks,
    as on Windows and some network file systems, nothing is held. A folder that was made here goes
    if it stays empty.

    Raises:
        UsageError: another process trains in it.
    """
    made = not run.exists()
    run.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        if fcntl is not None:
            folder = os.open(run, os.O_RDONLY)
            stack.callback(os.close, folder)
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(f"{run}: another process is training in it") from None
            except OSError:
                pass  # a file system without locks
        try:
            yield
        finally:
            if made and not any(run.iterdir()):
                run.rmdir()


def _noted(init: str | os.PathLike | None) -> str | None:
    return None if init is None else str(init)


def notes_of(data: Prepared, parts: Split, init: str | os.PathLike | None = None) -> dict:
    """What `experiment.json` says beside the experiment: data, weights, images, versions."""
    own_hashes = [data.pixel_hashes[i] for i in parts.train + parts.validation]
    behind = pixel_hashes_behind(init)
    return {
        "data": {
            "name": data.name,
            **data.identity,
            "landmarks": list(data.landmarks),
            "scale": asdict(data.scale),
        },
        "fold": parts.fold,
        "train_ids": list(parts.train),
        "validation_ids": list(parts.validation),
        "init": _noted(init),
        "pixel_hashes": own_hashes + (behind or []),
        "pixel_hashes_complete": behind is not None,
        "versions": {
            "kerasland": __version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "numpy")},
        },
    }


def check_unseen(splits: dict[str, Split], data: Prepared, init: str | os.PathLike) -> None:
    """Raises DataError if weights to start from know a test image, or perhaps do."""
    known = pixel_hashes_behind(init)
    if known is None:
        raise DataError(
            f"--init {init}: no experiment.json beside it tells all images that it was trained on; "
            "if they are test images, their errors mean nothing"
        )
    known = set(known)
    for fold, part in splits.items():
        for image_id in part.test:
            if data.pixel_hashes[image_id] in known:
                raise DataError(
                    f"--init {init}: was trained on image {image_id}, which is in the test list "
                    f"of {fold}; its error would mean nothing"
                )


def pixel_hashes_behind(source: str | os.PathLike | None) -> list[str] | None:
    """The images that a model, and those it began from, were trained on, none without a model; None
    where the `experiment.json` beside it does not tell them all."""
    if source is None:
        return []
    notes = model_notes.notes(source)
    return notes.get("pixel_hashes") if notes.get("pixel_hashes_complete", True) else None


def finish(
    model: keras.Model, run: Path, experiment: Experiment, notes: dict, points: np.ndarray
) -> None:
    """Writes the final model, without its optimiser, last of all; the checkpoints have served.

    Args:
        points: (N, K, 2), annotation of the images trained on, pixels of the network's frame,
            for `shape_prior` and `shape_posterior`.
    """
    minutes = round(pd.read_csv(run / HISTORY)["seconds"].sum() / 60, 2)
    parameters = model.count_params()
    # where an earlier call got as far as here, its notes have both already
    experiment.save(run / EXPERIMENT, **{**notes, "minutes": minutes, "parameters": parameters})
    final = bare(model)
    if experiment.shape_prior:
        final = with_shapes(final, points)
    elif experiment.shape_posterior:
        final = with_shapes(final, points, experiment.sigma_px)
    names = [MODEL] if (run / BEST).exists() else [BEST, MODEL]
    for name in names:
        with files.replacing(run / name) as temporary:
            final.save(temporary)
    shutil.rmtree(run / CHECKPOINTS)
