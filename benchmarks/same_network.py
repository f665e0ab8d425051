"""A training step and a forward pass of kerasland's network, against the same network in PyTorch.

The peer (`same_network_torch`) takes kerasland's weights and must give the same logits before it is
timed, eager and in `channels_last`. A step is all that `train` does with a batch: forward,
losses, gradients, clipping, AdamW, average of the weights and, on our side alone, metrics and the
configuration loss. A forward pass ends with the logits; batch 1, the shipped model. Two threads and
a process each, started anew a few times; of some passes the fastest counts.

    python -m benchmarks.same_network [--peer-python PATH]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.inference import (
    PASSES,
    RUNTIMES,
    THREADS,
    Peer,
    answer,
    in_turn,
    model_file,
    runtimes,
    write_network,
)
from benchmarks.measure import Ratio, record, row
from benchmarks.peers import TORCH, peer_python
from kerasland import experiment, machine, phantom

COMMAND = "python -m benchmarks.same_network"
PEER = Path(__file__).with_name("same_network_torch.py")
LIMIT = 1.0
STEP, FORWARD = "step", "forward"


def serve(work: str, what: str, path: str) -> None:
    """The process behind a `Peer` of ours.

    Args:
        work: `STEP`, or `FORWARD`.
        what: a precision; of `FORWARD` a name of `RUNTIMES`.
        path: of a model file, for `FORWARD`; unused for `STEP`.
    """
    if work == STEP:
        machine.compute_with_onednn()
        from benchmarks.steps import training_step

        once = training_step(experiment.preset("cpu").replace(precision=what))
    else:
        image = np.load(Path(path).parent / f"{FORWARD}.npz")["images"]
        once = RUNTIMES[what](path, image)
    answer(once)


def write_peer(path: Path, model, settings: experiment.Experiment, images: np.ndarray) -> None:
    """What the peer needs to be the same network, and to be found so.

    Args:
        model: a Keras model that `unet` made.
        settings: of its network and training.
        images: (B, H, W, 1), its input.
    """
    import keras

    from kerasland import train

    height, width = images.shape[1:3]
    landmarks = model.output["heatmaps"].shape[-1]
    points = np.random.default_rng(0).uniform(
        0, (width - 1, height - 1), (len(images), landmarks, 2)
    )
    kinds = keras.layers.Conv2D, keras.layers.BatchNormalization
    weights = [
        value for layer in model.layers if isinstance(layer, kinds) for value in layer.get_weights()
    ]
    np.savez(
        path,
        settings=json.dumps({**dataclasses.asdict(settings), "beta_2": train.BETA_2}),
        images=images,
        points=points.astype("float32"),
        logits=model(images, training=False)["heatmaps"],
        **{f"weight{i}": value for i, value in enumerate(weights)},
    )


def measure(folder: Path, python: Path, pairs: int) -> list[dict]:
    """All rows."""
    from kerasland import model_files, train

    cpu = experiment.preset("cpu")
    names = phantom.LANDMARK_NAMES
    images = np.random.default_rng(0).random((cpu.batch_size, *cpu.image_shape, 1), "float32")
    write_peer(folder / f"{STEP}.npz", train.build(cpu, names), cpu, images)
    shipped = model_files.load_model("pretrained")
    shape = shipped.input_shape[1:3]
    image = phantom.hand(0, shape)[0][None, ..., None].astype("float32")
    write_peer(folder / f"{FORWARD}.npz", shipped, cpu, image)
    write_network(shipped, folder)

    def ratio(work: str, what: str, precision: str, path: Path) -> Ratio:
        command = (sys.executable, "-m", "benchmarks.same_network", "--serve", work, what, path)
        given = folder / f"{work}.npz", work, precision, PASSES, "--threads", THREADS
        return in_turn(Peer(*command), Peer(python, PEER, *given), pairs)

    kinds = ["float32", "bfloat16"][: 2 if machine.multiplies_in_bfloat16() else 1]
    rows = {
        f"training step of the cpu preset, {kind}": ratio(STEP, kind, kind, folder)
        for kind in kinds
    }
    for runtime in runtimes():
        path = model_file(folder, runtime, "network")
        rows[f"forward pass, {shape[0]} x {shape[1]}, {runtime}, float32"] = ratio(
            FORWARD, runtime, "float32", path
        )
    return [
        row(name, found, LIMIT, "the same network in PyTorch", COMMAND)
        for name, found in rows.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer-python", type=Path, help="a Python that has PyTorch")
    parser.add_argument("--pairs", type=int, default=5, help="of each start; default: 5")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(*args.serve)
        return
    python = peer_python(TORCH, args.peer_python)
    with tempfile.TemporaryDirectory() as folder:
        record(measure(Path(folder), python, args.pairs))


if __name__ == "__main__":
    main()
