"""The example server: a real process, asked by curl."""

import asyncio
import importlib.util
import io
import json
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from tiff_files import write_tiff

from benchmarks.shape_prior import hidden, on_a_plate
from kerasland import export, export_notes, localizers, model_files, phantom
from kerasland.layers import ExpectedError
from kerasland.models import landmark_names, unet

APP = Path(__file__).resolve().parents[1] / "examples" / "serve" / "app.py"
ALONE = """
import runpy, sys
sys.modules["kerasland"] = sys.modules["keras"] = None  # an import would fail
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
SECONDS = 180

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine"),
]


@pytest.fixture(scope="module")
def model():
    return model_files.load_pretrained()


@pytest.fixture(scope="module")
def address(model, tmp_path_factory):
    """Of a server that is up."""
    folder = tmp_path_factory.mktemp("served")
    export.export(model, folder / "saved_model", source="pretrained")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", ALONE, APP, folder / "saved_model", "--port", port]
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        until = time.monotonic() + SECONDS
        while curl(f"{url}/healthz")[0] != 200:
            assert server.poll() is None, (folder / "log.txt").read_text()[-3000:]
            assert time.monotonic() < until
            time.sleep(0.5)
        assert f"ready: {url}/landmarks\n" in (folder / "log.txt").read_text()
        yield url
    finally:
        server.terminate()
        server.wait()
    assert "Traceback" not in (folder / "log.txt").read_text()


def curl(url: str, body: bytes | None = None) -> tuple[int, dict]:
    """The status and the JSON of an answer."""
    post = [] if body is None else ["--data-binary", "@-"]
    command = ["curl", "-s", "-w", "\n%{http_code}", *post, url]
    answer = subprocess.run(command, input=body, capture_output=True).stdout.decode()
    text, status = answer.rsplit("\n", 1)
    return int(status), json.loads(text) if text.startswith("{") else {}


def encoded(pixels: np.ndarray, format: str = "png", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format, **options)
    return buffer.getvalue()


def points(answer: dict) -> np.ndarray:
    return np.array([[entry["x"], entry["y"]] for entry in answer["landmarks"]])


def test_it_says_which_model_it_has(address, model):
    said = export_notes.about(model, source="pretrained")
    which = {key: said[key] for key in ("model", "weights_sha256")}
    assert curl(f"{address}/healthz") == (200, {"status": "ok", **which, "landmarks": 37})
    _, answer = curl(f"{address}/landmarks", encoded(phantom.hand(0, (350, 250))[0]))
    assert which.items() <= answer.items()


def test_landmarks_are_those_of_predict(address, model):
    localize = localizers.localizer(model)
    for seed, shape in enumerate([(350, 250), (700, 640), (300, 200)]):
        image, drawn = phantom.hand(seed, shape)
        if seed == 0:
            image = hidden(image, drawn, 0, 1)  # the end of the ulna
        if seed == 2:  # which is looked at twice
            image, _ = on_a_plate(image, drawn, 2.0, 0)
        status, answer = curl(f"{address}/landmarks", encoded(image))
        assert status == 200 and (answer["height"], answer["width"]) == image.shape
        assert tuple(entry["landmark"] for entry in answer["landmarks"]) == landmark_names(model)
        landmarks, confidence = localize(image)
        if seed:
            wrist = np.linalg.norm(landmarks[0] - landmarks[4])
            np.testing.assert_allclose(answer["mm_per_px"], 50.0 / wrist, rtol=1e-3)
        else:  # which the others put right
            assert confidence[0] == 0 and answer["mm_per_px"] is None
        np.testing.assert_allclose(points(answer), landmarks, atol=0.05)
        found = [entry["confidence"] for entry in answer["landmarks"]]
        np.testing.assert_allclose(found, confidence, atol=1e-3)
        assert answer["scale"].endswith("(0, 4) = 50 mm")
        ratio = model.get_layer("expected_error").ratio(0.95)
        for entry in answer["landmarks"]:
            known = entry["error_mm"], entry["error_mm_95"]
            assert known == (None, None) or known[1] == pytest.approx(ratio * known[0])
        assert known[0] is not None


def test_other_kinds_of_picture(address):
    image, _ = phantom.hand(0, (350, 250))
    _, plain = curl(f"{address}/landmarks", encoded(image))
    deep = image.astype(np.uint16) * 100 + 5000
    deep[5, 5] = 65535  # one hot pixel
    colour = np.stack([image] * 3, axis=-1)
    negative = encoded(65535 - deep, "tiff", tiffinfo={262: 0})  # white is zero
    for body in (encoded(deep), encoded(deep, "tiff"), encoded(colour), negative):
        status, answer = curl(f"{address}/landmarks", body)
        assert status == 200
        np.testing.assert_allclose(points(answer), points(plain), atol=0.5)
    assert plain["recognised"] is True
    status, right = curl(f"{address}/landmarks", encoded(image[:, ::-1]))
    assert status == 200 and right["recognised"] is False
    assert all(e["confidence"] == 0 and e["error_mm"] is None for e in right["landmarks"])
    assert right["mm_per_px"] is right["landmarks"][0]["error_mm_95"] is None
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter
    status, turned = curl(f"{address}/landmarks", encoded(np.rot90(image), exif=exif))
    assert status == 200 and (turned["height"], turned["width"]) == image.shape
    np.testing.assert_allclose(points(turned), points(plain), atol=1e-3)


def test_a_client_that_leaves_is_no_error(address):
    """The log is looked at when the server ends."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(b"POST /landmarks HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\nhalf")
        time.sleep(0.5)
    assert curl(f"{address}/healthz")[0] == 200


def test_clients_that_stall_are_in_nobodys_way(address):
    host, port = address.removeprefix("http://").split(":")
    with ExitStack() as clients:
        for _ in range(40):
            client = clients.enter_context(socket.create_connection((host, int(port))))
            client.sendall(b"POST /landmarks HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\nhalf")
        time.sleep(0.5)  # for the server to have begun with them
        assert curl(f"{address}/landmarks", encoded(phantom.hand(0, (350, 250))[0]))[0] == 200


def test_no_more_than_sixteen_pictures_wait(address):
    host, port = address.removeprefix("http://").split(":")
    noise = encoded(np.random.default_rng(0).integers(0, 256, (300, 200)).astype(np.uint8))
    head = f"POST /landmarks HTTP/1.0\r\nContent-Length: {len(noise)}\r\n\r\n".encode()
    with ExitStack() as clients:
        sent = []
        for _ in range(20):
            sent.append(clients.enter_context(socket.create_connection((host, int(port)))))
            sent[-1].sendall(head + noise)
        answers = [client.makefile("rb").read() for client in sent]
    statuses = [int(answer.split()[1]) for answer in answers]
    assert set(statuses) == {200, 503} and statuses.count(200) >= 16
    assert all(b"ask again" in a for a in answers if b" 503 " in a[:20])
    assert curl(f"{address}/landmarks", noise)[0] == 200


def test_no_more_than_memory_holds(monkeypatch):
    """Of bodies that arrive and of those that have arrived; room that one leaves is free again."""
    from starlette.exceptions import HTTPException
    from starlette.requests import Request

    app = as_module()
    monkeypatch.setattr(app, "MOST_HELD", 100)
    bodies = app.Bodies()

    def request(size):
        async def receive():
            return {"type": "http.request", "body": bytes(size)}

        return Request({"type": "http"}, receive)

    async def scenario():
        async with bodies.of(request(60)) as data:
            assert len(data) == bodies.held == 60
            with pytest.raises(HTTPException) as caught:
                async with bodies.of(request(41)):
                    pass
            assert caught.value.status_code == 503 and bodies.held == 60
            async with bodies.of(request(40)):
                assert bodies.held == 100
        assert bodies.held == 0

    asyncio.run(scenario())


def as_module():
    spec = importlib.util.spec_from_file_location("app", APP)
    app = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(app)
    return app


def test_a_model_without_the_radius_of_95_percent(tmp_path):
    """Its errors are answered all the same."""
    model = unet(2, (64, 64), width=4, depth=2)
    outputs = dict(model.output)
    outputs["error_mm"] = ExpectedError([0.0, 0.0], 0.3)(outputs["confidence"])
    export.export(keras.Model(model.inputs[0], outputs), tmp_path / "saved")
    picture = encoded(phantom.hand(0, (350, 250))[0])
    answer = as_module().Localizer(tmp_path / "saved")(picture)
    assert all(e["error_mm"] > 0 and "error_mm_95" not in e for e in answer["landmarks"])


def test_a_model_trained_with_the_spacing_of_its_images(tmp_path):
    """Where no scale is known of the picture, none is stated."""
    (tmp_path / "run").mkdir()
    unet(2, (64, 64), width=4, depth=2).save(tmp_path / "run" / "model.keras")
    scale = {"landmarks": None, "length_mm": None, "mm_per_px": 0.35}
    notes = {"experiment": {}, "data": {"name": "a", "hash": "b", "scale": scale}}
    (tmp_path / "run" / "experiment.json").write_text(json.dumps(notes))
    model = model_files.load_model(tmp_path / "run")
    export.export(model, tmp_path / "saved", source=tmp_path / "run")
    localizer = as_module().Localizer(tmp_path / "saved")
    assert localizer.about["scale"]["text"] == "pixel spacing of the training images"
    answer = localizer(encoded(phantom.hand(0, (350, 250))[0]))
    assert answer["width"] == 250 and not {"mm_per_px", "scale"} & set(answer)


def test_a_model_of_16_bits_finds_in_them_what_predict_finds(model, tmp_path):
    export.export(model, tmp_path / "saved_model", source="pretrained", dtype="uint16")
    served, localize = as_module().Localizer(tmp_path / "saved_model"), localizers.localizer(model)
    image, drawn = phantom.hand(0, (350, 250))
    deep = image.astype(np.uint16) * 16 + 900
    deep[5, 5] = 65535  # a hot pixel
    found, _ = localize(deep)
    white_is_zero = encoded(65535 - deep, "tiff", tiffinfo={262: 0})
    for body in (encoded(deep), white_is_zero):
        np.testing.assert_allclose(points(served(body)), found, atol=0.05)
    assert np.linalg.norm(points(served(encoded(image))) - drawn, axis=1).mean() < 4  # of 8 bits


def test_a_body_that_does_not_arrive_is_not_waited_for(monkeypatch):
    from starlette.exceptions import HTTPException
    from starlette.requests import Request

    app = as_module()
    monkeypatch.setattr(app, "MOST_SECONDS", 0.05)
    never = Request({"type": "http"}, lambda: asyncio.sleep(SECONDS))

    async def wait():
        async with app.Bodies().of(never):
            pass

    with pytest.raises(HTTPException, match="the body took more than") as caught:
        asyncio.run(wait())
    assert caught.value.status_code == 408


def test_what_is_refused(address, tmp_path):
    whole = encoded(phantom.hand(0, (350, 250))[0])
    tiff = encoded(np.eye(90, dtype=np.uint8), "tiff")
    damaged = tiff.replace(b"\x11\x01\x04\0", b"\x11\x01\x05\0")  # an offset that is a fraction
    assert damaged != tiff
    eps, gif = (encoded(np.eye(90, dtype=np.uint8), kind) for kind in ("eps", "gif"))
    for body in (b"no picture", b"", whole[: len(whole) // 2], damaged, eps, gif):
        status, answer = curl(f"{address}/landmarks", body)
        assert status == 400 and "is no PNG, JPEG or TIFF that Pillow can read" in answer["error"]
        assert "--data-binary @FILE" in answer["error"]
    imagecodecs = pytest.importorskip("imagecodecs")
    deep = np.arange(90 * 90 * 3, dtype=np.uint16).reshape(90, 90, 3)
    for channels in (2, 3):
        body = imagecodecs.png_encode(deep[..., :channels].copy())
        assert curl(f"{address}/landmarks", body) == (
            400, {"error": "16 bits in colour or with transparency"},
        )  # fmt: skip
    write_tiff(tmp_path / "planes.tif", deep.transpose(2, 0, 1), {262: 2, 284: 2})
    assert curl(f"{address}/landmarks", (tmp_path / "planes.tif").read_bytes()) == (
        400, {"error": "16 bits in colour or with transparency"},
    )  # fmt: skip
    assert curl(f"{address}/landmarks", encoded(np.diag(np.full(90, np.nan, "f4")), "tiff")) == (
        400, {"error": "pixels that are no finite numbers"},
    )  # fmt: skip
    for pixels, said in (  # as predict does
        (np.full((90, 90), 7, np.uint8), "all pixels are alike"),
        (np.full((90, 90), 7, np.uint16), "all pixels are alike"),
        (np.eye(31, 90, dtype=np.uint8), "a side of less than 32 pixels"),
    ):
        assert curl(f"{address}/landmarks", encoded(pixels)) == (400, {"error": said})
    page = Image.fromarray(deep[..., 0].astype(np.uint8))
    pages = io.BytesIO()
    page.save(pages, "tiff", save_all=True, append_images=[page])
    assert curl(f"{address}/landmarks", pages.getvalue()) == (
        400, {"error": "several pictures in one file"},
    )  # fmt: skip
    for size in ((8000, 8000), (20_000, 10_000)):  # of the latter Pillow tells no size
        file = io.BytesIO()
        Image.new("1", size).save(file, "png")
        answer = curl(f"{address}/landmarks", file.getvalue())
        assert answer == (413, {"error": "more than 50000000 pixels"})
    assert curl(f"{address}/landmarks", encoded(np.zeros((33, 20_001), np.uint8))) == (
        413, {"error": "a side of more than 20000 pixels"},
    )  # fmt: skip
    assert curl(f"{address}/landmarks", bytes(2**25 + 1)) == (
        413, {"error": "more than 33554432 bytes"},
    )  # fmt: skip
    assert curl(f"{address}/landmarks")[0] == 405 and curl(f"{address}/other")[0] == 404
    assert curl(f"{address}/landmarks", whole)[0] == 200  # it is still there


def test_a_wrong_call(tmp_path):
    def refused(*arguments):
        done = subprocess.run([sys.executable, APP, *arguments], capture_output=True, text=True)
        assert done.returncode == 2 and "Traceback" not in done.stderr
        return done.stderr

    assert f"{tmp_path}: not a SavedModel" in refused(tmp_path)
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "assets.extra" / "kerasland.json").touch()
    assert "--port 99999: must be 1 to 65535" in refused(tmp_path, "--port", "99999")
