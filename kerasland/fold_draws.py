"""Folds drawn at random by a seed: one split, or sets that test each image once; groups whole."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from kerasland.errors import UsageError


def split(
    ids: Iterable[str],
    test_fraction: float = 0.2,
    seed: int = 0,
    groups: Mapping[str, str] | None = None,
    kept: Sequence[Collection[str]] = (),
) -> tuple[list[str], list[str]]:
    """A seeded split of image ids into train and test; neither is empty.

    Groups are gone through at random, and tested on where that brings the number of images nearer
    to the fraction asked for; scikit-learn's GroupShuffleSplit takes a fraction of the groups.

    Args:
        ids: of the images.
        test_fraction: of the images.
        seed: of the split.
        groups: group by image id; those of one stay together. By default each is alone.
        kept: ids that stay in train and in test, from `kept_parts`; the others are drawn.

    Raises:
        UsageError: fewer than two ids or groups, a fraction not between 0 and 1, a seed below 0.
    """
    ids = sorted(ids)
    if len(ids) < 2 or not 0 < test_fraction < 1:
        raise UsageError(f"can't split {len(ids)} images with a test fraction of {test_fraction}")
    count = min(max(round(test_fraction * len(ids)), 1), len(ids) - 1)
    shuffled = _shuffled(ids, groups, seed)
    if len(shuffled) < 2:
        group = groups[ids[0]]
        raise UsageError(f"can't split {len(ids)} images that are all of one group, {group!r}")
    train, test = map(set, kept or ((), ()))
    placed = train | test
    for members in shuffled:
        more = len(test) + len(members)
        nearer = abs(more - count) < abs(len(test) - count) and more < len(ids)
        if nearer and members[0] not in placed:
            test.update(members)
    test = test or set(min(shuffled, key=len))  # where every group has many more than asked for
    return [i for i in ids if i not in test], [i for i in ids if i in test]


def disjoint_folds(
    ids: Iterable[str],
    count: int,
    seed: int = 0,
    groups: Mapping[str, str] | None = None,
    kept: Sequence[Collection[str]] = (),
) -> dict[str, tuple[list[str], list[str]]]:
    """Seeded folds, `set1` and on, train and test lists by name, that test each image once.

    Images of one group stay together: groups go, largest first, to the set with the fewest images,
    as in scikit-learn's GroupKFold, which takes no seed then. So do images that are new where
    others are `kept` in the test lists that they are in, from `kept_parts`.

    Raises:
        UsageError: fewer than two, or more than images or groups; a seed below 0.
    """
    ids = sorted(ids)
    shuffled = _shuffled(ids, groups, seed)
    if not 2 <= count <= len(shuffled):
        of = "images" if groups is None else "groups"
        raise UsageError(f"--sets {count}: expected 2 to {len(shuffled)}, the number of {of}")
    if groups is None and not kept:
        parts = np.array_split(np.array([i for (i,) in shuffled]), count)
        tests = [set(part.tolist()) for part in parts]
    else:
        tests = [set(part) for part in kept or [()] * count]
        placed = set().union(*tests)
        for members in sorted(shuffled, key=len, reverse=True):
            if members[0] not in placed:
                min(tests, key=len).update(members)
    return {
        f"set{k}": ([i for i in ids if i not in test], sorted(test))
        for k, test in enumerate(tests, start=1)
    }


def kept_parts(
    parts: Sequence[Collection[str]], ids: Iterable[str], groups: Mapping[str, str] | None = None
) -> list[set[str]]:
    """Of each part of an earlier draw the ids that are still there, with new ones of their groups.

    Empty where it can't be kept: nothing is left of a part, or a group is in several.
    """
    group_of = {i: i if groups is None else groups[i] for i in ids}
    found = [{group_of[i] for i in part if i in group_of} for part in parts]
    if not all(found) or sum(map(len, found)) > len(set().union(*found)):
        return []
    return [{i for i, group in group_of.items() if group in part} for part in found]


def _shuffled(ids: Sequence[str], groups: Mapping[str, str] | None, seed: int) -> list[list[str]]:
    """The ids of each group, the groups in a random order."""
    if seed < 0:
        raise UsageError(f"--seed {seed}: expected 0 or more")
    members: dict[str, list[str]] = {}
    for image_id in ids:
        members.setdefault(image_id if groups is None else groups[image_id], []).append(image_id)
    names = sorted(members)
    return [members[names[k]] for k in np.random.default_rng(seed).permutation(len(names))]
