"""The peer of `same_network`: kerasland's network and weights in PyTorch. Imports torch alone.

It is timed after it has given kerasland's logits.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json

import numpy as np
import torch
from peer_training import Training, cross_entropy, standardized
from prototype import Block, Prototype, answer
from torch import nn

EPSILON = 1e-3  # Keras's
TOLERANCE = 1e-4  # of the largest logit


class SameNetwork(Prototype):
    """`kerasland.unet` of an experiment whose heatmaps have the stride of its stem.

    Of an image of even sides, Keras begins the padding of a convolution of stride 2 at the lower
    right where PyTorch begins it at the upper left: with its kernels turned by 180 degrees, this
    network gives the logits of the image so turned.
    """

    def __init__(self, landmarks: int, settings: dict):
        nn.Module.__init__(self)
        widths = [
            min(settings["width"] * 2**level, settings["max_width"])
            for level in range(settings["depth"])
        ]
        halvings = settings["stem_stride"].bit_length() - 1
        stem = [1, *(widths[0] >> after for after in reversed(range(halvings)))]
        self.stem = nn.Sequential(
            *(
                Block(a, b, 2, 3 if step else 5, EPSILON)
                for step, (a, b) in enumerate(itertools.pairwise(stem))
            )
        )

        def level(inputs: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(
                Block(inputs, outputs, eps=EPSILON), Block(outputs, outputs, eps=EPSILON)
            )

        self.down = nn.ModuleList(
            [
                Block(widths[0], widths[0], eps=EPSILON),
                *(level(a, b) for a, b in itertools.pairwise(widths)),
            ]
        )
        self.up = nn.ModuleList(Block(a + b, a, eps=EPSILON) for a, b in itertools.pairwise(widths))
        self.head = nn.Conv2d(widths[0], landmarks, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return super().forward(standardized(image))

    def take_weights(self, weights: list[np.ndarray]) -> None:
        """Those of convolutions and normalisations, in Keras's order and layout."""
        layers = [*_layers(self.stem), *_layers(self.down)]
        layers += [layer for block in reversed(self.up) for layer in _layers(block)]
        remaining = iter(weights)
        with torch.no_grad():
            for layer in [*layers, self.head]:
                for name in ("weight", "bias", "running_mean", "running_var"):
                    there = getattr(layer, name, None)
                    if there is not None:
                        value = next(remaining)
                        if value.ndim == 4:
                            value = value.transpose(3, 2, 0, 1)[..., ::-1, ::-1].copy()
                        there.copy_(torch.from_numpy(value))
        if next(remaining, None) is not None:
            raise SystemExit("kerasland's network has more weights than this one")


def _layers(module: nn.Module) -> list[nn.Module]:
    return [part for part in module.modules() if isinstance(part, nn.Conv2d | nn.BatchNorm2d)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", help="what same_network wrote: settings, weights, logits")
    parser.add_argument("work", choices=["forward", "step"])
    parser.add_argument("precision", choices=["float32", "bfloat16"])
    parser.add_argument("passes", type=int)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    given = np.load(args.network)
    e = json.loads(str(given["settings"]))
    weights = [given[f"weight{i}"] for i in range(sum("weight" in name for name in given.files))]
    wanted = torch.from_numpy(given["logits"]).permute(0, 3, 1, 2)
    model = SameNetwork(wanted.shape[1], e).eval().to(memory_format=torch.channels_last)
    model.take_weights(weights)
    images = torch.from_numpy(given["images"]).permute(0, 3, 1, 2).flip((2, 3))
    images = images.contiguous(memory_format=torch.channels_last)
    points = torch.from_numpy(given["points"])
    shape = tuple(images.shape[2:])
    with torch.inference_mode():
        apart = (model(images).flip((2, 3)) - wanted).abs().max() / wanted.abs().max()
    if not apart < TOLERANCE:
        raise SystemExit(f"another network than kerasland's: its logits differ by {apart:.3g}")

    computing = contextlib.nullcontext()
    if args.precision == "bfloat16":
        computing = torch.autocast("cpu", torch.bfloat16)
    if args.work == "forward":
        with torch.inference_mode(), computing:
            answer(lambda: model(images), args.passes)
        return
    model.train()
    training, steps = Training(model, e), itertools.count()

    def step() -> float:
        with computing:
            logits = model(images)
        loss = cross_entropy(logits.float(), points, shape, e["sigma_px"])
        training.take(loss, next(steps), e["learning_rate"])
        return loss.item()

    answer(step, args.passes)


if __name__ == "__main__":
    main()
