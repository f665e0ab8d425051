"""Which runtime to pick: size, latency and accuracy of every format that `export` writes.

Each artefact works in a process of its own, with two threads, batch 1, from raw 8-bit pixels to
landmarks. Latency is of one radiograph, against the SavedModel's, A B A B; of some passes the
fastest counts. Differences are from what `predict` finds, and errors from the annotation, over the
test list of a fold. The shipped model has seen those radiographs: its errors say what fewer bits
cost, not how good it is.

    python -m benchmarks.runtimes --data data/hand_atlas [--model RUN]
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.inference import THREADS, Peer, answer
from benchmarks.measure import PAIRS, compare
from kerasland import files, images, phantom, prepared

RESULTS = Path(__file__).parent / "results" / "runtimes.csv"
Runtime = Callable[[np.ndarray], np.ndarray]


def _tensorflow(path: str) -> Runtime:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    served = tf.saved_model.load(path).signatures["serving_default"]
    return lambda image: served(image=tf.constant(image))["landmarks"].numpy()


def _onnxruntime(path: str) -> Runtime:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda image: session.run(["landmarks"], {"image": image})[0]


def _openvino(path: str) -> Runtime:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": THREADS,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    model = openvino.Core().compile_model(path, "CPU", settings)
    return lambda image: model([image])["landmarks"]


def _litert(path: str) -> Runtime:
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(path, num_threads=THREADS).get_signature_runner()
    return lambda image: runner(image=image)["landmarks"]


# the first is what others are compared with: name, format, module, how it starts
RUNTIMES = (
    ("TensorFlow", "saved_model", "tensorflow", _tensorflow),
    ("onnxruntime", "onnx", "onnxruntime", _onnxruntime),
    ("OpenVINO", "onnx", "openvino", _openvino),
    ("LiteRT", "litert", "ai_edge_litert", _litert),
)
CALIBRATION = 16  # images of the train list
FORMATS = {"saved_model": "SavedModel", "onnx": "ONNX", "litert": "LiteRT"}


def serve(runtime: str, path: str, out: str, image_paths: Sequence[str]) -> None:
    """The process behind a `Peer`: landmarks of all images into `out`, then passes over the first.

    Args:
        runtime: a name of `RUNTIMES`.
        path: the artefact.
        out: a `.npz`, for (K, 2) an image, pixels.
        image_paths: files of grey images of 8 bit.
    """
    run = next(start for name, *_, start in RUNTIMES if name == runtime)(path)
    pictures = [images.read_image(name)[None, ..., None] for name in image_paths]
    np.savez(out, *[run(picture)[0] for picture in pictures])
    answer(lambda: run(pictures[0]))


def measure(data: prepared.Prepared, fold: str, source: str, pairs: int) -> pd.DataFrame:
    """A row a runtime and type of weights, for those runtimes that are installed."""
    from kerasland import export, localizers, model_files

    learnt, ids = data.fold(fold)
    rows, paths = data.index(ids), [data.image_path(image_id) for image_id in ids]
    model = model_files.load_model(source)
    localize = localizers.localizer(model)
    wanted = [localize(images.read_image(path))[0] for path in paths]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        installed = [entry for entry in RUNTIMES if importlib.util.find_spec(entry[2])]
        for format in {entry[1] for entry in installed}:
            for weights in export.WEIGHTS[format]:
                artefact = Path(folder) / weights / format
                calibration = None
                if weights == export.INT8 and data.landmarks != phantom.LANDMARK_NAMES:
                    calibration = map(images.read_image, map(data.image_path, learnt[:CALIBRATION]))
                export.export(model, artefact, format, weights, calibration)

        def peer(runtime: str, artefact: Path, out: Path) -> Peer:
            command = [sys.executable, "-m", "benchmarks.runtimes", "--serve"]
            return Peer(*command, runtime, artefact, out, *paths)

        first = (RUNTIMES[0][0], Path(folder) / export.FLOAT32 / RUNTIMES[0][1])
        tried = [(*entry[:2], kept) for entry in installed for kept in export.WEIGHTS[entry[1]]]
        for runtime, format, weights in tried:
            artefact, out = Path(folder) / weights / format, Path(folder) / "found.npz"
            costs = []

            def cost(peer: Peer, costs: list = costs) -> float:
                costs.append(peer())
                return costs[-1]

            with peer(runtime, artefact, out) as a, peer(*first, Path(folder) / "x.npz") as b:
                ratio = compare(lambda a=a: cost(a), b, pairs)
            landmarks = list(np.load(out).values())
            apart = [np.linalg.norm(a - b, axis=-1) for a, b in zip(landmarks, wanted, strict=True)]
            error = np.linalg.norm(np.stack(landmarks) - data.points[rows], axis=-1)
            found.append(
                {
                    "runtime": runtime,
                    "format": FORMATS[format],
                    "weights": weights,
                    "megabytes": _size(artefact) / 1e6,
                    "milliseconds": 1000 * statistics.median(costs[1:]),
                    "ratio": ratio.median,
                    "low": ratio.low,
                    "high": ratio.high,
                    "difference_px": np.max(apart),
                    "error_mm": np.nanmean(error * data.mm_per_px[rows][:, None]),
                }
            )
            print(f"{runtime}, {weights}: {found[-1]['ratio']:.2f}", file=sys.stderr, flush=True)
    return pd.DataFrame(found)


def _size(path: Path) -> int:
    parts = path.rglob("*") if path.is_dir() else [path]
    return sum(part.stat().st_size for part in parts if part.is_file())


def table(results: pd.DataFrame) -> str:
    """The results as Markdown."""
    head = ["runtime", "format", "weights", "MB", "ms", "of the SavedModel", "spread"]
    head += ["largest difference, px", "mean error, mm"]
    lines = [head, ["---"] * len(head)]
    for row in results.itertuples():
        lines.append(
            [
                row.runtime,
                row.format,
                row.weights,
                f"{row.megabytes:.1f}",
                f"{row.milliseconds:.0f}",
                f"{row.ratio:.2f}",
                f"{row.low:.2f} to {row.high:.2f}",
                f"{row.difference_px:.4f}",
                f"{row.error_mm:.4f}",
            ]
        )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        runtime, path, out, *image_paths = sys.argv[2:]
        serve(runtime, path, out, image_paths)
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="a prepared data set of 8 bit")
    parser.add_argument("--fold", default="dev", help="its test list is used (default: dev)")
    parser.add_argument("--model", default="pretrained", help="default: pretrained")
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"default: {PAIRS}")
    args = parser.parse_args()
    results = measure(prepared.read(args.data), args.fold, args.model, args.pairs)
    with files.replacing(RESULTS) as temporary:
        results.round(6).to_csv(temporary, index=False)
    print(table(results))


if __name__ == "__main__":
    main()
