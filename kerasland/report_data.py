"""What a report shows of one test image: picture, heatmaps, uncertainty, correlation maps.

Everything is small and of plain types, ready for JSON: a picture is the Base64 of a JPEG or PNG,
a matrix that of its float32 bytes, a list has None for what is not known.
"""

from __future__ import annotations

import base64
import io
from typing import NamedTuple

import keras
import matplotlib
import numpy as np
from PIL import Image

from kerasland import correlations, geometry, heatmaps, pictures
from kerasland.closer_look import View
from kerasland.experiment import Experiment
from kerasland.geometry import letterboxed
from kerasland.layers import HeatmapDecoder, layer_of

PICTURE_PX, THUMBNAIL_PX = 900, 240
LEVELS = 15  # of a heatmap's picture, above the transparent one
FAINTEST = (0.5 / LEVELS) ** 2  # that it shows, of the highest; see `_placed`


class Seen(NamedTuple):
    """What a model makes of one image.

    points: (K, 2), pixels of the image. heatmaps: for each landmark its part of the image that is
    not empty as [x, y, width, height, PNG], pixels of the image, x and y of the upper left corner.
    spreads: (K, 3), the second moments xx, xy, yy of the attention about the point, square pixels
    of the image. predicted, annotated: the correlation maps, K * K float32.
    """

    points: np.ndarray
    heatmaps: list[list]
    spreads: np.ndarray
    predicted: str
    annotated: str


def jpeg(image: np.ndarray, longest_px: int) -> tuple[str, tuple[float, float]]:
    """A radiograph as a grey JPEG, its contrast stretched.

    Args:
        image: (H, W), any number type.
        longest_px: of the longer side at most; a smaller image keeps its size.

    Returns:
        The JPEG, and the width and height that it covers from the upper left corner on, pixels of
        the image: at most a pixel of the JPEG less than the image.
    """
    scale = min(1.0, longest_px / max(image.shape))
    grey = pictures.scaled(image, scale)
    buffer = io.BytesIO()
    picture = Image.fromarray((255 * grey + 0.5).astype(np.uint8))
    picture.save(buffer, "jpeg", quality=82, optimize=True)
    return _text(buffer.getvalue()), (grey.shape[1] / scale, grey.shape[0] / scale)


def look(
    model: keras.Model,
    places: list[int],
    experiment: Experiment,
    image: np.ndarray,
    truth: np.ndarray,
    view: View,
) -> Seen:
    """Runs a model on one radiograph and keeps what is worth a look.

    Args:
        model: what `model_files.load_model` returns.
        places: which of its landmarks the K are, see `point_errors.landmark_places`.
        experiment: see `correlations.predicted_and_annotated`.
        image: (H, W), the radiograph.
        truth: (K, 2), pixels of the radiograph, NaN where not annotated.
        view: the part of it to look at, see `localizers.last_view`.
    """
    frame_shape = model.input_shape[1:3]
    fit = geometry.letterbox(view.shape, frame_shape)
    outputs = model.predict_on_batch(letterboxed(view.of(image), frame_shape)[None, ..., None])
    outputs["heatmaps"] = outputs["heatmaps"][..., places]
    for name in outputs.keys() & {"landmarks", "embedding"}:
        outputs[name] = outputs[name][:, places]
    logits = outputs["heatmaps"]
    grid_shape = logits.shape[1:3]
    beta = layer_of(model, HeatmapDecoder).beta
    attention = np.asarray(heatmaps.spatial_softmax(logits, beta))[0]
    attention = np.moveaxis(attention.reshape(*grid_shape, -1), -1, 0)
    # pixels of the radiograph a cell, (x, y)
    cell_px = np.array(frame_shape[::-1]) / np.array(grid_shape[::-1]) / fit.scale
    cells = (np.asarray(outputs["landmarks"][0]) + 0.5) * grid_shape[::-1] / frame_shape[::-1] - 0.5
    moments = [second_moments(*pair) for pair in zip(attention, cells, strict=True)]
    spreads = np.array(moments) * (cell_px[0] ** 2, cell_px[0] * cell_px[1], cell_px[1] ** 2)
    first_cell = view.invert(fit.invert(cell_px * fit.scale / 2 - 0.5))
    attention, start = _upright(attention, view.turn)
    corner = first_cell + cell_px * (start - 0.5)
    predicted, annotated = correlations.predicted_and_annotated(
        outputs, fit.apply(view.apply(truth)), experiment
    )
    return Seen(
        view.invert(fit.invert(outputs["landmarks"][0])),
        [_placed(one, corner, cell_px) for one in attention],
        _turned(spreads, view.turn),
        matrix(predicted),
        matrix(annotated),
    )


def _upright(attention: np.ndarray, turn: complex) -> tuple[np.ndarray, np.ndarray]:
    """Heatmaps (K, h, w) of a turned view in the direction of the image, and where their first cell
    is then, (x, y) in cells from the first of the view."""
    if turn == 1:
        return attention, np.zeros(2)
    height, width = attention.shape[1:]
    ends = turn * np.array([0, width - 1, (height - 1) * 1j, width - 1 + (height - 1) * 1j])
    x, y = np.floor(ends.real.min()), np.floor(ends.imag.min())
    shape = int(np.ceil(ends.imag.max()) - y) + 1, int(np.ceil(ends.real.max()) - x) + 1
    back = View(shape, np.conj(turn), np.conj(turn) * (x + 1j * y))
    return np.stack([back.of(one) for one in attention]), np.array([x, y])


def _turned(spreads: np.ndarray, turn: complex) -> np.ndarray:
    """Moments (K, 3), xx, xy, yy, of a turned view in the direction of the image."""
    c, s = complex(turn).real, complex(turn).imag
    xx, xy, yy = spreads.T
    mixed = c * s * (xx - yy) + (c * c - s * s) * xy
    rest = 2 * c * s * xy
    return np.stack([c * c * xx - rest + s * s * yy, mixed, s * s * xx + rest + c * c * yy], axis=1)


def second_moments(attention: np.ndarray, point: np.ndarray) -> tuple[float, float, float]:
    """The second moments of a heatmap about a point: far larger than a cell where it has a second
    place.

    Args:
        attention: (h, w), not negative. What its picture does not show is left out, since a faint
            background all over the image would outweigh it.
        point: (x, y), cells.

    Returns:
        xx, xy and yy, square cells.
    """
    shown = np.where(attention >= FAINTEST * attention.max(), attention, 0.0).astype(np.float64)
    shown /= shown.sum()
    rows, columns = np.indices(shown.shape)
    x, y = columns - point[0], rows - point[1]
    return tuple(float((shown * product).sum()) for product in (x * x, x * y, y * y))


def matrix(values: np.ndarray) -> str:
    """Base64 of the float32 bytes of an array, row by row, little endian."""
    return _text(np.ascontiguousarray(values, dtype="<f4").tobytes())


def numbers(values: np.ndarray, digits: int) -> list:
    """An array as nested lists of rounded numbers, None for NaN."""
    rounded = np.round(np.asarray(values, dtype=np.float64), digits)
    return np.where(np.isfinite(rounded), rounded.astype(object), None).tolist()


def mean_and_largest(errors: np.ndarray) -> tuple[float | None, float | None]:
    """Of an image, None where no error is known."""
    known = errors[np.isfinite(errors)]
    return (float(known.mean()), float(known.max())) if known.size else (None, None)


def _placed(attention: np.ndarray, corner: np.ndarray, cell_px: np.ndarray) -> list:
    """One heatmap as [x, y, width, height, PNG], see `Seen`.

    The square root of the attention over its highest value, in a few levels, so that a second,
    fainter place is seen too.
    """
    level = np.rint(LEVELS * np.sqrt(attention / attention.max())).astype(np.uint8)
    rows, columns = np.flatnonzero(level.any(axis=1)), np.flatnonzero(level.any(axis=0))
    level = level[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    level = np.pad(level, 1)  # fades out where it is drawn smoothly
    picture = Image.frombytes("P", level.shape[::-1], level.tobytes())
    picture.putpalette(_palette(), "RGB")
    buffer = io.BytesIO()
    alpha = bytes(round(220 * i / LEVELS) for i in range(LEVELS + 1))
    picture.save(buffer, "png", bits=4, transparency=alpha, optimize=True)
    place = corner + cell_px * (columns[0] - 1, rows[0] - 1)
    size = cell_px * level.shape[::-1]
    return [*numbers(np.concatenate([place, size]), 2), _text(buffer.getvalue())]


def _palette() -> list[int]:
    colors = matplotlib.colormaps["plasma"](np.linspace(0.15, 1.0, LEVELS + 1))[:, :3]
    return np.rint(255 * colors).astype(int).ravel().tolist()


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
