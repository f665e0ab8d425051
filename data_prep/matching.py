"""Which file is the image that a table names, and what it is called in a prepared data set."""

from __future__ import annotations

import itertools
import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from data_prep import common
from kerasland.errors import DataError
from kerasland.folds import read_list
from kerasland.image_files import image_stem, image_suffix


def match_images(
    names: Sequence[str], folder: Path, found: Mapping[str, Sequence[Path]]
) -> dict[str, Path]:
    """The file of each image that the table names by file name, stem or path; in other letters
    (`H0.PNG` of h0.png) where none has its own. `found`: the files below the folder, by stem.
    A file is called as in `found`, also where the file system has it under other letters too.

    Where the table names folders and the file lies in folders, one must end in the other: neither
    `p1/hand.png` nor `p1/hand` is `p2/hand.png`. Images that are not there are left out.

    Raises:
        DataError: a name that several files have.
    """
    by_name: dict[str, list[Path]] = {}
    for path in (path for paths in found.values() for path in paths):
        by_name.setdefault(path.name, []).append(path)
    in_any_case: dict[str, list[Path]] = {}
    for name, paths in (*by_name.items(), *found.items()):
        in_any_case.setdefault(_in_any_case(name), []).extend(paths)
    matched = {}
    for name in names:
        named = PurePosixPath(name.replace("\\", "/"))
        called = (by_name.get(named.name), found.get(named.name))
        for paths in (*called, in_any_case.get(_in_any_case(named.name))):
            files = [
                path
                for path in paths or []
                if _one_ends_in_the_other(named.parent.parts, path.parent.relative_to(folder).parts)
            ]
            if files:
                break
        exact = folder / named
        inside = Path(os.path.abspath(exact)).is_relative_to(os.path.abspath(folder))
        if inside and os.path.isfile(exact):  # False where too long for a name
            wanted = _in_any_case(str(exact))
            matched[name] = next((p for p in files if _in_any_case(str(p)) == wanted), exact)
        elif files:
            folders = {path.parent for path in files}
            if exact.parent in folders:
                files = [path for path in files if path.parent == exact.parent]
            elif len(folders) > 1:
                raise DataError(
                    f"image {name!r} may be {common.some(map(str, files))}: "
                    f"give its path below {folder}"
                )
            matched[name] = common.best_file(files)
    return matched


def other_ending(lacking: Iterable[str], found: Mapping[str, Sequence[Path]]) -> str:
    """What to say where a file is called as an image that is not there, but for its ending."""
    for name in lacking:
        named = PurePosixPath(name.replace("\\", "/")).name
        same = found.get(image_stem(named))
        if same and image_suffix(named) not in {"", *map(image_suffix, same)}:
            return f" ({same[0].name} is there: name that in the table, or leave out the endings)"
    return ""


def left_out(
    found: Mapping[str, Sequence[Path]], matched: Iterable[Path], others: Iterable[str]
) -> list[Path]:
    """A file of each image that no table names, neither as one `matched` nor as one of `others`."""
    files = {
        (path.parent.resolve(), stem): path
        for stem, paths in found.items()
        for path in reversed(paths)
    }
    for path in matched:
        files.pop((path.parent.resolve(), image_stem(path)), None)
    named = {_in_any_case(PurePosixPath(name.replace("\\", "/")).name) for name in others}
    named |= {image_stem(name) for name in named}
    return sorted(path for (_, stem), path in files.items() if _in_any_case(stem) not in named)


def _in_any_case(name: str) -> str:
    """In small letters, each with its accent as one, which macOS may write as two."""
    return unicodedata.normalize("NFC", name).lower()


def _one_ends_in_the_other(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    common_length = min(len(a), len(b))
    return a[len(a) - common_length :] == b[len(b) - common_length :]


def image_ids(matched: Mapping[str, Path], folder: Path) -> dict[str, str]:
    """An id for each image: its stem; where stems repeat, its path below the folder for all.

    Ids that still are the same, but for case perhaps, are numbered.

    Raises:
        DataError: two names of one file.
    """
    ids = {name: image_stem(path) for name, path in matched.items()}
    if len(set(ids.values())) < len(ids):
        ids = {
            name: "_".join(Path(os.path.relpath(path.with_name(ids[name]), folder)).parts)
            for name, path in matched.items()
        }
    first: dict[Path, str] = {}
    for name, path in matched.items():
        if (other := first.setdefault(path.resolve(), name)) != name:
            raise DataError(
                f"{other!r} and {name!r} name the same image, {ids[name]}: call it the same "
                "everywhere, or remove one"
            )
    taken: set[str] = set()
    for name, image_id in ids.items():
        number = itertools.count(2)
        while ids[name].casefold() in taken:
            ids[name] = f"{image_id}_{next(number)}"
        taken.add(ids[name].casefold())
    return ids


def named_in(path: Path, ids: Mapping[str, str]) -> list[str]:
    """A list of images, one a line, called as in the table or by their id.

    Raises:
        DataError: missing, or it names an image that was not prepared.
    """
    known = {**{i: i for i in ids.values()}, **ids}
    listed = []
    for line in read_list(path):
        stem = line[: len(line) - len(image_suffix(line))]
        if line not in known and stem not in known:
            raise DataError(f"{path}: image {line!r} has no points or no file")
        listed.append(known.get(line, known.get(stem)))
    return listed
