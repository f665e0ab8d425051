"""Seconds an image, from raw 8-bit pixels to landmarks, against a bare forward pass in PyTorch.

Ours does the whole work: resizing, standardising, the network, decoding. The peer is the network of
`benchmarks.prototype` at the same input size, without any of the rest. Batch 1, two threads each.
Each runtime is a process of its own that stays up, so that none disturbs another's threads; all are
started anew a few times, since one process may be faster than the next by a third. For the share of
resizing and decoding, one process runs both the network and the whole. Of some passes the fastest
counts, since what else the machine does only ever adds.

    python -m benchmarks.inference [--model RUN] [--peer-python PATH]
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.measure import Ratio, compare, fastest, record, row
from benchmarks.peers import TORCH, peer_python

COMMAND = "python -m benchmarks.inference"
THREADS = 2
PASSES = 5
STARTS = 3
IMAGE = (2000, 1500)
TYPICAL = (2070, 1448)  # a radiograph of the Digital Hand Atlas
PROTOTYPE = Path(__file__).with_name("prototype.py")
LIMITS = {"onnx": 0.9, "tensorflow": 1.0, "share": 0.08}


class Peer:
    """A process that, asked, runs some passes and says what the fastest cost."""

    def __init__(self, *command: object):
        self.command = [str(part) for part in command]

    def __call__(self) -> float:
        """Seconds a pass."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{' '.join(self.command)} ended without an answer")
        return float(answer)

    def __enter__(self) -> Peer:
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=PROTOTYPE.parents[1],
        )
        return self

    def __exit__(self, *_) -> None:
        self.process.stdin.close()
        self.process.wait()


def answer(once: Callable[[], object]) -> None:
    """What a process behind a `Peer` does: for each line on stdin, seconds of the fastest pass."""
    for _ in sys.stdin:
        print(fastest(once, PASSES), flush=True)


def serve(runtime: str, path: str, shape: tuple[int, int]) -> None:
    """The process behind a `Peer` of ours: a pass is one image of `shape` through a model file.

    A drawn hand: what is none takes longer, since the shape prior then asks the points many times.
    """
    from kerasland import phantom

    once = RUNTIMES[runtime](path, phantom.hand(0, shape)[0][None, ..., None])
    answer(once)


def serve_share(runtime: str, path: str, frame: tuple[int, int]) -> None:
    """The process that answers with the share of a pass of `whole` that `network` does not take.

    One process, since two differ from each other by more than that share.
    """
    from kerasland import phantom

    def once(name: str, shape: tuple[int, int], dtype: str) -> Callable[[], object]:
        image = phantom.hand(0, shape)[0][None, ..., None].astype(dtype)
        whole = Path(path)
        return RUNTIMES[runtime](str(whole.with_name(name + whole.suffix)), image)

    network, whole = once("network", frame, "float32"), once("whole", TYPICAL, "uint8")
    for _ in sys.stdin:
        print(1.0 - fastest(network, PASSES) / fastest(whole, PASSES), flush=True)


def _tensorflow(path: str, image: np.ndarray) -> Callable[[], object]:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    served = tf.saved_model.load(path).signatures["serving_default"]
    (name,) = served.structured_input_signature[1]
    return lambda: served(**{name: tf.constant(image)})


def _onnxruntime(path: str, image: np.ndarray) -> Callable[[], object]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    # outputs stay where the session put them: a copy of the bare network's maps is none of its work
    for output in session.get_outputs():
        binding.bind_output(output.name, "cpu")
    name = session.get_inputs()[0].name

    def once():
        binding.bind_cpu_input(name, image)
        session.run_with_iobinding(binding)

    return once


def _openvino(path: str, image: np.ndarray) -> Callable[[], object]:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": THREADS,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()
    return lambda: request.infer([image], share_inputs=True, share_outputs=True)


RUNTIMES = {"tensorflow": _tensorflow, "onnxruntime": _onnxruntime, "openvino": _openvino}


def runtimes() -> list[str]:
    """Those that are installed."""
    return [name for name in RUNTIMES if importlib.util.find_spec(name)]


def write_models(source: str, folder: Path) -> tuple[int, int]:
    """`whole` and `network`, up to its logits, as a SavedModel and as ONNX; `int8`, as ONNX, and
    `bfloat16`, as a SavedModel.

    Returns:
        (H, W) of the network's input.
    """
    from kerasland import export, model_files, phantom

    model = model_files.load_model(source)
    for suffix in ("", ".onnx"):
        export.export(model, folder / f"whole{suffix}")
    export.export(model, folder / "bfloat16", weights=export.BFLOAT16)
    # any hands do: how long the network takes does not depend on them
    images = [phantom.hand(seed, shape=(350, 250))[0] for seed in range(4)]
    export.export(model, folder / "int8.onnx", weights=export.INT8, calibration=images)
    write_network(model, folder)
    return model.input_shape[1:3]


def write_network(model, folder: Path) -> None:
    """A Keras model up to its logits, as the SavedModel `network` and as `network.onnx`."""
    import keras
    import tensorflow as tf
    import tf2onnx

    from kerasland import export
    from kerasland.inference_models import bare

    model = bare(model)
    network = keras.Model(model.inputs[0], {"logits": model.output["heatmaps"]})
    spec = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="frame")
    graph = export.frozen(network, spec)
    tf.saved_model.save(tf.Module(), str(folder / "network"), signatures=graph)
    tf2onnx.convert.from_function(
        graph,
        [spec],
        opset=export.OPSET,
        outputs_as_nchw=["logits"],
        output_path=str(folder / "network.onnx"),
    )


def in_turn(one: Peer, other: Peer, pairs: int) -> Ratio:
    """The ratio of both, started anew a few times."""
    quotients = ()
    for _ in range(STARTS):
        with one as a, other as b:
            quotients += compare(a, b, pairs).quotients
    return Ratio(quotients)


def model_file(folder: Path, runtime: str, name: str) -> Path:
    """The file in a folder that a runtime takes."""
    return folder / (name if runtime == "tensorflow" else f"{name}.onnx")


def measure(folder: Path, frame: tuple[int, int], python: Path, pairs: int) -> list[dict]:
    """All rows, for the models in a folder."""

    def ours(*arguments: object) -> Peer:
        return Peer(sys.executable, "-m", "benchmarks.inference", *arguments)

    def against_prototype(runtime: str, name: str, shape: tuple[int, int]) -> Ratio:
        prototype = Peer(python, PROTOTYPE, "infer", *frame, PASSES, "--threads", THREADS)
        ratio = in_turn(
            ours("--serve", runtime, model_file(folder, runtime, name), *shape), prototype, pairs
        )
        print(f"{runtime}, {name}, image of {_by(shape)}: {ratio.median:.2f}", file=sys.stderr)
        return ratio

    def share(runtime: str) -> Ratio:
        path, parts = model_file(folder, runtime, "whole"), []
        for _ in range(STARTS):
            with ours("--share", runtime, path, *frame) as both:
                parts += [both() for _ in range(pairs + 1)][1:]
        return Ratio(tuple(parts))

    peer = f"forward pass of the prototype in PyTorch at {_by(frame)}"
    rows = []
    for shape in (IMAGE, frame):
        work = f"landmarks of an image of {_by(shape)}"
        for weights, name in (("float32", "whole"), ("int8", "int8")):
            onnx = {
                runtime: against_prototype(runtime, name, shape)
                for runtime in runtimes()
                if runtime != "tensorflow"
            }
            fastest = min(onnx, key=lambda runtime: onnx[runtime].median)
            rows.append(
                row(
                    f"{work}, faster ONNX runtime, {weights}",
                    onnx[fastest],
                    LIMITS["onnx"],
                    f"{peer}; ours in {fastest}",
                    COMMAND,
                )
            )
        for weights, name in (("float32", "whole"), ("bfloat16", "bfloat16")):
            ratio = against_prototype("tensorflow", name, shape)
            rows.append(
                row(f"{work}, SavedModel, {weights}", ratio, LIMITS["tensorflow"], peer, COMMAND)
            )
    for name in runtimes():
        work = f"share of resizing and decoding, image of {_by(TYPICAL)}, {name}"
        rows.append(row(work, share(name), LIMITS["share"], "the whole inference", COMMAND))
    return rows


def _by(shape: tuple[int, int]) -> str:
    return f"{shape[0]} x {shape[1]}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="pretrained", help="default: pretrained")
    parser.add_argument("--peer-python", type=Path, help="a Python that has PyTorch")
    parser.add_argument("--pairs", type=int, default=5, help="of each start; default: 5")
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--share", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    for asked, process in ((args.serve, serve), (args.share, serve_share)):
        if asked:
            runtime, path, height, width = asked
            process(runtime, path, (int(height), int(width)))
            return
    python = peer_python(TORCH, args.peer_python)
    with tempfile.TemporaryDirectory() as folder:
        frame = write_models(args.model, Path(folder))
        record(measure(Path(folder), frame, python, args.pairs))


if __name__ == "__main__":
    main()
