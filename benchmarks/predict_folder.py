"""`kerasland predict` over a folder of radiographs, against its network alone, and its memory."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import measure
from kerasland import machine, phantom

machine.compute_with_onednn()  # as `kerasland predict` does; processes begun here inherit it
SHAPE = (2000, 1500)
HANDS = 4
COMMAND = "python -m benchmarks.predict_folder"
PEAK = """
import sys
from pathlib import Path
from kerasland import model_files, predict
paths = sorted(Path(sys.argv[1]).iterdir())[: int(sys.argv[2])]
predict.predict(paths, model_files.load_pretrained(), sys.argv[3])
# not that of getrusage, which a process inherits from the one that started it
lines = Path("/proc/self/status").read_text().splitlines()
print(next(line for line in lines if line.startswith("VmHWM")).split()[1])
"""


def make_radiographs(folder: Path, count: int) -> list[Path]:
    """JPEG files of 2000 x 1500: a few phantom hands, each time with other noise."""
    rng = np.random.default_rng(0)
    height, width = SHAPE
    hands = [
        Image.fromarray(phantom.hand(seed, (height // 2, width // 2))[0]).resize((width, height))
        for seed in range(4, 4 + HANDS)  # as large as usual: small ones are looked at twice
    ]
    hands = [np.asarray(hand, np.int16) for hand in hands]
    noise = np.rint(rng.normal(0, 3, SHAPE)).astype(np.int16)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i in range(count):
        grain = np.roll(noise, rng.integers(0, min(SHAPE), 2), (0, 1))
        picture = np.clip(hands[i % HANDS] + grain, 0, 255).astype(np.uint8)
        paths.append(folder / f"{i:05}.jpg")
        Image.fromarray(picture).save(paths[-1], quality=90)
    return paths


def against_the_network(paths: list[Path], out: Path) -> measure.Ratio:
    """Seconds an image of `predict`, which has two passes of the network under way at once, over
    those of the network on frames that are there already, a pass after the other."""
    from unittest import mock

    from kerasland import localizers, model_files, predict
    from kerasland.geometry import letterboxed
    from kerasland.images import read_image

    model = model_files.load_pretrained()
    locate = localizers.frame_localizer(model)  # a folder is one call: its graph is made once
    chunks = iter(np.array_split(np.array(paths), measure.PAIRS + 1))
    frames = np.stack(
        [letterboxed(read_image(path), model.input_shape[1:3]) for path in paths[:48]]
    )

    def ours() -> float:
        chunk = list(next(chunks))
        with mock.patch.object(localizers, "frame_localizer", lambda _: locate):
            return measure.seconds(lambda: predict.predict(chunk, model, out)) / len(chunk)

    def alone() -> float:
        batches = np.split(frames, range(localizers.BATCH, len(frames), localizers.BATCH))
        return measure.seconds(lambda: [locate(batch) for batch in batches]) / len(frames)

    return measure.compare(ours, alone)


def peak_kib(folder: Path, count: int, out: Path) -> int:
    """The peak resident memory of a process that predicts so many of the images."""
    command = [sys.executable, "-c", PEAK, str(folder), str(count), str(out)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Measures and records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    count = parser.parse_args().images
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        paths = make_radiographs(scratch / "images", count)
        speed = against_the_network(paths, scratch / "out")
        few = max(1, count // 5)
        memory = None
        if Path("/proc/self/status").exists():
            peaks = [peak_kib(scratch / "images", n, scratch / "out") for n in (count, few)]
            memory = measure.Ratio((peaks[0] / peaks[1],))
    command = f"{COMMAND} --images {count}"
    measure.record(
        [
            measure.row(
                "predict a folder, against the network alone", speed, 1.25, "network", command
            ),
            measure.row(
                f"predict: peak memory of {count} images, against {few}",
                memory,
                1.1,
                f"{few} images",
                command,
            ),
        ]
    )


if __name__ == "__main__":
    main()
