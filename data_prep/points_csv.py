"""Prepares anyone's own images and points: any number of landmarks, missing ones allowed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from data_prep import common, points_checks, points_folds
from data_prep.matching import image_ids, left_out, match_images, other_ending
from data_prep.points_about import add_about, read_about
from data_prep.points_files import read_points
from data_prep.points_folds import FILE
from data_prep.points_headers import BY_FOLDER
from data_prep.points_scale import choose_scale, number_or_text, spacings
from data_prep.points_sides import right_sides
from kerasland import geometry, preparation, prepared
from kerasland.command import leave, run
from kerasland.errors import DataError
from kerasland.images import read_image
from kerasland.progress import track
from kerasland.scale import Scale


def prepare(
    images: Path,
    sources: Sequence[Path],
    out: Path,
    name: str | None = None,
    first_pixel: float | None = None,
    mm_per_px: float | str | None = None,
    scale_landmarks: Sequence[str] | None = None,
    length_mm: float | None = None,
    lists: Sequence[tuple[str, Path, Path]] = (),
    test_fraction: float | None = None,
    sets: int | None = None,
    seed: int | None = None,
    group: str | None = None,
    about: Path | None = None,
    side: str | None = None,
) -> prepared.Prepared:
    """Prepares the images that points are of; says what it left out.

    Args:
        images: folder of images, at any depth.
        sources: CSV, JSON, XML or labelme's folder, see `points_files.read_points`.
        out: folder to write.
        name: of the data set; by default that of its folder.
        first_pixel: coordinate of the centre of the first pixel; by default as the format has it.
        mm_per_px: millimetres a pixel; "file" for what each image file states; or a column of the
            CSV, or of `about`, that says it of each image.
        scale_landmarks: two landmarks, by name or counted from zero.
        length_mm: the distance between those.
        lists: folds (name, train list, test list), instead of "dev".
        test_fraction: of the fold "dev"; by default `points_folds.TEST_FRACTION`.
        sets: also so many folds that test each image once.
        seed: of folds that are drawn, 0 by default. Without it and a fraction, images that `out`
            has in such a fold stay on their side, and new ones are drawn.
        group: a column of the CSV, or of `about`, such as patient: images alike in it are all
            trained on or all tested on, in every fold. "folder": those of one folder; "file": of
            one PatientID, as DICOM files state it.
        about: a CSV without points that has those columns, for images whose own file has no such
            column or an empty cell.
        side: a column of the CSV, or of `about`, that says left or right of each image, "file" for
            what DICOM files state: those of right sides are mirrored, with their points.

    Returns:
        The data set as `kerasland.prepared.read` opens it.

    Raises:
        DataError: something in the files can't be used; it names file, row or image.
        UsageError: options contradict each other, or `out` holds something else.
    """
    asked = {"--group": group, "--mm-per-px": mm_per_px, "--side": side}
    columns = {o: c for o, c in asked.items() if isinstance(c, str) and c != FILE}
    optional = {o for o, c in columns.items() if (o, c) == BY_FOLDER}
    if about is not None:
        told = read_about(about, columns)
        optional |= {o for o, c in columns.items() if c in told.said}
    table = read_points(sources, first_pixel, columns, optional)
    scale = choose_scale(table.landmarks, mm_per_px, scale_landmarks, length_mm)
    points = table.points()
    if not points:
        raise DataError(f"{table.source}: names no image")
    points_checks.check_pixels(table, points)
    if table.ignored:
        print(f"not used: {common.some(table.ignored)}")
    annotated = [image for image, p in points.items() if np.isfinite(p).any()]
    if len(annotated) < len(points):
        print(f"{len(points) - len(annotated)} images have no point annotated: left out")
    found = common.images_by_stem(images, out)
    matched = match_images(annotated, images, found)
    lacking = [image for image in annotated if image not in matched]
    if lacking:
        print(
            f"{len(lacking)} of {len(annotated)} images not found: {common.some(lacking)}"
            f"{other_ending(lacking, found)}"
        )
    if not matched:
        hint = other_ending(lacking, found)
        raise DataError(f"{images}: none of the images that {table.source} names is below it{hint}")
    shapes = common.image_shapes(matched)
    for image, path in matched.items():
        stated, place = table.shapes.get(image), table.places[image]
        points_checks.check_shape(path, shapes[image], stated, place)
    placed = ((points[i], shapes[i], p, partial(table.place, i)) for i, p in matched.items())
    common.check_inside(placed, table.landmarks)
    ids = image_ids(matched, images)
    if about is not None:
        add_about(table, told, images, found, matched)
    right = set() if side is None else right_sides(table, matched, side)
    if side is not None:
        print(f"{len(right)} of {len(matched)} images are of right sides: mirrored")
    for image in right:
        points[image] = geometry.mirrored(points[image], shapes[image][1])
    stacked = np.stack([points[image] for image in matched])
    for doubt in points_checks.doubts(stacked, shapes.values(), table.landmarks):
        print(doubt, file=sys.stderr)
    spacing = None
    if scale.files == FILE:
        spacing, said_by = common.stated_spacing({ids[n]: path for n, path in matched.items()})
    elif scale.files:
        spacing, said_by = (
            spacings(table, ids, scale.files, about or table.source),
            f"column {scale.files}",
        )
    if spacing is not None:
        scale = Scale(files=said_by)
    groups = None if group is None else points_folds.groups_of(table, ids, matched, group)
    chosen, drawn = points_folds.choose_folds(ids, lists, test_fraction, sets, seed, groups, out)
    if drawn and group is None and (advice := points_folds.advice(table, matched, sets)):
        print(advice, file=sys.stderr)
    records = (
        (ids[image], read_image(path)[:, ::-1] if image in right else path, points[image])
        for image, path in matched.items()
    )
    dataset = preparation.write(
        out,
        name=name or out.resolve().name,
        landmarks=table.landmarks,
        records=track(records, "preparing", len(matched)),
        scale=scale,
        spacing=spacing,
        folds=chosen,
    )
    for fold, (train, test) in chosen.items():
        apart = f", no {points_folds.PATIENT if group == FILE else group} in both" if groups else ""
        print(f"fold {fold}: {len(train)} train, {len(test)} test{drawn.get(fold, '')}{apart}")
    if rest := left_out(found, matched.values(), points.keys() - set(matched)):
        print(f"{len(rest)} images without points left out: {common.some(p.name for p in rest)}")
    return dataset


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = common.parser(
        "points_csv",
        "Prepares your own images and points. Points may be a CSV with a header, wide (image,\n"
        "then NAME_x, NAME_y of each landmark; empty cells: not annotated) or tidy (image,\n"
        "landmark, x, y); COCO keypoints (JSON); 'CVAT for images 1.1' (XML); or the folder of\n"
        "labelme's JSON files. They are in pixels, x to the right, y down.\n"
        "Folds are drawn image by image; --group patient keeps a patient's images together.",
        "--images chest/images --points chest/landmarks.csv --mm-per-px 0.35 --out data/chest",
    )
    add = parser.add_argument
    add("--images", type=Path, required=True, help="folder of images, at any depth")
    add(
        "--points",
        type=Path,
        nargs="+",
        action="extend",
        required=True,
        dest="sources",
        metavar="FILE",
        help="CSV, JSON, XML or labelme's folder; several, if no image is in two of them",
    )
    add("--out", type=Path, required=True, help="folder to write")
    add("--name", help="of the data set (default: the name of its folder)")
    add(
        "--first-pixel",
        type=float,
        metavar="V",
        help="coordinate of the centre of the first pixel: 0, 0.5 (measured from the corner of the "
        "image) or 1 (counted from 1) (default: 0.5 for CVAT and labelme, else 0); with several "
        "--points, of the CSV and COCO files",
    )
    add(
        "--mm-per-px",
        type=number_or_text,
        metavar="MM|file|COLUMN",
        help="millimetres per pixel; 'file': as each DICOM, MetaImage or NIfTI file states; or the "
        "column of the CSV, or of --about, that has it for each image",
    )
    add("--scale-landmarks", nargs=2, metavar=("A", "B"), help="two landmarks, by name or number")
    add("--length-mm", type=float, help="the distance between those two")
    add(
        "--test-fraction",
        type=float,
        help=f"share of the images in dev's test list (default: {points_folds.TEST_FRACTION})",
    )
    add(
        "--seed",
        type=int,
        help="of the random folds (default: 0); without it and --test-fraction, images that are "
        "already in --out stay in their list, and only new ones are assigned",
    )
    add(
        "--sets",
        type=int,
        metavar="K",
        help="also K folds set1, set2, ... that test each image once, for kerasland crossvalidate",
    )
    add(
        "--group",
        metavar="COLUMN|folder|file",
        help="keep images with the same text in this column of the CSV, or of --about, such as "
        "patient, in one list, in dev and in --sets; a --fold that separates them is refused. "
        "'folder': images of one folder; 'file': of one PatientID, as DICOM files state it",
    )
    add(
        "--about",
        type=Path,
        metavar="FILE.csv",
        help="a CSV without points, with the column image and those that --group, --mm-per-px or "
        "--side name, where the files of points have none",
    )
    add(
        "--side",
        metavar="COLUMN|file",
        help="mirror the images, with their points, of which this column of the CSV, or of "
        "--about, says right (or R), so that all are left; 'file': as DICOM files state",
    )
    add(
        "--fold",
        nargs=3,
        action="append",
        default=[],
        dest="lists",
        metavar=("NAME", "TRAIN", "TEST"),
        help="a fold from two lists of images instead of dev; may be given again",
    )
    options = vars(parser.parse_args(argv))
    debug = options.pop("debug")
    return run(lambda: common.report(prepare(**options)), debug)


if __name__ == "__main__":
    leave(main())
