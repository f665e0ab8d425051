"""One artefact that takes a raw image and gives landmarks: a TensorFlow SavedModel, or ONNX."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import keras
import tensorflow as tf

from kerasland import files
from kerasland.errors import UsageError
from kerasland.models import bare, landmark_names, pipeline

ONNX, SAVED_MODEL = "onnx", "saved_model"
OPSET = 18
IMAGE = tf.TensorSpec((None, None, None, 1), tf.uint8, name="image")


def export(model: keras.Model, path: str | os.PathLike, format: str | None = None) -> None:
    """Writes one artefact that takes a raw image and gives landmarks in its pixels.

    Both formats take `image` (B, H, W, 1), uint8, any H and W, and give `landmarks` (B, K, 2) and
    `confidence` (B, K), float32. A SavedModel has them in its signature `serving_default` and
    needs TensorFlow alone. An ONNX file runs in onnxruntime or OpenVINO, and keeps the names of
    the landmarks as JSON in its metadata, key `landmarks`.

    Args:
        model: what `predict.load_model` returns.
        path: what to write; must not exist.
        format: "onnx", a file, or "saved_model", a folder. By default a path that ends in `.onnx`
            becomes ONNX, and one without a suffix a SavedModel.

    Raises:
        UsageError: for another format or suffix, if the path exists, or if ONNX is asked for and
            the packages of the extra `onnx` are missing.
    """
    path = Path(path)
    format = format or _format_of(path)
    if format not in WRITERS:
        raise UsageError(f"format {format!r}: must be one of {', '.join(WRITERS)}")
    if path.exists():
        raise UsageError(f"{path}: exists already; choose another --out")
    if format == ONNX:
        _require_onnx()
    with files.replacing(path) as temporary:
        WRITERS[format](bare(model), temporary)


def _format_of(path: Path) -> str:
    if path.suffix == ".onnx":
        return ONNX
    # a folder may be called v1.2
    if not path.suffix or path.suffix[1:].isdigit():
        return SAVED_MODEL
    raise UsageError(
        f"{path}: no format has the suffix {path.suffix!r}; .onnx makes an ONNX file, no suffix "
        "the folder of a SavedModel, and --format decides for any other name"
    )


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"the ONNX format needs {error.name}, which is not installed: "
            "pip install 'kerasland[onnx]'"
        ) from None


def _write_saved_model(model: keras.Model, path: Path) -> None:
    whole = pipeline(model, "uint8")
    archive = keras.export.ExportArchive()
    archive.track(whole)
    archive.add_endpoint("serving_default", lambda image: whole(image, training=False), [IMAGE])
    archive.write_out(str(path), verbose=False)


def _write_onnx(model: keras.Model, path: Path) -> None:
    import onnx
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    whole = pipeline(model, "uint8")
    graph = tf.function(lambda image: whole(image, training=False), input_signature=[IMAGE])
    converted, _ = tf2onnx.convert.from_function(graph, [IMAGE], opset=OPSET)
    _name_axes(converted.graph, len(landmark_names(model)))
    onnx.helper.set_model_props(converted, {"landmarks": json.dumps(landmark_names(model))})
    onnx.checker.check_model(converted, full_check=True)
    onnx.save(converted, str(path))


WRITERS = {ONNX: _write_onnx, SAVED_MODEL: _write_saved_model}


def _name_axes(graph, landmarks: int) -> None:
    shapes = {
        "image": ("batch", "height", "width", 1),
        "landmarks": ("batch", landmarks, 2),
        "confidence": ("batch", landmarks),
    }
    for value in (*graph.input, *graph.output):
        axes = value.type.tensor_type.shape.dim
        for axis, size in zip(axes, shapes[value.name], strict=True):
            if isinstance(size, str):
                axis.dim_param = size
            else:
                axis.dim_value = size
