"""The audit finds each mistake that is made in a sound data set, all of them at once."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from data_prep import audit, shape_outliers
from kerasland import geometry, preparation, prepared
from kerasland.scale import Scale

MEAN = np.array([[20, 90], [30, 92], [40, 91], [55, 90], [60, 88], [10, 40], [35, 10], [62, 30]])
NAMES = tuple(f"n{k}" for k in range(len(MEAN)))


@pytest.fixture
def folder(tmp_path):
    """Eight images of (100, 80) with eight points each: turned, scaled and moved a little."""
    rng = np.random.default_rng(0)
    made = []
    for i in range(8):
        turn, size = rng.uniform(-0.05, 0.05), rng.uniform(0.9, 1.0)
        matrix = size * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        points = (MEAN - (40, 50)) @ matrix.T + (40, 50) + rng.normal(0, 1, MEAN.shape)
        made.append((f"im{i}", rng.integers(0, 256, (100, 80), dtype=np.uint8), points))
    preparation.write(
        tmp_path / "set",
        name="test",
        landmarks=NAMES,
        records=made,
        scale=Scale((0, 4), 50.0),
        folds={"dev": ([f"im{i}" for i in range(6)], ["im6", "im7"])},
    )
    return tmp_path / "set"


def line(image: int, landmark: int) -> int:
    return 2 + image * len(MEAN) + landmark


def edit_points(folder, change) -> None:
    """Applies `change(image id, landmark, x, y) -> (x, y)` to each row of landmarks.csv."""
    path = folder / "landmarks.csv"
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for image_id, landmark, x, y in rows:
            moved = change(image_id, landmark, float(x), float(y))
            writer.writerow([image_id, landmark, *moved])


def audited(folder, capsys) -> tuple[int, str]:
    status = audit.main([str(folder)])
    said = capsys.readouterr()
    if status:
        assert said.err.startswith("error: ") and said.err.count("\n") == 1
    return status, said.out


def test_a_sound_set_passes(folder, capsys):
    status, said = audited(folder, capsys)
    assert status == 0 and "wrong:" not in said
    assert "fold dev: 6 train, 2 test" in said
    assert "8 images, 64 points, 8 landmarks" in said and "n0 to n4 (0, 4) = 50 mm" in said


def test_one_warning_is_no_warnings(folder, capsys):
    assert audited(folder, capsys)[1].endswith("nothing wrong, 0 warnings\n")
    shutil.rmtree(folder / "folds")
    assert audited(folder, capsys)[1].endswith("nothing wrong, 1 warning\n")
    (folder / "images" / "im3.png").unlink()
    assert audit.main([str(folder)]) == 1
    assert capsys.readouterr().err.endswith(" wrong, 1 warning\n")


def test_another_png_encoder_changes_nothing(folder, capsys):
    path = folder / "images" / "im3.png"
    Image.open(path).copy().save(path, compress_level=9)
    assert audited(folder, capsys)[0] == 0


def test_no_data_set(tmp_path, capsys):
    assert audit.main([str(tmp_path)]) == 1
    assert f"{tmp_path}: no dataset.json" in capsys.readouterr().err


def test_every_mistake_is_found_at_once(folder, capsys):
    def change(image_id, landmark, x, y):
        if image_id == "im0":
            return y, x
        if image_id == "im1":
            return 79 - x, y
        if (image_id, landmark) == ("im2", "n3"):
            return -3, y
        if image_id == "im3" and landmark in ("n0", "n4"):
            return 33, 90
        return x, y

    edit_points(folder, change)
    images = folder / "images"
    with (folder / "landmarks.csv").open("a") as file:
        file.write("im4,n0,1,2\nim4,thumb,1,2\nim4,n1,one,2\nim9,n1,1,2\n")
    Image.open(images / "im5.png").copy().save(images / "im4.png")
    (images / "im6.png").write_bytes((images / "im6.png").read_bytes()[:900])
    Image.open(images / "im5.png").rotate(180).save(images / "im7.png")
    Image.open(images / "im5.png").rotate(90).save(images / "extra.png")
    (folder / "folds/dev/train.txt").write_text("im0\nim1\nim8\nim7\n")

    status, said = audited(folder, capsys)
    assert status == 1
    for expected in (
        f"lines {line(0, 0)} to {line(0, 7)}: im0: x and y look exchanged",
        f"lines {line(1, 0)} to {line(1, 7)}: im1: left and right look exchanged",
        f"line {line(2, 3)}: im2 n3: (-3, ",
        f"line {line(3, 4)}: im3 n4: the scale's landmarks n0 and n4 are 0 pixels apart",
        f"line {line(8, 0)}: im4 n0 again, first on line {line(4, 0)}",
        f"line {line(8, 1)}: unknown landmark 'thumb'",
        f"line {line(8, 2)}: x, y = one, 2",
        "im9.png: missing",
        "im5.png: the same pixels as",
        "im6.png: can't be read",
        "im7.png: pixels changed since",
        "extra.png: no points of it",
        "train.txt: image im8 is not in this data set",
        "dev: image im7 is in train.txt and in test.txt",
        "landmarks.csv: changed since",
    ):
        assert sum(expected in found for found in said.splitlines()) == 1, (expected, said)
    assert "im5.png: pixels changed" not in said


def test_exchange_of_few_points_shows_in_the_frame(folder, capsys):
    # With too few images for a mean shape, points off the frame still tell.
    dataset = prepared.read(folder)
    small = folder.parent / "small"
    preparation.write(
        small,
        name="test",
        landmarks=NAMES,
        records=[
            (i, dataset.image_path(i), p)
            for i, p in zip(dataset.ids[:3], dataset.points, strict=False)
        ],
    )
    edit_points(small, lambda i, _, x, y: (y, x) if i == "im1" else (x, y))
    status, said = audited(small, capsys)
    assert status == 1 and "im1: x and y look exchanged" in said
    assert "shapes not compared" in said and "no millimetres known" in said


def test_a_landmark_far_off_is_a_warning(folder, capsys):
    def change(image_id, landmark, x, y):
        return (x + 40, y + 5) if (image_id, landmark) == ("im5", "n5") else (x, y)

    edit_points(folder, change)
    about = json.loads((folder / "dataset.json").read_text())
    dataset = prepared.read(folder)
    records = [(i, dataset.image_path(i), p) for i, p in zip(dataset.ids, dataset.points)]  # noqa: B905
    again = folder.parent / "again"
    preparation.write(
        again, name="test", landmarks=about["landmarks"], records=records, scale=dataset.scale
    )
    status, said = audited(again, capsys)
    assert status == 0
    assert f"warning: {again / 'landmarks.csv'}, line {line(5, 5)}: im5 n5: " in said


def test_missing_points_are_no_mistake(folder, capsys):
    dataset = prepared.read(folder)
    points = dataset.points.copy()
    points[:, 6] = np.nan
    points[2, 0] = np.nan
    points[3, 1:] = np.nan
    records = [(i, dataset.image_path(i), p) for i, p in zip(dataset.ids, points, strict=True)]
    again = folder.parent / "again"
    preparation.write(
        again, name="test", landmarks=NAMES, records=records, scale=Scale((0, 4), 50.0)
    )
    status, said = audited(again, capsys)
    assert status == 0 and "im2: no scale, n0 and n4 are not both annotated" in said


def test_exchange_is_told_apart_from_a_turn():
    rng = np.random.default_rng(1)
    every = geometry.as_complex(MEAN + rng.normal(0, 1, (9, *MEAN.shape)))
    mean = shape_outliers.mean_shape(every)
    shape = every[0]
    assert shape_outliers.exchanged(shape, mean) is None
    assert shape_outliers.exchanged(3 * shape * np.exp(2j) + 7, mean) is None
    assert shape_outliers.exchanged(1j * shape.conj(), mean) == "x and y"
    assert shape_outliers.exchanged(-shape.conj(), mean) == "left and right"
    assert shape_outliers.exchanged(shape.conj(), mean) == "up and down"
    assert shape_outliers.misfit(shape * np.exp(0.3j), mean)[1] == pytest.approx(0.3, abs=0.1)
