"""The machine below: what its processor can do, and what TensorFlow makes of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16", "svebf16"}  # as /proc/cpuinfo calls them


def multiplies_in_bfloat16() -> bool:
    """Whether the processor has instructions for bfloat16, as far as the system says it.

    Without them TensorFlow computes in it all the same, but training takes about ten times as long
    as in float32.
    """
    try:
        words = CPUINFO.read_text().split()
    except OSError:
        return False
    return not BFLOAT16.isdisjoint(words)


def train_with_onednn() -> None:
    """Has TensorFlow compute with oneDNN, unless the user has decided (`TF_ENABLE_ONEDNN_OPTS`).

    Too late once TensorFlow is imported: then nothing is done. It is TensorFlow's default on
    processors with AVX512-VNNI alone; on others too it trains faster, see `python -m
    benchmarks.onednn`. Not for single images there: a convolution of a batch of one takes ten times
    as long (TensorFlow 2.21).
    """
    if "tensorflow" not in sys.modules:
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
