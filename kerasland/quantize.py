"""The network of an ONNX file, so that it stores and computes in 8 bits: static quantisation.

Source: Jacob 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-
Only Inference"; done by `onnxruntime.quantization`.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from kerasland import geometry, phantom
from kerasland.errors import UsageError

DRAWN = 16
DRAWN_SHAPE = (700, 525)


def calibration_images(landmarks: Sequence[str]) -> Iterator[np.ndarray]:
    """Drawn hands, (H, W) uint8, for a model of the landmarks that they have.

    Raises:
        UsageError: for a model of other landmarks.
    """
    if tuple(landmarks) != phantom.LANDMARK_NAMES:
        raise UsageError(
            "int8 needs some images like those that the model is for, to see how large the numbers "
            "in its layers get: name them with --calibrate"
        )
    return (phantom.hand(seed, shape=DRAWN_SHAPE)[0] for seed in range(DRAWN))


def quantized(network, images: Iterable[np.ndarray], frame_shape: tuple[int, int]):
    """The ONNX model of a network with the layers between its frame and the heatmaps in 8 bits.

    Numbers between layers are whole ones within 0..255, on a scale a layer that the images decide;
    weights are on a scale a channel, in 7 bits, since processors without VNNI instructions would
    overflow with 8. The last convolution and all that leads to pixels stay in float32.

    Args:
        network: an ONNX model as the converter makes it, from "frame" to "confidence" and others.
        images: (H, W), uint8 or uint16, a dozen or more, like those that the model is for.
        frame_shape: (H, W) of the frame, pixels.

    Raises:
        UsageError: if there is no image, or none whose landmarks form a shape that the model knows.
    """
    import onnx
    from onnxruntime import InferenceSession
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.seen, self.known = 0, False
            self.images = iter(images)
            self.session = InferenceSession(
                network.SerializeToString(), providers=["CPUExecutionProvider"]
            )

        def get_next(self):
            image = next(self.images, None)
            if image is None:
                return self.end()
            self.seen += 1
            frame = geometry.letterboxed(_eight_bit(image), frame_shape)
            inputs = {"frame": frame[None, ..., None]}
            self.known = self.known or self.session.run(["confidence"], inputs)[0].any()
            return inputs

        def end(self):
            if not self.seen:
                raise UsageError("int8: no image to calibrate with")
            if not self.known:
                raise UsageError(
                    f"int8: none of the {self.seen} images to calibrate with shows a shape like "
                    "those trained on: each confidence is 0; name images like those that the model "
                    "is for"
                )

    reader = Reader()
    silenced = logging.root.manager.disable
    logging.disable(logging.WARNING)  # that a graph should be optimised before; it is
    try:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "quantized.onnx"
            quantize_static(
                network,
                target,
                reader,
                quant_format=QuantFormat.QDQ,
                nodes_to_quantize=_between_image_and_heatmaps(network.graph),
                activation_type=QuantType.QUInt8,
                per_channel=True,
                reduce_range=True,
            )
            return onnx.load(target)
    finally:
        logging.disable(silenced)


def _between_image_and_heatmaps(graph) -> list[str]:
    """Names of the nodes that work in 8 bits: all convolutions but the head, the activations after
    them, and what only moves their numbers."""
    made_by = {output: node for node in graph.node for output in node.output}
    convolutions = [node.name for node in graph.node if node.op_type == "Conv"]
    moving = [node.name for node in graph.node if node.op_type in ("Relu", "MaxPool", "Resize")]
    skips = [
        node.name
        for node in graph.node
        if node.op_type == "Concat"
        and any(name in made_by and made_by[name].op_type == "Resize" for name in node.input)
    ]
    return convolutions[:-1] + moving + skips


def _eight_bit(image: np.ndarray) -> np.ndarray:
    if image.dtype == np.uint8:
        return image
    dark, bright = np.percentile(image, (0.01, 99.99))  # a hot pixel would take all grey levels
    return np.rint(np.clip((image - dark) * (255 / max(1, bright - dark)), 0, 255)).astype(np.uint8)
