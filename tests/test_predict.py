"""A model at work on image files."""

import json
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

from benchmarks import predict_folder
from benchmarks.shape_prior import on_a_plate, turned, without_a_finger
from kerasland import geometry, localizers, model_files, model_notes, phantom, predict
from kerasland.errors import DataError, UsageError
from kerasland.images import read_image
from kerasland.inference_models import pipeline
from kerasland.models import landmark_names


def test_predict_equals_the_pipeline_in_a_graph():
    """Which fits the image into the frame, and points back, by `resampling`, not `geometry`."""
    model = model_files.load_pretrained()
    localize, whole = localizers.localizer(model), pipeline(model)
    for seed, shape in enumerate([(700, 500), (333, 431)]):
        image, _ = phantom.hand(seed, shape)
        outputs = whole(image[None, ..., None])
        found, confidence = localize(image)
        np.testing.assert_allclose(found, outputs["landmarks"][0], atol=0.05)
        np.testing.assert_allclose(confidence, outputs["confidence"][0], atol=1e-3)


def test_weights_of_drawn_hands_find_real_ones(hand_atlas):
    """Their run lists no radiograph, and no hash of one."""
    notes = model_notes.notes("drawn_hands")
    table = pd.read_csv(hand_atlas / "all.csv", header=None, dtype={0: str}).set_index(0)
    paths = sorted((hand_atlas / "images").glob("*.jpg"))[::11]
    assert len(paths) > 8 and notes["data"]["name"] == "synthetic"
    assert not set(table.index) & set(notes["train_ids"] + notes["validation_ids"])
    localize = localizers.localizer(model_files.load_pretrained("drawn_hands"))
    errors = []
    for path in paths:
        truth = table.loc[path.stem].to_numpy(float).reshape(-1, 2)
        distance = np.linalg.norm(localize(read_image(path))[0] - truth, axis=-1)
        errors.append(distance * 50 / np.linalg.norm(truth[0] - truth[4]))
    assert 0.5 < np.median(errors) < 2.0  # the mean shape: 10


def test_names_of_what_ships():
    drawn = model_files.load_pretrained("drawn_hands")
    assert landmark_names(drawn) == landmark_names(model_files.load_model("pretrained"))
    assert model_notes.location("runs/a").as_posix() == "runs/a"
    with pytest.raises(UsageError, match="hand_atlas, drawn_hands"):
        model_files.load_pretrained("foot")


def test_depth_and_range_do_not_matter():
    localize = localizers.localizer(model_files.load_pretrained())
    image, _ = phantom.hand(0, (350, 250))
    eight, _ = localize(image)
    sixteen, _ = localize(image.astype(np.uint16) * 257)
    np.testing.assert_allclose(eight, sixteen, atol=0.02)


def test_a_folder_gives_what_its_images_give_in_their_order(tmp_path, monkeypatch):
    model = model_files.load_pretrained()
    localize = localizers.localizer(model)
    shapes = [(300, 220), (200, 260), (310, 200), (512, 384), (90, 70), (222, 333)]
    (tmp_path / "images").mkdir()
    wanted = {}
    for seed, shape in enumerate(shapes):
        path = tmp_path / "images" / f"{seed}.{'png' if seed % 2 else 'jpg'}"
        Image.fromarray(phantom.hand(seed, shape)[0]).save(path)
        wanted[str(path)] = localize(read_image(path))
    for name in ("2a.jpg", "2b.png"):
        (tmp_path / "images" / name).write_bytes(b"nothing")
    again = tmp_path / "elsewhere" / "1.png"
    again.parent.mkdir()
    again.write_bytes((tmp_path / "images" / "1.png").read_bytes())
    wanted[str(again)] = wanted[str(tmp_path / "images" / "1.png")]
    with pytest.raises(DataError, match=r"2a\.jpg.*; .*2b\.png") as raised:
        predict.predict([tmp_path / "images", again], model, tmp_path / "out")
    assert "1.png" not in str(raised.value)
    table = pd.read_csv(tmp_path / "out" / "landmarks.csv")
    assert list(table)[:5] == ["image", "landmark", "x", "y", "confidence"]
    assert list(table["image"].unique()) == list(wanted) and len(table) == 37 * len(wanted)
    document = json.loads((tmp_path / "out" / "landmarks.json").read_text())
    for entry, (path, (points, confidence)) in zip(document, wanted.items(), strict=True):
        rows = table[table["image"] == path]
        assert entry["image"] == path
        assert list(rows["landmark"]) == list(landmark_names(model))
        np.testing.assert_allclose(rows[["x", "y"]], points, atol=1e-3)
        np.testing.assert_allclose(rows["confidence"], confidence, atol=1e-5)
        columns = list(entry["landmarks"][0])
        assert columns[:4] == ["landmark", "x", "y", "confidence"]
        rows = rows[columns].reset_index(drop=True)
        # null, where no error is known
        from_document = pd.DataFrame(entry["landmarks"]).astype(rows.dtypes)
        pd.testing.assert_frame_equal(from_document, rows)
    overlays = tmp_path / "out" / "overlays"
    names = [*(f"{i}.jpg" for i in range(len(shapes))), "1_2.jpg"]
    assert sorted(p.name for p in overlays.iterdir()) == sorted(names)
    assert Image.open(overlays / "4.jpg").size == (777, 1000)


@pytest.mark.parametrize("name", ["hand.nii", "hand.png"])
def test_rows_upside_down_are_thought_of_where_nifti_has_them(capsys, name):
    localizers.warn_of_no_shape(Path(name), np.zeros(37))
    said = capsys.readouterr().err
    assert ("rows upside down" in said) == (name == "hand.nii") and "a negative" in said


def test_of_what_is_no_left_hand_it_says_so(tmp_path, capsys):
    image = phantom.hand(0, (700, 500))[0]
    pictures = {"left": image, "right": image[:, ::-1], "negative": 255 - image}
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    paths, model = [tmp_path / f"{name}.png" for name in pictures], model_files.load_pretrained()
    table = predict.predict(
        paths, model, tmp_path / "out", scale=model_notes.model_scale("pretrained")
    )
    said = capsys.readouterr().err
    for name, path in zip(pictures, paths, strict=True):
        rows, strange = table[table["image"] == str(path)], name != "left"
        assert (f"doubtful: {path}: its landmarks form no shape" in said) == strange
        for unknown in (rows["confidence"] == 0, rows["error_mm"].isna(), rows["x_mm"].isna()):
            assert unknown.all() if strange else not unknown.any()
    document = json.loads(
        (tmp_path / "out" / "landmarks.json").read_text(), parse_constant=pytest.fail
    )
    assert document[1]["landmarks"][0]["error_mm"] is None
    predict.predict(paths[1:2], model, tmp_path / "mirrored", side="right")
    assert "doubtful" not in capsys.readouterr().err


def test_it_says_in_which_images_landmarks_were_not_found(tmp_path, capsys):
    image, points = phantom.hand(10, (1400, 1003))
    covered = without_a_finger(image, points, 50 / np.linalg.norm(points[0] - points[4]))
    pictures = {"whole": image, **{what.split()[1]: picture for what, picture, _ in covered}}
    paths = [tmp_path / f"{name}.png" for name in ("whole", "index")]
    for path in paths:
        Image.fromarray(pictures[path.stem]).save(path)
    table = predict.predict(paths, model_files.load_pretrained(), tmp_path / "out")
    (line,) = (x for x in capsys.readouterr().err.splitlines() if "not found" in x)
    missing = (table["confidence"][37:] == 0).sum()
    assert missing >= 3 and table["confidence"][:37].all()
    said = "1 of 2 images have landmarks that were not found, with confidence 0"
    assert line == f"{said}: {missing} of {paths[1]}"


@pytest.mark.parametrize(("images", "batches"), [(1, [1]), (4, [4]), (5, [4, 1])])
def test_images_go_through_the_network_together(tmp_path, monkeypatch, images, batches):
    seen = []

    def locate(frames):
        seen.append(len(frames))
        return np.full((len(frames), 37, 2), 50.0), np.full((len(frames), 37), 0.5)

    monkeypatch.setattr(localizers, "frame_localizer", lambda _: locate)
    paths = [tmp_path / f"{i}.png" for i in range(images)]
    for path in paths:
        Image.fromarray(phantom.hand(0, (90, 70))[0]).save(path)
    table = predict.predict(paths, model_files.load_pretrained(), tmp_path / "out")
    # two passes at once: the last may note its frames first
    assert sorted(seen, reverse=True) == batches and len(table) == 37 * images


@pytest.mark.parametrize(("frames", "slow", "batch"), [(1, True, 2), (1, False, 1), (3, True, 3)])
def test_where_a_frame_alone_is_slow_it_does_not_go_alone(monkeypatch, frames, slow, batch):
    monkeypatch.setattr(localizers.machine, "slow_alone", lambda: slow)
    seen = []

    class Model:
        input_shape = (None, 8, 6, 1)

        def __call__(self, images, training):
            tf.numpy_function(lambda x: seen.append(len(x)) or np.int64(0), [images], tf.int64)
            points = tf.ones([tf.shape(images)[0], 2, 2])
            return {"landmarks": points, "confidence": points[..., 0]}

    points, confidence = localizers.frame_localizer(Model())(np.zeros((frames, 8, 6), np.float32))
    assert seen == [batch] and (len(points), len(confidence)) == (frames, frames)


def test_no_image_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no image"):
        predict.predict_files([], model_files.load_pretrained(), tmp_path / "out")


def test_an_interrupt_leaves_nothing_half_written(tmp_path, monkeypatch):
    model, images = model_files.load_pretrained(), [tmp_path / f"{i}.png" for i in range(100)]
    Image.fromarray(phantom.hand(0, (300, 220))[0]).save(images[0])
    for other in images[1:]:
        other.hardlink_to(images[0])
    made, read = localizers.frame_localizer(model), []

    def network(_):
        calls = iter(range(9))

        def locate(frame):
            if next(calls) == 2:
                raise KeyboardInterrupt
            return made(frame)

        return locate

    monkeypatch.setattr(localizers, "frame_localizer", network)
    monkeypatch.setattr(predict, "read_image", lambda path: read.append(path) or read_image(path))
    with pytest.raises(KeyboardInterrupt):
        predict.predict(images, model, tmp_path / "out")
    assert len(read) < 50
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert 0 < len(written) <= 2 * localizers.BATCH
    for path in written:
        assert not path.name.startswith(".") and path.suffix == ".jpg"
        Image.open(path).load()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no peak memory to read")
def test_no_pass_begins_after_an_interrupt(tmp_path, monkeypatch):
    model, images = model_files.load_pretrained(), [tmp_path / f"{i}.png" for i in range(30)]
    Image.fromarray(phantom.hand(0, (300, 220))[0]).save(images[0])
    for other in images[1:]:
        other.hardlink_to(images[0])
    made, passes, later = localizers.frame_localizer(model), [], threading.Event()

    def locate(frames):
        passes.append(len(frames))
        if len(passes) == predict.PASSES:  # as many as go on at once; each waits
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
            threading.Timer(1.5, later.set).start()
        assert later.wait(60)
        return made(frames)

    monkeypatch.setattr(localizers, "frame_localizer", lambda _: locate)
    # a process that a shell began in the background ignores the signal
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            predict.predict(images, model, tmp_path / "out")
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(passes) == predict.PASSES


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    predict_folder.make_radiographs(tmp_path / "images", 96)  # 288 MB of pixels
    few, many = (
        predict_folder.peak_kib(tmp_path / "images", count, tmp_path / "out") for count in (24, 96)
    )
    assert many < 1.15 * few


@pytest.mark.slow
def test_the_pretrained_model_finds_real_hands(hand_atlas):
    """A floor far below what is claimed; and hands that do not fill the picture, or do not stand
    upright in it, are found as exactly."""
    localize = localizers.localizer(model_files.load_pretrained())
    rows = pd.read_csv(hand_atlas / "all.csv", header=None, dtype={0: str}).set_index(0)
    errors = {"as they are": [], "small": [], "turned": [], "upside down": []}
    for path in sorted((hand_atlas / "images").glob("*.jpg"))[::20]:
        image, truth = read_image(path), rows.loc[path.stem].to_numpy(float).reshape(37, 2)
        mm_per_px = geometry.mm_per_px(truth, (0, 4), 50.0)
        pictures = [
            (image, truth),
            on_a_plate(image, truth, 2.0, image.min()),
            turned(image, truth, 30),
            turned(image, truth, 180),
        ]
        for name, (picture, points) in zip(errors, pictures, strict=True):
            found, confidence = localize(picture)
            assert confidence.any(), f"{path.stem} {name}: no hand"
            errors[name].append(np.linalg.norm(found - points, axis=1).mean() * mm_per_px)
    assert len(errors["turned"]) > 4
    means = {name: np.mean(of_images) for name, of_images in errors.items()}
    assert means["as they are"] < 0.9 and max(means.values()) < 1.1 * means["as they are"], means
