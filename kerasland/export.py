"""One artefact that takes a raw image and gives landmarks: a SavedModel, ONNX, or LiteRT."""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import logging
import os
import tempfile
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kerasland import files, model_notes, onnx_graphs, quantize
from kerasland.errors import UsageError
from kerasland.export_notes import ABOUT, about
from kerasland.inference_models import bare, pipeline
from kerasland.models import landmark_names
from kerasland.scale import Scale

ONNX, LITERT, SAVED_MODEL = "onnx", "litert", "saved_model"
SUFFIXES = {".onnx": ONNX, ".tflite": LITERT}
FLOAT32, FLOAT16, BFLOAT16, INT8 = "float32", "float16", "bfloat16", "int8"
WEIGHTS = {
    ONNX: (FLOAT32, FLOAT16, INT8),
    LITERT: (FLOAT32, FLOAT16),
    SAVED_MODEL: (FLOAT32, FLOAT16, BFLOAT16),
}
OPSET = 18
STAND_IN = "PyFuncStateless"  # TensorFlow's name of what `_StandIn` puts into a graph
DTYPES = ("uint8", "uint16")


def export(
    model: keras.Model,
    path: str | os.PathLike,
    format: str | None = None,
    weights: str = FLOAT32,
    calibration: Iterable[np.ndarray] | None = None,
    scale: Scale | None = None,
    source: str | os.PathLike | None = None,
    dtype: str = "uint8",
) -> None:
    """Writes one artefact that takes a raw image and gives landmarks in its pixels.

    All formats take `image` (B, H, W, 1), any B, H and W above 0, and give what
    `inference_models.pipeline` does: `landmarks` (B, K, 2), `confidence` (B, K) and, if it was
    calibrated, `error_mm` (B, K), with a scale also `mm_per_px` (B,), float32. A SavedModel and a
    LiteRT file have them in their signature `serving_default`; LiteRT uses built-in operations
    only. What `export_notes.about` says, as JSON, is the file `assets.extra/kerasland.json` of a
    SavedModel, the entry `kerasland` of an ONNX file's metadata, and the associated file
    `kerasland.json` of a LiteRT file (which is a zip archive as well).

    Args:
        model: what `model_files.load_model` returns.
        path: what to write; must not exist.
        format: "onnx" or "litert", a file, or "saved_model", a folder. By default a path that
            ends in `.onnx` becomes ONNX, one in `.tflite` LiteRT, and one without a suffix a
            SavedModel.
        weights: "float32"; "float16" to store the kernels of convolutions, and in LiteRT the shape
            prior, in half the bytes, all computed in float32; of a SavedModel "bfloat16" to compute
            in it as well; of ONNX "int8" to store and compute the network in 8 bits.
        calibration: for int8, some images (H, W), uint8 or uint16, like those that the model is
            for; by default, for a model of hands, drawn ones.
        scale: see `inference_models.pipeline`; by default that of `source`.
        source: where the model is from, see `model_notes.location`; the artefact then names it.
        dtype: of `image`, "uint8" or "uint16"; the latter may begin at any intensity.

    Raises:
        DataError: there is no such source.
        UsageError: for another format, suffix, dtype or type of weights, if the path exists, if the
            packages of the extra `onnx` are missing, if float16 cannot hold the weights, or if int8
            has no image to calibrate with.
    """
    path = Path(path)
    format = format or _format_of(path)
    if format not in WRITERS:
        raise UsageError(f"format {format!r}: must be one of {', '.join(WRITERS)}")
    if weights not in WEIGHTS[format]:
        raise UsageError(f"weights {weights!r}: {format} has {', '.join(WEIGHTS[format])}")
    if dtype not in DTYPES:
        raise UsageError(f"dtype {dtype!r}: must be one of {', '.join(DTYPES)}")
    if weights != INT8 and calibration is not None:
        raise UsageError(f"images to calibrate with: for weights int8, not {weights}")
    if path.exists():
        raise UsageError(f"{path}: exists already; choose another --out")
    if format == ONNX:
        _require_onnx(weights)
    if weights == FLOAT16:
        _require_half(model)
    if weights == INT8 and calibration is None:
        calibration = quantize.calibration_images(landmark_names(model))
    if scale is None and source is not None:
        scale = model_notes.model_scale(source)
    said = json.dumps(about(model, weights, scale, source, dtype), indent=1)
    write = WRITERS[format]
    if weights == INT8:
        write = functools.partial(write, calibration=calibration)
    whole = pipeline(bare(model, BFLOAT16 if weights == BFLOAT16 else FLOAT32), dtype, scale)
    with files.replacing(path) as temporary:
        write(whole, temporary, weights, said)


def raw_image(whole: keras.Model) -> tf.TensorSpec:
    """The input of a pipeline."""
    (image,) = whole.inputs
    return tf.TensorSpec(image.shape, image.dtype, name=image.name)


def _format_of(path: Path) -> str:
    if path.suffix in SUFFIXES:
        return SUFFIXES[path.suffix]
    # a folder may be called v1.2
    if not path.suffix or path.suffix[1:].isdigit():
        return SAVED_MODEL
    raise UsageError(
        f"{path}: no format has the suffix {path.suffix!r}; .onnx makes an ONNX file, .tflite a "
        "LiteRT file, no suffix the folder of a SavedModel, and --format decides for any other name"
    )


def _require_onnx(weights: str) -> None:
    for package in ("onnx", "tf2onnx", *(["onnxruntime"] if weights == INT8 else [])):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise UsageError(
                f"the ONNX format needs {error.name}, which is not installed: "
                'pip install "kerasland[onnx]"'
            ) from None


def _require_half(model: keras.Model) -> None:
    for variable in model.variables:
        if _is_kernel(variable) and np.abs(variable.numpy()).max() > np.finfo(np.float16).max:
            raise _beyond_half(variable.path)


def _beyond_half(name: str) -> UsageError:
    most = np.finfo(np.float16).max
    return UsageError(
        f"{name}: weights beyond {most:.0f}, which float16 cannot hold; export them as float32"
    )


def _is_kernel(variable: keras.Variable) -> bool:
    return len(variable.shape) == 4


def _write_saved_model(whole: keras.Model, path: Path, weights: str, said: str) -> None:
    graph = frozen(whole, raw_image(whole), weights)
    tf.saved_model.save(tf.Module(), str(path), signatures=graph)
    # TensorFlow's place for files beside the graph, which its own tools leave alone
    files.write_text(path / "assets.extra" / ABOUT, said)


def frozen(model: keras.Model, spec: tf.TensorSpec, kernels: str = FLOAT32):
    """A `tf.function` of a Keras model at inference, with its weights as constants.

    Saved, it takes half the space of what `keras.export` writes, which keeps each variable twice;
    runtimes merge constants when they load.

    Args:
        model: with one input.
        spec: of that input.
        kernels: the type in which those of convolutions are kept; the graph casts them.
    """
    groups = (model.trainable_variables, model.non_trainable_variables)
    kept = [[_stored(variable, kernels) for variable in group] for group in groups]

    @tf.function(input_signature=[spec], autograph=False)
    def serve(inputs):
        weights = [
            [
                tf.cast(tf.constant(values), variable.dtype)
                for values, variable in zip(*pair, strict=True)
            ]
            for pair in zip(kept, groups, strict=True)
        ]
        return model.stateless_call(*weights, inputs, training=False)[0]

    return serve


def _stored(variable: keras.Variable, kernels: str) -> np.ndarray:
    # the head computes in float32 in every export, see `inference_models.bare`
    few = _is_kernel(variable) and not (kernels == BFLOAT16 and variable.path.startswith("head/"))
    kept = tf.as_dtype(kernels if few else variable.dtype)
    return variable.numpy().astype(kept.as_numpy_dtype)


def _write_litert(whole: keras.Model, path: Path, weights: str, said: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _write_saved_model(whole, Path(folder) / "saved", FLOAT32, said)
        converter = tf.lite.TFLiteConverter.from_saved_model(f"{folder}/saved")
        if weights == FLOAT16:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        path.write_bytes(converter.convert())
    if weights == FLOAT16:
        _require_unclipped(path)
    # the format's own way to carry files: a zip archive after the model
    entry = zipfile.ZipInfo(ABOUT)  # of 1980: two exports of a model are the same bytes
    entry.external_attr = 0o644 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(entry, said)


def _require_unclipped(path: Path) -> None:
    """Of a LiteRT file: its converter halves constants, those that it computed itself too, and
    clips what float16 cannot hold."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the interpreter moves to a package of its own
        plain = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        content = path.read_bytes()  # by a name that is not ASCII Windows may not open it
        interpreter = tf.lite.Interpreter(None, content, experimental_op_resolver_type=plain)
    for part in range(interpreter.num_subgraphs()):  # the graph itself, and those of loops
        for tensor in interpreter.get_tensor_details(part):
            if tensor["dtype"] != np.float16:
                continue
            values = np.abs(interpreter.get_tensor(tensor["index"], part))
            if values.max(initial=0) >= np.finfo(np.float16).max:
                raise _beyond_half(tensor["name"])


def _write_onnx(
    whole: keras.Model,
    path: Path,
    weights: str,
    said: str,
    calibration: Iterable[np.ndarray] = (),
) -> None:
    import onnx

    looks = whole.get_layer("looks")
    frame = tf.TensorSpec((None, *looks.frame_shape, 1), tf.float32, name="frame")
    network = _converted(looks.network, frame)
    if weights == FLOAT16:
        beyond = onnx_graphs.halve(network.graph)
        if beyond:
            raise _beyond_half(beyond)
    if weights == INT8:
        network = quantize.quantized(network, calibration, looks.frame_shape)
    landmarks = landmark_names(looks.network)
    looks.network = _StandIn(looks.network)
    converted = _converted(whole, raw_image(whole))
    onnx_graphs.fill_in(converted.graph, STAND_IN, network.graph, looks.network.output)
    onnx_graphs.name_axes(converted.graph, len(landmarks))
    onnx.helper.set_model_props(converted, {"kerasland": said})
    onnx_graphs.save(converted, path)


class _StandIn:
    """The network of `Looks` as one operation, which the converter hands on as it is. Converted as
    part of the whole, once more within its loop, the network would take most of a minute."""

    def __init__(self, network: keras.Model):
        self.output = network.output
        self.get_layer = network.get_layer

    def __call__(self, frames: tf.Tensor, training: bool) -> dict[str, tf.Tensor]:
        types = [value.dtype for value in self.output.values()]
        made = tf.numpy_function(list, [frames], types, stateful=False)
        return {
            name: tf.ensure_shape(value, self.output[name].shape)
            for name, value in zip(self.output, made, strict=True)
        }


def _converted(model: keras.Model, spec: tf.TensorSpec):
    """The ONNX model of a Keras model with one input."""
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    as_it_is = {STAND_IN: (lambda graph, node, name, args: node, [])}
    with _failing_at_once():
        converted, _ = tf2onnx.convert.from_function(
            frozen(model, spec), [spec], opset=OPSET, custom_op_handlers=as_it_is
        )
    return converted


@contextlib.contextmanager
def _failing_at_once() -> Iterator[None]:
    """Unless the user has decided: tf2onnx copies the graph before each pass of its optimizer
    otherwise, in case one fails, which takes a third of the time."""
    name = "TF2ONNX_CATCH_ERRORS"
    given = name in os.environ
    os.environ.setdefault(name, "FALSE")
    try:
        yield
    finally:
        if not given:
            del os.environ[name]


WRITERS = {ONNX: _write_onnx, LITERT: _write_litert, SAVED_MODEL: _write_saved_model}
