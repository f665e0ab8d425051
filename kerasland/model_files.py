"""Trained models as files: runs, `.keras` files and those that ship, and what is known of them."""

from __future__ import annotations

import itertools
import os
import zipfile
from pathlib import Path

import keras

from kerasland import experiment as experiments
from kerasland.errors import DataError, UsageError
from kerasland.experiment import Experiment
from kerasland.layers import ShapeLayer
from kerasland.models import landmark_names
from kerasland.prepared_tables import Scale

MODEL = "model.keras"
PRETRAINED = Path(__file__).parent / "assets" / "pretrained"
RELEASES = {"pretrained": "hand_atlas", "drawn_hands": "drawn_hands"}


def load_pretrained(name: str = "hand_atlas") -> keras.Model:
    """A trained model that ships with the package.

    Args:
        name: "hand_atlas", the 37 landmarks of the Digital Hand Atlas; or "drawn_hands", the same
            landmarks learnt from drawn hands alone, to start a training from.

    Raises:
        UsageError: if there is none of that name.
    """
    if name not in RELEASES.values():
        raise UsageError(f"no pretrained model {name!r}; there: {', '.join(RELEASES.values())}")
    return load_model(PRETRAINED / name)


def location(source: str | os.PathLike) -> Path:
    """Where a model is: the folder of a run or of a release, or a `.keras` file.

    Args:
        source: that path, or "pretrained" for the release hand_atlas, or "drawn_hands".
    """
    name = RELEASES.get(str(source))
    return PRETRAINED / name if name else Path(source)


def load_model(source: str | os.PathLike) -> keras.Model:
    """The model of a run, of a `.keras` file, or of a release, ready to predict.

    Args:
        source: see `location`.

    Raises:
        DataError: if there is none, or the file cannot be read as a model.
    """
    path = location(source)
    path = path / MODEL if path.is_dir() else path
    if not path.exists():
        raise DataError(
            f"{path}: no such model: a run's folder, whose {MODEL} its training writes last, a "
            f".keras file, or {' or '.join(RELEASES)}"
        )
    try:
        model = keras.saving.load_model(path, compile=False)
        landmark_names(model)
    except (ValueError, OSError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: not a model of kerasland ({reason})") from error
    return model


def take_weights(model: keras.Model, source: str | os.PathLike) -> None:
    """Takes over the weights of another model of the same levels, widths and strides.

    The image may have another size. The head is taken over only if both have the same landmarks,
    by their names.

    Args:
        model: what `unet` returns.
        source: see `location`.

    Raises:
        DataError: as `load_model`.
        UsageError: if another layer is missing there or has other shapes.
    """
    there = load_model(source)
    same_landmarks = landmark_names(there) == landmark_names(model)
    pair = [
        [layer for layer in m.layers if layer.weights and not isinstance(layer, ShapeLayer)]
        for m in (model, there)
    ]
    for layer, known in itertools.zip_longest(*pair):
        if layer and known and layer.name == known.name == "head" and not same_landmarks:
            continue
        sizes = [[weight.shape for weight in one.weights] if one else [] for one in (layer, known)]
        if sizes[0] != sizes[1]:
            raise UsageError(
                f"{source}: its layer {(known or layer).name} has other weights than this network: "
                "give it the width, max_width, depth, strides and normalization of that one, as "
                "Experiment.with_settings(network=...) does"
            )
        layer.set_weights(known.get_weights())


def notes(source: str | os.PathLike) -> dict:
    """What the `experiment.json` beside a model says of its data, images and versions.

    Args:
        source: see `location`.

    Returns:
        The notes; empty where there are none.

    Raises:
        DataError: that file is no experiment's JSON.
    """
    return _beside(source)[1]


def experiment_of(source: str | os.PathLike) -> Experiment | None:
    """The experiment of a model, from the `experiment.json` beside it; None where there is none.

    Args:
        source: see `location`.

    Raises:
        DataError: that file is no experiment's JSON.
    """
    return _beside(source)[0]


def _beside(source: str | os.PathLike) -> tuple[Experiment | None, dict]:
    path = location(source)
    file = (path if path.is_dir() else path.parent) / experiments.EXPERIMENT
    return experiments.load(file) if file.is_file() else (None, {})


def model_scale(source: str | os.PathLike) -> Scale | None:
    """How the data behind a model became millimetres, if by two landmarks a known length apart.

    That holds for other images of the same kind too, as a spacing does not.

    Args:
        source: see `location`.

    Returns:
        The scale; one without landmarks where it was another; None where nothing says which.

    Raises:
        DataError: its `experiment.json` is none.
    """
    known = notes(source).get("data", {}).get("scale")
    if known is None:
        return None
    scale = Scale(**known)
    return scale if scale.landmarks else Scale()
