"""The prepared data set on disk: what goes in comes out, and what is wrong is named."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from kerasland import files, fold_draws, folds, images, preparation, prepared, synthetic
from kerasland.command import run
from kerasland.errors import DataError, KeraslandError, UsageError
from kerasland.image_copies import write_png
from kerasland.images import pixel_hash
from kerasland.scale import Scale

NAMES = ("wrist_a", "wrist_b", "tip")
SCALE = Scale(landmarks=(0, 1), length_mm=50.0)


def records(count: int = 4, seed: int = 0) -> list:
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        depth = np.uint16 if i % 2 else np.uint8
        image = rng.integers(0, np.iinfo(depth).max, (50, 40 + i), dtype=depth, endpoint=True)
        made.append((f"im{i}", image, rng.uniform(0, 39, (3, 2))))
    made[1][2][2] = np.nan
    return made


def write(folder, made=None, **options) -> prepared.Prepared:
    made = records() if made is None else made
    options = {"name": "test", "landmarks": NAMES, "scale": SCALE, **options}
    return preparation.write(folder, records=made, **options)


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "set", folds={"dev": (["im0", "im1", "im2"], ["im3"])})
    return tmp_path / "set"


def test_what_goes_in_comes_out(folder):
    dataset = prepared.read(folder)
    assert (dataset.name, dataset.landmarks, dataset.scale) == ("test", NAMES, SCALE)
    assert dataset.ids == ("im0", "im1", "im2", "im3")
    for i, (image_id, image, points) in enumerate(records()):
        read = images.read_image(dataset.image_path(image_id))
        assert read.dtype == image.dtype
        np.testing.assert_array_equal(read, image)
        np.testing.assert_array_equal(dataset.points[i], points)
    assert dataset.fold("dev") == (("im0", "im1", "im2"), ("im3",))
    assert dataset.folds() == ("dev",)
    np.testing.assert_array_equal(dataset.index(["im2", "im0"]), [2, 0])
    about = json.loads((folder / "dataset.json").read_text())
    assert about["counts"] == {"images": 4, "points": 11}
    lines = (folder / "landmarks.csv").read_text().splitlines()
    assert lines[0] == "image_id,landmark,x,y" and len(lines) == 12


def test_millimetres():
    points = np.array([[[0, 0], [30, 40], [1, 1]], [[0, 0], [np.nan, np.nan], [1, 1]]], float)
    np.testing.assert_array_equal(SCALE.per_image(points), [1.0, np.nan])
    np.testing.assert_array_equal(Scale(mm_per_px=0.35).per_image(points), [0.35, 0.35])
    assert np.isnan(Scale().per_image(points)).all()
    assert SCALE.describe(NAMES) == "wrist_a to wrist_b (0, 1) = 50 mm"
    assert Scale(mm_per_px=0.35).describe(NAMES) == "0.35 mm per px"
    for wrong in ({"landmarks": (0, 0), "length_mm": 5}, {"mm_per_px": 0.0}, {"length_mm": 5}):
        with pytest.raises(UsageError):
            Scale(**wrong)


def test_hash_depends_on_pixels_and_points_alone(tmp_path, folder):
    first = prepared.read(folder).hash
    assert write(tmp_path / "again").hash == first
    assert write(tmp_path / "reversed", records()[::-1]).hash == first
    moved = records()
    moved[0][2][0, 0] += 1e-9
    assert write(tmp_path / "moved", moved).hash != first
    brighter = records()
    brighter[0][1][0, 0] ^= 1
    assert write(tmp_path / "brighter", brighter).hash != first
    image = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert pixel_hash(image) != pixel_hash(image.reshape(3, 2))
    assert pixel_hash(image) != pixel_hash(image.astype(np.uint16))
    assert pixel_hash(image) == pixel_hash(np.asfortranarray(image))


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 1), (300, 200)])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_png_is_lossless(tmp_path, shape, depth):
    image = np.random.default_rng(1).integers(0, np.iinfo(depth).max, shape, depth, endpoint=True)
    write_png(tmp_path / "a.png", image)
    with Image.open(tmp_path / "a.png") as read:
        assert read.mode == ("L" if depth is np.uint8 else "I;16")
        np.testing.assert_array_equal(np.asarray(read), image)


def test_a_broken_off_write_goes_on_where_it_stopped(tmp_path):
    def broken():
        yield from records()[:3]
        raise DataError("the fourth")

    target = tmp_path / "set"
    with pytest.raises(DataError, match="the fourth"):
        write(target, broken())
    assert not (target / "dataset.json").exists()
    with pytest.raises(DataError, match="did not finish"):
        prepared.read(target)
    images = target / "images"
    assert set(os.listdir(images)) <= {"im0.png", "im1.png", "im2.png"}
    for image_id, image, _ in records()[:3]:
        write_png(images / f"{image_id}.png", image)
    (images / ".im2.999.tmp.png").write_bytes(b"left by a killed process")
    whole = (images / "im1.png").read_bytes()
    (images / "im1.png").write_bytes(whole[:-5])
    before = {p: p.stat().st_mtime_ns for p in images.glob("im[02].png")}
    write(target)
    assert (images / "im1.png").read_bytes() == whole
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert sorted(os.listdir(images)) == ["im0.png", "im1.png", "im2.png", "im3.png"]
    assert sorted(os.listdir(target)) == ["dataset.json", "images", "landmarks.csv"]


def test_another_source_replaces_what_is_there(folder):
    own = folder / "folds" / "own"
    own.mkdir()
    for part, image_id in (("train", "im0"), ("test", "im1")):
        (own / f"{part}.txt").write_text(f"{image_id}\n")
    assert len(prepared.read(folder).folds()) > 1
    changed = write(folder, records(2, seed=5))
    assert changed.ids == ("im0", "im1")
    assert changed.folds() == ("own",) and changed.fold("own") == (("im0",), ("im1",))
    assert sorted(os.listdir(folder / "images")) == ["im0.png", "im1.png"]
    np.testing.assert_array_equal(
        images.read_image(changed.image_path("im0")), records(2, seed=5)[0][1]
    )


def test_write_refuses_a_folder_of_something_else(tmp_path):
    (tmp_path / "landmarks.csv").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        write(tmp_path)
    assert os.listdir(tmp_path) == ["landmarks.csv"]
    with pytest.raises(UsageError, match="not empty"):
        write(tmp_path / "landmarks.csv")


def test_another_data_set_is_not_lost(folder):
    """Images and landmarks of which none is in what is there."""
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    others = [(f"other{i}", image, points) for i, (_, image, points) in enumerate(records(2))]
    names = [f"x{k}" for k in range(len(prepared.read(folder).landmarks))]
    with pytest.raises(UsageError, match="other images and landmarks, which would be lost"):
        preparation.write(folder, name="other", landmarks=names, records=others)
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before
    with pytest.raises(DataError, match="infinite coordinates"):  # nor if a call failed between
        write(folder, [*records(2), ("z", np.zeros((9, 9), np.uint8), np.full((3, 2), np.inf))])
    with pytest.raises(UsageError, match="other images and landmarks, which would be lost"):
        preparation.write(folder, name="other", landmarks=names, records=others)
    with pytest.raises(UsageError, match="would be lost"):
        synthetic.write(folder, 2)
    assert (folder / "images" / "im3.png").exists()
    assert preparation.write(folder, name="x", landmarks=names, records=records(2)).ids


@pytest.mark.parametrize("wrong", [[], [(" a", np.zeros((9, 9), np.uint8), np.ones((3, 2)))]])
def test_what_cannot_even_begin_changes_nothing(folder, wrong):
    with pytest.raises(DataError):
        write(folder, wrong)
    assert len(prepared.read(folder).ids) == len(records())


def test_a_fold_of_a_failed_call_does_not_stay(tmp_path):
    with pytest.raises(DataError, match="fold bad, test: image nope is not in"):
        write(tmp_path / "set", folds={"bad": (["im0"], ["nope"])})
    assert write(tmp_path / "set", folds={"dev": (["im0"], ["im1"])}).folds() == ("dev",)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (("a/b", np.zeros((9, 9), np.uint8), np.ones((3, 2))), "'a/b'"),
        ((".a", np.zeros((9, 9), np.uint8), np.ones((3, 2))), "'.a'"),
        (("im0", np.zeros((9, 9), np.uint8), np.ones((3, 2))), "'im0'"),
        (("b", np.zeros((9, 9), np.uint8), np.ones((4, 2))), "image b.*4, 2"),
        (
            ("IM0", np.zeros((9, 9), np.uint8), np.ones((3, 2))),
            "'im0' and 'IM0' differ at most by case",
        ),
        (("b", np.zeros((9, 9), np.uint8), np.full((3, 2), np.inf)), "image b"),
        (("b", np.zeros((9, 9), np.uint8), np.full((3, 2), np.nan)), "image b.*no annotated"),
        (("b", np.zeros((9, 9, 3), np.uint8), np.ones((3, 2))), "b.png.*9, 9, 3"),
        (("b", np.full((9, 9), 0.5), np.ones((3, 2))), "b.png.*float64, expected .* or uint16$"),
    ],
)
def test_write_refuses_a_record(tmp_path, record, said):
    with pytest.raises(DataError, match=said):
        write(tmp_path / "set", [*records(), record])
    assert not (tmp_path / "set" / "dataset.json").exists()


@pytest.mark.parametrize(
    ("folds", "said"),
    [
        ({"dev": (["im0"], ["im0"])}, "im0 is in train and in test"),
        ({"dev": (["im0"], [])}, "dev, test: no image ids"),
        ({"dev": (["im0", "im0"], ["im1"])}, "im0 is listed twice"),
        ({"dev": (["im0"], ["im9"])}, "dev, test: image im9 is not in"),
        ({"../x": (["im0"], ["im1"])}, "'../x'"),
        ({"all": (["im0"], ["im1"])}, "can't be called 'all'"),
    ],
)
def test_write_refuses_a_fold(tmp_path, folds, said):
    with pytest.raises(KeraslandError, match=said):
        write(tmp_path / "set", folds=folds)
    assert not (tmp_path / "set" / "dataset.json").exists()


def test_read_refuses_a_folder_without_dataset(tmp_path):
    with pytest.raises(DataError, match=f"{tmp_path}: no dataset.json.*data_prep.points_csv"):
        prepared.read(tmp_path)
    (tmp_path / "dataset.json").write_text('{"name": "x"}')
    with pytest.raises(DataError, match="dataset.json: unusable.*hash"):
        prepared.read(tmp_path)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("im0,thumb,1,2", "line 13: unknown landmark 'thumb'"),
        ("im0,tip,1,b", "line 13: x, y = 1, b"),
        ("im0,tip,1,nan", "line 13: x, y = 1, nan"),
        ("im0,tip,1", "line 13: 'im0,tip,1'"),
        ("im0,tip,1,2", "line 13: im0 tip again, first on line 4"),
        ("im9,tip,1,2", "im9.png: missing"),
    ],
)
def test_read_refuses_a_row(folder, line, said):
    with (folder / "landmarks.csv").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=said):
        prepared.read(folder)


def test_an_edited_table_is_another_data_set(folder):
    before, path = prepared.read(folder).hash, folder / "landmarks.csv"
    assert before == json.loads((folder / "dataset.json").read_text())["hash"]
    first, row, *others = path.read_text().splitlines(keepends=True)
    path.write_text(first + row.rsplit(",", 1)[0] + ",7\n" + "".join(others))
    assert prepared.read(folder).hash != before
    (folder / "images" / "im9.png").write_bytes((folder / "images" / "im0.png").read_bytes())
    with path.open("a") as file:
        file.write("im9,tip,1,2\n")
    with pytest.raises(DataError, match="image im9 is not in dataset.json: prepare"):
        prepared.read(folder)


def test_read_refuses_a_table_of_its_header_alone(folder):
    (folder / "landmarks.csv").write_text("image_id,landmark,x,y\n")
    with pytest.raises(DataError, match="landmarks.csv: no points: prepare the data set again"):
        prepared.read(folder)


def test_read_refuses_missing_files(folder):
    (folder / "images" / "im2.png").unlink()
    with pytest.raises(DataError, match=r"im2.png: missing"):
        prepared.read(folder)
    (folder / "landmarks.csv").write_text("id,x,y\n")
    with pytest.raises(DataError, match="header id,x,y, expected image_id,landmark,x,y"):
        prepared.read(folder)
    (folder / "landmarks.csv").unlink()
    with pytest.raises(DataError, match="landmarks.csv: missing"):
        prepared.read(folder)


@pytest.mark.parametrize(
    ("train", "test", "said"),
    [
        ("im0\nim7\n", "im3\n", "train.txt: image im7 is not in this data set"),
        ("im0\nim3\n", "im3\n", "dev: image im3 is in train.txt and in test.txt"),
        ("im0\n", "\n", "test.txt: no image ids"),
        ("im0\nim0\n", "im1\n", "train.txt: image im0 is listed twice"),
    ],
)
def test_fold_refuses(folder, train, test, said):
    (folder / "folds/dev/train.txt").write_text(train)
    (folder / "folds/dev/test.txt").write_text(test)
    with pytest.raises(DataError, match=said):
        prepared.read(folder).fold("dev")


def test_unknown_fold_and_image(folder):
    with pytest.raises(UsageError, match="no fold 'set1'; there: dev; .*--sets K"):
        prepared.read(folder).fold("set1")
    (folder / "folds" / "dev").rename(folder / "folds" / "all")
    with pytest.raises(DataError, match="can't be called 'all'"):
        prepared.read(folder).fold("all")
    with pytest.raises(DataError, match="no image 'im9'"):
        prepared.read(folder).index(["im9"])


def test_an_id_may_hold_what_unicode_calls_the_end_of_a_line(tmp_path):
    ids = ["a\u2028b", "c\x85d", "e\x0bf"]
    made = [(i, *record[1:]) for i, record in zip(ids, records(3), strict=True)]
    dataset = write(tmp_path / "set", made, folds={"dev": (ids[:2], ids[2:])})
    assert dataset.fold("dev") == (tuple(ids[:2]), tuple(ids[2:]))


def test_what_else_lies_beside_folds_is_no_fold(folder):
    (folder / "folds" / "notes.txt").write_text("dev: by patient")
    (folder / "folds" / ".cache").mkdir()
    assert folds.fold_names(folder) == ("dev",)


def test_split_is_seeded_and_never_empty():
    ids = [f"{i}" for i in range(10)]
    train, test = fold_draws.split(ids, 0.2, seed=3)
    assert sorted(train + test) == sorted(ids) and len(test) == 2
    assert fold_draws.split(reversed(ids), 0.2, seed=3) == (train, test)
    assert fold_draws.split(ids, 0.2, seed=4) != (train, test)
    assert [len(part) for part in fold_draws.split(["a", "b"], 0.01)] == [1, 1]
    with pytest.raises(UsageError, match="1 images"):
        fold_draws.split(["a"])


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (DataError("a\nb"), 1),
        (UsageError("a b"), 2),
        (OSError("a b"), 1),
        (KeyboardInterrupt(), 130),
        (KeyboardInterrupt("a b"), 130),
    ],
)
def test_run_turns_errors_into_a_line_and_a_status(capsys, error, status):
    def body():
        raise error

    assert run(body) == status
    said = capsys.readouterr().err
    stopped = isinstance(error, KeyboardInterrupt)
    parts = ["error", *["interrupted"] * stopped, *["a b"] * bool(error.args)]
    assert said == ": ".join(parts) + "\n"
    with pytest.raises(type(error)):
        run(body, debug=True)
    assert run(lambda: None) == 0


def test_an_error_of_the_disk_names_the_file(tmp_path):
    """As of one that is full; what names a file already, and what is of no system, stays."""
    full, no_file = os.strerror(errno.ENOSPC), os.strerror(errno.ENOENT)
    for error, said in (
        (OSError(errno.ENOSPC, full), f"{full}: '{tmp_path}/a.txt'"),
        (OSError(errno.ENOENT, no_file, "b"), f"{no_file}: 'b'"),
        (OSError("cut off"), "cut off"),
    ):
        with pytest.raises(OSError) as caught, files.replacing(tmp_path / "a.txt"):
            raise error
        assert str(caught.value).endswith(said)


def test_what_a_killed_process_of_the_same_number_left_is_not_taken_over(tmp_path):
    """In containers each has the number 1."""
    left = tmp_path / f".made.{os.getpid()}.tmp"
    left.mkdir()
    (left / "old.txt").touch()
    with files.replacing(tmp_path / "made") as temporary:
        temporary.mkdir()
        (temporary / "new.txt").touch()
    assert os.listdir(tmp_path / "made") == ["new.txt"] and os.listdir(tmp_path) == ["made"]


class Locked(PermissionError):
    """As Windows raises it, where a scanner has the file open."""

    winerror = 32


@pytest.mark.parametrize(
    ("error", "refusals", "calls"), [(Locked, 2, 3), (Locked, 9, 4), (PermissionError, 9, 1)]
)
def test_a_file_that_is_open_for_a_moment_is_renamed(tmp_path, monkeypatch, error, refusals, calls):
    replace, waited, called = os.replace, [], []

    def refused(*paths):
        called.append(paths)
        if len(called) <= refusals:
            raise error(errno.EACCES, "no", str(paths[0]), None, str(paths[1]))
        replace(*paths)

    monkeypatch.setattr(os, "replace", refused)
    monkeypatch.setattr(files.time, "sleep", waited.append)
    with contextlib.nullcontext() if refusals < 4 else pytest.raises(error):
        files.write_text(tmp_path / "a.txt", "a")
    assert len(called) == calls and len(waited) == calls - 1
    assert os.listdir(tmp_path) == ["a.txt"][: refusals < 4]


@pytest.mark.parametrize("where", ["signal.raise_signal(signal.SIGTERM)", "Dying()"])
def test_a_process_that_is_told_to_end_leaves_nothing_half_written(tmp_path, where):
    """Also in a destructor, where an exception is lost."""
    code = """
import signal, sys, time
from kerasland import command, files
def body():
    with files.replacing("a.txt") as temporary:
        temporary.touch()
        WHERE
        time.sleep(30)
class Dying:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)
assert command.run(lambda: None) == 0 and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
sys.exit(command.run(body))
"""
    command = [sys.executable, "-c", code.replace("WHERE", where)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (143, "error: terminated\n")
    assert not list(tmp_path.iterdir())


def test_folds_elsewhere_are_not_removed(tmp_path):
    """A data set that somebody passed on may name any folder as its fold."""
    victim, folder = tmp_path / "victim", tmp_path / "sets" / "one"
    victim.mkdir()
    write(folder)
    about = json.loads((folder / "dataset.json").read_text())
    about["folds"] = ["../../../victim"]
    (folder / "dataset.json").write_text(json.dumps(about))
    with pytest.raises(UsageError, match="no prepared data set"):
        write(folder)
    with pytest.raises(DataError, match="dataset.json: unusable"):
        prepared.read(folder)
    about = {"name": "a", "landmarks": [], "image_hashes": [], "folds": ["../../../victim"]}
    (folder / ".unfinished").write_text(json.dumps(about))
    write(folder)
    assert victim.is_dir()


def test_a_folder_gives_no_way_to_a_file(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.keras").write_text("mine")
    with pytest.raises(IsADirectoryError):
        files.write_text(tmp_path / "run", "text")
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "model.keras"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"landmarks": ["wrist_a", "wrist_b", "tip", "tip"]}, "landmarks .'wrist_a', 'wrist_b'"),
        ({"landmarks": ["wrist_a", "wrist_b", 3]}, "landmarks .'wrist_a', 'wrist_b', 3"),
        ({"landmarks": [], "scale": {}}, "landmarks .."),
        ({"scale": {"files": "f"}, "spacing": {"im0": [0.2, -0.2]}}, "spacing 0.2, -0.2 of im0"),
        ({"scale": {"files": "f"}, "spacing": {"im0": [0.2, "0.2"]}}, "TypeError"),
        ({"scale": {"files": "f"}, "spacing": {"im0": [0.2]}}, "not enough values"),
        ({"folds": [1]}, "'startswith'"),
    ],
)
def test_a_dataset_json_that_was_edited_wrongly_is_named(folder, changed, said):
    about = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**about, **changed}))
    with pytest.raises(DataError, match=f"dataset.json: unusable .*{said}.*: prepare the data"):
        prepared.read(folder)


@pytest.mark.parametrize("name", ["landmarks.csv", "folds/dev/train.txt"])
def test_tables_of_another_encoding_are_named(folder, name):
    with (folder / name).open("ab") as file:
        file.write("é\n".encode("latin-1"))
    with pytest.raises(DataError, match=f"{name}: no .*UTF-8"):
        prepared.read(folder).fold("dev")


def test_a_folder_with_a_dataset_json_of_others_is_left_alone(tmp_path):
    (tmp_path / "folds").mkdir()
    (tmp_path / "folds" / "mine.txt").write_text("keep")
    (tmp_path / "dataset.json").write_text('{"version": 1}')
    with pytest.raises(UsageError, match="no prepared data set"):
        preparation.write(tmp_path, name="new", landmarks=NAMES, records=records())
    assert (tmp_path / "folds" / "mine.txt").read_text() == "keep"
    assert (tmp_path / "dataset.json").read_text() == '{"version": 1}'
