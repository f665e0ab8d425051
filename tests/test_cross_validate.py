"""Cross-validation by the command line: each image judged once, by a model that never saw it."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kerasland import cross_validate, experiment, model_files, prepared, synthetic
from kerasland.__main__ import main
from kerasland.errors import DataError, UsageError

SETTINGS = ["image_shape=64x48", "width=8", "max_width=16", "depth=3", "epochs=1", "sigma_px=1.5"]


@pytest.fixture(scope="module")
def hands(tmp_path_factory):
    data = synthetic.write(tmp_path_factory.mktemp("hands") / "data", 12, shape=(140, 100))
    shutil.rmtree(data.folder / "folds")
    for name, test in {"a": data.ids[:4], "b": data.ids[4:8], "c": data.ids[7:]}.items():
        folder = data.folder / "folds" / name
        folder.mkdir(parents=True)
        (folder / "test.txt").write_text("\n".join(test))
        (folder / "train.txt").write_text("\n".join(i for i in data.ids if i not in test))
    return prepared.read(data.folder)


def run(data, out, *more):
    args = ["crossvalidate", "--data", data.folder, "--folds", "a,b", "--out", out, *more]
    args += ["--set", *SETTINGS, "validation_images=0"]
    return main([str(arg) for arg in args])


@pytest.fixture(scope="module")
def crossed(hands, tmp_path_factory):
    """A cross-validation without a final model."""
    out = tmp_path_factory.mktemp("crossed") / "out"
    assert run(hands, out) == 0
    return out


@pytest.mark.slow
def test_a_scale_taken_away_leaves_no_reliability_behind(hands, crossed, tmp_path):
    out, data = shutil.copytree(crossed, tmp_path / "out"), tmp_path / "data"
    shutil.copytree(hands.folder, data)
    about = json.loads((data / "dataset.json").read_text())
    about["scale"] = {"landmarks": None, "length_mm": None, "mm_per_px": None, "files": None}
    (data / "dataset.json").write_text(json.dumps(about))
    assert (out / "reliability.csv").exists()
    assert run(prepared.read(data), out) == 0
    assert "error_px_mean" in (out / "table.csv").read_text()
    assert not list(out.glob("reliability.*"))


@pytest.mark.slow
def test_pools_the_folds_and_makes_a_model_of_all(hands, crossed, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(crossed, out)
    assert "mean_shape" in (out / "table.md").read_text() and not (out / "model.keras").exists()
    trained = {fold: (out / fold / "model.keras").stat().st_mtime_ns for fold in "ab"}
    assert run(hands, out, "--final") == 0  # goes on: the folds are not trained again
    assert "mean_shape" in capsys.readouterr().out
    assert trained == {f: (out / f / "model.keras").stat().st_mtime_ns for f in "ab"}

    errors = pd.read_csv(out / "errors.csv", dtype={"image_id": str})
    assert sorted(errors["image_id"].unique()) == list(hands.ids[:8])
    for fold, rows in errors.groupby("fold"):
        notes = json.loads((out / fold / "experiment.json").read_text())
        assert not set(rows["image_id"]) & set(notes["train_ids"])
        seen = set(notes["pixel_hashes"])
        assert not seen & {hands.pixel_hashes[i] for i in rows["image_id"]}
    summary = json.loads((out / "summary.json").read_text())
    assert summary["error_mm_mean"] == pytest.approx(errors["error_mm"].mean())
    assert summary["folds"] == {"a": 4, "b": 4} and summary["images"] == 8
    reliability = pd.read_csv(out / "reliability.csv")
    assert (
        reliability["empirical_coverage"].between(0, 1).all()
        and (out / "reliability.png").stat().st_size
    )

    notes = json.loads((out / "experiment.json").read_text())
    assert sorted(notes["train_ids"]) == sorted(hands.ids)
    picture = next((hands.folder / "images").glob("*.png"))
    assert main(["predict", str(picture), "--model", str(out), "--out", str(tmp_path / "p")]) == 0
    found = pd.read_csv(tmp_path / "p" / "landmarks.csv")
    assert (found["error_mm"] > 0).all() and np.isfinite(found["error_mm"]).all()
    assert main(["evaluate", str(out), "--data", str(hands.folder), "--fold", "a"]) == 1
    assert "were trained on" in capsys.readouterr().err


def test_refuses_what_would_lie(hands, tmp_path):
    small = experiment.QUICK.replace(validation_images=0)
    with pytest.raises(UsageError, match="two folds"):
        cross_validate.cross_validate(tmp_path / "x", hands, small, ("a",))
    with pytest.raises(UsageError, match=f"{hands.ids[7]} is in the test lists of b and c"):
        cross_validate.cross_validate(tmp_path / "x", hands, small, ("a", "b", "c"))
    with pytest.raises(UsageError, match="no fold 'd'"):
        cross_validate.cross_validate(tmp_path / "x", hands, small, ("a", "d"))
    with pytest.raises(UsageError, match="a,b,a: names a more than once"):
        cross_validate.cross_validate(tmp_path / "x", hands, small, ("a", "b", "a"))
    lonely = tmp_path / "copied.keras"
    model_files.load_pretrained("drawn_hands").save(lonely)
    with pytest.raises(DataError, match=r"copied.keras: no experiment.json beside it"):
        cross_validate.cross_validate(tmp_path / "x", hands, small, ("a", "b"), init=lonely)
    assert not (tmp_path / "x").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "experiment.json").write_text("{}")
    with pytest.raises(UsageError, match="run: holds a run already"):
        cross_validate.cross_validate(tmp_path / "run", hands, small, ("a", "b"), final=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "table.csv").write_text("keep")
    with pytest.raises(UsageError, match="mine: not empty and no cross-validation"):
        cross_validate.cross_validate(tmp_path / "mine", hands, small, ("a", "b"))
    summary = tmp_path / "mine" / "summary.json"
    for text in ("not json", "[]", '{"method": "x", "subset": "y", "folds": 1}'):
        summary.write_text(text)
        with pytest.raises(DataError, match=r"mine/summary.json: not the summary"):
            cross_validate.cross_validate(tmp_path / "mine", hands, small, ("a", "b"))
    summary.write_text('{"method": "unet", "subset": "", "folds": {"a": 4, "c": 5}}')
    with pytest.raises(UsageError, match="a cross-validation over a, c, not one over a, b"):
        cross_validate.cross_validate(tmp_path / "mine", hands, small, ("a", "b"))


@pytest.mark.slow
def test_weights_that_know_a_test_image_are_refused(hands, crossed, tmp_path, capsys):
    assert run(hands, tmp_path / "second", "--init", crossed / "a") == 1
    assert "was trained on image" in capsys.readouterr().err
    assert not (tmp_path / "second").exists()


@pytest.mark.slow
@pytest.mark.parametrize("target", ["pretrained", "drawn_hands"])
def test_make_writes_the_models_that_ship(target, hands, tmp_path):
    """The Makefile's commands as they stand, with fewer and smaller hands."""
    root = Path(__file__).resolve().parents[1]
    shutil.copytree(hands.folder, tmp_path / "hands")
    for number, start in enumerate((0, 4, 8), start=1):
        fold = tmp_path / "hands" / "folds" / f"set{number}"
        fold.mkdir()
        test = hands.ids[start : start + 4]
        (fold / "test.txt").write_text("\n".join(test))
        (fold / "train.txt").write_text("\n".join(i for i in hands.ids if i not in test))
    make = ["make", "-n", "-f", root / "Makefile", target, "DATA=hands", f"PYTHON={sys.executable}"]
    lines = subprocess.run(make, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    script = []
    for line in lines.replace("\\\n", " ").splitlines():
        line = re.sub(r"--shape \d+ \d+", "--shape 140 100", line)
        line = re.sub(r"--count \d+", "--count 12", line)
        if "--init" in line:  # whose network it has
            line += " image_shape=64x64 epochs=1 sigma_px=1.5 warmup_epochs=0"
        elif "--set" in line:
            line += f" {shlex.join(SETTINGS)} warmup_epochs=0"
        script.append(line)
    assert any("--set" in line for line in script)
    done = subprocess.run(
        ["bash", "-ec", "\n".join(script)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    made = {"pretrained": "hand_atlas", "drawn_hands": "drawn_hands"}[target]
    model = model_files.load_model(tmp_path / "runs" / made)
    settings = json.loads((tmp_path / "runs" / made / "experiment.json").read_text())["experiment"]
    ships = target == "pretrained"
    assert settings["shape_prior"] == ships and ("error_mm" in model.output) == ships
