"""TIFFs of kinds that Pillow does not write, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import TiffImagePlugin


def write_tiff(path: Path, pixels: np.ndarray, tags: dict[int, object]) -> None:
    """Writes one picture, not compressed.

    Args:
        path: the file.
        pixels: (H, W), or (C, H, W), a plane a channel; of any depth.
        tags: by number; of grey where black is zero, without a kind of numbers, if none are given.
    """
    planes, bits = pixels.reshape(-1, *pixels.shape[-2:]), 8 * pixels.itemsize
    count, size = len(planes), planes[0].nbytes
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    directory.update({256: planes.shape[2], 257: planes.shape[1], 258: (bits,) * count, 259: 1})
    directory.update({262: 1, 273: tuple(range(0, count * size, size)), 277: count})
    directory.update({278: planes.shape[1], 279: (size,) * count, **tags})
    with path.open("wb") as file:
        directory.save(file)
        file.write(planes.tobytes())
