"""The correlation maps of an image as a report and TensorBoard show them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kerasland import embedding
from kerasland.experiment import Experiment


def predicted_and_annotated(
    outputs: Mapping[str, np.ndarray], points: np.ndarray, experiment: Experiment
) -> tuple[np.ndarray, np.ndarray]:
    """The correlation map of a prediction and that of the annotation.

    Args:
        outputs: of the network, of a batch of one image.
        points: (K, 2), annotated landmarks, pixels of the network's input, NaN where there is none.
        experiment: it says which spatial feature maps and which correlation; a run without maps is
            shown those of "both", of its heatmaps.

    Returns:
        (K, K) each; NaN where a landmark is not annotated.
    """
    e = experiment
    maps = "both" if e.maps == "none" else e.maps
    found = outputs.get("embedding")
    if found is None:
        found = embedding.embed(outputs["heatmaps"], maps, e.beta, e.angle)
    wanted = embedding.embed_points(points[None], e.image_shape, maps, e.angle)
    return tuple(
        np.asarray(embedding.correlation_map(v, e.correlation))[0] for v in (found, wanted)
    )
