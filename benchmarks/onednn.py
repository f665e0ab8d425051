"""Seconds of a training epoch with oneDNN, as `kerasland train` sets it, over those without.

TensorFlow itself takes oneDNN on processors with AVX512-VNNI alone: there both sides are equal but
for the second's being told not to. Whole trainings of the cpu preset on drawn hands, a process
each, in turns; their second epoch counts.

    python -m benchmarks.onednn
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

from benchmarks.measure import compare, record, row
from kerasland import run_folder, synthetic

COMMAND = "python -m benchmarks.onednn"
HANDS = 32
PAIRS = 5
LIMIT = 1.0


def epoch_seconds(data: Path, run: Path, onednn: str) -> float:
    """What the second epoch of a training took."""
    shutil.rmtree(run, ignore_errors=True)
    command = [sys.executable, "-m", "kerasland", "train", "--data", data, "--out", run]
    command += ["--set", "epochs=2", "validation_images=0"]
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": onednn}
    subprocess.run([str(part) for part in command], check=True, env=environment)
    return float(pd.read_csv(run / run_folder.HISTORY)["seconds"].iloc[1])


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        data, run = Path(folder) / "hands", Path(folder) / "run"
        synthetic.write(data, HANDS, shape=(700, 500))
        ratio = compare(
            lambda: epoch_seconds(data, run, "1"), lambda: epoch_seconds(data, run, "0"), PAIRS
        )
    name = "training epoch with oneDNN, against without"
    record([row(name, ratio, LIMIT, "TF_ENABLE_ONEDNN_OPTS=0", COMMAND)])


if __name__ == "__main__":
    main()
