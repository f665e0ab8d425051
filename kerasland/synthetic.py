"""A prepared data set of drawn hands."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kerasland import phantom, preparation, prepared
from kerasland.errors import UsageError
from kerasland.fold_draws import split
from kerasland.progress import track
from kerasland.scale import WRIST

NAME = "synthetic"


def write(
    folder: str | os.PathLike,
    count: int,
    seed: int = 0,
    shape: tuple[int, int] = (1400, 1000),
) -> prepared.Prepared:
    """Draws hands into a prepared folder with one fold, `dev` (80 to 20).

    Hand i of a seed is the same whatever the count; different seeds share no hand.

    Args:
        folder: new, empty, or one that an earlier call made. A data set of another name is kept.
        count: hands, at least 2.
        seed: of the hands and of the split.
        shape: (H, W) of the images, pixels.

    Returns:
        The data set.

    Raises:
        UsageError: fewer than two hands, a negative seed or a shape below 64 pixels; the folder
            holds another data set, or something else.
    """
    held = preparation.held(Path(folder))
    if held and held["name"] != NAME:
        raise UsageError(
            f"{folder}: holds a data set that would be lost; choose another --out, or, to train on "
            "it, give it as --data"
        )
    if count < 2 or seed < 0 or min(shape) < phantom.MIN_SIDE_PX:
        raise UsageError(
            f"{count} hands, seed {seed}, shape {tuple(shape)}: expected 2 or more, a seed from 0 "
            f"and at least {phantom.MIN_SIDE_PX} pixels a side"
        )
    ids = [f"hand_{seed}_{i:05d}" for i in range(count)]
    return preparation.write(
        folder,
        name=NAME,
        landmarks=phantom.LANDMARK_NAMES,
        records=track(_records(ids, seed, shape), "drawing hands", count),
        scale=WRIST,
        folds={"dev": split(ids, 0.2, seed)},
    )


def _records(ids: list[str], seed: int, shape: tuple[int, int]) -> Iterator[preparation.Record]:
    for i, image_id in enumerate(ids):
        hand_seed = int(np.random.SeedSequence([seed, i]).generate_state(1)[0])
        yield image_id, *phantom.hand(hand_seed, shape=tuple(shape))
