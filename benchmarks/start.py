"""How long the command line takes from nothing, against what a user will wait.

python -m benchmarks.start
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from benchmarks.measure import Ratio, record, row, seconds
from kerasland import phantom

COMMAND = "python -m benchmarks.start"
HELP_S, PREDICT_S = 0.3, 6.0


def started(*arguments: object, times: int = 5) -> Ratio:
    """Seconds of a fresh process, each over the allowance given first."""
    allowance, *command = arguments
    line = [sys.executable, "-m", "kerasland", *map(str, command)]

    def run() -> None:
        subprocess.run(line, check=True, capture_output=True)

    return Ratio(tuple(seconds(run) / allowance for _ in range(times)))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "hand.png"
        Image.fromarray(phantom.hand(0, (1400, 1000))[0]).save(picture)
        rows = [
            row("kerasland --help", started(HELP_S, "--help"), 1.0, "0.3 s", COMMAND),
            row(
                "kerasland predict, one image, cold",
                started(PREDICT_S, "predict", picture, "--out", Path(folder) / "out"),
                1.0,
                "6 s",
                COMMAND,
            ),
        ]
    record(rows)


if __name__ == "__main__":
    main()
