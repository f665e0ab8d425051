"""The peer: a plain U-Net as one writes it in PyTorch in an afternoon. Imports torch alone."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

WIDTHS = (16, 32, 64, 96, 128, 128)


class Block(nn.Sequential):
    """Convolution, batch normalisation, ReLU."""

    def __init__(
        self, inputs: int, outputs: int, stride: int = 1, kernel: int = 3, eps: float = 1e-5
    ):
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(outputs, eps=eps, momentum=0.05),
            nn.ReLU(inplace=True),
        )


class Prototype(nn.Module):
    """From (B, 1, H, W) to logits (B, landmarks, ceil(H / 2), ceil(W / 2))."""

    def __init__(self, landmarks: int = 37, widths: tuple[int, ...] = WIDTHS):
        super().__init__()
        self.stem = Block(1, widths[0], stride=2)
        before = (widths[0], *widths)
        self.down = nn.ModuleList(
            nn.Sequential(Block(a, b), Block(b, b)) for a, b in zip(before, widths, strict=False)
        )
        pairs = zip(widths[:-1], widths[1:], strict=True)
        self.up = nn.ModuleList(Block(skip + below, skip) for skip, below in pairs)
        self.head = nn.Conv2d(widths[0], landmarks, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x, skips = self.stem(image), []
        for level, blocks in enumerate(self.down):
            x = blocks(functional.max_pool2d(x, 2, ceil_mode=True) if level else x)
            skips.append(x)
        for skip, block in zip(reversed(skips[:-1]), reversed(self.up), strict=True):
            x = functional.interpolate(x, size=skip.shape[2:], mode="bilinear", align_corners=False)
            x = block(torch.cat([skip, x], dim=1))
        return self.head(x)


def answer(work: Callable[[], object], passes: int) -> None:
    """For each line on stdin, prints the seconds of the fastest of some passes.

    What else the machine does only ever adds to a pass.
    """
    for _ in sys.stdin:
        taken = []
        for _ in range(passes):
            began = time.perf_counter()
            work()
            taken.append(time.perf_counter() - began)
        print(min(taken), flush=True)


def infer(height: int, width: int, passes: int, threads: int) -> None:
    """Answers with the seconds of a forward pass."""
    torch.set_num_threads(threads)
    model = Prototype().eval().to(memory_format=torch.channels_last)
    image = torch.rand(1, 1, height, width).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        answer(lambda: model(image), passes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(required=True, dest="verb")
    made = verbs.add_parser("infer", help="seconds of a forward pass")
    made.add_argument("height", type=int)
    made.add_argument("width", type=int)
    made.add_argument("passes", type=int)
    made.add_argument("--threads", type=int, default=2)
    made.set_defaults(run=lambda args: infer(args.height, args.width, args.passes, args.threads))
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
