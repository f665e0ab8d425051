"""Serves an exported SavedModel over HTTP: a picture in, its landmarks as JSON out.

Needs TensorFlow, Pillow, Starlette and uvicorn, not kerasland.

    python app.py saved_model --port 8000
    curl --data-binary @hand.png http://127.0.0.1:8000/landmarks
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import tensorflow as tf
import uvicorn
from PIL import Image, ImageOps
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

ABOUT = "assets.extra/kerasland.json"
FORMATS = ("PNG", "JPEG", "TIFF")  # no others: for EPS Pillow would run Ghostscript
MOST_BYTES = 32 * 2**20
MOST_PIXELS = 50_000_000
LONGEST_SIDE = 20_000  # memory grows with its square where the other side is short
SMALLEST_SIDE = 32
MOST_WAITING = 16  # pictures that have arrived
MOST_HELD = 16 * MOST_BYTES  # in memory at once, with those that arrive
MOST_SECONDS = 60  # for a body to arrive


class Localizer:
    """The SavedModel in a folder, for one picture at a time."""

    def __init__(self, folder: Path):
        loaded = tf.saved_model.load(str(folder))  # kept: it holds the graph
        self.loaded, self.serve = loaded, loaded.signatures["serving_default"]
        self.dtype = self.serve.structured_input_signature[1]["image"].dtype.as_numpy_dtype
        self.about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        self.which = {key: self.about[key] for key in ("model", "weights_sha256")}
        self.turn = threading.Lock()

    def __call__(self, data: bytes | bytearray) -> dict:
        """Landmarks of an image file, in pixels of the picture as viewers show it."""
        with self.turn:  # a picture uses all cores; memory stays that of one
            pixels = of_type(as_grey(data), self.dtype)
            found = self.serve(image=tf.constant(pixels[None, ..., None]))
        found = {name: value[0].numpy() for name, value in found.items()}
        factor = self.about["error_mm_95_factor"]
        if factor is not None:  # a model that states errors need not hold it
            found["error_mm_95"] = factor * found["error_mm"]
        points = [map(known, point) for point in found.pop("landmarks")]
        size = {"width": pixels.shape[1], "height": pixels.shape[0]}
        if "mm_per_px" in found:  # without, errors are in the millimetres of the training images
            size |= {
                "mm_per_px": known(found.pop("mm_per_px")),
                "scale": self.about["scale"]["text"],
            }
        landmarks = [
            {"landmark": name, "x": x, "y": y, **{key: known(found[key][k]) for key in found}}
            for k, (name, (x, y)) in enumerate(zip(self.about["landmarks"], points, strict=True))
        ]
        # of no such shape: a model with a shape prior then gives each landmark the confidence 0
        recognised = bool(found["confidence"].any())
        return {**self.which, "recognised": recognised, **size, "landmarks": landmarks}


def known(value: np.floating) -> float | None:
    """A number as JSON has it, in seven digits; none of an error that the model does not know."""
    return float(f"{value:.7g}") if np.isfinite(value) else None


def as_grey(data: bytes | bytearray) -> np.ndarray:
    """(H, W), uint8, of an image file; float32 of one that has more bits."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise HTTPException(413, f"more than {MOST_PIXELS} pixels")
            if max(image.size) > LONGEST_SIDE:
                raise HTTPException(413, f"a side of more than {LONGEST_SIDE} pixels")
            if min(image.size) < SMALLEST_SIDE:
                raise HTTPException(400, f"a side of less than {SMALLEST_SIDE} pixels")
            if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # a phone's JPEG
                raise HTTPException(400, "several pictures in one file")
            tags = image.tag_v2 if image.format == "TIFF" else {}
            deep = max(tags.get(258, (1,))) > 8 or any(";16" in str(t[3]) for t in image.tile)
            if deep and image.mode in ("LA", "RGB", "RGBA", "CMYK"):
                # of which Pillow would keep the higher 8: save it in 16-bit grey
                raise HTTPException(400, "16 bits in colour or with transparency")
            inverted = tags.get(262) == 0  # white is zero
            image = ImageOps.exif_transpose(image)
            wide = image.mode.startswith(("I", "F"))
            pixels = np.asarray(image, np.float32) if wide else np.asarray(image.convert("L"))
    except Image.DecompressionBombError:  # Pillow's own limit, before the size can be asked for
        raise HTTPException(413, f"more than {MOST_PIXELS} pixels") from None
    except HTTPException:
        raise
    except Exception:  # what decoders raise on a broken file has no end
        raise HTTPException(
            400,
            "the body is no PNG, JPEG or TIFF that Pillow can read; curl sends one as it is with "
            "--data-binary @FILE",
        ) from None
    if not np.isfinite(pixels).all():
        raise HTTPException(400, "pixels that are no finite numbers")
    if pixels.min() == pixels.max():
        raise HTTPException(400, "all pixels are alike")
    return -pixels if wide and inverted else pixels


def of_type(pixels: np.ndarray, dtype: type) -> np.ndarray:
    """Pixels in the type that the model takes: as they are, or from one end of its range to the
    other."""
    if pixels.dtype == dtype:
        return pixels
    # of 8 bits one hot pixel would leave the hand a few grey levels
    ends = (0.01, 99.99) if dtype == np.uint8 else (0, 100)
    low, high = map(float, np.percentile(pixels, ends))
    most = np.iinfo(dtype).max
    return ((pixels - low) * (most / ((high - low) or 1))).clip(0, most).round().astype(dtype)


class Bodies:
    """The bodies of requests, whose bytes count while they are in memory, not the clients."""

    def __init__(self):
        self.held = 0

    @contextlib.asynccontextmanager
    async def of(self, request: Request) -> AsyncIterator[bytearray]:
        """One, refused as soon as it is too long, has taken too long or finds no room."""
        data = bytearray()
        try:
            try:
                await asyncio.wait_for(self._arrive(request, data), MOST_SECONDS)
            except TimeoutError:
                late = f"the body took more than {MOST_SECONDS} s"
                raise HTTPException(408, late, {"Connection": "close"}) from None
            yield data
        finally:
            self.held -= len(data)

    async def _arrive(self, request: Request, data: bytearray) -> None:
        async for chunk in request.stream():
            data += chunk
            self.held += len(chunk)
            if len(data) > MOST_BYTES:
                raise HTTPException(413, f"more than {MOST_BYTES} bytes")
            if self.held > MOST_HELD:
                raise busy()


def busy() -> HTTPException:
    """For one more picture than there is room for."""
    detail = "too many pictures wait already; ask again a little later"
    return HTTPException(503, detail, {"Retry-After": "5", "Connection": "close"})


def application(folder: Path) -> Starlette:
    """GET /healthz, and POST /landmarks with an image file as the body."""
    localizer = Localizer(folder)
    bodies, room = Bodies(), asyncio.Semaphore(MOST_WAITING)

    async def healthz(_: Request) -> JSONResponse:
        count = len(localizer.about["landmarks"])
        return JSONResponse({"status": "ok", **localizer.which, "landmarks": count})

    async def landmarks(request: Request) -> JSONResponse:
        async with bodies.of(request) as data:
            if room.locked():
                raise busy()
            async with room:
                return JSONResponse(await run_in_threadpool(localizer, data))

    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    async def left(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=400)  # which nobody is there to read

    routes = [Route("/healthz", healthz), Route("/landmarks", landmarks, methods=["POST"])]
    handlers = {HTTPException: refused, ClientDisconnect: left}
    return Starlette(routes=routes, exception_handlers=handlers)


class Server(uvicorn.Server):
    """Says when it is ready to answer."""

    async def startup(self, *args, **kwargs) -> None:
        await super().startup(*args, **kwargs)
        if self.started:
            print(f"ready: http://{self.config.host}:{self.config.port}/landmarks", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serves an exported SavedModel over HTTP.")
    parser.add_argument("folder", type=Path, help="what `kerasland export` wrote")
    parser.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1, this machine only")
    parser.add_argument("--port", type=int, default=8000, help="default: 8000")
    args = parser.parse_args()
    if not (args.folder / ABOUT).is_file():
        parser.error(f"{args.folder}: not a SavedModel that `kerasland export` wrote")
    if not 0 < args.port < 2**16:
        parser.error(f"--port {args.port}: must be 1 to 65535")
    config = uvicorn.Config(
        application(args.folder),
        host=args.host,
        port=args.port,
        log_level="warning",
    )
    with contextlib.suppress(KeyboardInterrupt):
        Server(config).run()


if __name__ == "__main__":
    main()
