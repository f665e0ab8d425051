"""A trained model at work: landmarks of raw images in their own pixels, and its export."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from kerasland import files, overlays, plots
from kerasland.errors import DataError, KeraslandError, UsageError
from kerasland.images import SUFFIXES, read_image
from kerasland.models import landmark_names, pipeline
from kerasland.progress import track

MODEL = "model.keras"
PRETRAINED = Path(__file__).parent / "assets" / "pretrained"
Localizer = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def load_pretrained(name: str = "hand_atlas") -> keras.Model:
    """A trained model that ships with the package.

    Args:
        name: "hand_atlas", the 37 landmarks of the Digital Hand Atlas.

    Raises:
        UsageError: if there is none of that name.
    """
    path = PRETRAINED / f"{name}.keras"
    if not path.exists():
        there = ", ".join(sorted(p.stem for p in PRETRAINED.glob("*.keras"))) or "none"
        raise UsageError(f"no pretrained model {name!r}; there: {there}")
    return load_model(path)


def load_model(source: str | os.PathLike) -> keras.Model:
    """The model of a run's folder, of a `.keras` file, or "pretrained", ready to predict.

    Raises:
        DataError: if there is none, or the file cannot be read as a model.
    """
    if str(source) == "pretrained":
        return load_pretrained()
    path = Path(source)
    path = path / MODEL if path.is_dir() else path
    if not path.exists():
        raise DataError(f"{path}: not found; the last file that a training writes")
    try:
        model = keras.saving.load_model(path, compile=False)
        landmark_names(model)
    except (ValueError, OSError, KeyError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: not a model of kerasland ({reason})") from error
    return model


def localizer(model: keras.Model) -> Localizer:
    """A function from a raw image (H, W) to landmarks (K, 2), its pixels, and confidence (K,)."""
    whole = pipeline(model)
    spec = tf.TensorSpec((1, None, None, 1), tf.float32)
    graph = tf.function(lambda image: whole(image, training=False), input_signature=[spec])

    def localize(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        outputs = graph(image[None, ..., None].astype(np.float32))
        landmarks = outputs["landmarks"].numpy()[0].astype(np.float64)
        return landmarks, outputs["confidence"].numpy()[0]

    return localize


def find_images(paths: Iterable[str | os.PathLike]) -> list[Path]:
    """The files named, and the images in the folders named, in order.

    Raises:
        DataError: if a path does not exist, or a folder holds no image.
    """
    found = []
    for path in map(Path, paths):
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
        if not inside:
            raise DataError(f"{path}: no image in this folder ({', '.join(SUFFIXES)})")
        found.extend(inside)
    for path in found:
        if not path.exists():
            raise DataError(f"{path}: no such image")
    return found


def predict(
    images: Sequence[str | os.PathLike], model: keras.Model, out: str | os.PathLike
) -> pd.DataFrame:
    """Localises the landmarks of image files and writes them with an overlay each.

    Args:
        images: files or folders.
        model: what `load_model` returns.
        out: folder for `landmarks.csv`, `landmarks.json` and `overlays/`.

    Returns:
        The table of `landmarks.csv`: image, landmark, x, y (pixels of the image), confidence.

    Raises:
        DataError: naming the images that could not be read, after all others were written.
    """
    out = Path(out)
    names = landmark_names(model)
    localize = localizer(model)
    rows, failed, taken = [], [], set()
    for path in track(find_images(images), "localising"):
        try:
            image = read_image(path)
        except KeraslandError as error:
            failed.append(str(error))
            continue
        points, confidence = localize(image)
        rows += [
            (str(path), name, float(x), float(y), float(sure))
            for name, (x, y), sure in zip(names, points, confidence, strict=True)
        ]
        plots.save(
            overlays.overlay(image, points, title=path.name),
            out / "overlays" / f"{_free_name(path.stem, taken)}.png",
        )
    table = pd.DataFrame(rows, columns=["image", "landmark", "x", "y", "confidence"])
    if rows:
        with files.replacing(out / "landmarks.csv") as temporary:
            table.to_csv(temporary, index=False)
        files.write_text(out / "landmarks.json", json.dumps(_as_json(table), indent=1) + "\n")
    if failed:
        raise DataError("; ".join(failed))
    return table


def export(model: keras.Model, path: str | os.PathLike, format: str = "saved_model") -> None:
    """Writes one artefact that takes a raw image and gives landmarks in its pixels.

    Signature `serving_default`: `image` (B, H, W, 1), uint8, any H and W; `landmarks` (B, K, 2)
    and `confidence` (B, K), float32. TensorFlow alone runs it.

    Args:
        model: what `load_model` returns.
        path: folder to write; must not exist.
        format: "saved_model".

    Raises:
        UsageError: for another format, or if the path exists.
    """
    if format != "saved_model":
        raise UsageError(f"format {format!r}: only saved_model is there")
    path = Path(path)
    if path.exists():
        raise UsageError(f"{path}: exists already; choose another --out")
    whole = pipeline(model)
    archive = keras.export.ExportArchive()
    archive.track(whole)
    archive.add_endpoint(
        "serving_default",
        lambda image: whole(tf.cast(image, tf.float32), training=False),
        input_signature=[tf.TensorSpec((None, None, None, 1), tf.uint8, name="image")],
    )
    with files.replacing(path) as temporary:
        archive.write_out(str(temporary), verbose=False)


def _free_name(stem: str, taken: set[str]) -> str:
    """The stem, numbered where two images of different folders share it."""
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}_{number}"
    taken.add(name)
    return name


def _as_json(table: pd.DataFrame) -> list[dict]:
    return [
        {
            "image": image,
            "landmarks": part[["landmark", "x", "y", "confidence"]].to_dict("records"),
        }
        for image, part in table.groupby("image", sort=False)
    ]
