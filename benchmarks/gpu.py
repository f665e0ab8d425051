"""Training steps on GPUs: lower precision, XLA, two replicas; whether images come fast enough.

What needs more GPUs than the machine has stays empty.

python -m benchmarks.gpu
"""

from __future__ import annotations

import tensorflow as tf

from benchmarks.input_pipeline import frames, waiting
from benchmarks.measure import compare, record, row, seconds
from benchmarks.steps import repeated, training_step
from kerasland import experiment

COMMAND = "python -m benchmarks.gpu"
PEER = "paper preset, float32, one GPU"
STEPS = 20
# name: settings, settings of the peer, GPUs needed, limit
CASES = {
    "training step in bfloat16": ({"precision": "bfloat16"}, {}, 1, 0.8),
    "training step in float16": ({"precision": "float16"}, {}, 1, 0.8),
    "training step with XLA": ({"xla": True}, {}, 1, 1.0),
    "an image on two replicas": ({"replicas": 2, "batch_size": 32}, {"batch_size": 16}, 2, 0.6),
}


def main() -> None:
    base = experiment.preset("paper").replace(precision="float32", batch_size=16, replicas=1)
    found = tf.config.list_physical_devices("GPU")
    details = tf.config.experimental.get_device_details(found[0]) if found else {}
    card = details.get("device_name", "")
    for name, (changes, peer_changes, needed, limit) in CASES.items():
        ratio = None
        if len(found) >= needed:
            pair = [base.replace(**changes), base.replace(**peer_changes)]
            work = [repeated(training_step(e), STEPS) for e in pair]
            costs = [
                lambda w=w, e=e: seconds(w) / e.batch_size for w, e in zip(work, pair, strict=True)
            ]
            ratio = compare(*costs)
        record([row(name, ratio, limit, PEER, COMMAND, card)])
    fastest = base.replace(precision="bfloat16")
    ratio = waiting(frames(None, fastest.image_shape), fastest, 5) if found else None
    name = "waiting for input, share of training, bfloat16 on one GPU"
    record([row(name, ratio, 0.03, "paper preset, bfloat16, one GPU", COMMAND, card)])


if __name__ == "__main__":
    main()
