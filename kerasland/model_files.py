"""Trained models from files: of runs, `.keras` files and those that ship."""

from __future__ import annotations

import itertools
import lzma
import os
import zipfile
import zlib
from pathlib import Path

import keras

from kerasland import __version__, model_notes
from kerasland import experiment as experiments
from kerasland.errors import DataError, UsageError
from kerasland.layers import SpatialEmbedding
from kerasland.model_notes import PRETRAINED, RELEASES, existing
from kerasland.models import landmark_names
from kerasland.shape_layers import ShapeLayer


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


def load_model(source: str | os.PathLike) -> keras.Model:
    """The model of a run, of a `.keras` file, or of a release, ready to predict.

    Args:
        source: see `model_notes.location`.

    Raises:
        DataError: if there is none, or the file cannot be read as a model.
    """
    path = existing(source)
    check_whole(path)
    try:
        model = keras.saving.load_model(path, compile=False)
        landmark_names(model)
    except (ValueError, OSError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        other = experiments.other_version(model_notes.notes(path))
        what = (
            f"of kerasland {other}, which {__version__} can't read"
            if other
            else "not a model of kerasland"
        )
        raise DataError(f"{path}: {what} ({reason})") from error
    return model


_UNREADABLE = (
    *(zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError),
    *(lzma.LZMAError, zlib.error),  # where the byte that names the compression is another
)


def check_whole(path: Path, instead: str = "get a fresh copy") -> None:
    """Refuses a `.keras` file that is not as it was written.

    Keras reads on where a checksum is wrong and, from Python 3.13 on, returns a model with other
    weights; of one that is no zip archive it says that there is none.

    Args:
        path: of the file.
        instead: what the message says to do.

    Raises:
        DataError: naming the file and, if it is whole enough, the part that is damaged.
    """
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: cut off, or no .keras file; {instead}")
    try:
        with zipfile.ZipFile(path) as archive:
            part = archive.testzip()
    except _UNREADABLE:
        part = "table of contents"
    if part:
        raise DataError(f"{path}: damaged, its {part} is not what was written; {instead}")


NO_NETWORK = (ShapeLayer, SpatialEmbedding)  # layers that may have weights of their own


def take_weights(model: keras.Model, source: str | os.PathLike) -> None:
    """Takes over the weights of another model of the same levels, widths and strides.

    The image may have another size. The head is taken over only if both have the same landmarks,
    by their names; a learned beta is not.

    Args:
        model: what `unet` returns.
        source: see `model_notes.location`.

    Raises:
        DataError: as `load_model`.
        UsageError: if another layer is missing there, has other shapes, or normalises other
            groups of channels; the model is as it was, then.
    """
    there = load_model(source)
    same_landmarks = landmark_names(there) == landmark_names(model)
    pair = [
        [layer for layer in m.layers if layer.weights and not isinstance(layer, NO_NETWORK)]
        for m in (model, there)
    ]
    taken = []
    for layer, known in itertools.zip_longest(*pair):
        if layer and known and layer.name == known.name == "head" and not same_landmarks:
            continue
        if _kind(layer) != _kind(known):
            raise UsageError(
                f"{source}: its layer {(known or layer).name} has other weights than this network: "
                "give it the width, max_width, depth, strides and normalization of that one, as "
                "Experiment.with_settings(network=...) does"
            )
        taken.append((layer, known))
    for layer, known in taken:
        layer.set_weights(known.get_weights())


def _kind(layer: keras.layers.Layer | None) -> tuple:
    """What layers must share to compute the same: "group" and "layer" differ in groups alone."""
    weights = layer.weights if layer else ()
    return getattr(layer, "groups", None), *(weight.shape for weight in weights)
