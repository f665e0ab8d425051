"""The exported artefacts, run without kerasland, against what `predict` finds."""

import contextlib
import functools
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import time
import timeit
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pages
import pytest
import tensorflow as tf
from PIL import Image

from benchmarks.shape_prior import hidden, on_a_plate, turned, without_a_finger
from kerasland import (
    __version__,
    export,
    export_notes,
    geometry,
    localizers,
    model_files,
    model_notes,
    phantom,
    predict,
    quantize,
)
from kerasland.errors import UsageError
from kerasland.geometry import letterboxed
from kerasland.inference_models import pipeline, with_shapes
from kerasland.layers import ExpectedError
from kerasland.models import landmark_names, unet
from kerasland.scale import Scale

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
LITERT = """
try:
    sys.modules["tensorflow"] = None
    from ai_edge_litert.interpreter import Interpreter
except ImportError:
    del sys.modules["tensorflow"]
    import tensorflow
    Interpreter = tensorflow.lite.Interpreter
interpreter = Interpreter(sys.argv[1])
((signature, parts),) = interpreter.get_signature_list().items()
assert signature == "serving_default" and parts["inputs"] == ["image"]
(spec,) = interpreter.get_input_details()
assert spec["dtype"] == np.uint8 and spec["shape_signature"].tolist() == [-1, -1, -1, 1]
runner = interpreter.get_signature_runner()
def run(image):
    return runner(image=image)
"""
RUNTIMES = {"saved_model": SAVED_MODEL, "onnx": ONNX, "litert": LITERT}
ALONE = """
import sys
sys.modules["kerasland"] = sys.modules["keras"] = None  # an import would fail
import numpy as np
from PIL import Image
{runtime}
out = {{}}
for i, path in enumerate(sys.argv[3:]):
    image = np.asarray(Image.open(path).convert("L"))[None, ..., None]
    out.update({{f"{{name}}_{{i}}": value[0] for name, value in run(image).items()}})
np.savez(sys.argv[2], **out)
"""


SCALE = model_notes.model_scale("pretrained")
# the converter of LiteRT stores what is no convolution as float16 too, and what it computes from it
ACCURATE = pytest.mark.parametrize(
    ("name", "weights", "limit"),
    [*((name, "float32", 0.1) for name in RUNTIMES), ("litert", "float16", 0.5)],
)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return model_files.load_pretrained()


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory) -> dict[tuple[str, str], Path]:
    folder = tmp_path_factory.mktemp("exported")
    names = {"saved_model": "hand", "onnx": "hand.onnx", "litert": "hand.tflite"}
    paths = {
        (format, weights): folder / weights / names[format]
        for format in names
        for weights in export.WEIGHTS[format]
    }
    for (_, weights), path in paths.items():
        export.export(model, path, weights=weights, source="pretrained")
    return paths


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory) -> list[Path]:
    """Frames that fit, that must shrink, that must grow, that are too broad and too high."""
    folder = tmp_path_factory.mktemp("phantoms")
    images = []
    # of hands 0 to 4, one has two cells alike at the peak of a heatmap: rounding chooses
    shapes = [(512, 384), (1400, 1003), (300, 211), (601, 643), (900, 401)]
    for seed, shape in enumerate(shapes, start=10):
        images.append(folder / f"{seed}.png")
        Image.fromarray(phantom.hand(seed, shape)[0]).save(images[-1])
    return images


def unusual(image: np.ndarray, edge: int | None = None) -> dict[str, np.ndarray]:
    """The picture of a hand as it is, and so that the hand is small, turned, or no left one."""
    nowhere, edge = np.zeros((1, 2)), image.min() if edge is None else edge
    small, _ = on_a_plate(image, nowhere, 2.2, edge)
    side = np.rot90(image)
    below = side.shape[1] - side.shape[0]
    return {
        # before others: LiteRT kept its shape, and then wrote beyond its memory
        "on its side in a square": np.pad(side, ((0, below), (0, 0)), constant_values=edge),
        "as it is": image,
        "small": small,
        "by 35": turned(image, nowhere, 35)[0],
        "by 60": turned(image, nowhere, 60)[0],
        "on its side": side,
        "upside down": np.rot90(image, 2),
        "small, by 100": turned(small, nowhere, 100)[0],
        "a right one": image[:, ::-1],
    }


def written(pictures: dict[str, np.ndarray], folder: Path) -> list[Path]:
    paths = [folder / f"{name}.png" for name in pictures]
    for path, picture in zip(paths, pictures.values(), strict=True):
        Image.fromarray(picture).save(path)
    return paths


def gap_px(runtime: str, artefact: Path, model, images: list[Path], tmp_path: Path) -> float:
    """The largest distance from what `predict` finds, of an artefact run in a process alone."""
    table = predict.predict(images, model, tmp_path / "out", scale=SCALE)
    code = ALONE.format(runtime=RUNTIMES[runtime])
    command = [sys.executable, "-c", code, artefact, tmp_path / "out.npz", *images]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    alone = np.load(tmp_path / "out.npz")
    outputs = {name.rsplit("_", 1)[0] for name in alone}
    assert outputs == set(pipeline(model).output) | {"mm_per_px"} >= {"landmarks", "confidence"}
    gaps = []
    for i, path in enumerate(images):
        rows = table[table["image"] == str(path)]
        gaps.append(np.linalg.norm(alone[f"landmarks_{i}"] - rows[["x", "y"]].to_numpy(), axis=1))
        np.testing.assert_allclose(alone[f"confidence_{i}"], rows["confidence"], atol=0.02)
        np.testing.assert_array_equal(np.isnan(alone[f"error_mm_{i}"]), rows["error_mm"].isna())
        mm_per_px = (rows["x_mm"] / rows["x"]).mean()
        np.testing.assert_allclose(alone[f"mm_per_px_{i}"], mm_per_px, rtol=5e-3)
    return float(np.max(gaps))


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNTIMES)
def test_alone_it_finds_what_predict_finds(name, exported, model, phantoms, tmp_path):
    assert gap_px(name, exported[name, "float32"], model, phantoms, tmp_path) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNTIMES)
def test_alone_it_finds_a_hand_however_it_lies(name, exported, model, tmp_path):
    paths = written(unusual(phantom.hand(4, (500, 380))[0]), tmp_path)
    assert gap_px(name, exported[name, "float32"], model, paths, tmp_path) < 0.1
    with np.load(tmp_path / "out.npz") as alone:
        found = [alone[f"confidence_{i}"].any() for i in range(len(paths))]
    assert found == [path.stem != "a right one" for path in paths]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "weights", "most"),
    [
        ("onnx", "float16", 0.5),
        ("onnx", "int8", 4.0),
        ("litert", "float16", 3.0),  # where it looks again may differ by a pixel
        ("saved_model", "float16", 0.5),
        ("saved_model", "bfloat16", 2.0),
    ],
)
def test_in_fewer_bits_it_finds_a_hand_however_it_lies(format, weights, most, exported, model):
    run, localize = started(exported[format, weights]), localizers.localizer(model)
    for name, picture in unusual(phantom.hand(4, (500, 380))[0]).items():
        points, confidence = localize(picture)
        found = run(picture[None, ..., None])
        assert found["confidence"][0].any() == confidence.any() == (name != "a right one")
        if confidence.any():
            apart = np.linalg.norm(found["landmarks"][0] - points, axis=1)
            assert np.median(apart) < most / 4 and apart.max() < most, (name, apart.max())


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNTIMES)
def test_of_12_bits_that_end_16_it_finds_what_predict_finds(name, model, tmp_path):
    """What is beside a picture in the frame is as dark as its darkest, not 0."""
    export.export(model, tmp_path / "deep", name, source="pretrained", dtype="uint16")
    run, localize = started(tmp_path / "deep", name), localizers.localizer(model)
    for kind, picture in unusual(phantom.hand(4, (500, 380))[0]).items():
        deep = picture.astype(np.uint16) * 16 + 61000
        points, confidence = localize(deep)
        found = run(deep[None, ..., None])
        np.testing.assert_allclose(found["confidence"][0], confidence, atol=0.02)
        assert confidence.any() == (kind != "a right one")
        if confidence.any():
            np.testing.assert_allclose(found["landmarks"][0], points, atol=0.1)
    both = np.stack([deep, deep[:, ::-1]])[..., None]  # each begins at its own darkest
    both[1] -= both[1].min()
    np.testing.assert_allclose(run(both[1:])["landmarks"][0], run(both)["landmarks"][1], atol=0.01)
    with pytest.raises(Exception, match=r"(?i)uint16"):
        run(picture[None, ..., None])


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNTIMES)
def test_of_a_batch_it_looks_again_at_those_that_need_it(name, exported, model):
    image, _ = phantom.hand(4, (500, 380))
    batch = np.stack([image, image[::-1, ::-1], image[:, ::-1]])
    run, localize = started(exported[name, "float32"]), localizers.localizer(model)
    for part in (batch[:2], batch):
        found = run(part[..., None])
        for i, picture in enumerate(part):
            points, confidence = localize(picture)
            np.testing.assert_allclose(found["landmarks"][i], points, atol=0.1)
            np.testing.assert_allclose(found["confidence"][i], confidence, atol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNTIMES)
def test_threads_find_what_one_finds(name, exported):
    """They share a SavedModel or a session; of LiteRT each call has an interpreter of its own."""
    path = exported[name, "float32"]
    shared = started(path)
    run = shared if name != "litert" else lambda image: started(path)(image)
    image, _ = phantom.hand(4, (500, 380))
    pictures = [image, image[::-1, ::-1], phantom.hand(10, (300, 211))[0]]
    pictures = [picture[None, ..., None] for picture in pictures]
    alone = [shared(picture) for picture in pictures]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(run, pictures * 4))
    for found, wanted in zip(together, alone * 4, strict=True):
        for output, values in wanted.items():
            np.testing.assert_allclose(found[output], values, atol=1e-3)


@pytest.mark.slow
@ACCURATE
def test_alone_it_puts_a_hidden_fingertip_where_the_others_say(
    name, weights, limit, exported, model, tmp_path
):
    """The shape prior is part of the graph: what it corrects is corrected by each runtime."""
    tip, joint = (phantom.LANDMARK_NAMES.index(f"little_{part}") for part in ("tip", "dip"))
    decoder = keras.Model(model.inputs[0], model.get_layer("decoder").output)
    frame_shape = model.input_shape[1:3]
    sure = []
    for seed in (15, 10):
        picture, points = phantom.hand(seed, (1400, 1003))
        picture = hidden(picture, points, tip, joint)
        path = tmp_path / f"{seed}.png"
        Image.fromarray(picture).save(path)
        assert gap_px(name, exported[name, weights], model, [path], tmp_path) < limit
        table = predict.predict([path], model, tmp_path / "again")
        with_prior = table[["x", "y"]].to_numpy()[tip]
        (alone,), (confidence,) = decoder(letterboxed(picture, frame_shape)[None, ..., None])
        alone = geometry.letterbox(picture.shape, frame_shape).invert(alone.numpy())[tip]
        far, near = (np.linalg.norm(found - points[tip]) for found in (alone, with_prior))
        assert near < 0.5 * far and table["confidence"][tip] == 0
        sure.append(bool(confidence[tip] > 0.5))
    assert sure == [False, True]  # one that is moved for its doubt, one for its distance


@pytest.mark.slow
@ACCURATE
def test_alone_it_does_not_believe_a_finger_on_its_neighbour(
    name, weights, limit, exported, model, tmp_path
):
    image, points = phantom.hand(10, (1400, 1003))
    mm_per_px = 50 / np.linalg.norm(points[0] - points[4])
    pictures = {what: rest for what, *rest in without_a_finger(image, points, mm_per_px)}
    paths, truths = [], []
    for what in ("its index finger painted over", "its left 20% cut off"):
        picture, truth = pictures[what]
        paths.append(tmp_path / f"{len(paths)}.png")
        truths.append(truth)
        Image.fromarray(picture).save(paths[-1])
    assert gap_px(name, exported[name, weights], model, paths, tmp_path) < limit
    prior = model.get_layer("shape_prior")
    mean, precision, apart = prior.get_weights()
    for known, most in ((0.0 * apart, None), (apart, 0)):
        prior.set_weights([mean, precision, known])
        table = predict.predict(paths, model, tmp_path / str(most))
        found = table[["x", "y"]].to_numpy().reshape(2, -1, 2)
        off_mm = np.linalg.norm(found - truths, axis=-1) * mm_per_px
        wrong = (off_mm > 10) & (table["confidence"].to_numpy().reshape(2, -1) > 0.5)
        assert wrong.any(axis=1).all() if most is None else wrong.sum() == most


@pytest.mark.slow
@ACCURATE
def test_alone_it_weighs_each_point_against_all_others(
    name, weights, limit, model, phantoms, tmp_path
):
    shapes = np.stack([phantom.hand(seed, (140, 100))[1] for seed in range(40)])
    weighed = with_shapes(model, shapes, sigma_px=3.0)
    path = tmp_path / {"saved_model": "hand", "onnx": "hand.onnx", "litert": "hand.tflite"}[name]
    export.export(weighed, path, weights=weights, scale=SCALE)
    assert gap_px(name, path, weighed, phantoms[:2], tmp_path) < limit
    before, after = (
        predict.predict(phantoms[:2], m, tmp_path / "again")[["x", "y"]] for m in (model, weighed)
    )
    assert np.abs(after - before).to_numpy().mean() > 0.2


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNTIMES)
def test_alone_it_says_what_is_no_left_hand(name, exported, model, tmp_path):
    right = phantom.hand(10, (700, 500))[0][:, ::-1]
    Image.fromarray(right).save(tmp_path / "right.png")
    gap_px(name, exported[name, "float32"], model, [tmp_path / "right.png"], tmp_path)
    with np.load(tmp_path / "out.npz") as alone:
        assert not alone["confidence_0"].any() and np.isnan(alone["error_mm_0"]).all()
        assert np.isnan(alone["mm_per_px_0"])


def refused(pictures, path: Path) -> list[bool]:
    run = started(path)
    return [not run(picture[None, ..., None])["confidence"].any() for picture in pictures]


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNTIMES)
def test_no_blank_picture_is_a_hand(name, exported):
    noise = np.random.default_rng(0).integers(0, 256, (700, 500)).astype(np.uint8)
    ramp = np.tile(np.arange(500) // 2, (700, 1)).astype(np.uint8)
    hand = phantom.hand(4, (700, 500))[0]
    blank = [np.full((700, 500), grey, np.uint8) for grey in (0, 255)]
    pictures = [*blank, noise, ramp, ramp.T, hand[:1, :1], hand[350:351], hand[:, 250:251], hand]
    assert refused(pictures, exported[name, "float32"]) == [True] * 8 + [False]


@pytest.mark.slow
def test_no_chest_is_a_hand(exported, chest):
    paths = sorted((chest / "images").iterdir())[::12]
    pictures = [np.asarray(Image.open(path).convert("L")) for path in paths]
    assert len(pictures) == 10 and all(refused(pictures, exported["onnx", "float32"]))


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNTIMES)
def test_alone_on_real_radiographs(name, exported, model, hand_atlas, tmp_path):
    by_size = {}
    for path in sorted((hand_atlas / "images").glob("*.jpg")):
        with Image.open(path) as image:
            by_size.setdefault(image.size, path)
    images = list(by_size.values())[:10]
    assert len(images) == 10
    assert gap_px(name, exported[name, "float32"], model, images, tmp_path) < 0.1
    picture = np.asarray(Image.open(images[0]))
    unlike = written(unusual(picture, int(np.median(picture[0]))), tmp_path)
    assert gap_px(name, exported[name, "float32"], model, unlike, tmp_path) < 0.3


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNTIMES)
def test_float16_weights_halve_the_file_and_hardly_move_landmarks(
    name, exported, model, phantoms, tmp_path
):
    full, half = exported[name, "float32"], exported[name, "float16"]
    assert size(half) < 0.6 * size(full)
    # those that are looked at once; where to look again may differ by a pixel
    assert 1e-4 < gap_px(name, half, model, phantoms[:3], tmp_path) < 0.5


# onnxruntime-web as far as docs/export.md uses it; the server runs the network
STAND_IN = """
export class Tensor {
  constructor(type, data, dims) { Object.assign(this, { type, data, dims }); }
}
async function run({ image }) {
  const request = { method: "POST", body: new Blob([image.data]) };
  return await (await fetch(`/${image.type}/${image.dims}`, request)).json();
}
export const InferenceSession = { create: async () => ({ run }) };
"""
PAGE = """<!doctype html>
<script type="importmap">{"imports": {"onnxruntime-web/wasm": "/MODULE"}}</script>
<script type="module">CODE
window.points = points;</script>
"""


@pytest.fixture
def site(exported, tmp_path):
    """A folder with the ONNX file, and where a server on this machine has it."""
    import onnxruntime

    path = exported["onnx", "float32"]
    (tmp_path / "hand.onnx").symlink_to(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_POST(self):
            _, kind, shape = self.path.split("/")
            data = self.rfile.read(int(self.headers["Content-Length"]))
            image = np.frombuffer(data, kind).reshape([int(size) for size in shape.split(",")])
            found = zip(names, session.run(names, {"image": image}), strict=True)
            data = {name: {"data": np.nan_to_num(v).ravel().tolist()} for name, v in found}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(data).encode())

        def log_message(self, *args):
            pass

    handler = functools.partial(Handler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield tmp_path, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["stand-in", "onnxruntime-web"])
def test_in_a_browser_it_finds_what_predict_finds(runtime, site, browser, model, phantoms):
    """The program of docs/export.md, word for word."""
    folder, address = site
    page = (pages.ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    code = next(block.code for block in pages.blocks(page) if block.language == "js")
    if runtime == "stand-in":
        module = "ort.mjs"
        (folder / module).write_text(STAND_IN)
    else:
        module = "node_modules/onnxruntime-web/dist/ort.wasm.min.mjs"
        if not (pages.ROOT / module).is_file():
            pytest.skip("no onnxruntime-web: npm install --no-save onnxruntime-web")
        (folder / "node_modules").symlink_to(pages.ROOT / "node_modules")
    (folder / "index.html").write_text(PAGE.replace("MODULE", module).replace("CODE", code))
    from selenium.webdriver.support.ui import WebDriverWait

    grey = np.asarray(Image.open(phantoms[2]))
    Image.fromarray(np.stack([grey, grey // 2, 255 - grey], -1)).save(folder / "colour.png")
    for path in (*phantoms, folder / "colour.png"):
        (folder / "hand.png").write_bytes(path.read_bytes())
        browser.get(f"{address}/index.html?{path.stem}")
        wait = WebDriverWait(browser, 120)
        found = wait.until(lambda b: b.execute_script("return window.points"))
        table = predict.predict([path], model, folder / "out")
        assert [point["name"] for point in found] == table["landmark"].tolist()
        points, wanted = ([(p["x"], p["y"]) for p in found], table[["x", "y"]].to_numpy())
        assert np.linalg.norm(points - wanted, axis=1).max() < 0.05
        np.testing.assert_allclose([p["confidence"] for p in found], table["confidence"], atol=0.02)


def size(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def started(path: Path, format: str | None = None):
    """A function from images to outputs by name, by the artefact's own runtime."""
    if path.is_dir():
        loaded = tf.saved_model.load(path)
        served = loaded.signatures["serving_default"]

        def run(image, loaded=loaded):  # which holds the graph
            return {name: value.numpy() for name, value in served(image=tf.constant(image)).items()}

        return run
    if format == "litert" or path.suffix == ".tflite":
        interpreter = tf.lite.Interpreter(str(path))
        runner = interpreter.get_signature_runner()
        return lambda image: runner(image=image)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return lambda image: dict(zip(names, session.run(names, {"image": image}), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "weights", "smaller", "instructions"),
    [("onnx", "int8", 0.3, "vnni"), ("saved_model", "bfloat16", 0.6, "avx512_bf16")],
)
def test_computed_in_fewer_bits_it_is_small_and_quick_and_stays_near(
    format, weights, smaller, instructions, exported, hand_atlas
):
    """Against float32 in the same runtime, on radiographs; int8 was calibrated on drawn hands."""
    full, small = exported[format, "float32"], exported[format, weights]
    assert size(small) < smaller * size(full)
    paths = sorted((hand_atlas / "images").glob("*.jpg"))[:10]
    pictures = [np.asarray(Image.open(path))[None, ..., None] for path in paths]
    assert len(pictures) == 10
    runs = started(full), started(small)
    found = [np.concatenate([run(p)["landmarks"] for p in pictures]) for run in runs]
    seconds = [float("inf")] * 2  # of the processor: a clock would count what other tests take
    for _ in range(9):  # in turns, and of each the fastest
        for i, run in enumerate(runs):
            clock = timeit.Timer(lambda run=run: run(pictures[0]), timer=time.process_time)
            seconds[i] = min(seconds[i], clock.timeit(number=1))
    apart = np.linalg.norm(found[0] - found[1], axis=-1)
    assert 0.01 < np.median(apart) < 1.0 and np.quantile(apart, 0.99) < 10
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and instructions in cpuinfo.read_text():
        assert seconds[1] < 0.8 * seconds[0]


def test_int8_of_other_landmarks_wants_images(tmp_path):
    import onnxruntime

    shape = {"image_shape": (32, 32), "width": 4, "depth": 3}
    model = unet(["a", "b"], normalization="group", output_stride=1, **shape)
    with pytest.raises(UsageError, match="--calibrate"):
        export.export(model, tmp_path / "m.onnx", weights="int8")
    with pytest.raises(UsageError, match="no image"):
        export.export(model, tmp_path / "m.onnx", weights="int8", calibration=[])
    with pytest.raises(UsageError, match="for weights int8"):
        export.export(model, tmp_path / "m.onnx", calibration=[])
    assert not list(tmp_path.iterdir())
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 4096, (50, 40)).astype(np.uint16) for _ in range(12)]
    export.export(model, tmp_path / "m.onnx", weights="int8", calibration=images)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(["landmarks"], {"image": np.zeros((2, 60, 60, 1), np.uint8)})
    assert found.shape == (2, 2, 2) and np.isfinite(found).all()


@pytest.mark.slow
def test_int8_wants_images_that_show_what_the_model_knows(tmp_path):
    rng = np.random.default_rng(0)
    shapes = rng.uniform(5, 25, (1, 8, 2)) + rng.normal(scale=0.2, size=(40, 8, 2))
    settings = {"width": 4, "depth": 3, "normalization": "group", "output_stride": 1}
    model = with_shapes(unet(8, (32, 32), **settings), shapes)
    noise = [rng.integers(0, 256, (50, 40)).astype(np.uint8) for _ in range(3)]
    with pytest.raises(UsageError, match="none of the 3 images .* each confidence is 0; name"):
        export.export(model, tmp_path / "m.onnx", weights="int8", calibration=noise)
    assert not list(tmp_path.iterdir())


def test_a_hot_pixel_leaves_a_hand_its_grey_levels(model):
    """In the recipe of docs/export.md and in images to calibrate with, as in `predict`."""
    recipe, page = {"np": np}, (pages.ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    exec(re.search(r"^def eight_bit.*?\n\n", page, re.M | re.S)[0], recipe)
    deep = phantom.hand(3, (560, 400))[0].astype(np.uint16) * 16 + 100
    deep[5, 5] = 65535
    localize = localizers.localizer(model)
    expected, sure = localize(deep)
    assert sure.mean() > 0.9
    for eight_bit in (recipe["eight_bit"], quantize._eight_bit):
        found, confidence = localize(eight_bit(deep))
        np.testing.assert_allclose(found, expected, atol=0.5)
        np.testing.assert_allclose(confidence, sure, atol=0.02)
        assert not eight_bit(np.full((40, 40), 7, np.uint16)).any()


def test_the_recipe_for_dicom_shows_what_predict_shows(model, tmp_path):
    """In its file, whose bones are dark and whose window is no straight line."""
    page = (pages.ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    pytest.importorskip("pydicom")
    shown = []

    def localize(image):
        shown.append(image.numpy()[0, ..., 0])
        return {"landmarks": tf.zeros((1, 37, 2))}

    recipe = {"np": np, "tf": tf, "picture": phantom.hand(3, (560, 400))[0], "localize": localize}
    exec(re.search(r"^def eight_bit.*?\n\n", page, re.M | re.S)[0], recipe)
    (code,) = (block.code for block in pages.blocks(page) if "pydicom" in block.code)
    exec(code, recipe)
    file = recipe["file"]
    file.SOPClassUID, file.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3"
    file.save_as(tmp_path / "hand.dcm", enforce_file_format=True)
    table = predict.predict([tmp_path / "hand.dcm"], model, tmp_path / "out")
    found, sure = localizers.localizer(model)(shown[0])
    assert sure.mean() > 0.9
    np.testing.assert_allclose(found, table[["x", "y"]], atol=0.1)


@pytest.mark.slow
def test_every_format_says_what_it_is(exported, model):
    import onnx

    for (format, weights), path in exported.items():
        if format == "onnx":
            loaded = onnx.load(path, load_external_data=False)
            text = {entry.key: entry.value for entry in loaded.metadata_props}["kerasland"]
            assert (loaded.producer_name, loaded.producer_version) == ("kerasland", __version__)
            assert loaded.doc_string == "; ".join(
                f"{key}: {json.loads(text)[key]}"
                for key in ("model", "weights_sha256", "use", "licence", "card")
            )
        elif format == "litert":
            with zipfile.ZipFile(path) as archive:
                text = archive.read("kerasland.json").decode()
        else:
            text = (path / "assets.extra" / "kerasland.json").read_text()
        said = export_notes.about(model, weights, source="pretrained")
        assert json.loads(text) == json.loads(json.dumps(said)) and said["weights"] == weights


@pytest.mark.slow
def test_the_programs_of_the_page_refuse_what_is_no_left_hand(exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for format, name in [
        ("onnx", "hand.onnx"),
        ("litert", "hand.tflite"),
        ("saved_model", "saved_model"),
    ]:
        Path(name).symlink_to(exported[format, "float32"])
    page = (pages.ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    programs = [block.code for block in pages.blocks(page) if "not recognised" in block.code]
    programs = [code for code in programs if "SystemExit" in code]
    assert len(programs) == 3
    left = phantom.hand(10, (700, 500))[0]
    for picture in (left, left[:, ::-1]):
        Image.fromarray(picture).save("hand.png")
        for code in programs:
            refused = contextlib.nullcontext() if picture is left else pytest.raises(SystemExit)
            with refused:
                exec(code, {})


def test_what_an_export_says_of_itself(model, tmp_path):
    said = export_notes.about(model, source="pretrained")
    notes = model_notes.notes("pretrained")
    assert (said["kerasland"], said["model"]) == (__version__, "hand_atlas")
    assert said["data"] == {"name": "hand_atlas", "hash": notes["data"]["hash"]}
    assert tuple(said["landmarks"]) == landmark_names(model)
    names = "ulna_metaphysis_ulnar to radius_metaphysis_radial"
    text = f"{names} (0, 4) = 50 mm"
    assert said["scale"] == {"text": text, "landmarks": (0, 4), "length_mm": 50}
    assert said["error_mm_95_factor"] == model.get_layer("expected_error").ratio(0.95) > 1
    assert (said["side"], said["use"]) == ("left", "research use only")
    assert said["licence"] == "Apache-2.0" and said["card"].startswith("docs/model_card.md")
    assert "bones bright" in said["input"] and "first pixel is (0, 0)" in said["output"]

    # the same file elsewhere, of which nobody says where it is from
    whole = (model_notes.location("pretrained") / "model.keras").read_bytes()
    (tmp_path / "run").mkdir()
    for path in (tmp_path / "mine.keras", tmp_path / "run" / "model.keras"):
        path.write_bytes(whole)
    unknown = dict.fromkeys(("data", "scale", "side", "use", "licence", "card"))
    copied = export_notes.about(model, source=tmp_path / "mine.keras")
    assert copied == {**said, "model": "mine", **unknown}
    assert export_notes.about(model) == {**copied, "model": None}
    assert export_notes.about(model, source=tmp_path / "run")["model"] == "run"
    stated = {"landmarks": None, "length_mm": None, "mm_per_px": 0.35}
    kept = {"experiment": {}, "data": {"name": "a", "hash": "b", "scale": stated}}
    (tmp_path / "run" / "experiment.json").write_text(json.dumps(kept))
    by_spacing = export_notes.about(model, source=tmp_path / "run")["scale"]
    assert by_spacing["text"] == "pixel spacing of the training images"

    other = export_notes.about(model, scale=Scale((1, 2), 7.0), source="pretrained")["scale"]
    assert (other["landmarks"], other["length_mm"]) == ((1, 2), 7.0)  # by which mm_per_px is
    simple = unet(["a", "b"], (16, 16), width=2, depth=2)
    outputs = dict(simple.output)
    outputs["error_mm"] = ExpectedError([0.0, 0.0], 0.3)(outputs["confidence"])
    without_levels = keras.Model(simple.inputs[0], outputs)
    assert export_notes.about(without_levels)["error_mm_95_factor"] is None
    said = export_notes.about(simple, scale=Scale((0, 1), 9.0))
    assert said["scale"]["text"] == "a to b (0, 1) = 9 mm" and said["error_mm_95_factor"] is None
    again = unet(["a", "b"], (16, 16), width=2, depth=2)
    assert export_notes.about(again)["weights_sha256"] != said["weights_sha256"]


def test_the_model_card_says_which_weights_ship(model):
    page = (pages.ROOT / "docs" / "model_card.md").read_text(encoding="utf-8")
    digest = export_notes.about(model)["weights_sha256"]
    assert re.findall(r"`([0-9a-f]{64})`", page) == [digest], f"docs/model_card.md: `{digest}`"


def test_one_licence():
    said = {"docs/model_card.md": "of the weights is {}.", "CITATION.cff": "\nlicense: {}\n"}
    for name, words in said.items():
        text = (pages.ROOT / name).read_text(encoding="utf-8")
        assert words.format(export_notes.LICENCE) in text, name


def test_two_litert_files_of_a_model_are_alike(tmp_path):
    model = unet(2, (16, 16), width=2, depth=2)
    paths = [tmp_path / f"{name}.tflite" for name in "ab"]
    for path in paths:
        export.export(model, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with zipfile.ZipFile(paths[0]) as archive:
        (entry,) = archive.infolist()  # its date may not be that of the export
    assert entry.date_time[0] == 1980 and entry.external_attr >> 16 == 0o644


@pytest.mark.slow
def test_litert_resized_by_the_interpreter_finds_what_its_signature_finds(exported):
    path = exported["litert", "float32"]
    signature, interpreter = started(path), tf.lite.Interpreter(str(path))
    runner = tf.lite.Interpreter(str(path)).get_signature_runner()
    details = runner.get_input_details()["image"], runner.get_output_details()["landmarks"]
    given, where = (detail["index"] for detail in details)
    pictures = unusual(phantom.hand(4, (500, 380))[0])
    for name in ("on its side in a square", "on its side", "by 35", "as it is"):
        image = np.ascontiguousarray(pictures[name][None, ..., None])
        interpreter.resize_tensor_input(given, image.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(given, image)
        interpreter.invoke()
        found, wanted = interpreter.get_tensor(where), signature(image)["landmarks"]
        np.testing.assert_allclose(found, wanted, atol=1e-3, err_msg=name)


@pytest.mark.slow
def test_litert_needs_no_operations_of_tensorflow(exported):
    assert b"Flex" not in exported["litert", "float32"].read_bytes()


def test_litert_is_checked_under_a_path_of_any_letters(tmp_path, monkeypatch):
    """By one that is not ASCII Windows opens no file for the interpreter."""
    spec, path = tf.TensorSpec((1,), tf.float32), tmp_path / "Jürgen.tflite"
    double = tf.function(lambda x: 2.0 * x, input_signature=[spec]).get_concrete_function()
    path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([double]).convert())
    interpreter, opened = tf.lite.Interpreter, []

    def by_content(model_path=None, *args, **options):
        opened.append(model_path)
        return interpreter(model_path, *args, **options)

    monkeypatch.setattr(tf.lite, "Interpreter", by_content)
    export._require_unclipped(path)
    assert opened == [None]


@pytest.mark.slow
def test_what_runtimes_say_of_a_wrong_picture(exported):
    """As in the table of docs/export.md."""
    page = (pages.ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    table = page.split("| `image` is |")[1].split("\n\n")[0].splitlines()[2:]
    image = phantom.hand(0, (350, 250))[0][None, ..., None]
    wrong = [np.repeat(image, 3, -1), image[0, ..., 0], image.astype(np.float32), image[:0]]
    for row, picture in zip(table, wrong, strict=True):
        for format, said in zip(RUNTIMES, row.strip("| ").split(" | ")[1:], strict=True):
            run = started(exported[format, "float32"])
            if said.startswith("nothing"):
                assert run(picture)["landmarks"].shape == (0, 37, 2)
                continue
            with pytest.raises(Exception, match=re.escape(said.strip("`"))):
                run(picture)


@pytest.mark.slow
def test_onnx_takes_batches(exported):
    import onnxruntime

    path = exported["onnx", "float32"]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    image, _ = phantom.hand(0, (350, 250))
    batch = np.stack([image, image[::-1], image[:, ::-1]])[..., None]
    together = session.run(["landmarks", "confidence"], {"image": batch})
    assert [part.shape for part in together] == [(3, 37, 2), (3, 37)]
    for i in range(3):
        alone = session.run(["landmarks", "confidence"], {"image": batch[i : i + 1]})
        np.testing.assert_allclose(together[0][i], alone[0][0], atol=0.01)
        np.testing.assert_allclose(together[1][i], alone[1][0], atol=1e-4)


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
            stem_stride=2,
            output_stride=1,
            normalization=normalization,
            beta=2.5,
            dropout=0.1,
        )
    finally:
        keras.config.set_dtype_policy("float32")
    export.export(model, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    localize = localizers.localizer(model)
    image = np.random.default_rng(0).integers(0, 256, (90, 71)).astype(np.uint8)
    landmarks, confidence = localize(image)
    found = session.run(["landmarks", "confidence"], {"image": image[None, ..., None]})
    np.testing.assert_allclose(found[0][0], landmarks, atol=0.1)
    np.testing.assert_allclose(found[1][0], confidence, atol=0.01)


@pytest.mark.parametrize("asked", ["TRUE", None])
def test_onnx_leaves_the_environment_as_it_was(asked, monkeypatch, tmp_path):
    name = "TF2ONNX_CATCH_ERRORS"
    monkeypatch.setenv(name, asked or "")
    if asked is None:
        monkeypatch.delenv(name)
    export.export(unet(2, (16, 16), width=2, depth=1), tmp_path / "m.onnx")
    assert os.environ.get(name) == asked


@pytest.mark.slow
def test_one_onnx_op_set(exported):
    """Nothing of a single vendor in the files."""
    import onnx

    for weights in export.WEIGHTS["onnx"]:
        graph = onnx.load(exported["onnx", weights])
        assert graph.ir_version <= 8  # which onnxruntime 1.15 reads
        assert {node.domain for node in graph.graph.node} <= {""}
        assert {entry.domain for entry in graph.opset_import} <= {"", "ai.onnx.ml"}


@pytest.mark.slow
@pytest.mark.parametrize("format", RUNTIMES)
def test_it_holds_the_network_once(format, exported, model):
    """Though it looks again from within a loop, which converters give weights of their own."""
    for weights in export.WEIGHTS[format]:
        path = exported[format, weights]
        large = [part for part in constants(path) if len(part) > 10_000]
        assert len(large) == len(set(large)) > 8
        bits = {"int8": 8, "float32": 32}.get(weights, 16)
        operations = size(path) - model.count_params() * bits / 8  # and their names
        most = 1_000_000 if format == "saved_model" else 500_000  # weights of 8 bits are 1.6 MB
        assert 0 < operations < most, (weights, operations)


def constants(path: Path) -> list[bytes]:
    """Of an artefact, wherever they are in it."""
    if path.is_dir():
        from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

        saved = SavedModel.FromString((path / "saved_model.pb").read_bytes())
        functions = saved.meta_graphs[0].graph_def.library.function
        nodes = (node for function in functions for node in function.node_def)
        return [tf.make_ndarray(n.attr["value"].tensor).tobytes() for n in nodes if n.op == "Const"]
    if path.suffix == ".tflite":
        from tensorflow.lite.python import schema_py_generated as schema

        buffers = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0).buffers
        return [bytes(buffer.data) for buffer in buffers if buffer.data is not None]
    import onnx

    def within(graph):
        yield from (tensor.raw_data for tensor in graph.initializer)
        for node in graph.node:
            for attribute in node.attribute:
                yield from within(attribute.g)

    return list(within(onnx.load(path).graph))


@pytest.mark.slow
def test_a_loop_in_onnx_hands_nothing_on_under_the_name_it_got_it_by(tmp_path):
    import onnx

    shapes = np.random.default_rng(0).uniform(5, 25, (40, 8, 2))
    model = with_shapes(unet(8, (32, 32), width=4, depth=3, output_stride=1), shapes)
    export.export(model, tmp_path / "m.onnx")
    loops = [node for node in onnx.load(tmp_path / "m.onnx").graph.node if node.op_type == "Loop"]
    bodies = [attribute.g for node in loops for attribute in node.attribute]
    assert bodies
    for body in bodies:  # OpenVINO 2026 would refuse the file
        assert not {v.name for v in body.input} & {v.name for v in body.output}
        made = {name: node for node in body.node for name in node.output}
        given = {v.name for v in body.input}
        for value in body.output:
            by = made.get(value.name)
            assert not (by is not None and by.op_type == "Identity" and by.input[0] in given)


def test_formats_by_suffix(monkeypatch, tmp_path):
    written = []
    for name in export.WRITERS:
        monkeypatch.setitem(
            export.WRITERS,
            name,
            lambda _, path, *__, name=name: written.append(path.write_text(name)),
        )
    model = unet(2, image_shape=(16, 16), width=2, depth=2)
    for path, format, expected in [
        ("a.onnx", None, "onnx"),
        ("a.tflite", None, "litert"),
        ("a", None, "saved_model"),
        ("v1.2", None, "saved_model"),
        ("b", "onnx", "onnx"),
        ("b.pb", "saved_model", "saved_model"),
    ]:
        export.export(model, tmp_path / path, format)
        assert (tmp_path / path).read_text() == expected


def test_refusals(monkeypatch, tmp_path):
    model = unet(2, image_shape=(16, 16), width=2, depth=2)

    def refused(path, format=None, **options):
        with pytest.raises(UsageError) as caught:
            export.export(model, path, format, **options)
        assert sorted(tmp_path.iterdir()) == before
        return str(caught.value)

    (tmp_path / "there.onnx").write_text("kept")
    before = sorted(tmp_path.iterdir())
    assert "there.onnx: exists already" in refused(tmp_path / "there.onnx")
    assert (tmp_path / "there.onnx").read_text() == "kept"
    assert "'.h5'" in refused(tmp_path / "m.h5")
    assert "'pdf'" in refused(tmp_path / "m", "pdf")
    assert "'int4'" in refused(tmp_path / "m", weights="int4")
    assert "saved_model has float32, float16, bfloat16" in refused(tmp_path / "m", weights="int8")
    assert "'float32': must be one of uint8, uint16" in refused(tmp_path / "m", dtype="float32")
    for package in ("onnx", "tf2onnx"):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, package, None)
            line = refused(tmp_path / "m.onnx")
            assert package in line and 'pip install "kerasland[onnx]"' in line
    kernel = next(variable for variable in model.variables if len(variable.shape) == 4)
    kernel.assign(np.full(kernel.shape, 1e5))
    line = refused(tmp_path / "m.tflite", weights="float16")
    assert kernel.path in line and "65504" in line
    kernel.assign(np.full(kernel.shape, 1.0))
    for layer in model.layers:
        if hasattr(layer, "gamma"):
            layer.gamma.assign(np.full(layer.gamma.shape, 1e6))
    assert "65504" in refused(tmp_path / "m.onnx", weights="float16")
    # so much alike that the precision is too large, and enough landmarks for LiteRT to halve it
    alike = np.random.default_rng(0).normal(size=(1, 20, 2))
    alike = alike + np.random.default_rng(1).normal(scale=1e-4, size=(30, 20, 2))
    model = with_shapes(unet(20, image_shape=(16, 16), width=2, depth=2), alike)
    assert "65504" in refused(tmp_path / "m.tflite", weights="float16")
