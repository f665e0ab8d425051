"""The exported model against the package and against an independent path in NumPy."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kerasland import geometry, predict
from kerasland.dataset import letterboxed
from kerasland.images import read_image

ALONE = """
import sys
sys.modules["kerasland"] = None  # an import of kerasland would fail
sys.modules["keras"] = None
import numpy as np, tensorflow as tf
from PIL import Image
served = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
assert "kerasland" not in [name for name, module in sys.modules.items() if module]
image_spec = served.structured_input_signature[1]["image"]
assert image_spec.dtype == tf.uint8 and image_spec.shape.as_list() == [None, None, None, 1]
out = {}
for i, path in enumerate(sys.argv[3:]):
    image = np.asarray(Image.open(path).convert("L"))
    result = served(image=tf.constant(image[None, ..., None]))
    assert set(result) == {"landmarks", "confidence"}
    out[f"landmarks_{i}"] = result["landmarks"].numpy()[0]
    out[f"confidence_{i}"] = result["confidence"].numpy()[0]
np.savez(sys.argv[2], **out)
"""


def exported_agrees(images: list[Path], tmp_path: Path) -> None:
    model = predict.load_pretrained()
    predict.export(model, tmp_path / "exported")
    table = predict.predict(images, model, tmp_path / "out")
    command = [sys.executable, "-c", ALONE, tmp_path / "exported", tmp_path / "out.npz", *images]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    alone = np.load(tmp_path / "out.npz")
    for i, path in enumerate(images):
        rows = table[table["image"] == str(path)]
        gap = np.linalg.norm(alone[f"landmarks_{i}"] - rows[["x", "y"]].to_numpy(), axis=1)
        assert gap.max() < 0.05
        np.testing.assert_allclose(alone[f"confidence_{i}"], rows["confidence"], atol=1e-4)


@pytest.mark.slow
def test_the_saved_model_alone_gives_what_predict_gives(tmp_path):
    from PIL import Image

    from kerasland import phantom

    images = []
    for seed, shape in enumerate([(700, 500), (512, 384), (601, 643)]):
        images.append(tmp_path / f"{seed}.png")
        Image.fromarray(phantom.hand(seed, shape)[0]).save(images[-1])
    exported_agrees(images, tmp_path)


@pytest.mark.slow
def test_the_saved_model_alone_on_real_radiographs(hand_atlas, tmp_path):
    exported_agrees(sorted((hand_atlas / "images").glob("*.jpg"))[:10:2], tmp_path)


def test_predict_equals_an_independent_path(tmp_path):
    from kerasland import phantom

    model = predict.load_pretrained()
    localize = predict.localizer(model)
    frame = model.input_shape[1:3]
    for seed, shape in enumerate([(700, 500), (333, 431)]):
        image, _ = phantom.hand(seed, shape)
        outputs = model(letterboxed(image, frame)[None, ..., None], training=False)
        expected = geometry.letterbox(shape, frame).invert(outputs["landmarks"].numpy()[0])
        found, confidence = localize(image)
        np.testing.assert_allclose(found, expected, atol=0.01)
        np.testing.assert_allclose(confidence, outputs["confidence"].numpy()[0], atol=1e-4)


def test_depth_and_range_do_not_matter():
    from kerasland import phantom

    localize = predict.localizer(predict.load_pretrained())
    image, _ = phantom.hand(0, (350, 250))
    eight, _ = localize(image)
    sixteen, _ = localize(image.astype(np.uint16) * 257)
    np.testing.assert_allclose(eight, sixteen, atol=0.02)


@pytest.mark.slow
def test_the_pretrained_model_finds_real_hands(hand_atlas):
    """A floor far below what is claimed: the shipped weights are those of a trained model."""
    localize = predict.localizer(predict.load_pretrained())
    rows = pd.read_csv(hand_atlas / "all.csv", header=None, dtype={0: str}).set_index(0)
    path = hand_atlas / "images" / "3144.jpg"
    truth = rows.loc["3144"].to_numpy(float).reshape(37, 2)
    found, _ = localize(read_image(path))
    error_mm = np.linalg.norm(found - truth, axis=1) * geometry.mm_per_px(truth, (0, 4), 50.0)
    assert error_mm.mean() < 1.5
