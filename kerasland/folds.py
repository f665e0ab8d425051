"""Folds: which images a model is trained on and which it is tested on; lists of image ids."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from kerasland.errors import DataError, UsageError
from kerasland.files import write_text

ALL = "all"  # stands for a fold where every image is trained on, or every image tested on
ALL_IMAGES = "all images"
_NOT_ALL = f"a fold can't be called {ALL!r}, which stands for all images: rename it"


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
        UsageError: fewer than two ids or groups, or a fraction not between 0 and 1.
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
        UsageError: fewer than two, or more than images or groups.
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
    members: dict[str, list[str]] = {}
    for image_id in ids:
        members.setdefault(image_id if groups is None else groups[image_id], []).append(image_id)
    names = sorted(members)
    return [members[names[k]] for k in np.random.default_rng(seed).permutation(len(names))]


def check_groups(
    name: str, lists: tuple[Sequence[str], Sequence[str]], groups: Mapping[str, str]
) -> None:
    """Raises DataError where a group, by image id, is in both lists of a fold."""
    first = {groups[i]: i for i in lists[0]}
    for image_id in lists[1]:
        if (group := groups[image_id]) in first:
            raise DataError(
                f"fold {name}: {group!r} is in train ({first[group]}) and in test ({image_id})"
            )


def fold_names(folder: Path) -> tuple[str, ...]:
    """The folds of a prepared folder; hidden folders are none."""
    return tuple(sorted(p.name for p in (folder / "folds").glob("[!.]*") if p.is_dir()))


def read_list(path: Path) -> list[str]:
    """The lines of a text file without space about them, but for empty ones.

    Raises:
        DataError: no such file, or no text.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise DataError(f"{path}: no such list of images") from None
    except UnicodeError:
        raise DataError(f"{path}: no list of images: save it as text in UTF-8") from None
    return [line.strip() for line in lines if line.strip()]


def read_ids(path: Path) -> tuple[str, ...]:
    """Image ids, one a line.

    Raises:
        DataError: as `read_list`; no id, or one twice.
    """
    listed = read_list(path)
    check_list(listed, set(listed), path)
    return tuple(listed)


def read_fold(
    folder: Path, name: str, ids: set[str]
) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], list[str]]:
    """The train and test lists of a fold, and what is wrong with them; `ids`: those there are."""
    lists, problems = [], []
    if name == ALL:
        problems.append(f"{folder / 'folds' / name}: {_NOT_ALL}")
    for part in ("train", "test"):
        path = folder / "folds" / name / f"{part}.txt"
        try:
            lists.append(tuple(read_list(path)))
            problems += _list_problems(lists[-1], ids, path)
        except DataError as error:
            lists.append(())
            problems.append(str(error))
    problems += [
        f"{folder / 'folds' / name}: image {i} is in train.txt and in test.txt"
        for i in sorted(set(lists[0]) & set(lists[1]))
    ]
    return tuple(lists), problems


def write_fold(folder: Path, name: str, lists: tuple[Sequence[str], Sequence[str]]) -> None:
    """Writes the train and test lists of a fold into a prepared folder."""
    for part, listed in zip(("train", "test"), lists, strict=True):
        write_text(folder / "folds" / name / f"{part}.txt", "".join(f"{i}\n" for i in listed))


def _list_problems(listed: Sequence[str], ids: set[str], where: object) -> list[str]:
    """What is wrong with one list of image ids; `where` names it."""
    if not listed:
        return [f"{where}: no image ids"]
    seen: set[str] = set()
    problems = []
    for image_id in listed:
        if image_id in seen:
            problems.append(f"{where}: image {image_id} is listed twice")
        elif image_id not in ids:
            problems.append(f"{where}: image {image_id} is not in this data set")
        seen.add(image_id)
    return problems


def check_list(listed: Sequence[str], ids: set[str], where: object) -> None:
    """Raises DataError with the first of `_list_problems`, if there is one."""
    for problem in _list_problems(listed, ids, where):
        raise DataError(problem)


def check_fold_name(name: str) -> None:
    """Raises UsageError where a fold can't be called so."""
    if not name or name.startswith(".") or set(name) & set("/\\"):
        raise UsageError(f"fold name {name!r} can't be a folder's name")
    if name == ALL:
        raise UsageError(_NOT_ALL)


def check_fold(name: str, lists: tuple[Sequence[str], Sequence[str]]) -> None:
    """Raises UsageError or DataError where two lists make no fold."""
    check_fold_name(name)
    for part, listed in zip(("train", "test"), lists, strict=True):
        check_list(listed, set(listed), f"fold {name}, {part}")
    for image_id in sorted(set(lists[0]) & set(lists[1])):
        raise DataError(f"fold {name}: image {image_id} is in train and in test")
