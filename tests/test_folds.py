"""Seeded folds: as they always were, and with groups that stay together."""

from __future__ import annotations

import numpy as np
import pytest

from kerasland import fold_draws, folds
from kerasland.errors import DataError, UsageError

SIZES = {
    "a few each": [1, 4, 2, 3, 1, 1, 2, 4, 3, 2, 1, 3] * 3,
    "one has most": [30] + [2] * 10,
    "large ones": [9, 14, 22, 31, 11],
    "two": [5, 5],
    "each alone": [1] * 40,
}


def test_without_groups_a_seed_draws_what_it_always_drew():
    ids = [f"p{i}" for i in range(8)]
    assert fold_draws.split(ids, 0.25, 0)[1] == ["p2", "p4"]
    assert fold_draws.split(ids, 0.9, 3)[0] == ["p0"]
    assert {name: test for name, (_, test) in fold_draws.disjoint_folds(ids, 3, 5).items()} == {
        "set1": ["p1", "p2", "p4"],
        "set2": ["p3", "p5", "p7"],
        "set3": ["p0", "p6"],
    }


def grouped(name: str) -> dict[str, str]:
    """The group of each image, by id; neighbours in order are mostly of different groups."""
    labels = np.repeat(np.arange(len(SIZES[name])), SIZES[name])
    labels = np.random.default_rng(0).permutation(labels)
    return {f"{i:03}": f"g{label}" for i, label in enumerate(labels)}


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("fraction", [0.01, 0.25, 0.5, 0.99])
def test_a_group_is_trained_on_or_tested_on(name, fraction):
    groups = grouped(name)
    wanted, largest = fraction * len(groups), max(SIZES[name])
    for seed in range(20):
        fold = train, test = fold_draws.split(groups, fraction, seed, groups)
        assert train and test and sorted(train + test) == sorted(groups)
        folds.check_groups("dev", fold, groups)
        assert abs(len(test) - wanted) <= largest
        if name == "a few each" and fraction in (0.25, 0.5):
            assert abs(len(test) - wanted) <= 2
        assert fold == fold_draws.split(reversed(groups), fraction, seed, groups)
    drawn = {tuple(fold_draws.split(groups, fraction, seed, groups)[1]) for seed in range(20)}
    assert len(drawn) > 1 or len(set(SIZES[name])) == len(SIZES[name])


@pytest.mark.parametrize("name", SIZES)
def test_sets_of_groups_test_each_image_once(name):
    groups = grouped(name)
    count = min(3, len(SIZES[name]))
    for seed in range(20):
        sets = fold_draws.disjoint_folds(groups, count, seed, groups)
        assert sorted(i for _, test in sets.values() for i in test) == sorted(groups)
        for fold_name, fold in sets.items():
            folds.check_groups(fold_name, fold, groups)
            assert sorted(fold[0] + fold[1]) == sorted(groups)
        sizes = [len(test) for _, test in sets.values()]
        assert min(sizes) > 0 and max(sizes) <= max(max(SIZES[name]), len(groups) / count + 2)
        assert sets == fold_draws.disjoint_folds(reversed(groups), count, seed, groups)
    first = fold_draws.disjoint_folds(groups, count, 0, groups)
    drawn = [fold_draws.disjoint_folds(groups, count, seed, groups) for seed in range(1, 20)]
    assert any(sets != first for sets in drawn) or name == "large ones"


@pytest.mark.parametrize("name", [None, *SIZES])
def test_what_is_kept_stays_and_new_ones_are_drawn(name):
    groups = None if name is None else grouped(name)
    ids = sorted(groups or map(str, range(40)))
    before = ids[::2] if name != "large ones" else ids[1:]
    for seed in range(5):
        lists = fold_draws.split(before, 0.25, seed, groups)
        kept = fold_draws.kept_parts(lists, ids, groups)
        train, test = fold_draws.split(ids, 0.25, seed + 1, groups, kept)
        assert sorted(train + test) == ids and {*lists[0]} <= {*train} and {*lists[1]} <= {*test}
        if groups:
            folds.check_groups("dev", (train, test), groups)
        if name in (None, "each alone"):
            assert len(test) == 10
        count = 2 if name == "two" else 3
        sets = fold_draws.disjoint_folds(before, count, seed, groups)
        kept = fold_draws.kept_parts([test for _, test in sets.values()], ids, groups)
        again = fold_draws.disjoint_folds(ids, count, seed + 1, groups, kept)
        assert sorted(i for _, test in again.values() for i in test) == ids
        for fold, (train, test) in again.items():
            assert {*sets[fold][1]} <= {*test} and sorted(train + test) == ids
        if name in (None, "each alone"):
            assert sorted(len(test) for _, test in again.values()) == [13, 13, 14]


def test_what_cannot_be_kept():
    assert fold_draws.kept_parts((["a", "b"], ["c"]), "abd") == []  # nobody is left to test on
    assert fold_draws.kept_parts((["a"], ["b"]), "abc", dict.fromkeys("abc", "P1")) == []
    assert fold_draws.kept_parts((["a"], ["b"]), "abc", {"a": "P1", "b": "P2", "c": "P2"}) == [
        {"a"},
        {"b", "c"},
    ]
    assert fold_draws.kept_parts((), "abc") == []


def test_too_few_groups_and_folds_that_share_one():
    groups = dict.fromkeys("abc", "P1")
    with pytest.raises(UsageError, match="can't split 3 images that are all of one group, 'P1'"):
        fold_draws.split(groups, 0.5, 0, groups)
    with pytest.raises(UsageError, match="--sets 3: expected 2 to 2, the number of groups"):
        fold_draws.disjoint_folds("abcd", 3, 0, groups | {"d": "P2"})
    with pytest.raises(DataError, match=r"fold dev: 'P1' is in train \(a\) and in test \(c\)"):
        folds.check_groups("dev", (["a"], ["c"]), groups)
