"""Anyone's own images and points, in every kind of table, and the tables that are refused."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from dicom_files import write_dicom
from PIL import Image

from data_prep import audit, points_csv
from data_prep.points_tables import read_table
from kerasland import fold_draws, preparation, prepared
from kerasland.images import image_shape, read_image

ROOT = Path(__file__).resolve().parents[1]


def noise(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (100, 80), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def own(tmp_path):
    """Eight own images `p0.png` ... and a function that prepares a table of their points."""
    for i in range(8):
        noise(tmp_path / "mine" / f"p{i}.png", seed=i)

    def prepare(table: str | bytes, *options: str) -> int:
        data = table if isinstance(table, bytes) else table.encode()
        (tmp_path / "points.csv").write_bytes(data)
        paths = ("--images", "mine", "--points", "points.csv", "--out", "out")
        args = [arg if arg.startswith("--") else str(tmp_path / arg) for arg in paths]
        return points_csv.main([*args, *options])

    prepare.folder = tmp_path
    return prepare


WIDE = "p0.png,1,2,3.5,4\np1.png,5,6,,\n"
KINDS = {
    "NAME_x": "image,a_x,a_y,b_x,b_y\n" + WIDE,
    "NAME x, spare column": "age,file,a x,a y,b x,b y\n9,p0.png,1,2,3.5,4\n9,p1,5,6,nan,nan\n",
    "a spare x": "image,age_x,a_x,a_y,b_x,b_y\np0.png,9,1,2,3.5,4\np1.png,,5,6,,\n",
    "alike": "image,a,a,b,b\n" + WIDE,
    "semicolons": ("image,a_x,a_y,b_x,b_y\n" + WIDE).replace(",", ";"),
    "byte order mark": "\ufeffimage,a_y,a_x,b_x,b_y\np0,2,1,3.5,4\np1,6,5,,\n",
    "x_NAME": "image,x_a,y_a,x_b,y_b\n" + WIDE,
    "tidy": "image,landmark,x,y\np0,a,1,2\np0,b,3.5,4\np1.png,a,5,6\n",
    "tidy, name": "image,name,x,y\np0,a,1,2\np0,b,3.5,4\np1.png,a,5,6\n",
    "tidy, x_px": "image,landmark,x_px,y_px\np0,a,1,2\np0,b,3.5,4\np1.png,a,5,6\n",
    "tidy, X (px)": "filename,Landmark Name,X (px),Y (px)\np0,a,1,2\np0,b,3.5,4\np1,a,5,6\n",
    "tidy, [pixels]": "image,Label,x [pixels],y [pixels]\np0,a,1,2\np0,b,3.5,4\np1,a,5,6\n",
    "NAME_x_px": "image,a_x_px,a_y_px,b_x_px,b_y_px\n" + WIDE,
    "NAME (x)": "image,a (x),a (y),b (X),b (Y)\n" + WIDE,
    "NAME x [px]": "image,a x [px],a y [px],b x [px],b y [px]\n" + WIDE,
    "tidy, other order": "y,x,landmark,image_id\n2,1,a,p0\n4,3.5,b,p0\n6,5,a,p1\n,,b,p1\n",
}


@pytest.mark.parametrize("kind", KINDS)
def test_points_csv_kinds(own, kind, capsys):
    assert own(KINDS[kind], "--mm-per-px", "0.5") == 0
    dataset = prepared.read(own.folder / "out")
    assert dataset.landmarks == ("a", "b") and dataset.ids == ("p0", "p1")
    expected = [[[1, 2], [3.5, 4]], [[5, 6], [np.nan, np.nan]]]
    np.testing.assert_array_equal(dataset.points, expected)
    np.testing.assert_array_equal(dataset.mm_per_px, [0.5, 0.5])
    said = capsys.readouterr().out
    assert "landmarks: a, b (1 of 2)\n" in said
    assert ("not used: column age" in said) == ("spare" in kind)


@pytest.mark.parametrize(
    "header",
    ["x0,y0,x1,y1", "x_0,y_0,x_1,y_1", "X0,Y0,X1,Y1", "x,y,x,y", "x_px,y_px,x_px,y_px"],
)
def test_points_csv_numbered(own, header):
    assert own(f"image,{header}\n{WIDE}") == 0
    dataset = prepared.read(own.folder / "out")
    assert dataset.landmarks == ("landmark_0", "landmark_1")
    assert np.isnan(dataset.mm_per_px).all()


@pytest.mark.parametrize(
    ("header", "landmarks"),
    [
        ("p1x,p1y,p2x,p2y", ("p1", "p2")),
        ("1x,1y,12X,12Y", ("1", "12")),
        ("aX,aY,tipX,tipY", ("a", "tip")),
        ("tip.x,tip.y,index-x,index-y", ("tip", "index")),
    ],
)
def test_points_csv_with_the_axis_at_the_end_of_a_name(own, header, landmarks):
    assert own(f"image,{header}\n{WIDE}") == 0
    dataset = prepared.read(own.folder / "out")
    assert dataset.landmarks == landmarks and dataset.points[0].tolist() == [[1, 2], [3.5, 4]]


@pytest.mark.parametrize(
    ("table", "options", "status", "expected"),
    [
        ("p0.png,1,2,3,4\n", [], 1, "points.csv: can't tell the columns of 'p0.png,1,2,3,4'"),
        ("image,a_x,b_x\np0,1,2\n", [], 1, "x of 'a', not x and y; expected a header such as"),
        ("image,a_x,a_y,b_x,bb_y\np0,1,2,3,4\n", [], 1, "x of 'b', not x and y; expected a"),
        (
            "image,landmark,pixel_x,pixel_y\np0,a,1,2\np0,b,1,2\n",
            [],
            1,
            "line 3: image p0 again, first in line 2; column landmark names landmarks, but there "
            "are no columns x and y; expected a header",
        ),
        ("image,Label,x\np0,a,1\n", [], 1, "column Label names landmarks, but there are no colu"),
        ("image,a_x,a_y\np0,1\n", [], 1, "line 2: 2 fields, the header has 3 columns"),
        ("image,a_x,a_y\np0,1,z\n", [], 1, "line 2: x, y = '1', 'z'"),
        ("image,a_x,a_y\np0,1,\n", [], 1, "line 2: x, y = '1', '': expected two numbers, or both"),
        ("image,a_x,a_y\np0,1,2\np0,1,2\n", [], 1, "line 3: image p0 again, first in line 2"),
        ("image,a_x,a_y\np0,1,2\np0.png,1,2\n", [], 1, "and 'p0.png' name the same image, p0: ca"),
        ("image,a_x,a_y\n,1,2\n", [], 1, "line 2: no image named"),
        ("image,landmark,x,y\np0,a,1,2\np0, ,3,4\n", [], 1, "line 3: no landmark named"),
        ("image,landmark,x,y\np0,a,1,2\np0,a,3,4\n", [], 1, "line 3: p0 a again, first in line 2"),
        ("image,landmark,x,y\np0,a,1,2\np0,b,300,4\n", [], 1, "line 3: landmark 1 (b) of p0"),
        (
            "image,a_x,a_y,b_x,b_y\np0,300,4,1,-9\np1,1,2,80,2\np2,1,2,3,4\n",
            [],
            1,
            "or no row) (and 2 more: p0 b, p1 b)",
        ),
        ("image,a_x,a_y\nq0,1,2\n", [], 1, "none of the images that"),
        ("image,a_x,a_y\n", [], 1, "points.csv: no points"),
        (
            "image,a_x,a_y\np0,5,5\np1,0,0\np2,0,0\n",
            [],
            1,
            "line 3: a lies at 0, 0, the corner, and 1 more points do: leave out what is not",
        ),
        (
            "image,a_x,a_y,b_x,b_y\np0,5,5,-1,-1\np1,-1,-1,0,0\n",
            [],
            1,
            "line 2: b lies at -1, -1, off the image, and 1 more points do: leave out what is not",
        ),
        ("image,a_x,a_y\np0,-1,-1\np1,5,5\n", [], 1, "if it is not annotated, leave the point out"),
        ("image,a_x,a_y\np0,1,2\n", ["--mm-per-px", "0"], 2, "a scale of 0.0 mm"),
        ("image,a_x,a_y\np0,1,2\n", ["--length-mm", "5"], 2, "two landmarks and their length"),
        (
            "image,a_x,a_y\np0,1,2\n",
            ["--scale-landmarks", "a", "c", "--length-mm", "5"],
            2,
            "--scale-landmarks c: no such landmark; there: a",
        ),
        ("image,a_x,a_y\np0,1,2\np1,1,2\n", ["--test-fraction", "2"], 2, "fraction of 2"),
        ("image,a_x,a_y\np0,1,2\np1,1,2\n", ["--seed", "-1"], 2, "--seed -1: expected 0 or more"),
    ],
)
def test_points_csv_refuses(own, capsys, table, options, status, expected):
    assert own(table, *options) == status
    said = capsys.readouterr().err
    assert expected in said and said.startswith("error: ") and said.count("\n") == 1
    assert not (own.folder / "out").exists()


def test_points_csv_and_audit_doubt_percents_and_landmarks_of_no_image(own, capsys):
    never, percents = "never: annotated in no image\n", "all points lie within the first 100 pixels"
    for shape, far, doubted in (((300, 201), 100, 1), ((300, 200), 100, 0), ((300, 201), 101, 0)):
        for i in range(2):
            Image.new("L", shape[::-1], i).save(own.folder / "mine" / f"p{i}.png")
        table = f"image,a_x,a_y,never_x,never_y\np0,12,{far},,\np1,50,99.5,,\n"
        assert own(table) == 0
        said = capsys.readouterr().err
        assert said.startswith(never) and said.count(percents) == doubted
        assert audit.main([str(own.folder / "out")]) == 0
        said = capsys.readouterr().out
        assert f"landmarks.csv: {never}" in said
        assert said.count(f"landmarks.csv: {percents}") == doubted


def test_points_csv_scale_and_folds(own, capsys):
    rows = "".join(f"p{i}.png,1,1,31,41\n" for i in range(8)) + "gone.png,1,1,2,2\n"
    table = "image,a_x,a_y,b_x,b_y\n" + rows
    (own.folder / "train.txt").write_text("p0.png\np1\n")
    (own.folder / "test.txt").write_text("p2.jpg\n")
    lists = [str(own.folder / "train.txt"), str(own.folder / "test.txt")]
    scale = ["--scale-landmarks", "a", "1", "--length-mm", "25"]
    assert own(table, *scale, "--fold", "mine", *lists) == 0
    dataset = prepared.read(own.folder / "out")
    np.testing.assert_array_equal(dataset.mm_per_px, np.full(8, 0.5))
    assert dataset.fold("mine") == (("p0", "p1"), ("p2",))
    assert "1 of 9 images not found: gone.png\n" in capsys.readouterr().out
    assert own(table, "--test-fraction", "0.5", "--seed", "1") == 0
    train, test = prepared.read(own.folder / "out").fold("dev")
    assert (len(train), len(test)) == (4, 4)
    (own.folder / "test.txt").write_text("p9\n")
    assert own(table, "--fold", "mine", *lists) == 1
    assert "test.txt: image 'p9' has no points or no file" in capsys.readouterr().err
    (own.folder / "test.txt").write_text("p2\n")
    for options, said in (
        (["--fold", "set1", *lists, "--sets", "2"], "--fold set1: --sets makes a fold of that"),
        (["--fold", "mine", *lists] * 2, "--fold: a name comes twice: mine, mine"),
        (["--fold", "mine", *lists, "--test-fraction", "0.5"], "--test-fraction: of the fold dev"),
    ):
        assert own(table, *options) == 2
        assert said in capsys.readouterr().err
    assert own(table, "--fold", "mine", *lists, "--sets", "2", "--seed", "3") == 0
    said = capsys.readouterr().out
    assert "fold mine: 2 train, 1 test\n" in said
    assert "fold set2: 4 train, 4 test, a split made here with seed 3\n" in said


@pytest.mark.parametrize(
    "header", ["image,x_px,y_px", "image,X (px),Y (px),", "age,x_mm,image,x_px,y_px,y_mm"]
)
def test_points_csv_of_one_landmark_has_no_unit_for_a_name(own, header):
    row = {"image": "p0", "x_px": "1", "X (px)": "1", "y_px": "2", "Y (px)": "2"}
    assert own(f"{header}\n{','.join(row.get(name, '9') for name in header.split(','))}\n") == 0
    dataset = prepared.read(own.folder / "out")
    assert dataset.landmarks == ("landmark_0",) and dataset.points.tolist() == [[[1, 2]]]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", "sep=;\nimage;a_x;a_y\np0;10,5;20,25\np1;;\n"),
        ("utf-16", "image\ta_x\ta_y\np0\t10,5\t20,25\n"),
        ("utf-8-sig", "Label;Image;X;Y\na;P0.PNG;10,5;20,25\n"),
        ("utf-8", "Sep=;\nimage;a_x;a_y\np0;+10,5;20,250\n"),
        ("utf-8", ",point,image,x,y\n0,a,P0,10.5,20.25\n"),
        ("utf-8-sig", "\n;;\nsep=;\nimage;a_x;a_y\np0;10,5;20,25\n"),
        ("utf-8-sig", ",,\r\n\r\nimage,a_x,a_y\r\np0,10.5,20.25\r\n"),
    ],
)
def test_points_csv_as_excel_writes_it(own, encoding, text):
    assert own(text.encode(encoding)) == 0
    dataset = prepared.read(own.folder / "out")
    assert (dataset.ids, dataset.landmarks, dataset.name) == (("p0",), ("a",), "out")
    np.testing.assert_array_equal(dataset.points, [[[10.5, 20.25]]])


def test_points_csv_says_what_to_do_with_other_files(own, capsys):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("annotations.xml", "<annotations/>")
    for table, said in (
        ("image,höhe_x,höhe_y\np0,1,2\n".encode("cp1252"), "save it as CSV UTF-8"),
        (archive.getvalue(), "an archive: unzip it; a workbook of Excel: save it as CSV UTF-8"),
        ('image,a_x,a_y\np0,"1,500",2\n', "x, y = '1,500', '2': expected two numbers"),
        ("sep=;\nimage;a_x;a_y\np0;1;2\np1;1;z\n", "line 4: x, y = '1', 'z'"),
        ("\n\nimage;a_x;a_y\np0;1;2\np1;1;z\n", "line 5: x, y = '1', 'z'"),
        (
            "image,spacing_x,spacing_y,a_x,a_y\np0,.1,.1,5,5\np1,.1,.2,5,6\np2,.1,.2,6,5\n",
            "spacing lies within the first pixel in all 3 images",
        ),
        ("image;a_x;a_y\np0;1,500;2\np1;1,5;z\n", "x, y = '1.5', 'z'"),
        ("image;a_x;a_y\np0;1,500;2\n", "'1,500' may be a decimal comma or one between thousand"),
        ("image\ta_x\ta_y\np0\t1,50\t2.5\n", "'1,50' may be a decimal comma or one between"),
        (" ,Label,X,Y\n1,p0.png,1,2\n2,p0.png,3,4\n", "no column of images"),
        ("image,a_x,a_y,b_x,b_y\np0,0,0,0,0\np1,1,1,2,2\n", "line 2: a lies at 0, 0"),
    ):
        assert own(table) == 1
        assert said in capsys.readouterr().err


def test_points_csv_sets_test_each_image_once(own, capsys):
    table = "image,a_x,a_y\n" + "".join(f"p{i}.png,1,2\n" for i in range(8))
    assert own(table, "--sets", "3", "--seed", "5") == 0
    dataset = prepared.read(own.folder / "out")
    assert dataset.folds() == ("dev", "set1", "set2", "set3")
    folds = [dataset.fold(f"set{k}") for k in (1, 2, 3)]
    assert sorted(i for _, test in folds for i in test) == list(dataset.ids)
    for train, test in folds:
        assert sorted(train + test) == list(dataset.ids)
        assert 2 <= len(test) <= 3
    assert own(table, "--sets", "9") == 2
    assert "--sets 9: expected 2 to 8" in capsys.readouterr().err


def test_points_csv_again_keeps_the_folds_and_draws_new_images(own, capsys, monkeypatch):
    rows = [f"p{i}.png,1,2\n" for i in range(8)]
    table = "image,a_x,a_y\n" + "".join(rows)
    out, names = own.folder / "out", ("dev", "set1", "set2")

    def lists() -> dict:
        dataset = prepared.read(out)
        return {name: tuple(map(set, dataset.fold(name))) for name in names}

    assert own("image,a_x,a_y\n" + "".join(rows[:6]), "--sets", "2") == 0
    before = lists()
    capsys.readouterr()
    assert own(table, "--sets", "2") == 0
    said = capsys.readouterr().out
    assert "dev: 6 train, 2 test, kept as it was but for 2 images new (2 train, 0 test)\n" in said
    assert "set2: 4 train, 4 test, kept as it was but for 2 images new (1 train, 1 test)\n" in said
    after = lists()
    for name, parts in before.items():
        assert all(old <= new for old, new in zip(parts, after[name], strict=True))
        assert set().union(*after[name]) == {f"p{i}" for i in range(8)}

    with monkeypatch.context() as patch:
        patch.delattr(preparation, "write_png")  # interrupted
        assert own(table, "--sets", "2") == 1 and (out / ".unfinished").exists()
    assert own(table, "--sets", "2") == 0 and lists() == after
    assert own(table, "--sets", "3") == 0 and lists()["dev"] == after["dev"]
    gone = "image,a_x,a_y\n" + "".join(row for row in rows if row[:2] not in after["dev"][1])
    capsys.readouterr()
    assert own(gone) == 0  # nobody is left to test on
    assert "4 train, 2 test, a split made here with seed 0\n" in capsys.readouterr().out
    new = fold_draws.split([f"p{i}" for i in range(8)], 0.25)
    for options in (["--seed", "0"], ["--test-fraction", "0.25"]):
        assert own(table, *options) == 0
        assert prepared.read(out).fold("dev") == tuple(map(tuple, new))


def test_images_beside_the_folder_and_hidden_ones_are_not_taken(own, capsys):
    for place in ("originals", "mine/.trash", "mine/.thumbnails/a"):
        for i in range(3):
            noise(own.folder / place / f"p{i}.png", seed=50)
    noise(own.folder / "mine" / ".trash" / "gone.png", seed=51)
    names = (own.folder / "originals" / "p0.png", "../originals/p1.png", "p2.png", "gone.png")
    assert own("image,a_x,a_y\n" + "".join(f"{name},1,2\n" for name in names)) == 0
    assert "gone.png" in capsys.readouterr().out
    dataset = prepared.read(own.folder / "out")
    assert dataset.ids == ("p0", "p1", "p2")
    for image_id in dataset.ids:
        found, wanted = dataset.image_path(image_id), own.folder / "mine" / f"{image_id}.png"
        np.testing.assert_array_equal(read_image(found), read_image(wanted))


OF = ["P1", "P2", "P1", "P3", "P2", "P1", "P4", "P5"]  # the patients of the eight images
PATIENTS = "image,a_x,a_y,Patient\n" + "".join(f"p{i}.png,1,2,{of}\n" for i, of in enumerate(OF))


@pytest.mark.parametrize("seed", range(4))
def test_points_csv_keeps_the_images_of_a_group_together(own, capsys, seed):
    assert own(PATIENTS, "--group", "patient", "--sets", "3", "--seed", str(seed)) == 0
    said = capsys.readouterr()
    assert said.err == "" and "not used" not in said.out
    assert f"2 test, a split made here with seed {seed}, no patient in both\n" in said.out
    dataset = prepared.read(own.folder / "out")
    assert dataset.folds() == ("dev", "set1", "set2", "set3")
    for train, test in map(dataset.fold, dataset.folds()):
        assert sorted(train + test) == list(dataset.ids)
        assert not {OF[int(i[1:])] for i in train} & {OF[int(i[1:])] for i in test}
    tests = [dataset.fold(f"set{k}")[1] for k in (1, 2, 3)]
    assert sorted(map(len, tests)) == [2, 3, 3] and set().union(*tests) == set(dataset.ids)
    expected = [dataset.fold(name) for name in dataset.folds()]
    (own.folder / "points.csv").rename(own.folder / "table.csv")
    images, table, out = (own.folder / name for name in ("mine", "table.csv", "again"))
    dataset = points_csv.prepare(images, [table], out, sets=3, seed=seed, group="Patient")
    assert [dataset.fold(name) for name in dataset.folds()] == expected


def test_points_csv_groups_of_other_tables(own, capsys):
    """Tidy, where one row of an image may name its group; columns that are named alike."""
    tidy = "image,landmark,x,y,study\np0,a,1,2,A\np0,b,3,4,\np1,a,1,2,B\np2,a,1,2,A\n"
    alike = "study,image,a,a,b,b\nA,p0,1,2,3,4\nB,p1,1,2,3,4\nA,p2,1,2,3,4\n"
    for table in (tidy, alike):
        assert own(table, "--group", "study", "--test-fraction", "0.4") == 0
        assert prepared.read(own.folder / "out").fold("dev") == (("p0", "p2"), ("p1",))


def test_points_csv_takes_no_group_for_a_number(own, capsys):
    """Where commas are no columns, 1.0 and 1,0 may be patients beside coordinates."""
    for patient, x in (("{}.0", "1,5"), ("{},0", "1.5")):
        rows = (f"p{i};{patient.format(i // 2)};{x};2" for i in range(6))
        table = "\n".join(["image;patient;a_x;a_y", *rows, ""])
        assert own(table, "--group", "patient") == 0, capsys.readouterr().err
        assert prepared.read(own.folder / "out").points[:, 0, 0].tolist() == [1.5] * 6


def test_points_csv_of_another_ending(own, capsys):
    """The file is there under the same name, but as another kind of picture."""
    assert own("image,a_x,a_y\np0.jpg,1,2\np1.png,1,2\n") == 0
    hint = "(p0.png is there: name that in the table, or leave out the endings)"
    assert f"1 of 2 images not found: p0.jpg {hint}\n" in capsys.readouterr().out
    assert own("image,a_x,a_y\nq.png,1,2\nin/p1.tif,1,2\n") == 1
    said = capsys.readouterr().err
    assert "(p1.png is there: name that in the table" in said


def test_points_csv_warns_that_patients_are_split(own, capsys):
    assert own(PATIENTS) == 0
    said = capsys.readouterr()
    warning = (
        "images are split one by one: --group Patient would keep those of one Patient together"
    )
    assert said.err == warning + "\n" and "not used: column Patient\n" in said.out
    assert own(PATIENTS.replace("Patient", "Study Subject")) == 0
    assert "--group 'Study Subject' would" in capsys.readouterr().err
    for name in ("age", "inpatient"):
        assert own(PATIENTS.replace("Patient", name)) == 0
        assert capsys.readouterr().err == ""
    alone = "image,a_x,a_y,patient\n" + "".join(f"p{i},1,2,{i}\n" for i in range(8))
    assert own(alone) == 0 and capsys.readouterr().err == ""  # nobody has two images
    for part, listed in (("train", "p0\np1\n"), ("test", "p3\n")):
        (own.folder / part).write_text(listed)
    mine = ["--fold", "mine", str(own.folder / "train"), str(own.folder / "test")]
    assert own(PATIENTS, *mine) == 0  # nothing is drawn
    assert capsys.readouterr().err == ""
    assert own(PATIENTS, *mine, "--group", "Patient") == 0
    (own.folder / "test").write_text("p3\np2\n")
    assert own(PATIENTS, *mine, "--group", "Patient") == 1
    assert "fold mine: 'P1' is in train (p0) and in test (p2)" in capsys.readouterr().err


@pytest.fixture
def in_folders(own):
    """Two images in each of four folders, and a table of their points."""
    names = [f"p{i // 2}/ap_{i}.png" for i in range(8)]
    for i, name in enumerate(names):
        noise(own.folder / "mine" / name, seed=50 + i)
    return "image,a_x,a_y,b_x,b_y\n" + "".join(f"{name},1,2,9,9\n" for name in names)


def test_points_csv_groups_by_folder(own, in_folders, capsys):
    assert own(in_folders) == 0
    hint = "images are split one by one: --group folder would keep those of one folder together\n"
    assert capsys.readouterr().err == hint
    assert own(in_folders, "--group", "folder", "--sets", "2", "--seed", "1") == 0
    said = capsys.readouterr()
    assert "2 test, a split made here with seed 1, no folder in both\n" in said.out
    assert said.err == ""
    dataset = prepared.read(own.folder / "out")
    for train, test in map(dataset.fold, ("dev", "set1", "set2")):
        assert not {int(i[3]) // 2 for i in train} & {int(i[3]) // 2 for i in test}
    column = in_folders.replace("b_y", "b_y,Folder").replace("9,9", "9,9,one")
    assert own(column, "--group", "folder") == 2  # the column
    assert "all of one group, 'one'" in capsys.readouterr().err
    assert own(in_folders, "--mm-per-px", "folder") == 2
    assert "--mm-per-px folder: no such column" in capsys.readouterr().err
    assert own("\n".join(in_folders.splitlines()[:5])) == 0  # two folders: left and right?
    assert capsys.readouterr().err == ""


def test_points_csv_groups_by_what_dicom_files_state(own, capsys):
    pytest.importorskip("pydicom")
    pixels = np.arange(8000, dtype=np.uint16).reshape(100, 80)
    for i in range(8):
        write_dicom(own.folder / "mine" / f"d{i}.dcm", pixels + i, PatientID=f"P{i // 2}")
    table = "image,a_x,a_y\n" + "".join(f"d{i},1,2\n" for i in range(8))
    assert own(table) == 0
    hint = "images are split one by one: --group file would keep those of one PatientID together\n"
    assert capsys.readouterr().err == hint
    assert own(table, "--group", "file", "--seed", "0") == 0
    said = capsys.readouterr()
    assert said.err == "" and "seed 0, no PatientID in both\n" in said.out
    train, test = prepared.read(own.folder / "out").fold("dev")
    assert not {int(i[1]) // 2 for i in train} & {int(i[1]) // 2 for i in test}
    write_dicom(own.folder / "mine" / "d3.dcm", pixels, PatientID="")
    for lacking, of in (("d3.dcm", table), ("p0.png", table.replace("d3", "p0"))):
        assert own(of, "--group", "file") == 1
        assert f"{lacking}: no PatientID, as DICOM files state it" in capsys.readouterr().err
    for i in range(8):  # as anonymised ones are
        write_dicom(own.folder / "mine" / f"d{i}.dcm", pixels + i, PatientID="anonymous")
    assert own(table) == 0 and capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("table", "options", "status", "expected"),
    [
        (PATIENTS, ["--group", "patients"], 2, "points.csv; did you mean Patient?"),
        (PATIENTS, ["--group", "ward"], 2, "--group ward: no such column in"),
        (PATIENTS, ["--group", "ward"], 2, "; there: image, a_x, a_y, Patient"),
        (PATIENTS, ["--group", "image"], 2, "--group image: that column holds the images or poin"),
        (PATIENTS, ["--group", "a_x"], 2, "--group a_x: that column holds the images or points"),
        ("image,a,a\np0,1,2\n", ["--group", "A"], 2, "--group A: 2 columns of"),
        (PATIENTS, ["--group", "Patient", "--sets", "6"], 2, "--sets 6: expected 2 to 5, the numb"),
        (
            "image,a_x,a_y,who\np0,1,2,A\np1,1,2,A\n",
            ["--group", "who"],
            2,
            "can't split 2 images that are all of one group, 'A'",
        ),
        (
            "image,a_x,a_y,who\np0,1,2,A\np1,1,2, \n",
            ["--group", "who"],
            1,
            "line 3: image p1 has no who: fill the cell",
        ),
        (
            "image,landmark,x,y,who\np0,a,1,2,A\np0,b,1,2,B\n",
            ["--group", "who"],
            1,
            "line 3: who of image p0 is 'B', but 'A' in line 2",
        ),
    ],
)
def test_points_csv_refuses_groups(own, capsys, table, options, status, expected):
    assert own(table, *options) == status
    said = capsys.readouterr().err
    assert expected in said and said.startswith("error: ") and said.count("\n") == 1
    assert not (own.folder / "out").exists()


def test_points_csv_groups_need_a_table(tmp_path, capsys):
    for name in ("points.json", "points.xml", ""):
        paths = ["--images", str(tmp_path), "--points", str(tmp_path / name)]
        assert points_csv.main([*paths, "--out", str(tmp_path / "out"), "--group", "patient"]) == 2
        said = capsys.readouterr().err
        assert "--group patient: needs a CSV" in said and "; or folder, or file" in said
        assert points_csv.main([*paths, "--out", str(tmp_path / "out"), "--mm-per-px", "mm"]) == 2
        assert "--mm-per-px mm: needs a CSV" in capsys.readouterr().err


ABOUT = "image,patient,mm\n" + "".join(f"p{i},{of},0.{i + 1}\n" for i, of in enumerate(OF))
POINTS = "image,a_x,a_y\n" + "".join(f"p{i}.png,1,2\n" for i in range(8))


@pytest.fixture
def about(own):
    """A function that prepares a table of points beside one that says whose the images are."""

    def prepare(table: str, told: str, *options: str) -> int:
        (own.folder / "about.csv").write_text(told)
        return own(table, "--about", str(own.folder / "about.csv"), *options)

    prepare.folder = own.folder
    return prepare


def test_points_csv_takes_groups_and_spacings_of_another_table(about, capsys):
    both = ["--group", "Patient", "--mm-per-px", "MM", "--seed", "1"]
    assert about(POINTS, ABOUT, *both) == 0
    said = capsys.readouterr()
    assert said.err == "" and "seed 1, no Patient in both\n" in said.out
    dataset = prepared.read(about.folder / "out")
    np.testing.assert_allclose(dataset.mm_per_px, 0.1 * np.arange(1, 9))
    for part in dataset.fold("dev"):
        assert {i for i in dataset.ids if OF[int(i[1:])] in {OF[int(j[1:])] for j in part}} == {
            *part
        }
    fold = dataset.fold("dev")
    semicolons = ABOUT.replace(",", ";").replace("0.", "0,")
    more = "sep=;\n" + semicolons.replace("p1;", "C:\\films\\P1.PNG;") + "p99;P9;0,1\n"
    assert about(POINTS, more, *both) == 0
    dataset = prepared.read(about.folder / "out")
    assert dataset.fold("dev") == fold and dataset.mm_per_px[1] == 0.2
    mixed = PATIENTS.replace("p3.png,1,2,P3", "p3.png,1,2,")  # its own cells, where it has some
    assert about(mixed, ABOUT, *both) == 0
    assert prepared.read(about.folder / "out").fold("dev") == fold
    assert about(mixed, "image,patient\np3,P3\n", "--group", "patient", "--seed", "1") == 0
    assert prepared.read(about.folder / "out").fold("dev") == fold


def test_points_csv_warns_of_patients_of_another_table(about, capsys):
    assert about(POINTS, ABOUT, "--mm-per-px", "mm") == 0
    assert "--group patient would keep those of one patient together\n" in capsys.readouterr().err
    few = "".join(f"{line}\n" for line in ABOUT.splitlines()[:5])
    assert about(POINTS, few, "--mm-per-px", "mm") == 0
    said = capsys.readouterr()
    assert "though some share a patient; 4 of 8 have none (p4.png, p5.png" in said.err
    assert "4 of 8 images without pixel spacing: p4, p5, p6, p7; their errors" in said.out


@pytest.mark.parametrize(
    ("told", "options", "status", "expected"),
    [
        (
            ABOUT,
            [],
            2,
            "about.csv: has no column that --group, --mm-per-px or --side names; there: image",
        ),
        (
            ABOUT,
            ["--group", "folder"],
            2,
            "has no column that --group, --mm-per-px or --side names; there",
        ),
        (ABOUT, ["--group", "patients"], 2, "no such column in {}/about.csv; did you mean patient"),
        (ABOUT, ["--group", "a", "--mm-per-px", "b"], 2, "about.csv: has no a nor b; there: image"),
        (ABOUT, ["--group", "image"], 2, "about.csv: image is the column of images there"),
        (ABOUT, ["--group", "ward", "--mm-per-px", "mm"], 2, "points.csv; there: image, a_x, a_y"),
        ("image,who\n,A\n", ["--group", "who"], 1, "about.csv, line 2: no image named"),
        ("image,who\np0\n", ["--group", "who"], 1, "about.csv, line 2: 1 fields, the header has 2"),
        ("image,who\nq0,A\n", ["--group", "who"], 1, "names none of the 8 images that have points"),
        (
            "image,who\np0,A\np0,B\n",
            ["--group", "who"],
            1,
            "about.csv, line 3: who of image p0 is 'B', but 'A' in line 2",
        ),
        (
            "image,who\np0,A\np0.png,B\n",
            ["--group", "who"],
            1,
            "about.csv, line 3: who of image p0.png is 'B', but 'A' in {}/about.csv, line 2",
        ),
        (
            "image,who\np0,A\n",
            ["--group", "who"],
            1,
            "points.csv, line 3: image p1.png has no who (and 6 more have none): fill the cell, or "
            "name the image in --about FILE.csv (image,who)",
        ),
        ("image,mm\np0,\n", ["--mm-per-px", "mm"], 1, "about.csv: column mm gives no image"),
    ],
)
def test_points_csv_refuses_another_table(about, capsys, told, options, status, expected):
    assert about(POINTS, told, *options) == status
    said = capsys.readouterr().err
    assert expected.format(about.folder) in said and said.count("\n") == 1, said
    assert not (about.folder / "out").exists()


SIDED = "image,a_x,a_y,b_x,b_y,side\np0,1,2,70,4,left\np1,1,2,,,R\np2,1,2,70,4,Right\n"


@pytest.mark.parametrize("where", ["points", "about"])
def test_points_csv_mirrors_right_sides(own, about, capsys, where):
    if where == "points":
        assert own(SIDED, "--side", "side") == 0
    else:
        points = re.sub(r",[^,]*$", "", SIDED, flags=re.M)
        told = "image,side\np1,R\np2,Right\np0,left\n"
        assert about(points, told, "--side", "Side") == 0
    assert "2 of 3 images are of right sides: mirrored\n" in capsys.readouterr().out
    dataset = prepared.read(own.folder / "out")
    expected = [[(1, 2), (70, 4)], [(78, 2), (np.nan, np.nan)], [(78, 2), (9, 4)]]
    np.testing.assert_array_equal(dataset.points, expected)
    for image_id, right in zip(dataset.ids, (False, True, True), strict=True):
        pixels = read_image(own.folder / "mine" / f"{image_id}.png")
        kept = read_image(dataset.image_path(image_id))
        np.testing.assert_array_equal(kept, pixels[:, ::-1] if right else pixels)


def test_points_csv_mirrors_what_dicom_files_say_is_right(own, capsys):
    pytest.importorskip("pydicom")
    pixels = np.arange(8000, dtype=np.uint16).reshape(100, 80)
    for name, of in (("l", {"ImageLaterality": "L"}), ("r", {"Laterality": "R"})):
        write_dicom(own.folder / "mine" / f"{name}.dcm", pixels, **of)
    table = "image,a_x,a_y\nl,1,2\nr,1,2\n"
    assert own(table, "--side", "file") == 0
    dataset = prepared.read(own.folder / "out")
    np.testing.assert_array_equal(dataset.points[:, 0], [(1, 2), (78, 2)])
    left, right = (read_image(dataset.image_path(i)) for i in ("l", "r"))
    np.testing.assert_array_equal(left, right[:, ::-1])
    capsys.readouterr()
    assert own(table + "p0,1,2\n", "--side", "file") == 1
    assert "mine/p0.png: no laterality L or R, as DICOM files state it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (SIDED.replace("Right", "both"), "line 4: side of image p2 is 'both': expected left or"),
        (SIDED.replace("left", ""), "line 2: image p0 has no side: fill the cell, or name"),
        (SIDED.replace("side", "hand"), "--about FILE.csv; or file, see --help"),
    ],
)
def test_points_csv_refuses_a_side_that_is_none(own, capsys, table, said):
    assert own(table, "--side", "side") > 0
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
    assert not (own.folder / "out").exists()


def test_points_csv_refuses_two_tables_that_differ(about, capsys):
    assert about(PATIENTS, ABOUT.replace("p2,P1", "p2,P9"), "--group", "patient") == 1
    said = capsys.readouterr().err
    first, second = (about.folder / name for name in ("about.csv, line 4", "points.csv, line 4"))
    assert f"{first}: patient of image p2.png is 'P9', but 'P1' in {second}: correct" in said
    noise(about.folder / "mine" / "left" / "hand.png", seed=20)
    noise(about.folder / "mine" / "right" / "hand.png", seed=21)
    told = "image,patient\nhand,A\n"
    assert about("image,a_x,a_y\nleft/hand.png,1,2\n", told, "--group", "patient") == 1
    assert "about.csv: image 'hand' may be" in capsys.readouterr().err


def test_points_csv_recommends_a_group_only_where_it_works(own, capsys):
    """Not a column with empty cells, of which there is one group, or of which an image has two."""
    assert own(PATIENTS.replace("2,P5", "2,")) == 0
    said = capsys.readouterr().err
    assert "split one by one, though some share a Patient; 1 of 8 have none (p7.png)" in said
    assert "fill the cells, or name these in --about FILE.csv (image,Patient)\n" in said
    for patients in ("A", "A" * 8):
        rows = "".join(f"p{i},a,1,2,{patients[0]}\n" for i in range(8))
        if len(patients) == 1:
            rows += "p0,b,1,2,B\n"
        assert own("image,landmark,x,y,patient\n" + rows) == 0
        assert capsys.readouterr().err == ""
    assert own(PATIENTS, "--sets", "6") == 0
    assert "of one Patient together, with --sets 5 at most\n" in capsys.readouterr().err
    assert own(PATIENTS, "--sets", "5", "--group", "patient") == 0


def test_points_csv_recommends_no_patient_id_that_some_files_lack(own, capsys):
    pytest.importorskip("pydicom")
    pixels = np.arange(8000, dtype=np.uint16).reshape(100, 80)
    for i in range(4):
        write_dicom(own.folder / "mine" / f"d{i}.dcm", pixels + i, PatientID=f"P{i // 2}")
    assert own("image,a_x,a_y\n" + "".join(f"d{i},1,2\n" for i in range(4)) + "p0,1,2\n") == 0
    said = capsys.readouterr().err
    assert "though some share a PatientID; 1 of 5 have none (p0): for --group" in said
    assert "name all in --about FILE.csv (image,PatientID)\n" in said


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize("shortest", [2900, 9])  # a header that can be read, and one that can't
def test_points_csv_names_all_images_that_cannot_be_read(own, capsys, shortest):
    broken = [own.folder / "mine" / f"p{i}.jpg" for i in (1, 3, 6)]
    for i, path in enumerate(broken):
        noise(path, seed=i)
        path.with_suffix(".png").unlink()
        cut(path, 2900 + i)
        image_shape(path)
    cut(broken[1], shortest)
    table = POINTS.replace(".png", "")
    assert own(table) == 1
    *lines, last = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [["unreadable", str(p)] for p in broken]
    assert all("get a fresh copy" in line for line in lines)
    named = ", ".join(map(str, broken))
    assert last == (
        f"error: 3 of 8 images can't be read: {named}: get fresh copies, move them out of the "
        "folder of images, or delete their rows in the table"
    )
    assert not (own.folder / "out" / "dataset.json").exists()

    broken[0].rename(own.folder / "p1.jpg")  # what the message says
    rows = [line for line in table.splitlines(keepends=True) if line[:2] not in ("p3", "p6")]
    assert own("".join(rows)) == 0
    assert prepared.read(own.folder / "out").ids == ("p0", "p2", "p4", "p5", "p7")

    (own.folder / "p1.jpg").rename(broken[0])
    assert own("".join(rows)) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {broken[0]}: can't be read as an image")
    assert "copy, move it out of the folder of images, or delete its rows in the table\n" in said


def test_points_csv_names_ten_images_that_cannot_be_read(own, capsys):
    for i in range(12):
        noise(own.folder / "mine" / f"q{i:02}.png", seed=i)
        cut(own.folder / "mine" / f"q{i:02}.png", 900)
    assert own(POINTS + "".join(f"q{i:02},1,2\n" for i in range(12))) == 1
    *lines, last = capsys.readouterr().err.splitlines()
    assert len(lines) == 10 and lines[-1].startswith(f"unreadable: {own.folder}/mine/q09.png: ")
    assert last.startswith("error: 12 of 20 images can't be read: ")
    assert f"{own.folder}/mine/q09.png and 2 more: get fresh copies" in last


def test_points_csv_of_very_many_landmarks(tmp_path):
    columns = ",".join(f"l{k}_x,l{k}_y" for k in range(20_000))
    (tmp_path / "points.csv").write_text(f"image,{columns}\np0{',1,2' * 20_000}\n")
    start = time.monotonic()
    assert len(read_table(tmp_path / "points.csv").landmarks) == 20_000
    assert time.monotonic() - start < 5


def test_points_csv_of_names_that_no_file_has(own, capsys):
    assert own(f"image,a_x,a_y\np0,1,2\n{'seen by two ' * 30},3,4\np\0,5,6\n") == 0
    assert "2 of 3 images not found: seen by two" in capsys.readouterr().out


def test_points_csv_counts_images_without_points(own, capsys):
    noise(own.folder / "mine" / "more" / "p0.png", seed=40)
    noise(own.folder / "mine" / "p1.jpg", seed=41)  # p1 again, of a kind that is worse
    assert own("image,a_x,a_y\np0.png,1,2\np1,1,2\np2.png,,\ngone,1,2\n") == 0
    said = capsys.readouterr().out
    assert "1 images have no point annotated: left out\n" in said
    assert "\n6 images without points left out: p0.png, p3.png, p4.png, p5.png, p6.png, ..." in said
    for i in range(3, 8):
        (own.folder / "mine" / f"p{i}.png").unlink()
    (own.folder / "mine" / "more" / "p0.png").unlink()
    assert own("image,a_x,a_y\np0.png,1,2\nP1.PNG,1,2\nC:\\mine\\p2.png,,\n") == 0
    assert "without points" not in capsys.readouterr().out


def test_points_csv_same_name_in_two_folders(own, capsys):
    for i, folder in enumerate(("left", "right")):
        noise(own.folder / "mine" / folder / "hand.png", seed=20 + i)
    assert own("image,a_x,a_y\nleft/hand.png,1,2\nright/hand.png,3,4\n") == 0
    assert prepared.read(own.folder / "out").ids == ("left_hand", "right_hand")
    assert own("image,a_x,a_y\nhand,1,2\n") == 1
    assert "image 'hand' may be" in capsys.readouterr().err
    assert own("image,a_x,a_y\nleft/hand,1,2\n/data/all/right/hand.png,3,4\n") == 0
    assert prepared.read(own.folder / "out").ids == ("left_hand", "right_hand")


def test_points_csv_tells_apart_what_a_path_runs_together(own):
    for i, path in enumerate(("a_b/c.png", "a/b_c.png", "z/c.png")):
        noise(own.folder / "mine" / path, seed=30 + i)
    assert own("image,a_x,a_y\na_b/c.png,1,2\na/b_c.png,3,4\nz/c.png,5,6\n") == 0
    dataset = prepared.read(own.folder / "out")
    assert dataset.ids == ("a_b_c", "a_b_c_2", "z_c")
    assert dataset.points[:, 0].tolist() == [[1, 2], [3, 4], [5, 6]]


def test_points_csv_never_takes_another_folders_image(own, capsys):
    noise(own.folder / "mine" / "p2" / "hand.png", seed=20)
    assert own("image,a_x,a_y\np1/hand.png,1,2\np2/hand.png,3,4\n") == 0
    dataset = prepared.read(own.folder / "out")
    assert dataset.ids == ("hand",) and dataset.points.tolist() == [[[3, 4]]]
    assert "1 of 2 images not found: p1/hand.png\n" in capsys.readouterr().out


def test_points_csv_scale_by_names_that_are_numbers(own, capsys):
    table = "image,landmark,x,y\n" + "".join(f"p0,{k},{10 * k},0\n" for k in range(1, 6))
    assert own(table, "--scale-landmarks", "0", "4", "--length-mm", "25") == 2
    assert "4 is a landmark's name here" in capsys.readouterr().err
    assert own(table, "--scale-landmarks", "1", "4", "--length-mm", "15") == 0
    np.testing.assert_allclose(prepared.read(own.folder / "out").mm_per_px, [0.5])


def test_points_csv_does_not_write_over_its_own_source(own, capsys):
    (own.folder / "out").mkdir()
    (own.folder / "out" / "landmarks.csv").write_text("mine")
    assert own("image,a_x,a_y\np0,1,2\n") == 2
    assert (own.folder / "out" / "landmarks.csv").read_text() == "mine"


def test_chest_radiographs(chest, tmp_path):
    command = [sys.executable, "-m", "data_prep.points_csv", "--mm-per-px", "0.35"]
    command += ["--images", chest / "images", "--points", chest / "landmarks.csv"]
    command += ["--out", tmp_path / "out"]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    dataset = prepared.read(tmp_path / "out")
    assert dataset.points.shape == (120, 120, 2) and dataset.landmarks[0] == "right_lung_0"
    np.testing.assert_array_equal(dataset.mm_per_px, np.full(120, 0.35))
    np.testing.assert_array_equal(dataset.points[0, 1], [357.619, 64.381])
    assert [len(part) for part in dataset.fold("dev")] == [90, 30]


def test_points_csv_the_table_may_write_names_otherwise(own):
    """In other letters, in the folder that it names where another has the very name."""
    for name in ("q1/hand.png", "q2/Hand.png", "q2/1,5.png"):
        noise(own.folder / "mine" / name, seed=9)
    assert own("image;a_x;a_y\nq1/Hand.png;1,5;2\n1,5;3;4\n") == 0
    dataset = prepared.read(own.folder / "out")
    assert dataset.ids == ("1,5", "hand")
    np.testing.assert_array_equal(dataset.points, [[[3, 4]], [[1.5, 2]]])
    assert own("image,a_x,a_y\nHand.png,1,2\n") == 0
    assert prepared.read(own.folder / "out").ids == ("Hand",)


def test_points_csv_where_the_file_system_minds_no_case(own, capsys, monkeypatch):
    """As those of Windows and macOS: an image is called as its file, and none is left out."""
    is_file = Path.is_file

    def in_any_case(path: Path, **options) -> bool:
        beside = path.parent.iterdir() if path.parent.is_dir() else ()
        return any(is_file(p, **options) and p.name.lower() == path.name.lower() for p in beside)

    monkeypatch.setattr(Path, "is_file", in_any_case)
    assert own("image,a_x,a_y\n" + "".join(f"P{i}.PNG,{i},2\n" for i in range(8))) == 0
    assert prepared.read(own.folder / "out").ids == tuple(f"p{i}" for i in range(8))
    assert "left out" not in capsys.readouterr().out


def test_points_csv_of_accents_that_macos_writes_apart(own, capsys):
    for name in ("mu\u0308ller", "ame\u0301lie"):
        noise(own.folder / "mine" / f"{name}.png", seed=len(name))
    table = "image,a_x,a_y\nM\u00fcller,1,2\nam\u00e9lie.png,,\n"
    assert own(table + "".join(f"p{i},3,4\n" for i in range(8))) == 0
    assert "mu\u0308ller" in prepared.read(own.folder / "out").ids
    assert "without points" not in capsys.readouterr().out
