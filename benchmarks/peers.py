"""Where the peers run: a Python with PyTorch, in a virtual environment of its own."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

TORCH = ["torch==2.13.0", "numpy"]  # the second is no requirement of the first
LANDMARKER = "landmarker==0.4.1"


def peer_python(packages: Sequence[str], given: Path | None = None) -> Path:
    """A Python that has the packages: the one given, or that of an environment made for them."""
    if given:
        return given
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    name = hashlib.sha256(" ".join(packages).encode()).hexdigest()[:12]
    folder = cache / "kerasland" / f"peers-{name}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
        (folder / "ready").touch()
    return python
