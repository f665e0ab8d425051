"""Folds: which images a model is trained on and which it is tested on; lists of image ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from kerasland.errors import DataError, UsageError
from kerasland.files import write_text

ALL = "all"  # stands for a fold where every image is trained on, or every image tested on
ALL_IMAGES = "all images"
GIVEN_IDS = "given ids"
_NOT_ALL = f"a fold can't be called {ALL!r}, which stands for all images: rename it"


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
        # by "\n" alone: an id may hold what else Unicode calls the end of a line
        lines = path.read_text(encoding="utf-8-sig").split("\n")
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
