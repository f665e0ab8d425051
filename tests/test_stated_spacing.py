"""A data set whose images state their own pixel spacing: millimetres by image, axis by axis."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from dicom_files import write_dicom
from PIL import Image

from data_prep import audit, points_csv
from kerasland import phantom, point_errors, prepared
from kerasland.__main__ import main
from kerasland.errors import UsageError
from kerasland.scale import Scale

SPACING = {"a": [0.2, 0.1], "b": [0.5, 0.5]}  # between rows, between columns


@pytest.fixture
def prepare(tmp_path):
    """A function that prepares two DICOM files and a PNG with the options given."""
    pytest.importorskip("pydicom")
    pixels = np.random.default_rng(0).integers(0, 4096, (60, 50), dtype=np.uint16)
    (tmp_path / "images").mkdir()
    for name, spacing in SPACING.items():
        write_dicom(tmp_path / "images" / f"{name}.dcm", pixels + ord(name), PixelSpacing=spacing)
    Image.fromarray(pixels).save(tmp_path / "images" / "c.png")
    rows = "".join(f"{name},10,20,30,40\n" for name in "abc")
    (tmp_path / "points.csv").write_text("image,p_x,p_y,q_x,q_y\n" + rows)

    def run(*options):
        paths = ["--images", tmp_path / "images", "--points", tmp_path / "points.csv"]
        return points_csv.main([str(arg) for arg in (*paths, "--out", tmp_path / "out", *options)])

    run.folder = tmp_path
    return run


def test_millimetres_of_each_image(prepare, capsys):
    assert prepare("--mm-per-px", "file") == 0
    said = capsys.readouterr().out
    assert "1 of 3 images without pixel spacing: c" in said
    assert "pixel spacing of each image (PixelSpacing)" in said
    data = prepared.read(prepare.folder / "out")
    assert data.ids == ("a", "b", "c")
    np.testing.assert_array_equal(data.spacing, [[0.1, 0.2], [0.5, 0.5], [np.nan, np.nan]])
    np.testing.assert_allclose(data.mm_per_px, [0.15, 0.5, np.nan])

    off = np.tile([3.0, -4.0], (3, 2, 1))
    errors = point_errors.point_errors(data, data.ids, data.points + off, np.ones((3, 2)))
    np.testing.assert_allclose(errors["error_px"], 5)
    expected = [np.hypot(0.3, 0.8), 2.5, np.nan]
    np.testing.assert_allclose(errors["error_mm"], np.repeat(expected, 2))
    some = point_errors.point_errors(
        data, ("b", "a"), data.points[[1, 0]] + off[:2], np.ones((2, 2))
    )
    np.testing.assert_allclose(some["error_mm"], np.repeat([expected[1], expected[0]], 2))
    assert data.scale.describe(data.landmarks) == "pixel spacing of each image (PixelSpacing)"
    assert data.mean_scale(["a", "b"]) == Scale(mm_per_px=0.325)
    assert data.mean_scale(["b", "c"]) == Scale(mm_per_px=0.5)

    capsys.readouterr()
    assert audit.main([str(data.folder)]) == 0
    assert "no pixel spacing of c" in capsys.readouterr().out


def test_files_without_spacing_are_refused(prepare, capsys):
    for name in SPACING:
        (prepare.folder / "images" / f"{name}.dcm").unlink()
    assert prepare("--mm-per-px", "file") == 1
    said = capsys.readouterr().err
    assert "no file states a pixel spacing" in said and "c.png" in said and said.count("\n") == 1
    assert not (prepare.folder / "out").exists()


def test_one_scale_only(prepare, capsys):
    two = ["--scale-landmarks", "p", "q", "--length-mm", "5"]
    assert prepare("--mm-per-px", "file", *two) == 2
    assert "either two landmarks and a length or mm per pixel" in capsys.readouterr().err
    assert prepare("--mm-per-px", "files") == 2
    assert "--mm-per-px files: no such column in" in capsys.readouterr().err
    for scale in (
        {"mm_per_px": 0.5, "files": "x"},
        {"landmarks": (0, 1), "length_mm": 5.0, "files": "x"},
    ):
        with pytest.raises(UsageError):
            Scale(**scale)


def with_column(folder, *cells):
    rows = (f"{name},10,20,30,40,{cell}\n" for name, cell in zip("abc", cells, strict=True))
    (folder / "points.csv").write_text("image,p_x,p_y,q_x,q_y,Spacing\n" + "".join(rows))


def test_a_column_states_the_spacing(prepare, capsys):
    with_column(prepare.folder, "0.3", "", "0.175")
    assert prepare("--mm-per-px", "spacing") == 0
    said = capsys.readouterr().out
    assert "1 of 3 images without pixel spacing: b" in said and "not used" not in said
    data = prepared.read(prepare.folder / "out")
    np.testing.assert_array_equal(data.spacing, [[0.3, 0.3], [np.nan, np.nan], [0.175, 0.175]])
    assert data.scale.describe() == "pixel spacing of each image (column spacing)"
    errors = point_errors.point_errors(data, data.ids, data.points + [3, 4], np.ones((3, 2)))
    np.testing.assert_allclose(errors["error_mm"], np.repeat([1.5, np.nan, 0.875], 2))


@pytest.mark.parametrize(
    ("cells", "status", "expected"),
    [
        (("0.3", "0", "0.3"), 1, "line 3: spacing of image b is '0': expected millimetres a pixel"),
        (("0.3", "0.3", "1 mm"), 1, "line 4: spacing of image c is '1 mm': expected millimetres"),
        (("0.3", "0.3", "inf"), 1, "line 4: spacing of image c is 'inf': expected millimetres"),
        (("", "nan", ""), 1, "points.csv: column spacing gives no image a pixel spacing"),
    ],
)
def test_a_column_of_no_spacing(prepare, capsys, cells, status, expected):
    with_column(prepare.folder, *cells)
    assert prepare("--mm-per-px", "spacing") == status
    said = capsys.readouterr().err
    assert expected in said and said.count("\n") == 1
    assert not (prepare.folder / "out").exists()


@pytest.mark.parametrize(
    "table",
    [
        "image,s,x,y,x,y\na,0.175,10,20,30,40\nc,0.3,10,20,30,40\n",
        "image;p_x;p_y;s\na;10;20;0,175\nc;10;20;0,300\n",
        "image,landmark,x,y,s\na,p,10,20,0.175\na,q,30,40,\nc,p,10,20,0.3\nnone,p,1,2,9\n",
        "image,s,p,p\na,0.175,10,20\nc,0.3,10,20\n",
    ],
)
def test_a_column_beside_points_of_any_kind(prepare, table):
    (prepare.folder / "points.csv").write_text(table)
    assert prepare("--mm-per-px", "s") == 0
    data = prepared.read(prepare.folder / "out")
    np.testing.assert_array_equal(data.spacing[:, 0], [0.175, 0.3])
    assert data.points[0, 0].tolist() == [10, 20]


def test_a_column_that_ends_like_a_coordinate(prepare, capsys):
    (prepare.folder / "points.csv").write_text("image,p_x,p_y,spacing_x\na,10,20,0.1\n")
    assert prepare("--mm-per-px", "spacing_x") == 0
    assert prepared.read(prepare.folder / "out").landmarks == ("p",)
    (prepare.folder / "points.csv").write_text("image,p_x,p_y\na,10,20\n")
    capsys.readouterr()
    for option, said in (("p_x", "that column holds the images or points"), ("", "no column")):
        assert prepare("--mm-per-px", option) == 2
        assert said in capsys.readouterr().err


def test_the_line_of_a_wrong_cell(prepare, capsys):
    table = "image,landmark,x,y,s\na,p,10,20,\na,q,30,40,0\n"
    (prepare.folder / "points.csv").write_text(table)
    assert prepare("--mm-per-px", "s") == 1
    assert "line 3: s of image a is '0'" in capsys.readouterr().err


def test_other_scales_are_as_before(prepare):
    assert prepare("--mm-per-px", "0.5") == 0
    data = prepared.read(prepare.folder / "out")
    np.testing.assert_array_equal(data.spacing, np.full((3, 2), 0.5))
    assert data.mean_scale(data.ids) is data.scale
    assert prepare("--scale-landmarks", "p", "q", "--length-mm", "10") == 0
    data = prepared.read(prepare.folder / "out")
    np.testing.assert_allclose(data.spacing, 10 / np.hypot(20, 20))
    about = json.loads((data.folder / "dataset.json").read_text())
    del about["spacing"], about["scale"]["files"]  # as older versions wrote it
    (data.folder / "dataset.json").write_text(json.dumps(about))
    np.testing.assert_array_equal(prepared.read(data.folder).spacing, data.spacing)


@pytest.mark.slow
def test_training_and_evaluation_in_stated_millimetres(tmp_path, capsys):
    pytest.importorskip("pydicom")
    (tmp_path / "images").mkdir()
    rows = ["image,landmark,x,y"]
    for i in range(8):
        image, points = phantom.hand(i, (140, 100))
        spacing = [0.9 + 0.1 * i, 0.9 + 0.1 * i]
        write_dicom(tmp_path / "images" / f"{i}.dcm", image, ImagerPixelSpacing=spacing)
        rows += [f"{i},{k},{x},{y}" for k, (x, y) in enumerate(points[:5])]
    (tmp_path / "points.csv").write_text("\n".join(rows))
    paths = ["--images", str(tmp_path / "images"), "--points", str(tmp_path / "points.csv")]
    data, run = str(tmp_path / "data"), str(tmp_path / "run")
    assert points_csv.main([*paths, "--mm-per-px", "file", "--out", data]) == 0
    settings = ["image_shape=64x48", "width=8", "max_width=16", "depth=3", "epochs=1"]
    settings += ["validation_images=2", "sigma_px=1.5"]
    args = ["--data", data, "--fold", "dev"]
    assert main(["train", *args, "--out", run, "--set", *settings]) == 0
    capsys.readouterr()
    assert main(["evaluate", run, "--data", data]) == 0
    assert "scale: pixel spacing of each image (ImagerPixelSpacing)" in capsys.readouterr().out
    errors = pd.read_csv(tmp_path / "run" / "evaluation" / "errors.csv")
    scale = 0.9 + 0.1 * errors["image_id"].astype(int)
    np.testing.assert_allclose(errors["error_mm"], errors["error_px"] * scale)
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert any("mm" in column for column in history)
