"""Training steps on GPUs: lower precision, XLA, two replicas. Without a GPU the cells stay empty.

python -m benchmarks.gpu
"""

from __future__ import annotations

import tensorflow as tf

from benchmarks.measure import compare, record, row, seconds
from benchmarks.steps import repeated, training_step
from kerasland import experiment

COMMAND = "python -m benchmarks.gpu"
STEPS = 50
# name: settings, settings of the peer, GPUs needed, limit
CASES = {
    "training step in bfloat16": ({"precision": "bfloat16"}, {}, 1, 0.8),
    "training step in float16": ({"precision": "float16"}, {}, 1, 0.8),
    "training step with XLA": ({"xla": True}, {}, 1, 1.0),
    "an image on two replicas": ({"replicas": 2, "batch_size": 32}, {"batch_size": 16}, 2, 0.6),
}


def main() -> None:
    base = experiment.preset("paper").replace(precision="float32", batch_size=16, replicas=1)
    gpus = len(tf.config.list_physical_devices("GPU"))
    rows = []
    for name, (changes, peer_changes, needed, limit) in CASES.items():
        ratio = None
        if gpus >= needed:
            pair = [base.replace(**changes), base.replace(**peer_changes)]
            work = [repeated(training_step(e), STEPS) for e in pair]
            costs = [
                lambda w=w, e=e: seconds(w) / e.batch_size for w, e in zip(work, pair, strict=True)
            ]
            ratio = compare(*costs)
        rows.append(row(name, ratio, limit, "paper preset, float32, one GPU", COMMAND))
    record(rows)


if __name__ == "__main__":
    main()
