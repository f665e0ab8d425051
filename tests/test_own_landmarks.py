"""Any number of landmarks: a folder of pictures and a CSV become a model, tables and an export."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from data_prep import audit, points_csv
from kerasland import plots
from kerasland.__main__ import main

SHAPE = (112, 84)
SMALL = ["image_shape=64x48", "width=8", "max_width=32", "depth=4", "sigma_px=1.5"]
SMALL += ["stem_stride=2", "output_stride=2"]
SHORT = ["learning_rate=1e-2", "ema_momentum=0.9", "rotation_deg=5", "warmup_epochs=1"]
AXES = tuple(enumerate("xy"))


def contour(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright ellipse somewhere, with points along its edge: (H, W) uint8 and (count, 2)."""
    height, width = SHAPE
    centre = np.array([width, height]) / 2 + rng.uniform(-12, 12, 2)
    radii = rng.uniform((16, 22), (26, 34))
    angle = 2 * np.pi * np.arange(count) / count
    points = centre + radii * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    rows, columns = np.indices(SHAPE)
    inside = ((columns - centre[0]) / radii[0]) ** 2 + ((rows - centre[1]) / radii[1]) ** 2 < 1
    picture = 60 + 120 * inside + rng.normal(0, 5, SHAPE)
    return np.clip(picture, 0, 255).astype(np.uint8), points


def write_own(folder, count: int, images: int = 28) -> list[str]:
    """Pictures and `points.csv`; the last landmark is nowhere annotated, some are missing."""
    rng = np.random.default_rng(count)
    names = [f"point_{k}" for k in range(count)]
    (folder / "images").mkdir(parents=True)
    rows = []
    for i in range(images):
        picture, points = contour(rng, count)
        Image.fromarray(picture).save(folder / "images" / f"p{i}.png")
        points[-1] = np.nan
        points[i % count if i % 3 == 0 else -1] = np.nan
        if i == 1:  # an image with a single point
            points[1:] = np.nan
        axes = {f"{name}_{axis}": points[k, a] for k, name in enumerate(names) for a, axis in AXES}
        rows.append({"image": f"p{i}.png", **axes})
    pd.DataFrame(rows).to_csv(folder / "points.csv", index=False)
    return names


def kerasland(*words: object) -> None:
    assert main(list(map(str, words))) == 0


def prepare(folder, *options: str) -> None:
    paths = ("--images", folder / "images", "--points", folder / "points.csv")
    assert points_csv.main([*map(str, paths), "--out", str(folder / "data"), *options]) == 0
    assert audit.main([str(folder / "data")]) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "unit", "epochs", "options"),
    [(4, "px", 16, ()), (80, "mm", 40, ("--mm-per-px", "0.5"))],
)
def test_from_pictures_and_a_table_to_an_export(tmp_path, count, unit, epochs, options):
    """Landmarks that no image has, others that some lack, with and without millimetres."""
    names = write_own(tmp_path, count)
    prepare(tmp_path, *options)
    data, run = tmp_path / "data", tmp_path / "run"
    settings = [*SMALL, *SHORT, f"epochs={epochs}", "validation_images=4"]
    kerasland("train", "--data", data, "--fold", "dev", "--out", run, "--set", *settings)
    kerasland("evaluate", run, "--data", data)
    summary = json.loads((run / "evaluation" / "summary.json").read_text())
    error, guess = (of[f"error_{unit}_mean"] for of in (summary, summary["mean_shape"]))
    assert error < guess / 2, (error, guess)
    assert (summary["error_mm_mean"] is None) == (unit == "px")
    errors = pd.read_csv(run / "evaluation" / "errors.csv")
    assert list(errors["landmark"][:count]) == names and len(errors) == 7 * count
    assert errors.loc[errors["landmark"] == names[-1], "error_px"].isna().all()
    assert np.isfinite(errors[["x", "y"]].to_numpy()).all()

    pictures = sorted((tmp_path / "images").glob("p1*.png"))
    kerasland("predict", *pictures, "--model", run, "--out", tmp_path / "found")
    found = pd.read_csv(tmp_path / "found" / "landmarks.csv")
    assert list(found["landmark"]) == names * len(pictures)
    kerasland("export", run, "--out", tmp_path / "saved")
    import tensorflow as tf

    served = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"]
    image = tf.constant(np.asarray(Image.open(pictures[0]))[None, ..., None])
    points = served(image=image)["landmarks"].numpy()[0]
    np.testing.assert_allclose(points, found[["x", "y"]].to_numpy()[:count], atol=0.1)


@pytest.mark.slow
def test_every_row_of_the_ablation_with_one_landmark(tmp_path):
    """There is no pair of landmarks to correlate, and no scale."""
    write_own(tmp_path, 2, images=10)
    table = pd.read_csv(tmp_path / "points.csv")[["image", "point_0_x", "point_0_y"]]
    table.dropna().to_csv(tmp_path / "points.csv", index=False)
    prepare(tmp_path)
    short = [*SMALL, "epochs=1", "validation_images=2"]
    out = tmp_path / "rows"
    kerasland("reproduce", "--data", tmp_path / "data", "--out", out, "--set", *short)
    table = pd.read_csv(out / "ablation.csv")
    assert len(table) == 5 and np.isfinite(table["error_px_mean"]).all()
    assert "no millimetres known" in (out / "ablation.md").read_text()
    assert (out / "paired.md").read_text().count(" - unet ") == 3
    landmarks = pd.read_csv(out / "per_landmark.csv", index_col="landmark")
    assert list(landmarks) == list(table["method"])
    np.testing.assert_allclose(landmarks.loc["point_0"], table["error_px_mean"])


@pytest.mark.slow
def test_the_shipped_weights_with_other_landmarks(tmp_path, capsys):
    write_own(tmp_path, 5, images=8)
    prepare(tmp_path)
    given = [
        "train",
        "--data",
        tmp_path / "data",
        "--init",
        "pretrained",
        "--out",
        tmp_path / "run",
    ]
    few = ["epochs=1", "validation_images=0", "image_shape=64x64"]
    assert main(list(map(str, [*given, "--set", *few, "width=16"]))) == 2
    assert "give it the width, max_width, depth, strides" in capsys.readouterr().err
    # a preset of another depth: the network is that of the weights
    kerasland(*given, "--preset", "quick", "--set", *few)
    kerasland("predict", tmp_path / "images", "--model", tmp_path / "run", "--out", tmp_path / "f")
    assert pd.read_csv(tmp_path / "f" / "landmarks.csv")["landmark"].nunique() == 5


def test_a_picture_with_many_landmarks_names_its_largest_errors_alone():
    truth = np.stack(np.meshgrid(np.arange(10, 80, 10), np.arange(10, 100, 10)), -1).reshape(-1, 2)
    points = truth + np.array([3.0, 0.0]) + np.arange(len(truth))[:, None] * np.array([0.1, 0.0])
    figure = plots.overlay(np.zeros(SHAPE), points, truth, mm_per_px=1.0)
    written = {text.get_text() for text in figure.axes[0].texts}
    largest = sorted(np.linalg.norm(points - truth, axis=-1))[-10:]
    assert written == {f"{error:.1f} mm" for error in largest} | {"10 mm"}
