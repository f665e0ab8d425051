"""`predict` on the files that people have: formats, scale, right hands, what can't be read."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from dicom_files import write_dicom
from PIL import Image

from data_prep import points_csv
from kerasland import (
    geometry,
    localizers,
    model_files,
    model_notes,
    phantom,
    predict,
    predictions,
    prepared,
)
from kerasland.__main__ import main
from kerasland.errors import DataError, UsageError
from kerasland.images import read_image
from kerasland.layers import ExpectedError
from kerasland.models import unet
from kerasland.scale import Scale

SHAPE = (560, 400)


@pytest.fixture(scope="module")
def model():
    return model_files.load_pretrained()


@pytest.fixture(scope="module")
def hand():
    """A drawn left hand in 12 bit, and its landmarks."""
    image, points = phantom.hand(3, SHAPE)
    return (image - image.min()).astype(np.uint16) * 16, points


def mirrored(points: np.ndarray, width: int) -> np.ndarray:
    return np.array([[width - 1 - x, y] for x, y in points])


def points_of(table: pd.DataFrame, path: object) -> np.ndarray:
    return table.loc[table["image"] == str(path), ["x", "y"]].to_numpy()


def test_one_radiograph_in_every_format(hand, model, tmp_path):
    for module in ("SimpleITK", "nibabel", "pydicom", "imagecodecs"):
        pytest.importorskip(module)
    import nibabel
    import SimpleITK

    pixels, _ = hand
    one = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12}
    rescaled = {"RescaleSlope": 0.5, "RescaleIntercept": -300, "BitsStored": 12}
    wide = {"WindowCenter": 2048, "WindowWidth": 4096, "BitsStored": 12}
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray((pixels // 16).astype(np.uint8)).save(tmp_path / "b.png")
    Image.fromarray(pixels).save(tmp_path / "c.tif")
    Image.fromarray(np.rot90(pixels)).save(tmp_path / "d.tif", exif=exif)
    Image.fromarray((pixels // 16).astype(np.uint8)).save(tmp_path / "e.jpg", quality=100)
    write_dicom(tmp_path / "f.dcm", pixels, BitsStored=12)
    write_dicom(tmp_path / "g.dcm", 4095 - pixels, **one)
    write_dicom(tmp_path / "h", pixels, "JPEGLosslessSV1", **wide)
    write_dicom(tmp_path / "i.dcm", pixels.astype(np.int16) - 2048, "JPEG2000Lossless", **rescaled)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(pixels), str(tmp_path / "j.mha"), True)
    nibabel.save(nibabel.Nifti1Image(pixels.T, np.eye(4)), tmp_path / "k.nii.gz")
    nibabel.save(nibabel.Nifti1Image(pixels.T / 7.0, np.eye(4)), tmp_path / "l.nii")

    table = predict.predict([tmp_path], model, tmp_path / "out")
    found = table["image"].unique()
    assert [path.split("/")[-1][0] for path in found] == list("abcdefghijkl")
    first = points_of(table, found[0])
    for path in found:
        off = np.abs(points_of(table, path) - first).max()
        assert off < (0.5 if path.endswith("jpg") else 0.05), (path, off)
    assert {path.name for path in (tmp_path / "out" / "overlays").iterdir()} == {
        f"{letter}.jpg" for letter in "abcdefghijkl"
    }


def test_a_folder_of_other_kinds_of_picture(hand, model, tmp_path, capsys):
    """And which overlay is whose, also where others lie beside it."""
    pixels = (hand[0] // 16).astype(np.uint8)
    for name in ("a.bmp", "b.jp2", "c.webp", "one/d.png", "two/d.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "in" / name)
    out = tmp_path / "out"
    assert main(["predict", str(tmp_path / "in" / "**"), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert f"5 images, written to {out}: landmarks.csv, landmarks.json, overlays/" in said.out
    assert "other" not in said.err
    document = json.loads((out / "landmarks.json").read_text())
    overlays = [entry["overlay"].removeprefix("overlays/") for entry in document]
    assert overlays == ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "d_2.jpg"]
    assert [entry["image"][-9:] for entry in document[3:]] == ["one/d.png", "two/d.png"]
    assert set(overlays) == {path.name for path in (out / "overlays").iterdir()}
    plain = (out / "overlays/a.jpg").read_bytes()
    assert main(["predict", str(tmp_path / "in" / "a.bmp"), "--out", str(out), "--names"]) == 0
    assert (out / "overlays/a.jpg").read_bytes() != plain
    said = capsys.readouterr()
    assert "1 image, written to" in said.out
    assert f"{out}/overlays: has pictures of other images too, 4 of another call" in said.err


def test_the_scale_is_that_of_the_file_or_of_the_wrist(hand, model, tmp_path):
    pytest.importorskip("pydicom")
    write_dicom(tmp_path / "a.dcm", hand[0], ImagerPixelSpacing=[0.3, 0.2])
    Image.fromarray(hand[0]).save(tmp_path / "b.png", dpi=(72, 72))
    wrist = model_notes.model_scale("pretrained")
    table = predict.predict([tmp_path], model, tmp_path / "out", scale=wrist)
    assert list(table) == list(predictions.COLUMNS)
    assert list(table)[-3:] == ["x_mm", "y_mm", "scale"]
    by_file, by_wrist = table[:37], table[37:]
    assert set(by_file["scale"]) == {"ImagerPixelSpacing"}
    np.testing.assert_allclose(by_file["x_mm"], 0.2 * by_file["x"], rtol=2e-6)  # seven digits
    np.testing.assert_allclose(by_file["y_mm"], 0.3 * by_file["y"], rtol=2e-6)
    (said,) = set(by_wrist["scale"])
    assert said.endswith("(0, 4) = 50 mm")
    in_mm = by_wrist[["x_mm", "y_mm"]].to_numpy()
    assert np.linalg.norm(in_mm[0] - in_mm[4]) == pytest.approx(50)
    wrist_mm_per_px = in_mm[0, 0] / by_wrist["x"].iloc[0]
    np.testing.assert_allclose(in_mm / by_wrist[["x", "y"]], wrist_mm_per_px, rtol=2e-6)
    # one picture, one expected error in its pixels, whatever the millimetres are
    for column in predictions.ERRORS:
        in_px = [by_file[column] / 0.25, by_wrist[column] / wrist_mm_per_px]
        np.testing.assert_allclose(*in_px, rtol=1e-3)
    document = json.loads((tmp_path / "out" / "landmarks.json").read_text())
    assert document[0]["mm_per_px"] == [0.2, 0.3] and document[0]["side"] == "left"
    assert [entry["scale"] for entry in document] == ["ImagerPixelSpacing", said]

    # as given, where a file states nothing
    table = predict.predict([tmp_path], model, tmp_path / "out", scale=wrist, mm_per_px=0.15)
    pd.testing.assert_frame_equal(table[:37], by_file)
    assert set(table["scale"][37:]) == {"0.15 mm per px"}
    np.testing.assert_allclose(table["y_mm"][37:], 0.15 * table["y"][37:], rtol=2e-6)
    for column in predictions.ERRORS:
        in_px = [table[column][37:] / 0.15, by_wrist[column] / wrist_mm_per_px]
        np.testing.assert_allclose(*in_px, rtol=1e-3)
    with pytest.raises(UsageError, match="a scale of 0 mm: expected a number above 0"):
        predict.predict([tmp_path], model, tmp_path / "out", mm_per_px=0)

    # a model that was trained by a spacing has errors in true millimetres
    spaced = predict.predict([tmp_path / "b.png"], model, tmp_path / "out", "left", Scale(), 0.15)
    np.testing.assert_allclose(spaced["error_mm"], by_wrist["error_mm"], rtol=1e-4)

    # by a scale that nobody knows, errors are in no millimetres of the file's
    table = predict.predict([tmp_path / "a.dcm"], model, tmp_path / "out")
    assert table[[*predictions.ERRORS]].isna().all(axis=None) and table["x_mm"].notna().all()
    unknown = json.loads((tmp_path / "out" / "landmarks.json").read_text())[0]["landmarks"][0]
    assert unknown["error_mm"] is unknown["error_mm_95"] is None  # and not missing
    table = predict.predict([tmp_path / "b.png"], model, tmp_path / "out")
    assert table[[*predictions.ERRORS]].notna().all(axis=None)
    assert table[["x_mm", "y_mm"]].isna().all(axis=None) and set(table["scale"]) == {""}
    assert json.loads((tmp_path / "out" / "landmarks.json").read_text())[0]["mm_per_px"] is None


def test_a_large_scan_is_no_cause_for_a_warning(hand, tmp_path, monkeypatch, recwarn):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", hand[0].size - 1)
    Image.fromarray(hand[0]).save(tmp_path / "a.png")
    assert main(["predict", str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]) == 0
    assert not [w for w in recwarn if issubclass(w.category, Image.DecompressionBombWarning)]


def test_model_scale_is_that_of_its_run(tmp_path):
    assert model_notes.model_scale("pretrained").landmarks == (0, 4)
    with pytest.raises(DataError, match="no such model"):
        model_notes.model_scale(tmp_path)
    (tmp_path / "model.keras").touch()
    assert model_notes.model_scale(tmp_path) is None
    notes = json.loads((model_notes.location("pretrained") / "experiment.json").read_text())
    notes["data"]["scale"] = {"landmarks": None, "length_mm": None, "mm_per_px": 0.35}
    (tmp_path / "experiment.json").write_text(json.dumps(notes))
    known = model_notes.model_scale(tmp_path / "model.keras")
    assert known.landmarks is None and known.mm_per_px is None  # of other images


def test_a_mirrored_image_gives_mirrored_landmarks(hand, model, tmp_path):
    pixels, truth = hand
    left, confidence = localizers.localizer(model)(pixels)
    right, same = localizers.localizer(model, "right")(pixels[:, ::-1])
    np.testing.assert_allclose(right, mirrored(left, SHAPE[1]), atol=1e-3)
    np.testing.assert_allclose(same, confidence, atol=1e-6)

    Image.fromarray(pixels).save(tmp_path / "left.png")
    Image.fromarray(pixels[:, ::-1]).save(tmp_path / "right.png")
    predict.predict([tmp_path / "left.png"], model, tmp_path / "out")
    table = predict.predict([tmp_path / "right.png"], model, tmp_path / "right", "right")
    right = points_of(table, tmp_path / "right.png")
    np.testing.assert_allclose(right, mirrored(left, SHAPE[1]), atol=1e-3)
    assert json.loads((tmp_path / "right" / "landmarks.json").read_text())[0]["side"] == "right"
    # the overlay is of the picture as it is, with the points on the hand
    drawn, other = (
        np.asarray(Image.open(tmp_path / name), dtype=int)
        for name in ("out/overlays/left.jpg", "right/overlays/right.jpg")
    )
    grey = [np.asarray(Image.open(tmp_path / f"{side}.png")) for side in ("left", "right")]
    assert (grey[0] == grey[1][:, ::-1]).all()
    assert np.abs(drawn - other[:, ::-1]).mean() < np.abs(drawn - other).mean() / 2

    wrist_px = np.linalg.norm(truth[0] - truth[4])
    as_left, _ = localizers.localizer(model)(pixels[:, ::-1])
    truth = mirrored(truth, SHAPE[1])
    wrong, fine = (np.linalg.norm(p - truth, axis=1).mean() for p in (as_left, right))
    assert fine < 0.1 * wrist_px and wrong > 3 * fine


def test_the_side_matters_on_a_real_radiograph(hand_atlas, model):
    rows = pd.read_csv(hand_atlas / "all.csv", header=None, dtype={0: str}).set_index(0)
    image = read_image(hand_atlas / "images" / "3144.jpg")[:, ::-1]
    truth = mirrored(rows.loc["3144"].to_numpy(float).reshape(37, 2), image.shape[1])
    error_mm = {}
    for side in localizers.SIDES:
        off = np.linalg.norm(localizers.localizer(model, side)(image)[0] - truth, axis=1)
        error_mm[side] = off.mean() * geometry.mm_per_px(truth, (0, 4), 50.0)
    assert error_mm["right"] < 1.5 and error_mm["left"] > 10


def test_sides_are_told_apart(hand, model, tmp_path, capsys):
    pixels = hand[0]
    pictures = {"a": pixels, "b": pixels[:, ::-1], "c": 255 - pixels, "d": pixels[:, ::-1]}
    for name, picture in pictures.items():
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    table = predict.predict([tmp_path], model, tmp_path / "out", "auto")
    document = json.loads((tmp_path / "out" / "landmarks.json").read_text())
    assert [entry["side"] for entry in document] == ["left", "right", "left", "right"]
    assert [entry["shape_found"] for entry in document] == [True, True, False, True]
    size = {"width": SHAPE[1], "height": SHAPE[0]}
    assert size.items() <= document[0].items()
    found = {name: points_of(table, tmp_path / f"{name}.png") for name in pictures}
    for name in "bd":
        np.testing.assert_allclose(found[name], mirrored(found["a"], SHAPE[1]), atol=1e-3)
    said = capsys.readouterr().err
    assert said.count("doubtful: ") == 1 and "c.png: its landmarks form no shape" in said
    assert "--side" not in said
    # rings where nothing is sure: the hole in the middle shows the picture
    for name, sure in (("a", True), ("c", False)):
        drawn = np.asarray(Image.open(tmp_path / "out" / "overlays" / f"{name}.jpg"), dtype=int)
        height, width = pictures[name].shape
        within = [(x, y) for x, y in found[name] if 0 <= x < width and 0 <= y < height]
        places = np.rint((np.array(within) + 0.5) * len(drawn) / height - 0.5).astype(int)
        orange = np.ptp(drawn[places[:, 1], places[:, 0]], axis=1) > 100
        assert orange.mean() > 0.8 if sure else orange.mean() < 0.2


def test_what_files_state_and_was_not_used_is_told_once(hand, tmp_path, capsys):
    """Laterality and spacing; and how many images show no hand, also where some can't be read."""
    pytest.importorskip("pydicom")
    pixels, spacing = hand[0], {"PixelSpacing": [0.2, 0.2]}
    write_dicom(tmp_path / "a.dcm", pixels, Laterality="L", **spacing)
    write_dicom(tmp_path / "b.dcm", pixels[:, ::-1], ImageLaterality="R", Laterality="L")
    write_dicom(tmp_path / "c.dcm", pixels, Laterality="R", **spacing)
    write_dicom(tmp_path / "d.dcm", pixels, ImageLaterality="B")
    asked = ["predict", str(tmp_path), "--mm-per-px", "0.3", "--out", str(tmp_path / "out")]
    assert main(asked) == 0
    said = capsys.readouterr()
    assert said.out.startswith("4 images, 1 without a shape like those trained on, written to ")
    last = [line for line in said.err.splitlines() if line.startswith(("DICOM", "--"))]
    other = "of 4 images are of the other side than was used (--side)"
    assert last == [
        f"DICOM laterality: 2 {other}: {tmp_path}/b.dcm; {tmp_path}/c.dcm",
        "--mm-per-px: without effect on 2 of 4 images, whose files state a spacing",
    ]
    simple = unet(2, (64, 64), width=4, depth=2)  # of which nobody knows a side
    predict.predict([tmp_path], simple, tmp_path / "simple")
    assert "laterality" not in capsys.readouterr().err
    (tmp_path / "e.dcm").write_bytes(b"")
    assert main([*asked[:2], *asked[4:], "--side", "auto"]) == 1
    said = capsys.readouterr().err
    assert f"DICOM laterality: 1 {other.replace('4', '5')}: {tmp_path}/c.dcm\n" in said
    assert "--mm-per-px" not in said and "error: 4 of 5 images, written to" in said
    (tmp_path / "c.dcm").unlink()
    assert main([*asked[:2], *asked[4:]]) == 1
    assert "error: 3 of 4 images, 1 without a shape like those" in capsys.readouterr().err


def test_a_file_is_no_folder_to_write_to(model, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UsageError, match="out: is a file"):
        predict.predict([tmp_path], model, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_files_of_others_are_not_replaced(hand, model, tmp_path, capsys):
    """A prepared folder has a landmarks.csv too: what someone annotated."""
    Image.fromarray(hand[0]).save(tmp_path / "a.png")
    for name, content, said in (
        ("dataset.json", "{}", "out: a prepared data set"),
        ("landmarks.csv", "image_id,landmark,x,y\n", "landmarks.csv: not of predict"),
        ("landmarks.csv", "", "landmarks.csv: not of predict"),
        ("landmarks.json", '{"images": []}', "landmarks.json: not of predict"),
    ):
        out = tmp_path / "out"
        out.mkdir()
        (out / name).write_text(content)
        with pytest.raises(UsageError, match=said):
            predict.predict([tmp_path / "a.png"], model, out)
        assert main(["predict", str(tmp_path / "a.png"), "--out", str(out)]) == 2
        assert said in capsys.readouterr().err
        assert os.listdir(out) == [name] and (out / name).read_text() == content
        shutil.rmtree(out)


def test_pictures_of_others_are_not_replaced(hand, model, tmp_path, capsys):
    """But those of a call that was killed are, as is all of one that ended."""
    Image.fromarray(hand[0]).save(tmp_path / "a.png")
    out = tmp_path / "out"
    call = ["predict", str(tmp_path / "a.png"), "--out", str(out)]
    (out / "overlays").mkdir(parents=True)
    Image.fromarray((hand[0] // 16).astype(np.uint8)).save(out / "overlays" / "a.jpg")
    before = (out / "overlays" / "a.jpg").read_bytes()
    assert main(call) == 2
    assert "overlays/a.jpg: not of predict, which might replace it" in capsys.readouterr().err
    assert os.listdir(out) == ["overlays"]
    assert (out / "overlays" / "a.jpg").read_bytes() == before
    (out / "overlays" / "a.jpg").unlink()
    assert main(call) == 0
    (out / "landmarks.csv").unlink()
    assert main(call) == 0
    Image.fromarray(hand[0] // 2).save(out / "overlays" / "a.jpg", "png")  # of an earlier version
    assert main(call) == 0


def test_a_call_that_ends_early_says_what_stays(hand, model, tmp_path, monkeypatch, capsys):
    for name in "ab":
        Image.fromarray(hand[0]).save(tmp_path / f"{name}.png")
    images, out = [tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "out"
    predict.predict(images, model, out)
    table = (out / "landmarks.csv").read_bytes()
    assert capsys.readouterr().err == ""

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(predict.overlay_files, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict.predict(images, model, out)
    said = capsys.readouterr().err
    assert "overlays: up to 2 pictures are of this call, which did not end; landmarks.csv" in said
    assert (out / "landmarks.csv").read_bytes() == table
    with pytest.raises(KeyboardInterrupt):
        predict.predict(images, model, tmp_path / "new")
    assert "of this call" not in capsys.readouterr().err


def test_a_table_that_a_program_has_open_is_told_first(tmp_path, monkeypatch):
    """Windows then refuses to replace it, which is too late when all images were seen."""

    def refused(source, target):
        raise PermissionError(13, "used by another process", str(source), None, str(target))

    (tmp_path / "landmarks.csv").write_text(",".join(predictions.COLUMNS) + "\n")
    predictions.check_out(tmp_path)
    monkeypatch.setattr(os, "rename", refused)
    with pytest.raises(PermissionError, match="another process: .*landmarks.csv"):
        predictions.check_out(tmp_path)
    assert os.listdir(tmp_path) == ["landmarks.csv"]


def test_predictions_to_correct_in_labelme(hand, model, tmp_path, capsys):
    """Its files, read again as annotation: the same points, in pixels of the image as it is."""
    folder = tmp_path / "rest" / "deeper"
    folder.mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    grey = (hand[0] // 16).astype(np.uint8)
    Image.fromarray(grey).save(folder / "a.b.png")
    Image.fromarray(np.rot90(grey)).save(folder / "turned.jpg", exif=exif, quality=95)
    (tmp_path / "link.png").symlink_to(folder / "a.b.png")
    out = tmp_path / "deep" / "found"
    images = [folder, tmp_path / "link.png"]
    table = predict.predict(images, model, out, labelme=True)
    assert sorted(os.listdir(out)) == ["labelme", "landmarks.csv", "landmarks.json", "overlays"]
    assert sorted(os.listdir(out / "labelme")) == ["a.b.json", "link.json", "turned.json"]
    document = json.loads((out / "labelme" / "link.json").read_text())
    assert document["imagePath"] == "../../../link.png" and document["imageData"] is None
    assert (document["imageHeight"], document["imageWidth"]) == grey.shape
    names = {shape["label"] for shape in document["shapes"]}
    assert names == set(table["landmark"])
    said = document["shapes"][0]["description"]
    assert re.fullmatch(r"confidence [01]\.\d\d, expected error \d+\.\d mm", said)
    told = ["--images", folder, "--points", out / "labelme", "--out", tmp_path / "data"]
    assert points_csv.main(list(map(str, told))) == 1
    assert "the flag 'reviewed' is off in a.b.json, link.json" in capsys.readouterr().err
    for name in ("a.b", "turned"):
        path = out / "labelme" / f"{name}.json"
        document = json.loads(path.read_text())
        assert document["flags"] == {"reviewed": False}
        path.write_text(json.dumps(document | {"flags": {"reviewed": True}}))
    assert points_csv.main(list(map(str, told))) == 0
    assert "not used: 1 images without the flag 'reviewed'" in capsys.readouterr().out
    again = prepared.read(tmp_path / "data")
    assert again.ids == ("a.b", "turned")
    for image_id, points in zip(again.ids, again.points, strict=True):
        rows = table[table["image"].str.contains(f"/{image_id}.")].set_index("landmark")
        kept = rows.loc[list(again.landmarks), ["x", "y"]].to_numpy()
        limits = np.array(read_image(again.image_path(image_id)).shape[::-1]) - 1
        np.testing.assert_allclose(points, np.clip(kept, 0, limits), atol=1e-4)

    before = (out / "labelme" / "a.b.json").read_bytes()
    with pytest.raises(UsageError, match="labelme: is there already, and may have been corrected"):
        predict.predict([folder], model, out, labelme=True)
    asked = ["predict", str(folder), "--out", str(out), "--labelme"]
    assert main(asked) == 2 and "name another folder" in capsys.readouterr().err
    predict.predict([folder], model, out)
    assert (out / "labelme" / "a.b.json").read_bytes() == before
    with pytest.raises(DataError, match="no such image"):
        predict.predict([folder, tmp_path / "gone.png"], model, tmp_path / "new", labelme=True)
    assert not (tmp_path / "new").exists()

    (tmp_path / "a.b.png").symlink_to(folder / "a.b.png")
    capsys.readouterr()
    predict.predict([tmp_path / "a.b.png", folder], model, tmp_path / "same", labelme=True)
    assert f"by their own names alone: a.b_2.json of {folder}/a.b.png\n" in capsys.readouterr().err


@pytest.mark.slow
def test_labelme_gets_a_picture_of_what_it_cannot_open(hand, model, tmp_path, capsys):
    """The JSON holds it, of the same size and orientation; labelme saves it again."""
    for module in ("SimpleITK", "nibabel", "pydicom"):
        pytest.importorskip(module)
    import nibabel
    import SimpleITK as sitk

    folder, out = tmp_path / "rest", tmp_path / "found"
    folder.mkdir()
    deep, grey = hand[0], (hand[0] // 16).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(deep).save(folder / "deep.png")
    Image.fromarray(np.rot90(deep)).save(folder / "turned.tif", exif=exif)
    write_dicom(folder / "film.dcm", deep, BitsStored=12)
    sitk.WriteImage(sitk.GetImageFromArray(deep), folder / "meta.mha")
    volume = nibabel.Nifti1Image(deep.T[:, ::-1], np.diag([-1, 1, 1, 1]))
    nibabel.save(volume, folder / "nii.nii.gz")
    Image.fromarray(grey).convert("CMYK").save(folder / "print.jpg")
    for mode in ("L", "RGB", "P", "1"):
        Image.fromarray(grey).convert(mode).save(folder / f"own_{mode}.png")
    Image.fromarray(grey).save(folder / "own.tif")
    table = predict.predict([folder], model, out, labelme=True)
    said = capsys.readouterr().err
    documents = {path.stem: json.loads(path.read_text()) for path in (out / "labelme").iterdir()}
    own = {name for name, document in documents.items() if document["imageData"] is None}
    assert own == {"own", "own_1", "own_L", "own_P", "own_RGB"} and len(documents) == 11
    assert "labelme: hold a picture each, of images that labelme can't open" in said
    assert f"when it saves): deep.json of {folder}/deep.png; film.json of" in said
    assert "; and 1 more\n" in said and "not called as" not in said
    for name in documents.keys() - own:
        document = documents[name]
        picture = Image.open(io.BytesIO(base64.b64decode(document["imageData"], validate=True)))
        assert (picture.format, picture.mode, picture.size) == ("PNG", "L", deep.shape[::-1]), name
        image = read_image(out / "labelme" / document["imagePath"])
        assert (document["imageHeight"], document["imageWidth"]) == image.shape
        shown = np.asarray(picture).astype(float)
        assert np.corrcoef(shown.ravel(), image.ravel())[0, 1] > 0.95, name
        assert shown.min() == 0 and shown.max() == 255
        document["flags"]["reviewed"] = True
        (out / "labelme" / f"{name}.json").write_text(json.dumps(document))
    told = ["--images", folder, "--points", out / "labelme", "--out", tmp_path / "data"]
    assert points_csv.main(list(map(str, told))) == 0
    data = prepared.read(tmp_path / "data")
    assert set(data.ids) == documents.keys() - own
    rows = table[table["image"].str.endswith("film.dcm")].set_index("landmark")
    kept = rows.loc[list(data.landmarks), ["x", "y"]].to_numpy()
    np.testing.assert_allclose(data.points[data.ids.index("film")], kept, atol=1e-4)
    predict.predict([folder / "deep.png"], model, tmp_path / "other")
    assert capsys.readouterr().err == ""


def test_labelme_finds_an_image_on_another_drive(hand, model, tmp_path, monkeypatch):
    """Of Windows: no relative path leads from one drive to another."""

    def refused(path, start):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    Image.fromarray(hand[0]).save(tmp_path / "a.png")
    monkeypatch.setattr(os.path, "relpath", refused)
    predict.predict([tmp_path / "a.png"], model, tmp_path / "out", labelme=True)
    document = json.loads((tmp_path / "out" / "labelme" / "a.json").read_text())
    assert document["imagePath"] == str(tmp_path / "a.png")


def test_a_full_disk_leaves_no_half_picture(hand, model, tmp_path):
    resource = pytest.importorskip("resource")
    Image.fromarray(hand[0]).save(tmp_path / "a.png")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (80_000, before[1]))  # it has 95 kB
    try:
        with pytest.raises(OSError, match="too large"):
            predict.predict_files([tmp_path / "a.png"], model, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not any(path.is_file() for path in (tmp_path / "out").rglob("*"))


def test_a_side_that_is_none(model, tmp_path, capsys):
    with pytest.raises(UsageError, match="side 'up': expected left, right or auto"):
        localizers.localizer(model, "up")
    simple = unet(5, (64, 64), width=4, depth=2)
    with pytest.raises(UsageError, match="side auto: .* knows no shapes"):
        predict.predict_files([tmp_path], simple, tmp_path / "out", "auto")
    Image.fromarray(np.eye(90, dtype=np.uint8)).save(tmp_path / "a.png")
    out = ["--out", str(tmp_path / "out"), "--side", "up"]
    assert main(["predict", str(tmp_path / "a.png"), *out]) == 2
    assert "side 'up'" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_each_that_fails_is_said_and_the_others_are_written(hand, tmp_path, capsys):
    for name, pixels in {
        "good": hand[0],
        "dot": np.zeros((1, 1), np.uint8),
        "strip": np.zeros((400, 31), np.uint8),
        "blank": np.full((90, 90), 7, np.uint16),
        "fine": hand[0][::2, ::2],
    }.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    out = tmp_path / "out"
    assert main(["predict", f"{tmp_path}/**/*.png", "--out", str(out)]) == 1
    said = capsys.readouterr().err
    skipped = [line for line in said.splitlines() if line.startswith("skipped: ")]
    assert len(skipped) == 4 and "Traceback" not in said
    for name, words in (
        ("dot.png: 1 x 1 pixels", "too small"),
        ("strip.png: 31 x 400 pixels", "at least 32 x 32"),
        ("blank.png", "all pixels are alike"),
        ("broken.png", "of no known format"),
    ):
        assert any(name in line and words in line for line in skipped), name
    last = said.splitlines()[-1]
    assert last.startswith(f"error: 2 of 6 images, written to {out}; not ") and "dot.png" in last
    table = pd.read_csv(out / "landmarks.csv")
    assert [path.split("/")[-1] for path in table["image"].unique()] == ["fine.png", "good.png"]
    assert len(json.loads((out / "landmarks.json").read_text())) == 2
    assert len(list((out / "overlays").iterdir())) == 2

    assert main(["predict", str(tmp_path / "broken.png"), "--out", str(tmp_path / "none")]) == 1
    assert not (tmp_path / "none").exists()


def test_many_failures_end_in_a_short_line(model, tmp_path):
    for i in range(9):
        (tmp_path / f"{i}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"0\.png.*4\.png.*; and 4 more$"):
        predict.predict([tmp_path], model, tmp_path / "out")


def test_a_name_that_is_no_text(hand, model, tmp_path):
    name = os.fsdecode(b"M\xfcller.png")  # in Latin-1, as old archives have them
    try:
        Image.fromarray(hand[0]).save(tmp_path / name)
    except OSError:
        pytest.skip("this file system takes names in UTF-8 alone")
    table = predict.predict([tmp_path / name], model, tmp_path / "out")
    assert Path(table["image"][0]).is_file() and len(table) == 37
    (entry,) = json.loads((tmp_path / "out" / "landmarks.json").read_text())
    assert Path(entry["image"]).is_file()


def test_long_names(hand, model, tmp_path):
    """As long as the file system has them; an overlay of its name, cut, has a longer suffix."""
    ends = ("x", "y", "é")
    paths = [tmp_path / f"{'é' * 100 + 46 * 'n'}{end}.png" for end in ends]
    for path in paths:
        Image.fromarray(hand[0]).save(path)
    assert len(predict.predict(paths, model, tmp_path / "out")) == 37 * len(paths)
    stem = "é" * 100
    overlays = {f"{stem}.jpg", f"{stem}_2.jpg", f"{stem}_3.jpg"}
    assert set(os.listdir(tmp_path / "out" / "overlays")) == overlays


def test_names_that_look_like_numbers_or_nothing(hand, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for names in (["NA", "nan"], ["007", "010"], ["a\rb", 'c"\n']):
        for name in names:
            Image.fromarray(hand[0]).save(tmp_path / name, "png")
        table = predict.predict(names, model, tmp_path / "out")
        assert list(table["image"].unique()) == names
        assert {f"{name}.jpg" for name in names} <= set(os.listdir(tmp_path / "out" / "overlays"))


def test_expected_errors_of_no_known_level(tmp_path):
    """How far 95 % of the errors reach is not known then."""
    model = unet(["a", "b"], (32, 32), width=2, depth=2)
    outputs = dict(model.output)
    outputs["error_mm"] = ExpectedError([0.0, 0.0], 0.3)(outputs["confidence"])
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    calibrated, scale = keras.Model(model.inputs[0], outputs), Scale((0, 1), 9.0)
    table = predict.predict([tmp_path / "a.png"], calibrated, tmp_path / "out", scale=scale)
    assert (table["error_mm"] > 0).all() and table["error_mm_95"].isna().all()
