"""The peers of `cost_of_result`: PyTorch networks trained by kerasland's recipe.

Images, augmentation, targets, loss, optimiser, schedule and averaging are those of a kerasland
experiment; the network is the prototype or landmarker's spatial configuration network. A row of
the CSV an epoch: seconds trained so far (tests not counted) and the mean error on the test split.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch.nn import functional

WAVES = 4
DECODE_RADIUS_PX = 8


def network(name: str, landmarks: int) -> torch.nn.Module:
    if name == "prototype":
        from prototype import Prototype

        return Prototype(landmarks)
    from landmarker.models import OriginalSpatialConfigurationNet

    return OriginalSpatialConfigurationNet(in_channels=1, out_channels=landmarks)


class Augmentation:
    """kerasland.augmentation.augment for a batch; the amounts are the experiment's."""

    def __init__(self, settings: dict, shape: tuple[int, int], seed: int):
        self.e, self.shape = settings, shape
        self.random = torch.Generator().manual_seed(seed)
        height, width = shape
        self.size = torch.tensor([width, height], dtype=torch.float32)
        self.centre = (self.size - 1) / 2
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        self.grid = torch.stack([x, y], -1).float()
        self.frequency = torch.arange(1, WAVES + 1) * math.pi

    def uniform(self, *shape):
        return torch.rand(*shape, generator=self.random) * 2 - 1

    def _waves(self, position, axis):
        return torch.cos((position[..., None] + 0.5) * self.frequency / self.size[axis])

    def __call__(self, images, points):
        """(B, 1, H, W) within 0..1 and (B, K, 2), pixels."""
        e, batch = self.e, len(images)
        angle = self.uniform(batch) * math.radians(e["rotation_deg"])
        scale = 1 / (1 + self.uniform(batch) * e["scale"])
        cos, sin = scale * torch.cos(angle), scale * torch.sin(angle)
        linear = torch.stack([torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)], -2)
        shift = self.uniform(batch, 2) * e["shift"] * max(self.shape)
        waves = torch.randn(batch, WAVES, WAVES, 2, generator=self.random)
        waves = waves * (e["elastic_px"] * 2 / WAVES)
        columns, rows = self._waves(self.grid[0, :, 0], 0), self._waves(self.grid[:, 0, 1], 1)
        elastic = torch.einsum("yn,bnmc,xm->byxc", rows, waves, columns)
        offset = self.grid + elastic - self.centre - shift[:, None, None]
        source = torch.einsum("bij,byxj->byxi", linear, offset) + self.centre
        images = functional.grid_sample(
            images, source / self.centre - 1, padding_mode="zeros", align_corners=True
        )
        straight = torch.einsum("bij,bkj->bki", torch.linalg.inv(linear), points - self.centre)
        straight = straight + self.centre + shift[:, None]
        moved = straight
        for _ in range(8):
            over_rows = torch.einsum("bkn,bnmc->bkmc", self._waves(moved[..., 1], 1), waves)
            moved = straight - (over_rows * self._waves(moved[..., 0], 0)[..., None]).sum(2)
        exponent = torch.exp(self.uniform(batch, 1, 1, 1) * e["gamma"])
        gain = 1 + e["contrast"] * self.uniform(batch, 1, 3, 3)
        gain = functional.interpolate(gain, self.shape, mode="bicubic")
        noise = torch.randn(images.shape, generator=self.random) * self.uniform(batch, 1, 1, 1)
        images = images.clamp(0, 1) ** exponent * gain + e["noise"] * noise
        return images.clamp(0, 1), moved


def standardized(images):
    images = images - images.mean((2, 3), keepdim=True)
    return images / images.square().mean((2, 3), keepdim=True).sqrt().clamp_min(1e-6)


def cross_entropy(logits, points, shape, sigma):
    """Against a Gaussian about each annotated point inside the image."""
    factors, valid = [], True
    for axis, cells in ((1, logits.shape[2]), (0, logits.shape[3])):
        pixels = shape[1 - axis]
        centres = (torch.arange(cells) + 0.5) * (pixels / cells) - 0.5
        position = points[..., axis]
        valid = valid & (position >= -0.5) & (position <= pixels - 0.5)
        factor = torch.softmax(
            -((centres - position.nan_to_num(0)[..., None]) ** 2) / (2 * sigma**2), -1
        )
        factors.append(factor)
    expected = torch.einsum("bkhw,bkh,bkw->bk", logits, *factors)
    loss = (logits.flatten(2).logsumexp(-1) - expected) * valid
    return (loss.sum(1) / valid.sum(1).clamp_min(1)).mean()


def decode(logits, shape):
    """Soft-argmax in a window about the highest cell, pixels of the frame."""
    cell = shape[0] / logits.shape[2]
    radius = max(2, round(DECODE_RADIUS_PX / cell))
    height, width = logits.shape[2:]
    peak = logits.flatten(2).argmax(-1)
    y, x = torch.arange(height), torch.arange(width)
    near_y = (y - (peak // width)[..., None]).abs() <= radius
    near_x = (x - (peak % width)[..., None]).abs() <= radius
    near = near_y[..., :, None] & near_x[..., None, :]
    weight = logits.masked_fill(~near, -torch.inf).flatten(2).softmax(-1).view(logits.shape)
    found = torch.stack([(weight.sum(2) * x).sum(-1), (weight.sum(3) * y).sum(-1)], -1)
    return (found + 0.5) * cell - 0.5


class Training:
    """kerasland's optimiser and average of the weights, for a network and an experiment."""

    def __init__(self, model: torch.nn.Module, settings: dict):
        self.e, self.parameters = settings, list(model.parameters())
        decayed = [p for p in self.parameters if p.ndim > 1]
        others = [p for p in self.parameters if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": settings["weight_decay"]},
                {"params": others, "weight_decay": 0.0},
            ],
            betas=(0.9, settings["beta_2"]),
            eps=1e-7,
            fused=True,
        )
        self.average = [p.detach().clone() for p in self.parameters]

    def take(self, loss: torch.Tensor, step: int, rate: float) -> None:
        """A step down the gradient of a loss, the first is 0."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.e["clip_norm"])
        self.optimizer.step()
        with torch.no_grad():
            momentum = min(self.e["ema_momentum"], (1 + step) / (10 + step)) if step else 0.0
            torch._foreach_lerp_(self.average, self.parameters, 1 - momentum)


def learning_rate(e: dict, step: int, steps: int) -> float:
    warmup = min(int(e["warmup_epochs"] * steps / e["epochs"]), steps - 1)
    if step < warmup:
        return e["learning_rate"] * (0.01 + 0.99 * step / warmup)
    part = (step - warmup) / max(1, steps - warmup)
    return e["learning_rate"] * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * part)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("frames", help="what cost_of_result wrote: frames and settings")
    parser.add_argument("--network", choices=["prototype", "scn"], required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop training after")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    torch.set_num_threads(2)
    frames = np.load(args.frames)
    e = json.loads(str(frames["settings"]))
    e["epochs"] = args.epochs or e["epochs"]
    images = torch.from_numpy(frames["train_images"])[:, None]
    points = torch.from_numpy(frames["train_points"])
    shape = tuple(images.shape[2:])
    tests = standardized(torch.from_numpy(frames["test_images"])[:, None].float() / 255)
    test_points = torch.from_numpy(frames["test_points"])
    mm_per_px = torch.from_numpy(frames["test_mm_per_px"]).float()

    model = network(args.network, points.shape[1]).to(memory_format=torch.channels_last)
    training = Training(model, e)
    augmentation = Augmentation(e, shape, args.seed)
    per_epoch = len(images) // e["batch_size"]
    steps = per_epoch * e["epochs"]
    orders = np.random.default_rng(args.seed)

    def batches():
        for _ in range(e["epochs"]):
            order = orders.permutation(len(images))
            for step in range(per_epoch):
                yield order[step * e["batch_size"] : (step + 1) * e["batch_size"]]

    def prepared(which):
        moved, targets = augmentation(images[which].float() / 255, points[which])
        return standardized(moved).contiguous(memory_format=torch.channels_last), targets

    def test() -> float:
        parameters = training.parameters
        current = [p.detach().clone() for p in parameters]
        model.eval()
        with torch.inference_mode():
            for parameter, mean in zip(parameters, training.average, strict=True):
                parameter.copy_(mean)
            found = torch.cat([decode(model(part), shape) for part in tests.split(4)])
            for parameter, value in zip(parameters, current, strict=True):
                parameter.copy_(value)
        model.train()
        error = (found - test_points).norm(dim=-1) * mm_per_px[:, None]
        return float(error[~error.isnan()].mean())

    spent = 0.0
    with ThreadPoolExecutor(1) as ahead, open(args.out, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["epoch", "seconds", "error_mm"])
        work = batches()
        coming = ahead.submit(prepared, next(work))
        for epoch in range(e["epochs"]):
            began = time.perf_counter()
            for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
                batch, targets = coming.result()
                which = next(work, None)
                if which is not None:
                    coming = ahead.submit(prepared, which)
                loss = cross_entropy(model(batch), targets, shape, e["sigma_px"])
                training.take(loss, step, learning_rate(e, step, steps))
            spent += time.perf_counter() - began
            table.writerow([epoch + 1, round(spent, 3), round(test(), 4)])
            file.flush()
            if spent > args.minutes * 60:
                break


if __name__ == "__main__":
    main()
