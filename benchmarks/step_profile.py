"""Where a training step's time goes, by TensorFlow's own profiler: the share of each kind of op.

python -m benchmarks.step_profile
"""

from __future__ import annotations

from kerasland import machine

machine.compute_with_onednn()

import collections
import tempfile
from pathlib import Path

import pandas as pd
import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from benchmarks.steps import repeated, training_step
from kerasland import experiment, files

STEPS = 10
TABLE = Path(__file__).parent / "results" / "step_profile.csv"
KINDS = {
    "convolution, gradient of the weights": ("Conv2DBackpropFilter",),
    "convolution, gradient of the input": ("Conv2DBackpropInput",),
    "convolution, forward": ("Conv2D",),
    "normalisation": ("FusedBatchNorm",),
    "up-sampling, pooling, concatenation": ("ResizeBilinear", "MaxPool", "Concat", "Slice"),
    "activation": ("Relu",),
}


def kernels(folder: str) -> collections.Counter:
    """Picoseconds of each kind of kernel in a trace, summed over threads."""
    (path,) = Path(folder).rglob("*.xplane.pb")
    space = xplane_pb2.XSpace.FromString(path.read_bytes())
    total = collections.Counter()
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                # an op is "name:Kind"; others are the executor around them
                name, colon, kind = plane.event_metadata[event.metadata_id].name.rpartition(":")
                if colon and name and kind.isidentifier() and not name.endswith(":"):
                    total[kind] += event.duration_ps
    return total


def kind_of(kernel: str) -> str:
    """The row of the table that a kernel belongs to."""
    for kind, names in KINDS.items():
        if any(name in kernel for name in names):
            return kind
    return "losses, metrics, optimiser and the rest"


def profile(precision: str) -> pd.Series:
    """Share of each kind in the summed time of a step of the cpu preset."""
    work = repeated(training_step(experiment.preset("cpu").replace(precision=precision)), STEPS)
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        work()
        tf.profiler.experimental.stop()
        shares = collections.Counter()
        for kernel, duration in kernels(folder).items():
            shares[kind_of(kernel)] += duration
    return pd.Series(shares, name=precision) / sum(shares.values())


def main() -> None:
    kinds = ["float32", "bfloat16"][: 2 if machine.multiplies_in_bfloat16() else 1]
    table = pd.concat([profile(precision) for precision in kinds], axis=1)
    table = table.sort_values("float32", ascending=False).round(3).rename_axis("kind")
    with files.replacing(TABLE) as temporary:
        table.to_csv(temporary)
    print(table.to_string())


if __name__ == "__main__":
    main()
