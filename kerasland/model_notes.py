"""Where trained models are and what is known of them, without Keras."""

from __future__ import annotations

import os
from pathlib import Path

from kerasland import experiment as experiments
from kerasland.errors import DataError
from kerasland.experiment import Experiment
from kerasland.scale import Scale

MODEL = "model.keras"
BEST = "best.keras"
PRETRAINED = Path(__file__).parent / "assets" / "pretrained"
RELEASES = {"pretrained": "hand_atlas", "drawn_hands": "drawn_hands"}


def location(source: str | os.PathLike) -> Path:
    """Where a model is: the folder of a run or of a release, or a `.keras` file.

    Args:
        source: that path, or "pretrained" for the release hand_atlas, or "drawn_hands", as a text:
            a `Path` of that name is a folder.
    """
    name = RELEASES.get(source) if isinstance(source, str) else None
    return PRETRAINED / name if name else Path(source)


def existing(source: str | os.PathLike) -> Path:
    """The `.keras` file of a model.

    Args:
        source: see `location`.

    Raises:
        DataError: there is none.
    """
    path = location(source)
    path = path / MODEL if path.is_dir() else path
    unfinished = path.name == MODEL and path.with_name(experiments.EXPERIMENT).exists()
    if unfinished and not path.exists():
        best = path.with_name(BEST)
        named = f", or name {best}, its best epoch so far" if best.exists() else ""
        raise DataError(f"{path.parent}: its training is not finished; go on with --resume{named}")
    if not path.exists():
        raise DataError(
            f"{path}: no such model: a run's folder, whose {MODEL} its training writes last, a "
            f".keras file, or {' or '.join(RELEASES)}"
        )
    return path


def name(source: str | os.PathLike) -> str:
    """What a model is called: its release or the folder of its run, or the stem of another file.

    Raises:
        DataError: there is no such model.
    """
    path = existing(source).resolve()
    return path.parent.name if path.name == MODEL else path.stem


def is_release(source: str | os.PathLike) -> bool:
    """Whether a model is one of those that ship.

    Raises:
        DataError: there is no such model.
    """
    return existing(source).resolve().parent.parent == PRETRAINED.resolve()


def notes(source: str | os.PathLike) -> dict:
    """What the `experiment.json` beside a model says of its data, images and versions.

    Args:
        source: see `location`.

    Returns:
        The notes; empty where there are none.

    Raises:
        DataError: there is no such model; that file is no experiment's JSON.
    """
    return beside(source)[1]


def experiment_of(source: str | os.PathLike) -> Experiment | None:
    """The experiment of a model, from the `experiment.json` beside it; None where there is none.

    Args:
        source: see `location`.

    Raises:
        DataError: there is no such model; that file is no experiment's JSON.
    """
    return beside(source)[0]


def beside(source: str | os.PathLike) -> tuple[Experiment | None, dict]:
    """Both `experiment_of` and `notes`."""
    file = existing(source).parent / experiments.EXPERIMENT
    return experiments.load(file) if file.is_file() else (None, {})


def model_scale(source: str | os.PathLike) -> Scale | None:
    """How the data behind a model became millimetres, if by two landmarks a known length apart.

    That holds for other images of the same kind too, as a spacing does not.

    Args:
        source: see `location`.

    Returns:
        The scale; one without landmarks where it was another; None where nothing says which.

    Raises:
        DataError: there is no such model; its `experiment.json` is none.
    """
    known = notes(source).get("data", {}).get("scale")
    if known is None:
        return None
    scale = Scale(**known)
    return scale if scale.landmarks else Scale()
