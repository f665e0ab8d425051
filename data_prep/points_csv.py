"""Prepares anyone's own images and points: any number of landmarks, missing ones allowed."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from data_prep import common
from data_prep.annotations import Annotations
from data_prep.points_files import read_points
from kerasland import folds, preparation, prepared
from kerasland.errors import DataError, UsageError, run
from kerasland.image_files import image_stem, image_suffix
from kerasland.images import image_shape
from kerasland.progress import track

TEST_FRACTION = 0.25


def match_images(names: Sequence[str], folder: Path, out: Path) -> dict[str, Path]:
    """The file of each image that the table names by file name, stem or path; in other letters
    (`H0.PNG` of h0.png) where none has its own.

    Where the table names folders and the file lies in folders, one must end in the other: neither
    `p1/hand.png` nor `p1/hand` is `p2/hand.png`. Images that are not there are left out.

    Raises:
        DataError: no images, or a name that several files have.
    """
    found = common.find_images(folder, out)
    by_name: dict[str, list[Path]] = {}
    for path in (path for paths in found.values() for path in paths):
        by_name.setdefault(path.name, []).append(path)
    in_any_case: dict[str, list[Path]] = {}
    for name, paths in (*by_name.items(), *found.items()):
        in_any_case.setdefault(name.lower(), []).extend(paths)
    matched = {}
    for name in names:
        named = PurePosixPath(name.replace("\\", "/"))
        called = (by_name.get(named.name), found.get(named.name))
        for paths in (*called, in_any_case.get(named.name.lower())):
            files = [
                path
                for path in paths or []
                if _one_ends_in_the_other(named.parent.parts, path.parent.relative_to(folder).parts)
            ]
            if files:
                break
        if (folder / named).is_file():
            matched[name] = folder / named
        elif files:
            folders = {path.parent for path in files}
            if folder / named.parent in folders:
                files = [path for path in files if path.parent == folder / named.parent]
            elif len(folders) > 1:
                raise DataError(
                    f"image {name!r} may be {common.some(map(str, files))}: "
                    f"give its path below {folder}"
                )
            matched[name] = common.best_file(files)
    return matched


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
            raise DataError(f"{other!r} and {name!r} name the same image, {ids[name]}")
    taken: set[str] = set()
    for name, image_id in ids.items():
        number = itertools.count(2)
        while ids[name].casefold() in taken:
            ids[name] = f"{image_id}_{next(number)}"
        taken.add(ids[name].casefold())
    return ids


def read_list(path: Path, ids: Mapping[str, str]) -> list[str]:
    """A list of images, one a line, called as in the table or by their id.

    Raises:
        DataError: missing, or it names an image that was not prepared.
    """
    known = {**{i: i for i in ids.values()}, **ids}
    listed = []
    for line in folds.read_list(path):
        stem = line[: len(line) - len(image_suffix(line))]
        if line not in known and stem not in known:
            raise DataError(f"{path}: image {line!r} has no points or no file")
        listed.append(known.get(line, known.get(stem)))
    return listed


def choose_scale(args: argparse.Namespace, landmarks: Sequence[str]) -> prepared.Scale:
    """The scale that the options state; two landmarks by name or counted from zero."""
    by_files = args.mm_per_px == "file"
    spacing = {"files": "as stated"} if by_files else {"mm_per_px": args.mm_per_px}
    if args.scale_landmarks is None:
        return prepared.Scale(length_mm=args.length_mm, **spacing)
    numbers = []
    for text in args.scale_landmarks:
        if text not in landmarks and not (text.isdigit() and int(text) < len(landmarks)):
            raise UsageError(
                f"--scale-landmarks {text}: no such landmark; there: {common.some(landmarks)}"
            )
        numbers.append(list(landmarks).index(text) if text in landmarks else int(text))
    names = [text for text in args.scale_landmarks if text in landmarks]
    if len(names) == 1 and names[0].isdigit():
        raise UsageError(
            f"--scale-landmarks {' '.join(args.scale_landmarks)}: {names[0]} is a landmark's name "
            "here, the other a place in their order; give two names"
        )
    return prepared.Scale(tuple(numbers), args.length_mm, **spacing)


def choose_folds(
    args: argparse.Namespace, ids: Mapping[str, str]
) -> tuple[dict[str, tuple[list[str], list[str]]], dict[str, tuple[list[str], list[str]]]]:
    """The folds that the options name and those that they have drawn by chance, by name.

    Raises:
        UsageError: a name comes twice, or options contradict each other.
    """
    if args.fold and args.test_fraction is not None:
        raise UsageError("--test-fraction: of the fold dev, which --fold replaces; leave one out")
    own = {name: tuple(read_list(Path(p), ids) for p in paths) for name, *paths in args.fold or ()}
    if len(own) < len(args.fold or ()):
        raise UsageError(f"--fold: a name comes twice: {common.some(f[0] for f in args.fold)}")
    drawn = {}
    if not own and len(ids) > 1:
        fraction = TEST_FRACTION if args.test_fraction is None else args.test_fraction
        drawn["dev"] = folds.split(ids.values(), fraction, args.seed)
    if args.sets is not None:
        drawn |= folds.disjoint_folds(ids.values(), args.sets, args.seed)
    if twice := sorted(set(own) & set(drawn)):
        raise UsageError(f"--fold {twice[0]}: --sets makes a fold of that name; rename yours")
    return own, drawn


def prepare(args: argparse.Namespace) -> prepared.Prepared:
    """Prepares the images of a table, see the module's command line."""
    table = read_points(args.points, args.first_pixel)
    scale = choose_scale(args, table.landmarks)
    points = table.points()
    if not points:
        raise DataError(f"{args.points}: names no image")
    _check_pixels(points, args.points)
    _check_zeros(table, points)
    if table.ignored:
        print(f"not used: {common.some(table.ignored)}")
    annotated = [name for name, p in points.items() if np.isfinite(p).any()]
    if len(annotated) < len(points):
        print(f"{len(points) - len(annotated)} images have no point annotated: left out")
    matched = match_images(annotated, args.images, args.out)
    lacking = [name for name in annotated if name not in matched]
    if lacking:
        print(f"{len(lacking)} of {len(annotated)} images not found: {common.some(lacking)}")
    if not matched:
        raise DataError(f"{args.images}: none of the images that {args.points} names is below it")
    for name, path in matched.items():
        _check_shape(path, table.shapes.get(name), table.places[name])
        where = partial(table.place, name)
        common.check_inside(points[name], path, where, table.landmarks)
    ids = image_ids(matched, args.images)
    spacing = None
    if scale.files:
        spacing, stated_by = common.stated_spacing({ids[n]: path for n, path in matched.items()})
        scale = prepared.Scale(files=stated_by)
    own, drawn = choose_folds(args, ids)
    records = ((ids[name], path, points[name]) for name, path in matched.items())
    dataset = preparation.write(
        args.out,
        name=args.name or args.out.resolve().name,
        landmarks=table.landmarks,
        records=track(records, "preparing", len(matched)),
        scale=scale,
        spacing=spacing,
        folds={**own, **drawn},
    )
    for name, (train, test) in {**own, **drawn}.items():
        made = f", a split made here with seed {args.seed}" if name in drawn else ""
        print(f"fold {name}: {len(train)} train, {len(test)} test{made}")
    return dataset


def _check_pixels(points: Mapping[str, np.ndarray], source: Path) -> None:
    every = np.concatenate([of_image.ravel() for of_image in points.values()])
    every = every[np.isfinite(every)]
    if not every.size:
        raise DataError(f"{source}: no point is annotated")
    if every.max() <= 1.0:
        raise DataError(
            f"{source}: all coordinates are below 1, so they look like fractions of the image: "
            "multiply x by its width and y by its height in pixels"
        )


def _check_zeros(table: Annotations, points: Mapping[str, np.ndarray]) -> None:
    """Refuses 0, 0 where it comes twice: it stands for what was not annotated."""
    zeros = [
        (name, k)
        for name, of_image in points.items()
        for k in np.flatnonzero((of_image == -table.first_pixel).all(axis=1))
    ]
    if len(zeros) > 1:
        name, k = zeros[0]
        raise DataError(
            f"{table.place(name, k)}: {table.landmarks[k]} lies at 0, 0, the corner, and "
            f"{len(zeros) - 1} more points do: leave out what is not annotated (empty cells; in "
            "COCO visibility 0)"
        )


def _check_shape(path: Path, stated: tuple[int, int] | None, place: str) -> None:
    shape = image_shape(path)
    if stated and stated != shape:
        raise DataError(
            f"{place}: annotated on an image of {stated[1]} x {stated[0]} pixels, but {path} has "
            f"{shape[1]} x {shape[0]}: take the images that were annotated"
        )


def _mm_per_px(text: str) -> float | str:
    try:
        return text if text == "file" else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number or 'file'") from None


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = common.parser(
        "points_csv",
        "Prepares your own images and points. The points are a CSV with a header, wide\n"
        "(image, then NAME_x, NAME_y of each landmark; empty cells are not annotated) or tidy\n"
        "(image, landmark, x, y); COCO keypoints (JSON); 'CVAT for images 1.1' (XML); or the\n"
        "folder of labelme's JSON files. They are pixels, x to the right, y down.",
        "--images chest/images --points chest/landmarks.csv --mm-per-px 0.35 --out data/chest",
    )
    add = parser.add_argument
    add("--images", type=Path, required=True, help="folder of images, at any depth")
    add("--points", type=Path, required=True, help="CSV, JSON, XML or labelme's folder")
    add("--out", type=Path, required=True, help="folder to write")
    add("--name", help="of the data set (default: the name of its folder)")
    add(
        "--first-pixel",
        type=float,
        metavar="V",
        help="coordinate of the centre of the first pixel: 0, 0.5 (measured from the corner of the "
        "image) or 1 (counted from 1) (default: 0.5 for CVAT and labelme, else 0)",
    )
    add(
        "--mm-per-px",
        type=_mm_per_px,
        metavar="MM|file",
        help="millimetres a pixel, or 'file': what each DICOM, MetaImage or NIfTI file states",
    )
    add("--scale-landmarks", nargs=2, metavar=("A", "B"), help="two landmarks, by name or number")
    add("--length-mm", type=float, help="the distance between those two")
    add("--test-fraction", type=float, help=f"of the fold dev (default: {TEST_FRACTION})")
    add("--seed", type=int, default=0, help="of dev and of --sets (default: 0)")
    add(
        "--sets",
        type=int,
        metavar="K",
        help="also K folds set1, set2, ... that test each image once, for kerasland crossvalidate",
    )
    add(
        "--fold",
        nargs=3,
        action="append",
        metavar=("NAME", "TRAIN", "TEST"),
        help="a fold from two lists of images instead of dev; may be given again",
    )
    args = parser.parse_args(argv)
    return run(lambda: common.report(prepare(args)), args.debug)


if __name__ == "__main__":
    sys.exit(main())
