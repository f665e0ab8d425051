"""Radiographs on their way into training: how many a second, and in how much memory."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import measure
from benchmarks.predict_folder import make_radiographs
from kerasland import preparation, prepared

FRAME = (512, 384)
WANTED_S = 1 / 25
COMMAND = "python -m benchmarks.preparation"
ANONYMOUS = """
import sys
from itertools import islice
from kerasland import dataset, prepared
from kerasland.experiment import Experiment
def anonymous():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1])
data, height, width, copies = prepared.read(sys.argv[1]), *map(int, sys.argv[2:5])
if len(sys.argv) > 5:
    dataset.IN_MEMORY_BYTES = int(sys.argv[5])
frames = dataset.load_frames(data, data.ids * copies, (height, width))
peak = anonymous()
experiment = Experiment(image_shape=(height, width), depth=3, batch_size=4)
for batches in (dataset.validation(frames, 8), islice(dataset.training(frames, experiment), 20)):
    for _ in batches:
        peak = max(peak, anonymous())
print(peak)
"""


def speed(folder: Path, paths: list[Path]) -> measure.Ratio:
    """Seconds an image over 1/25, of decoding it and bringing it to the frame of the network."""
    from kerasland import dataset

    records = ((path.stem, path, np.ones((1, 2))) for path in paths)
    data = preparation.write(folder, name="jpeg", landmarks=("a",), records=records)
    for path in paths:  # a file is read as what it holds, not as what its name says
        data.image_path(path.stem).unlink()
        data.image_path(path.stem).symlink_to(path)

    def ours() -> float:
        return measure.seconds(lambda: dataset.load_frames(data, data.ids, FRAME)) / len(paths)

    return measure.compare(ours, lambda: WANTED_S)


def anonymous_bytes(
    data: prepared.Prepared,
    images: int,
    shape: tuple[int, int] = FRAME,
    in_memory_bytes: int | None = None,
) -> int:
    """The peak anonymous memory (that of no file) of a process that loads and trains on so many.

    Args:
        data: whose images are repeated to make that many.
        images: a multiple of theirs.
        shape: (H, W) of the frame.
        in_memory_bytes: instead of `dataset.IN_MEMORY_BYTES`.
    """
    arguments = [data.folder, *shape, images // len(data.ids)]
    arguments += [] if in_memory_bytes is None else [in_memory_bytes]
    done = subprocess.run(
        [sys.executable, "-c", ANONYMOUS, *map(str, arguments)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    return 1024 * int(done.stdout)


def memory(folder: Path, few: int, many: int) -> measure.Ratio | None:
    """Of `many` images over that of `few`; None where the system does not say."""
    if not Path("/proc/self/status").exists():
        return None
    rng = np.random.default_rng(0)
    records = (
        (f"{i}", rng.integers(0, 256, (64, 48), np.uint8), np.ones((1, 2))) for i in range(10)
    )
    data = preparation.write(folder, name="small", landmarks=("a",), records=records)
    return measure.Ratio((anonymous_bytes(data, many) / anonymous_bytes(data, few),))


def main() -> None:
    """Measures and records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=60, help="radiographs of 2000 x 1500")
    parser.add_argument("--many", type=int, default=10_000, help="small ones, for the memory")
    args = parser.parse_args()
    few = args.many // 10
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        made = make_radiographs(scratch / "images", args.images)
        second = speed(scratch / "jpeg", made)
        grown = memory(scratch / "small", few, args.many)
    command = f"{COMMAND} --images {args.images} --many {args.many}"
    measure.record(
        [
            measure.row(
                "preparing a 2000 x 1500 JPEG, against 25 a second",
                second,
                1.0,
                "25 a second",
                command,
            ),
            measure.row(
                f"anonymous memory of {args.many} images, against {few}",
                grown,
                1.1,
                f"{few} images",
                command,
            ),
        ]
    )


if __name__ == "__main__":
    main()
