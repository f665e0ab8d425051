"""A trained model at work: landmarks of raw images in their own pixels."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from kerasland import files, geometry
from kerasland.dataset import WORKERS, ahead, letterboxed
from kerasland.errors import DataError, KeraslandError, UsageError
from kerasland.images import SUFFIXES, read_image
from kerasland.models import landmark_names
from kerasland.overlays import draw
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
    frame_shape = model.input_shape[1:3]
    locate = network(model)

    def localize(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        landmarks, confidence = locate(letterboxed(image, frame_shape))
        return geometry.letterbox(image.shape, frame_shape).invert(landmarks), confidence

    return localize


def network(model: keras.Model) -> Localizer:
    """As `localizer`, from an image that is in the frame of the network already, and in its pixels.

    One graph, whatever the sizes of the images were before `dataset.letterboxed`.
    """
    spec = tf.TensorSpec((1, *model.input_shape[1:3], 1), tf.float32)

    @tf.function(input_signature=[spec])
    def graph(frame):
        outputs = model(frame, training=False)
        return outputs["landmarks"][0], outputs["confidence"][0]

    def locate(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        landmarks, confidence = graph(tf.constant(frame[None, ..., None]))
        return landmarks.numpy(), confidence.numpy()

    return locate


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

    Other threads read ahead and draw behind while the network works; memory does not grow with the
    number of images, but for the table.

    Args:
        images: files or folders.
        model: what `load_model` returns.
        out: folder for `landmarks.csv`, `landmarks.json` and `overlays/` (a JPEG an image).

    Returns:
        The table of `landmarks.csv`: image, landmark, x, y (pixels of the image), confidence.

    Raises:
        DataError: naming the images that could not be read, after all others were written.
    """
    out = Path(out)
    frame_shape = model.input_shape[1:3]
    names, locate = landmark_names(model), network(model)
    paths = find_images(images)
    done, failed, taken = [], [], set()

    def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
        image = read_image(path)
        return image, letterboxed(image, frame_shape)

    def located() -> Iterator[tuple[np.ndarray, np.ndarray, Path]]:
        jobs = ahead(pool, read, paths)
        for path, job in zip(paths, track(jobs, "localising", len(paths)), strict=True):
            try:
                image, frame = job.result()
            except KeraslandError as error:
                failed.append(str(error))
                continue
            points, confidence = locate(frame)
            points = geometry.letterbox(image.shape, frame_shape).invert(points)
            done.append((str(path), points, confidence))
            yield image, points, out / "overlays" / f"{_free_name(path.stem, taken)}.jpg"

    with ThreadPoolExecutor(WORKERS) as pool:
        for job in ahead(pool, _draw, located()):
            job.result()
    table = _as_table(done, names)
    if done:
        with files.replacing(out / "landmarks.csv") as temporary:
            table.to_csv(temporary, index=False)
        _write_json(done, names, out / "landmarks.json")
    if failed:
        raise DataError("; ".join(failed))
    return table


def _free_name(stem: str, taken: set[str]) -> str:
    """The stem, numbered where two images of different folders share it."""
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}_{number}"
    taken.add(name)
    return name


def _draw(item: tuple[np.ndarray, np.ndarray, Path]) -> None:
    image, points, path = item
    with files.replacing(path) as temporary:
        draw(image, points).save(temporary, quality=85, subsampling=0)


def _as_table(done: list[tuple[str, np.ndarray, np.ndarray]], names: Sequence[str]) -> pd.DataFrame:
    images, points, confidence = zip(*done, strict=True) if done else ((), (), ())
    x, y = np.reshape(points, (-1, 2)).T
    return pd.DataFrame(
        {
            "image": np.repeat(np.array(images, dtype=object), len(names)),
            "landmark": list(names) * len(done),
            "x": x,
            "y": y,
            "confidence": np.reshape(confidence, -1).astype(np.float64),
        }
    )


def _write_json(
    done: list[tuple[str, np.ndarray, np.ndarray]], names: Sequence[str], path: Path
) -> None:
    """A list with an object an image, a line each."""
    with files.replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for i, (image, points, confidence) in enumerate(done):
            landmarks = [
                {"landmark": name, "x": float(x), "y": float(y), "confidence": float(sure)}
                for name, (x, y), sure in zip(names, points, confidence, strict=True)
            ]
            entry = {"image": image, "landmarks": landmarks}
            file.write(("[" if i == 0 else ",\n") + json.dumps(entry))
        file.write("]\n")
