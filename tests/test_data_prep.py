"""The sources of data, each from real files on disk to a prepared folder, and what they refuse."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import hand_atlas as atlas_module
from data_prep import synthetic
from kerasland import images, prepared
from kerasland.scale import Scale

ROOT = Path(__file__).resolve().parents[1]
POINTS = np.random.default_rng(7).integers(5, 75, (37, 2))


def command(module: str, *args: object) -> list[str]:
    return [sys.executable, "-m", f"data_prep.{module}", *map(str, args)]


def run_process(module: str, *args: object) -> subprocess.CompletedProcess:
    return subprocess.run(command(module, *args), cwd=ROOT, capture_output=True, text=True)


def row(image_id: str, points=POINTS) -> str:
    return ",".join([image_id, *(f"{value:g}" for value in np.ravel(points))])


def noise(path: Path, seed: int = 0, shape: tuple[int, int] = (100, 80), depth=np.uint8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, np.iinfo(depth).max, shape, depth, endpoint=True)
    Image.fromarray(pixels).save(path)


class Atlas:
    """A small copy of the atlas's layout: 12 images at several depths, a row each, one fold."""

    def __init__(self, folder: Path, count: int = 12, shape: tuple[int, int] = (100, 80)):
        self.ids = [str(8142 + i) for i in range(count)]
        self.images, self.table = folder / "DHA", folder / "all.csv"
        self.folds, self.out = folder / "cv", folder / "out"
        for i, image_id in enumerate(self.ids):
            noise(self.images / f"CAUF/{i % 3}" / f"{image_id}.jpg", i, shape)
        self.write_rows([row(image_id) for image_id in self.ids])
        self.write_fold("set1", self.ids[:8], self.ids[8:])

    def path(self, image_id: str) -> Path:
        return next(self.images.rglob(f"{image_id}.*"))

    def write_rows(self, rows: list[str]) -> None:
        self.table.write_text("".join(f"{line}\n" for line in rows))

    def write_fold(self, name: str, train: list[str], test: list[str]) -> None:
        (self.folds / name).mkdir(parents=True, exist_ok=True)
        (self.folds / name / "train.txt").write_text("\n".join(train))
        (self.folds / name / "test.txt").write_text("\n".join(test))

    @property
    def args(self) -> list[str]:
        named = {"images": self.images, "landmarks": self.table, "folds": self.folds}
        return [x for k, v in {**named, "out": self.out}.items() for x in (f"--{k}", str(v))]


@pytest.fixture
def atlas(tmp_path) -> Atlas:
    return Atlas(tmp_path)


@pytest.mark.parametrize("module", ["hand_atlas", "synthetic", "points_csv", "audit", "hand_shape"])
def test_help_and_usage(module, capsys):
    main = importlib.import_module(f"data_prep.{module}").main
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert f"python -m data_prep.{module} " in capsys.readouterr().out.split("example:")[1]
    with pytest.raises(SystemExit) as caught:
        main(["--nonsense"])
    assert caught.value.code == 2


def test_hand_atlas(atlas, capsys):
    assert atlas_module.main(atlas.args) == 0
    said = capsys.readouterr().out
    assert "12 rows, 12 images; 12 have both" in said and "12 images, 444 points" in said
    dataset = prepared.read(atlas.out)
    assert dataset.ids == tuple(atlas.ids) and dataset.fold("set1")[1] == tuple(atlas.ids[8:])
    np.testing.assert_array_equal(dataset.points[3], POINTS)
    for image_id in atlas.ids[:4]:
        np.testing.assert_array_equal(
            images.read_image(dataset.image_path(image_id)),
            np.asarray(Image.open(atlas.path(image_id))),
        )
    width_px = np.linalg.norm(POINTS[0] - POINTS[4])
    np.testing.assert_allclose(dataset.mm_per_px, 50 / width_px)


def test_hand_atlas_other_scale(atlas):
    assert atlas_module.main([*atlas.args, "--scale-landmarks", "1", "5", "--wrist-mm", "40"]) == 0
    assert prepared.read(atlas.out).scale == Scale((1, 5), 40.0)


def test_hand_atlas_says_what_is_partial(atlas, capsys):
    gone, unknown = atlas.ids[0], "9999"
    atlas.path(gone).unlink()
    noise(atlas.images / f"{unknown}.png")
    atlas.write_fold("set1", [*atlas.ids[:8], "7777"], atlas.ids[8:])
    atlas.write_fold("set2", [gone], atlas.ids[1:])
    assert atlas_module.main(atlas.args) == 0
    said = capsys.readouterr().out
    assert f"1 rows have no image: {gone}" in said
    assert f"1 images have no row: {unknown}" in said
    assert (
        "fold set1: 7 train, 4 test, of 9 and 4 listed; "
        "1 ids without a row, 1 without an image" in said
    )
    assert "fold set2: left out" in said
    assert prepared.read(atlas.out).folds() == ("set1",)


def test_hand_atlas_makes_a_fold_if_there_is_none(atlas, capsys):
    at = atlas.args.index("--folds")
    assert atlas_module.main(atlas.args[:at] + atlas.args[at + 2 :]) == 0
    assert "fold dev is a split made here" in capsys.readouterr().out
    train, test = prepared.read(atlas.out).fold("dev")
    assert (len(train), len(test)) == (10, 2)


def test_hand_atlas_makes_folds_that_test_each_radiograph_once(atlas, capsys):
    at = atlas.args.index("--folds")
    rest = atlas.args[:at] + atlas.args[at + 2 :]
    assert atlas_module.main([*rest, "--sets", "5", "--seed", "7"]) == 0
    assert "5 folds set1, set2, ... that test each image once" in capsys.readouterr().out
    dataset = prepared.read(atlas.out)
    made = [dataset.fold(f"set{k}") for k in range(1, 6)]
    assert sorted(i for _, test in made for i in test) == list(atlas.ids)
    assert all(sorted((*train, *test)) == list(atlas.ids) for train, test in made)
    assert atlas_module.main([*rest, "--sets", "5", "--seed", "8"]) == 0
    assert [prepared.read(atlas.out).fold(f"set{k}") for k in range(1, 6)] != made
    with pytest.raises(SystemExit):
        atlas_module.main([*atlas.args, "--sets", "5"])
    assert "not allowed with argument" in capsys.readouterr().err


def test_hand_atlas_prefers_lossless_and_keeps_16_bit(atlas, capsys):
    image_id = atlas.ids[2]
    noise(atlas.images / "extra" / f"{image_id}.png", seed=99, depth=np.uint16)
    assert atlas_module.main(atlas.args) == 0
    assert f"1 ids have several files; taken, lossless before JPEG: {image_id}.png" in (
        capsys.readouterr().out
    )
    kept = images.read_image(prepared.read(atlas.out).image_path(image_id))
    assert kept.dtype == np.uint16
    np.testing.assert_array_equal(
        kept, np.asarray(Image.open(atlas.images / "extra" / f"{image_id}.png"))
    )


def test_hand_atlas_says_where_kinds_are_mixed(atlas, capsys):
    sitk = pytest.importorskip("SimpleITK")
    copy = atlas.images / "copies" / f"{atlas.ids[2]}.mha"
    copy.parent.mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((100, 80), np.uint8)), str(copy))
    assert atlas_module.main(atlas.args) == 0
    said = capsys.readouterr().out
    assert "1 of 12 are MetaImage or NIfTI" in said and f"use one kind ({copy})" in said


def change_short_row(atlas):
    atlas.write_rows([row(atlas.ids[0]), row(atlas.ids[1]).rsplit(",", 2)[0]])
    return "all.csv, line 2: 73 fields, expected 75"


def change_word_for_number(atlas):
    atlas.write_rows([row(atlas.ids[0]), row(atlas.ids[1]).replace(",", ",a", 1)])
    return f"all.csv, line 2, field 2: 'a{POINTS[0, 0]}' is no coordinate (id 8143)"


def change_not_finite(atlas):
    atlas.write_rows(
        [row(atlas.ids[0], np.where(np.isclose(POINTS, POINTS[0, 0]), np.nan, POINTS))]
    )
    return "all.csv, line 1, field 2: 'nan'"


def change_duplicate_row(atlas):
    atlas.write_rows([row(i) for i in (*atlas.ids, atlas.ids[1])])
    return "all.csv, line 13: id 8143 again, first on line 2"


def change_point_outside(atlas):
    points = POINTS.copy()
    points[5] = (80, 10)
    atlas.write_rows([row(atlas.ids[0]), row(atlas.ids[1], points)])
    return (
        f"all.csv, line 2: landmark 5 ({atlas_module.LANDMARK_NAMES[5]}) of 8143 at (80, 10) lies "
        f"outside the image, 80 x 100 pixels ({atlas.path('8143')}): correct it, or, to leave the "
        "image out, remove the row"
    )


def change_empty_table(atlas):
    atlas.table.write_text("")
    return "all.csv: no rows"


def change_no_table(atlas):
    atlas.table.unlink()
    return "all.csv: no such table"


def change_no_images(atlas):
    shutil.rmtree(atlas.images)
    return "DHA: no such folder"


def change_no_match(atlas):
    atlas.write_rows([row("1")])
    return "none of its images is named as an id of"


def change_no_folds(atlas):
    shutil.rmtree(atlas.folds / "set1")
    return "cv: no folds there"


def change_fold_overlap(atlas):
    atlas.write_fold("set1", atlas.ids[:8], atlas.ids[7:])
    return "set1: image 8149 is in train.txt and in test.txt"


def change_two_that_differ(atlas):
    noise(atlas.images / "other" / "8142.jpg", seed=50)
    return "8142.jpg differ"


@pytest.mark.parametrize(
    "change", [v for k, v in sorted(globals().items()) if k.startswith("change_")]
)
def test_hand_atlas_refuses(atlas, capsys, change):
    expected = change(atlas)
    assert atlas_module.main(atlas.args) == 1
    said = capsys.readouterr().err
    assert expected in said and said.startswith("error: ") and said.count("\n") == 1
    assert not atlas.out.exists()


def test_hand_atlas_truncated_image_is_named_and_mending_it_goes_on(atlas):
    path = atlas.path(atlas.ids[5])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    done = run_process("hand_atlas", *atlas.args)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith(f"error: {path}: can't be read") and done.stderr.count("\n") == 1
    written = os.listdir(atlas.out / "images")
    assert all(not name.startswith(".") for name in written) and f"{path.stem}.png" not in written
    assert not (atlas.out / "dataset.json").exists()
    path.write_bytes(whole)
    assert atlas_module.main(atlas.args) == 0


def test_hand_atlas_out_beside_its_images(atlas, capsys):
    args = [*atlas.args[:-1], str(atlas.images / "out")]
    assert atlas_module.main(args) == 0 and atlas_module.main(args) == 0
    assert "several files" not in capsys.readouterr().out
    atlas.images = atlas.images / "out" / "images"
    assert atlas_module.main([*atlas.args[:-1], str(atlas.images.parent)]) == 2
    assert "holds the images to prepare" in capsys.readouterr().err
    assert len(list(atlas.images.glob("*.png"))) == 12


def test_hand_atlas_refuses_a_folder_of_something_else(atlas, capsys):
    atlas.out.mkdir()
    (atlas.out / "thesis.txt").write_text("mine")
    assert atlas_module.main(atlas.args) == 2
    assert "not empty and no prepared data set" in capsys.readouterr().err
    assert os.listdir(atlas.out) == ["thesis.txt"]


def test_a_killed_preparation_goes_on_where_it_stopped(tmp_path):
    atlas = Atlas(tmp_path, count=40, shape=(1200, 900))
    pictures = atlas.out / "images"
    process = subprocess.Popen(command("hand_atlas", *atlas.args), cwd=ROOT)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and len(list(pictures.glob("[!.]*.png"))) < 4:
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert not (atlas.out / "dataset.json").exists()
    before = {p: p.stat().st_mtime_ns for p in pictures.glob("[!.]*.png")}
    assert 4 <= len(before) < 40
    audit = run_process("audit", atlas.out)
    assert audit.returncode == 1 and "did not finish" in audit.stderr

    assert run_process("hand_atlas", *atlas.args).returncode == 0
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert not list(pictures.glob(".*")) and len(list(pictures.iterdir())) == 40
    resumed = prepared.read(atlas.out).hash
    shutil.rmtree(atlas.out)
    assert atlas_module.main(atlas.args) == 0
    assert prepared.read(atlas.out).hash == resumed


def prepare_real(hand_atlas: Path, images: Path, out: Path) -> tuple[prepared.Prepared, str]:
    """The prepared data set and what the command and the audit said."""
    table, folds = hand_atlas / "all.csv", hand_atlas / "folds"
    done = run_process(
        *("hand_atlas", "--images", images, "--landmarks", table, "--folds", folds, "--out", out)
    )
    assert done.returncode == 0, done.stderr
    audit = run_process("audit", out)
    assert audit.returncode == 0, audit.stdout + audit.stderr
    return prepared.read(out), done.stdout + audit.stdout


def test_some_real_radiographs(hand_atlas, tmp_path):
    (tmp_path / "some").mkdir()
    dev = [(hand_atlas / f"folds/dev/{p}.txt").read_text().split() for p in ("train", "test")]
    for image_id in dev[0][:7] + dev[1][:3]:
        (tmp_path / "some" / f"{image_id}.jpg").symlink_to(
            hand_atlas / "images" / f"{image_id}.jpg"
        )
    dataset, said = prepare_real(hand_atlas, tmp_path / "some", tmp_path / "out")
    assert "874 rows have no image" in said and "audit: nothing wrong" in said
    assert len(dataset.ids) == 10 and [len(part) for part in dataset.fold("dev")] == [7, 3]
    image_id = dataset.ids[4]
    np.testing.assert_array_equal(
        images.read_image(dataset.image_path(image_id)),
        np.asarray(Image.open(hand_atlas / "images" / f"{image_id}.jpg")),
    )
    assert ((dataset.mm_per_px > 0.05) & (dataset.mm_per_px < 0.25)).all()


def test_the_split_of_the_figures_comes_along(hand_atlas, capsys):
    """Without lists from elsewhere `dev` is the one that README and docs speak of."""
    for part in ("train", "test"):
        own = (atlas_module.OWN_FOLDS / "dev" / f"{part}.txt").read_text().split()
        assert own == (hand_atlas / f"folds/dev/{part}.txt").read_text().split()
    listed = atlas_module.listed_folds(atlas_module.OWN_FOLDS, {"3143"}, {"3143"})
    assert listed == {} and "fold dev: left out" in capsys.readouterr().out


@pytest.mark.slow
def test_all_real_radiographs(hand_atlas, tmp_path):
    dataset, said = prepare_real(hand_atlas, hand_atlas / "images", tmp_path / "out")
    assert dataset.points.shape == (112, 37, 2) and np.isfinite(dataset.points).all()
    assert [len(part) for part in dataset.fold("dev")] == [91, 21]
    assert "fold set1: 78 train, 31 test, of 597 and 298 listed" in said


def test_synthetic(tmp_path, capsys):
    args = ["--count", "6", "--shape", "280", "200"]
    done = run_process("synthetic", *args, "--seed", "3", "--out", tmp_path / "a")
    assert done.returncode == 0, done.stderr
    assert "fold dev: 5 train, 1 test" in done.stdout and "6 images, 222 points" in done.stdout
    first = prepared.read(tmp_path / "a")
    assert images.read_image(first.image_path(first.ids[0])).shape == (280, 200)
    assert np.isfinite(first.mm_per_px).all()
    for seed, same in (("3", True), ("4", False)):
        out = tmp_path / seed
        assert synthetic.main([*args, "--seed", seed, "--out", str(out)]) == 0
        assert (prepared.read(out).hash == first.hash) is same
    assert synthetic.main(["--count", "1", "--out", str(tmp_path / "b")]) == 2
    assert "1 hands" in capsys.readouterr().err and not (tmp_path / "b").exists()


def test_ctrl_c_ends_a_loop_of_the_shell(tmp_path):
    drawing = command("synthetic", "--count", 9999, "--shape", 90, 70, "--out", tmp_path / "hands")
    # else a process inherits that Ctrl-C is ignored, as in the background of a script
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(drawing, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    while not list(tmp_path.glob("hands/images/*.png")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == -signal.SIGINT
    assert process.stderr.read().endswith("error: interrupted\n")
