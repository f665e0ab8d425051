"""Folds of anyone's own images: their lists, or drawn here, by image or by group."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from data_prep import common
from data_prep.annotations import Annotations
from data_prep.matching import named_in
from data_prep.points_headers import BY_FOLDER
from kerasland import dicom, fold_draws, folds
from kerasland.errors import UsageError

TEST_FRACTION = 0.25
FILE = "file"  # what each image file states
PATIENT = "PatientID"
FOLDER = BY_FOLDER[1]
Lists = tuple[Sequence[str], Sequence[str]]


def choose_folds(
    ids: Mapping[str, str],
    lists: Sequence[tuple[str, Path, Path]] = (),
    test_fraction: float | None = None,
    sets: int | None = None,
    seed: int | None = None,
    groups: Mapping[str, str] | None = None,
    out: Path | None = None,
) -> tuple[dict[str, Lists], dict[str, str]]:
    """The folds that options of `prepare` name or ask for, and how each that was drawn was made.

    Images of one group, by image id, are all trained on or all tested on. Where neither a seed nor
    a fraction is given, images that a fold of `out` has stay on their side of it.

    Raises:
        DataError: in a fold that is named a group is in both lists.
        UsageError: a name comes twice, options contradict each other, or too few groups.
    """
    if lists and test_fraction is not None:
        raise UsageError("--test-fraction: of the fold dev, which --fold replaces; leave one out")
    own = {name: tuple(named_in(Path(p), ids) for p in paths) for name, *paths in lists}
    if len(own) < len(lists):
        raise UsageError(f"--fold: a name comes twice: {common.some(f[0] for f in lists)}")
    earlier = {}
    if out is not None and seed is None and test_fraction is None:
        earlier = {name: folds.read_fold(out, name, set())[0] for name in folds.fold_names(out)}
    drawn, seed = {}, seed or 0
    kept_dev = fold_draws.kept_parts(earlier.get("dev", ()), ids.values(), groups)
    if not own and len(ids) > 1:
        fraction = TEST_FRACTION if test_fraction is None else test_fraction
        drawn["dev"] = fold_draws.split(ids.values(), fraction, seed, groups, kept_dev)
    kept_sets = fold_draws.kept_parts(_tests(earlier, sets), ids.values(), groups)
    if sets is not None:
        drawn |= fold_draws.disjoint_folds(ids.values(), sets, seed, groups, kept_sets)
    if twice := sorted(set(own) & set(drawn)):
        raise UsageError(f"--fold {twice[0]}: --sets makes a fold of that name; rename yours")
    for name, fold in {**own, **drawn}.items() if groups is not None else ():
        folds.check_groups(name, fold, groups)
    made = {
        name: f", {_changes(earlier[name], fold)}"
        if (kept_dev if name == "dev" else kept_sets)
        else f", a split made here with seed {seed}"
        for name, fold in drawn.items()
    }
    return {**own, **drawn}, made


def _tests(earlier: Mapping[str, Lists], count: int | None) -> list[Collection[str]]:
    """The test lists of `set1` to `setK` of an earlier call, if there were as many."""
    names = [f"set{k}" for k in range(1, (count or 0) + 1)]
    if not {*names} <= {*earlier} or f"set{len(names) + 1}" in earlier:
        return []
    return [earlier[name][1] for name in names]


def _changes(before: Lists, now: Lists) -> str:
    there, here = (set(train) | set(test) for train, test in (before, now))
    new = [len(set(part) - there) for part in now]
    said = [f"{sum(new)} images new ({new[0]} train, {new[1]} test)"] if any(new) else []
    said += [f"{len(there - here)} gone"] if there - here else []
    return "kept as it was" + (f" but for {', '.join(said)}" if said else "")


def groups_of(
    table: Annotations, ids: Mapping[str, str], matched: Mapping[str, Path], group: str
) -> dict[str, str]:
    """The group of each image, by id: a column's cell, the folder of its file, or its PatientID.

    Raises:
        DataError: an image that has none.
    """
    if group == FILE:
        instead = "--group folder, or a column of a CSV"
        stated = common.stated_by_all(matched, dicom.patient_id, "PatientID", instead)
        return {ids[name]: patient for name, patient in stated.items()}
    if group == FOLDER and group not in table.said:
        return {ids[name]: str(path.parent) for name, path in matched.items()}
    unknown = f", with a {group} of its own where it is unknown"
    said = table.said_of_each(group, ids, unknown)
    return {image_id: said[name][0] for name, image_id in ids.items()}


def advice(table: Annotations, matched: Mapping[str, Path], sets: int | None = None) -> str:
    """What to say of images that are drawn one by one and seem to be several of some patients;
    empty if they don't. It names a `--group` only where every image has one, for so many `sets`.
    """
    alone, incomplete = "images are split one by one", ""
    for option, what, of in _seeming(table, matched):
        known = [of[name] for name in matched if name in of]
        count = len(set(known))
        if not 1 < count < len(known):
            continue
        if len(known) == len(matched):
            most = f", with --sets {count} at most" if sets and sets > count else ""
            return (
                f"{alone}: --group {shlex.quote(option)} would keep those of one {what} "
                f"together{most}"
            )
        lacking = [name for name in matched if name not in of]
        mend = "name all" if option == FILE else "fill the cells, or name these"
        incomplete = incomplete or (
            f"{alone}, though some share a {what}; {len(lacking)} of {len(matched)} have none "
            f"({common.some(lacking)}): for --group {shlex.quote(what)}, {mend} in "
            f"--about FILE.csv (image,{what})"
        )
    if incomplete:
        return incomplete
    folders = [path.parent for path in matched.values()]
    if 2 < len(set(folders)) < len(folders):
        return f"{alone}: --group {FOLDER} would keep those of one {FOLDER} together"
    return ""


def _seeming(
    table: Annotations, matched: Mapping[str, Path]
) -> Iterator[tuple[str, str, Mapping[str, str]]]:
    """What `--group` may be called, what that keeps together, and what it is of each image."""
    for column, cells in table.people.items():
        yield column, column, cells
    stated = {name: dicom.patient_id(path) for name, path in matched.items()}
    yield FILE, PATIENT, {name: of for name, of in stated.items() if of is not None}
