"""Prepares the Digital Hand Atlas: original radiographs and the published table of landmarks."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_prep import common
from kerasland import preparation, prepared
from kerasland.command import leave, run
from kerasland.errors import DataError
from kerasland.fold_draws import disjoint_folds, split
from kerasland.folds import read_list
from kerasland.image_files import image_suffix
from kerasland.phantom import LANDMARK_NAMES
from kerasland.progress import track
from kerasland.scale import WRIST, Scale
from kerasland.volumes import SUFFIXES

FIELDS = 1 + 2 * len(LANDMARK_NAMES)
# the fold dev of README and docs: 91 radiographs to train on, 21 to test
OWN_FOLDS = Path(__file__).parent / "folds"


class Row(NamedTuple):
    """A line of the table: its number and the points (37, 2) in original pixels."""

    line: int
    points: np.ndarray


def read_table(path: Path) -> dict[str, Row]:
    """The published table: id, then 37 pairs x, y in original pixels, no header.

    Raises:
        DataError: no such file; a row that is not 75 fields, not numeric, or of an id seen before.
    """
    rows: dict[str, Row] = {}
    with common.open_table(path) as file:
        reader = csv.reader(file)
        for fields in reader:
            line = reader.line_num
            if not fields:
                continue
            if len(fields) != FIELDS:
                raise DataError(
                    f"{path}, line {line}: {len(fields)} fields, expected {FIELDS} "
                    f"(id, then {len(LANDMARK_NAMES)} pairs x, y)"
                )
            image_id = fields[0].strip()
            if image_id in rows:
                raise DataError(
                    f"{path}, line {line}: id {image_id} again, first on line "
                    f"{rows[image_id].line}: remove one"
                )
            rows[image_id] = Row(line, _coordinates(fields, f"{path}, line {line}"))
    if not rows:
        raise DataError(f"{path}: no rows")
    return rows


def _coordinates(fields: list[str], where: str) -> np.ndarray:
    values = []
    for column, text in enumerate(fields[1:], start=2):
        try:
            values.append(float(text))
        except ValueError:
            values.append(np.nan)
        if not np.isfinite(values[-1]):
            raise DataError(f"{where}, field {column}: {text!r} is no coordinate (id {fields[0]})")
    return np.array(values).reshape(-1, 2)


def choose_images(found: Mapping[str, list[Path]], ids: set[str]) -> dict[str, Path]:
    """A file for each id; where there are several, a lossless one, and it says so."""
    chosen = {i: common.best_file(found[i]) for i in sorted(ids & set(found))}
    several = [i for i in chosen if len(found[i]) > 1]
    if several:
        kept = common.some(chosen[i].name for i in several)
        print(f"{len(several)} ids have several files; taken, lossless before JPEG: {kept}")
    volumes = [path for path in chosen.values() if image_suffix(path) in SUFFIXES]
    if 0 < len(volumes) < len(chosen):
        print(
            f"{len(volumes)} of {len(chosen)} are MetaImage or NIfTI, whose grey scale is not "
            f"that of the atlas's own files: use one kind ({common.some(map(str, volumes))})"
        )
    return chosen


def listed_folds(
    folder: Path, rows: set[str], chosen: set[str]
) -> dict[str, tuple[list[str], list[str]]]:
    """The lists FOLDER/NAME/{train,test}.txt, restricted to the ids chosen; says what it left out.

    Raises:
        DataError: no such lists, or an id in both lists of a fold.
    """
    names = sorted(path.parent.name for path in folder.glob("*/train.txt"))
    if not names:
        raise DataError(f"{folder}: no folds there, expected {folder}/set1/train.txt and test.txt")
    folds = {}
    for name in names:
        lists = [read_list(folder / name / f"{part}.txt") for part in ("train", "test")]
        both = sorted(set(lists[0]) & set(lists[1]))
        if both:
            raise DataError(f"{folder / name}: image {both[0]} is in train.txt and in test.txt")
        kept = tuple([i for i in listed if i in chosen] for listed in lists)
        listed = set(lists[0] + lists[1])
        print(
            f"fold {name}: {len(kept[0])} train, {len(kept[1])} test, of {len(lists[0])} and "
            f"{len(lists[1])} listed; {len(listed - rows)} ids without a row, "
            f"{len((listed & rows) - chosen)} without an image"
        )
        if kept[0] and kept[1]:
            folds[name] = kept
        else:
            print(f"fold {name}: left out, a list would be empty")
    return folds


def prepare(
    images: Path,
    table: Path,
    out: Path,
    folds: Path | None = None,
    scale_landmarks: tuple[int, int] = WRIST.landmarks,
    wrist_mm: float = WRIST.length_mm,
    sets: int | None = None,
    seed: int = 0,
) -> prepared.Prepared:
    """Prepares the radiographs that have a row, see the module's command line."""
    scale = Scale(landmarks=tuple(scale_landmarks), length_mm=wrist_mm)
    rows = read_table(table)
    found = common.images_by_stem(images, out)
    chosen = choose_images(found, set(rows))
    without_image = sorted(set(rows) - set(chosen))
    without_row = sorted(set(found) - set(rows))
    print(f"{len(rows)} rows, {len(found)} images; {len(chosen)} have both")
    if without_image:
        print(f"{len(without_image)} rows have no image: {common.some(without_image)}")
    if without_row:
        print(f"{len(without_row)} images have no row: {common.some(without_row)}")
    if not chosen:
        raise DataError(f"{images}: none of its images is named as an id of {table}")
    where = {i: f"{table}, line {rows[i].line}" for i in chosen}
    placed = (
        (rows[i].points, shape, chosen[i], lambda _, i=i: where[i])
        for i, shape in common.image_shapes(chosen).items()
    )
    common.check_inside(placed, LANDMARK_NAMES, "to leave the image out, remove the row")
    lists = listed_folds(OWN_FOLDS, set(rows), set(chosen))
    if folds:
        lists.update(listed_folds(folds, set(rows), set(chosen)))
    elif not lists and len(chosen) > 1:
        lists["dev"] = split(chosen, seed=seed)
        print(f"no --folds: fold dev is a split made here, 80 to 20, seed {seed}")
    if sets is not None:
        lists |= disjoint_folds(chosen, sets, seed)
        print(f"{sets} folds set1, set2, ... that test each image once, made here, seed {seed}")
    records = ((i, path, rows[i].points) for i, path in chosen.items())
    return preparation.write(
        out,
        name="hand_atlas",
        landmarks=LANDMARK_NAMES,
        records=track(records, "preparing", len(chosen)),
        scale=scale,
        folds=lists,
    )


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = common.parser(
        "hand_atlas",
        "Prepares the Digital Hand Atlas. After an interruption, the same command goes on where it "
        "stopped.",
        "--images DHA/ --landmarks all.csv --folds cv/ --out data/hand_atlas",
    )
    parser.add_argument(
        "--images", type=Path, required=True, help="radiographs named ID.jpg, .png, .tif or .mha"
    )
    parser.add_argument(
        "--landmarks", type=Path, required=True, dest="table", help="the published table, all.csv"
    )
    lists = parser.add_mutually_exclusive_group()
    lists.add_argument("--folds", type=Path, help="folder of NAME/train.txt and NAME/test.txt")
    lists.add_argument(
        "--sets",
        type=int,
        metavar="K",
        help="instead, K folds set1, set2, ... that test each image once",
    )
    parser.add_argument("--seed", type=int, default=0, help="of folds made here (default: 0)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--scale-landmarks",
        type=int,
        nargs=2,
        default=WRIST.landmarks,
        metavar=("A", "B"),
        help="the two ends of the wrist, counted from zero (default: 0 4)",
    )
    parser.add_argument(
        "--wrist-mm", type=float, default=WRIST.length_mm, help="their distance in mm (default: 50)"
    )
    options = vars(parser.parse_args(argv))
    debug = options.pop("debug")
    return run(lambda: common.report(prepare(**options)), debug)


if __name__ == "__main__":
    leave(main())
