"""The machine below: what its processor can do, and what TensorFlow makes of it."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# what TensorFlow says of a processor or of no GPU while it is imported, whatever it is told not to
SAID = re.compile(rb"WARNING: All log messages before absl|[IW]\d{4} \d\d:\d\d:[\d.]+ +\d+ \S+\] ")
BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16", "svebf16"}  # as /proc/cpuinfo calls them


def multiplies_in_bfloat16() -> bool | None:
    """Whether the processor has instructions for bfloat16; None where the system does not say.

    Without them TensorFlow computes in it all the same, but training takes about ten times as long
    as in float32.
    """
    words = _words()
    return None if words is None else not BFLOAT16.isdisjoint(words)


def _words() -> set[str] | None:
    """The words of /proc/cpuinfo."""
    try:
        return set(CPUINFO.read_text().split())
    except OSError:
        return None


def compute_with_onednn() -> None:
    """Has TensorFlow compute with oneDNN, unless the user has decided (`TF_ENABLE_ONEDNN_OPTS`).

    Too late once TensorFlow is imported: then nothing is done. Of processors of the kind x86-64 it
    is TensorFlow's default on those with AVX512-VNNI; others too train faster with it (`python -m
    benchmarks.onednn`), and find landmarks faster in several images at once. Not in one: without
    AVX512 a convolution of a batch of one takes ten times as long (TensorFlow 2.21).
    """
    known = platform.machine().lower() in ("x86_64", "amd64")
    if known and "tensorflow" not in sys.modules:
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def slow_alone() -> bool:
    """Whether an image costs more alone than twice: with oneDNN on a processor without AVX512."""
    asked = os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "1"
    return asked and "avx512f" not in (_words() or ())


@contextlib.contextmanager
def without(*packages: str) -> Iterator[None]:
    """Within the block, importing these packages raises ImportError, unless they are imported
    already."""
    hidden = [package for package in packages if package not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        for package in hidden:
            del sys.modules[package]


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Leaves out of stderr what is `SAID`, and passes on all else when it is over.

    Where TensorFlow's log is asked for (`TF_CPP_MIN_LOG_LEVEL` 0 or 1), nothing is done; nor where
    the processor may lack AVX, without which TensorFlow says so and ends the process.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "0") < "2" or "avx" not in (_words() or ()):
        yield
        return
    try:
        sys.stderr.flush()
        said, stderr = os.fdopen(os.memfd_create("said"), "w+b"), os.fdopen(os.dup(2), "wb")
    except (AttributeError, OSError):  # no stderr
        yield
        return
    with said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            with contextlib.suppress(OSError), stderr:  # nobody may listen any more
                os.dup2(stderr.fileno(), 2)
                said.seek(0)
                stderr.writelines(line for line in said if not SAID.match(line))


def import_keras() -> None:
    """Keras as a new install has it, without what it imports and the command line never asks of it.

    So no number depends on the `keras.json` and the environment of the user's other programs.

    In this process Keras then cannot draw models or wrap them for scikit-learn; whoever imports the
    package, rather than running it, has all of Keras. What it spares: docs/speed.md.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.pop("TF_USE_LEGACY_KERAS", None)  # TensorBoard's plugins would ask for Keras 2
    with _silenced(), without("IPython", "matplotlib", "sklearn"):
        import keras
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
