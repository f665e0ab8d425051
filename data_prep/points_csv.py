"""Prepares anyone's own images and points: any number of landmarks, missing ones allowed."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from data_prep import common
from data_prep.points_tables import Table, read_points
from kerasland import prepared
from kerasland.errors import DataError, UsageError, run
from kerasland.images import SUFFIXES
from kerasland.progress import track


def match_images(names: Sequence[str], folder: Path, out: Path) -> dict[str, Path]:
    """The file of each image that the table names by file name, stem or relative path.

    Images that are not there are left out.

    Raises:
        DataError: no images, or a name that several files have.
    """
    found = common.find_images(folder, out)
    by_name: dict[str, list[Path]] = {}
    for path in (path for paths in found.values() for path in paths):
        by_name.setdefault(path.name, []).append(path)
    matched = {}
    for name in names:
        relative = folder / name.replace("\\", "/")
        base = PurePosixPath(name.replace("\\", "/")).name
        if relative.is_file():
            matched[name] = relative
        elif files := by_name.get(base) or found.get(base):
            folders = {path.parent for path in files}
            if len(folders) > 1:
                raise DataError(
                    f"image {name!r} may be {common.some(map(str, files))}: "
                    f"give its path below {folder}"
                )
            matched[name] = common.best_file(files)
    return matched


def image_ids(matched: Mapping[str, Path], folder: Path) -> dict[str, str]:
    """An id for each image: its stem; where stems repeat, its path below the folder for all.

    Raises:
        DataError: two names of one file.
    """
    ids = {name: path.stem for name, path in matched.items()}
    if len(set(ids.values())) < len(ids):
        ids = {
            name: "_".join(Path(os.path.relpath(path.with_suffix(""), folder)).parts)
            for name, path in matched.items()
        }
    first: dict[str, str] = {}
    for name, image_id in ids.items():
        if image_id in first:
            raise DataError(f"{first[image_id]!r} and {name!r} name the same image, {image_id}")
        first[image_id] = name
    return ids


def read_list(path: Path, ids: Mapping[str, str]) -> list[str]:
    """A list of images, one a line, called as in the table or by their id.

    Raises:
        DataError: missing, or it names an image that was not prepared.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such list of images")
    known = {**{i: i for i in ids.values()}, **ids}
    listed = []
    for line in filter(None, map(str.strip, path.read_text(encoding="utf-8-sig").splitlines())):
        stem = line.rsplit(".", 1)[0] if line.lower().endswith(SUFFIXES) else line
        if line not in known and stem not in known:
            raise DataError(f"{path}: image {line!r} has no points or no file")
        listed.append(known.get(line, known.get(stem)))
    return listed


def choose_scale(args: argparse.Namespace, landmarks: Sequence[str]) -> prepared.Scale:
    """The scale that the options state; two landmarks by name or counted from zero."""
    if args.scale_landmarks is None:
        return prepared.Scale(mm_per_px=args.mm_per_px, length_mm=args.length_mm)
    numbers = []
    for text in args.scale_landmarks:
        if text not in landmarks and not (text.isdigit() and int(text) < len(landmarks)):
            raise UsageError(
                f"--scale-landmarks {text}: no such landmark; there: {common.some(landmarks)}"
            )
        numbers.append(list(landmarks).index(text) if text in landmarks else int(text))
    return prepared.Scale(tuple(numbers), args.length_mm, args.mm_per_px)


def prepare(args: argparse.Namespace) -> prepared.Prepared:
    """Prepares the images of a table, see the module's command line."""
    table = read_points(args.points)
    scale = choose_scale(args, table.landmarks)
    _say_ignored(table)
    annotated = [name for name, p in table.points.items() if np.isfinite(p).any()]
    if len(annotated) < len(table.points):
        print(f"{len(table.points) - len(annotated)} images have no point annotated: left out")
    matched = match_images(annotated, args.images, args.out)
    lacking = [name for name in annotated if name not in matched]
    if lacking:
        print(f"{len(lacking)} of {len(annotated)} images not found: {common.some(lacking)}")
    if not matched:
        raise DataError(f"{args.images}: none of the images that {args.points} names is below it")
    for name, path in matched.items():
        common.check_inside(
            table.points[name],
            path,
            lambda k, name=name: f"{args.points}, line {table.line(name, k)}",
            table.landmarks,
        )
    ids = image_ids(matched, args.images)
    if args.fold:
        folds = {
            name: tuple(read_list(Path(path), ids) for path in paths) for name, *paths in args.fold
        }
    elif len(ids) > 1:
        folds = {"dev": prepared.split(ids.values(), args.test_fraction, args.seed)}
    else:
        folds = {}
    records = ((ids[name], path, table.points[name]) for name, path in matched.items())
    dataset = prepared.write(
        args.out,
        name=args.name or args.points.stem,
        landmarks=table.landmarks,
        records=track(records, "preparing", len(matched)),
        scale=scale,
        folds=folds,
    )
    for name, (train, test) in folds.items():
        made = "" if args.fold else f", a split made here with seed {args.seed}"
        print(f"fold {name}: {len(train)} train, {len(test)} test{made}")
    return dataset


def _say_ignored(table: Table) -> None:
    if table.ignored:
        print(f"columns not used: {common.some(table.ignored)}")


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = common.parser(
        "points_csv",
        "Prepares your own images and points. The table is a CSV with a header, wide\n"
        "(image, then NAME_x, NAME_y of each landmark) or tidy (image, landmark, x, y);\n"
        "points are pixels, x to the right, y down; empty cells are landmarks not annotated.",
        "--images chest/images --points chest/landmarks.csv --mm-per-px 0.35 --out data/chest",
    )
    add = parser.add_argument
    add("--images", type=Path, required=True, help="folder of images, at any depth")
    add("--points", type=Path, required=True, help="the table")
    add("--out", type=Path, required=True, help="folder to write")
    add("--name", help="of the data set (default: the table's name)")
    add("--mm-per-px", type=float, help="millimetres a pixel")
    add("--scale-landmarks", nargs=2, metavar=("A", "B"), help="two landmarks, by name or number")
    add("--length-mm", type=float, help="the distance between those two")
    add("--test-fraction", type=float, default=0.25, help="of the fold dev (default: 0.25)")
    add("--seed", type=int, default=0, help="of the fold dev (default: 0)")
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
