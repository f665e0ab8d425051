"""What an exported artefact says of itself: whose weights it has, of what data, in what scale."""

from __future__ import annotations

import hashlib
import os

import keras

from kerasland import __version__, model_notes
from kerasland.layers import ExpectedError, layer_of
from kerasland.models import landmark_names
from kerasland.scale import Scale

ABOUT = "kerasland.json"
LICENCE, CARD = "Apache-2.0", "docs/model_card.md of kerasland"


def about(
    model: keras.Model,
    weights: str = "float32",
    scale: Scale | None = None,
    source: str | os.PathLike | None = None,
    dtype: str = "uint8",
) -> dict:
    """What an artefact says of itself; `docs/export.md` explains each entry.

    Args:
        model, weights, scale, source, dtype: see `export.export`.
    """
    names, notes = landmark_names(model), {} if source is None else model_notes.notes(source)
    data = notes.get("data", {})
    trained = scale
    if data.get("scale") and not (scale and scale.landmarks):
        trained = Scale(**data["scale"])
    shipped = source is not None and model_notes.is_release(source)
    digest = hashlib.sha256(b"".join(values.tobytes() for values in model.get_weights()))
    errors = layer_of(model, ExpectedError)
    return {
        "kerasland": __version__,
        "model": None if source is None else model_notes.name(source),
        "weights_sha256": digest.hexdigest(),
        "weights": weights,
        "data": {key: data.get(key) for key in ("name", "hash")} if data else None,
        "landmarks": list(names),
        "input": f"grey, {dtype.removeprefix('uint')} bit, bones bright",
        "output": "x and y in pixels of the input, the centre of the first pixel is (0, 0)",
        "side": "left" if shipped else None,
        "scale": _millimetres(trained, names),
        "error_mm_95_factor": errors.ratio(0.95) if errors and errors.levels else None,
        "use": "research use only" if shipped else None,
        "licence": LICENCE if shipped else None,
        "card": CARD if shipped else None,
    }


def _millimetres(scale: Scale | None, names: tuple[str, ...]) -> dict | None:
    """What those of the errors are, of a model trained by that scale."""
    if scale is None or scale == Scale():
        return None
    spacing = "pixel spacing of the training images"
    text = scale.describe(names) if scale.landmarks else spacing
    return {"text": text, "landmarks": scale.landmarks, "length_mm": scale.length_mm}
