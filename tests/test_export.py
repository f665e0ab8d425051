"""The exported artefacts, run without kerasland, against what `predict` finds."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from kerasland import export, phantom, predict
from kerasland.errors import UsageError
from kerasland.models import landmark_names, unet

SAVED_MODEL = """
import tensorflow as tf
served = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
spec = served.structured_input_signature[1]["image"]
assert spec.dtype == tf.uint8 and spec.shape.as_list() == [None, None, None, 1]
def run(image):
    found = served(image=tf.constant(image))
    return {name: value.numpy() for name, value in found.items()}
"""
ONNX = """
sys.modules["tensorflow"] = None
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
(spec,) = session.get_inputs()
assert spec.name == "image" and spec.type == "tensor(uint8)"
assert spec.shape == ["batch", "height", "width", 1]
names = [value.name for value in session.get_outputs()]
def run(image):
    return dict(zip(names, session.run(names, {"image": image})))
"""
ALONE = """
import sys
sys.modules["kerasland"] = sys.modules["keras"] = None  # an import would fail
import numpy as np
from PIL import Image
{runtime}
out = {{}}
for i, path in enumerate(sys.argv[3:]):
    found = run(np.asarray(Image.open(path).convert("L"))[None, ..., None])
    assert set(found) == {{"landmarks", "confidence"}}
    out.update({{f"{{name}}_{{i}}": value[0] for name, value in found.items()}})
np.savez(sys.argv[2], **out)
"""


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return predict.load_pretrained()


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exported")
    paths = {"saved_model": folder / "hand", "onnx": folder / "hand.onnx"}
    for path in paths.values():
        export.export(model, path)
    return paths


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory) -> list[Path]:
    """Frames that fit, that must shrink, that must grow, that are too broad and too high."""
    folder = tmp_path_factory.mktemp("phantoms")
    images = []
    for seed, shape in enumerate([(512, 384), (1400, 1003), (300, 211), (601, 643), (900, 401)]):
        images.append(folder / f"{seed}.png")
        Image.fromarray(phantom.hand(seed, shape)[0]).save(images[-1])
    return images


def agrees(runtime: str, artefact: Path, model, images: list[Path], tmp_path: Path) -> None:
    table = predict.predict(images, model, tmp_path / "out")
    code = ALONE.format(runtime=runtime)
    command = [sys.executable, "-c", code, artefact, tmp_path / "out.npz", *images]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    alone = np.load(tmp_path / "out.npz")
    for i, path in enumerate(images):
        rows = table[table["image"] == str(path)]
        gap = np.linalg.norm(alone[f"landmarks_{i}"] - rows[["x", "y"]].to_numpy(), axis=1)
        assert gap.max() < 0.05
        np.testing.assert_allclose(alone[f"confidence_{i}"], rows["confidence"], atol=1e-3)


RUNTIMES = [
    pytest.param(code, name, id=name, marks=pytest.mark.slow)
    for code, name in [(SAVED_MODEL, "saved_model"), (ONNX, "onnx")]
]


@pytest.mark.parametrize(("runtime", "name"), RUNTIMES)
def test_alone_it_finds_what_predict_finds(runtime, name, exported, model, phantoms, tmp_path):
    agrees(runtime, exported[name], model, phantoms, tmp_path)


@pytest.mark.parametrize(("runtime", "name"), RUNTIMES)
def test_alone_on_real_radiographs(runtime, name, exported, model, hand_atlas, tmp_path):
    images = sorted((hand_atlas / "images").glob("*.jpg"))[:10:2]
    agrees(runtime, exported[name], model, images, tmp_path)


@pytest.mark.slow
def test_onnx_takes_batches_and_carries_the_names(exported, model):
    import onnxruntime

    session = onnxruntime.InferenceSession(exported["onnx"], providers=["CPUExecutionProvider"])
    image, _ = phantom.hand(0, (350, 250))
    batch = np.stack([image, image[::-1], image[:, ::-1]])[..., None]
    together = session.run(["landmarks", "confidence"], {"image": batch})
    assert [part.shape for part in together] == [(3, 37, 2), (3, 37)]
    for i in range(3):
        alone = session.run(["landmarks", "confidence"], {"image": batch[i : i + 1]})
        np.testing.assert_allclose(together[0][i], alone[0][0], atol=0.01)
        np.testing.assert_allclose(together[1][i], alone[1][0], atol=1e-4)
    names = json.loads(session.get_modelmeta().custom_metadata_map["landmarks"])
    assert tuple(names) == landmark_names(model)


@pytest.mark.parametrize("normalization", ["batch", "group"])
def test_onnx_of_a_network_of_other_settings(normalization, tmp_path):
    """Small odd frames, sub-cells made from channels, beta, float16: against the Keras model."""
    import onnxruntime

    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = unet(
            ["thumb", "index", "palm"],
            image_shape=(40, 24),
            width=4,
            depth=3,
            output_stride=1,
            normalization=normalization,
            beta=2.5,
            dropout=0.1,
        )
    finally:
        keras.config.set_dtype_policy("float32")
    export.export(model, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    localize = predict.localizer(model)
    image = np.random.default_rng(0).integers(0, 256, (90, 71)).astype(np.uint8)
    landmarks, confidence = localize(image)
    found = session.run(["landmarks", "confidence"], {"image": image[None, ..., None]})
    np.testing.assert_allclose(found[0][0], landmarks, atol=0.1)
    np.testing.assert_allclose(found[1][0], confidence, atol=0.01)


@pytest.mark.slow
def test_one_onnx_op_set(exported):
    """Nothing of a single vendor in the file."""
    import onnx

    graph = onnx.load(exported["onnx"])
    assert {entry.domain for entry in graph.opset_import} <= {"", "ai.onnx.ml"}
    assert {node.domain for node in graph.graph.node} <= {""}


def test_formats_by_suffix(monkeypatch, tmp_path):
    written = []
    for name in export.WRITERS:
        monkeypatch.setitem(
            export.WRITERS, name, lambda _, path, name=name: written.append(path.write_text(name))
        )
    model = unet(2, image_shape=(16, 16), width=2, depth=2)
    for path, format, expected in [
        ("a.onnx", None, "onnx"),
        ("a", None, "saved_model"),
        ("v1.2", None, "saved_model"),
        ("b", "onnx", "onnx"),
        ("b.pb", "saved_model", "saved_model"),
    ]:
        export.export(model, tmp_path / path, format)
        assert (tmp_path / path).read_text() == expected


def test_refusals(monkeypatch, tmp_path):
    model = unet(2, image_shape=(16, 16), width=2, depth=2)

    def refused(path, format=None):
        with pytest.raises(UsageError) as caught:
            export.export(model, path, format)
        assert sorted(tmp_path.iterdir()) == before
        return str(caught.value)

    (tmp_path / "there.onnx").write_text("kept")
    before = sorted(tmp_path.iterdir())
    assert "there.onnx: exists already" in refused(tmp_path / "there.onnx")
    assert (tmp_path / "there.onnx").read_text() == "kept"
    assert "'.tflite'" in refused(tmp_path / "m.tflite")
    assert "'pdf'" in refused(tmp_path / "m", "pdf")
    for package in ("onnx", "tf2onnx"):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, package, None)
            line = refused(tmp_path / "m.onnx")
            assert package in line and "pip install 'kerasland[onnx]'" in line
