"""Markdown pages: their code blocks, and a script that runs those of one page.

    python tests/pages.py PAGE.md

runs the blocks `sh` and `python` in order, in the folder it is started in. The Python blocks share
one namespace, so that a page can go on where its block before stopped. Trainings are cut short,
and of small networks: what a page says in figures is not read from them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RUN, SHOWN = ("sh", "python"), ("text", "console", "js")
SMALL = "image_shape=64x48 width=8 max_width=16 depth=3 sigma_px=1.5"
# the package's commands first, and a checkout's data_prep importable
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "PYTHONPATH": str(ROOT),
}


class Block(NamedTuple):
    """A fenced block: its language, "" if it has none; its code; its first line in the page."""

    language: str
    code: str
    line: int


def commands(text: str) -> list[str]:
    """The commands of a page's `sh` blocks, one a line, comments left out."""
    code = "".join(block.code for block in blocks(text) if block.language == "sh")
    lines = code.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def blocks(text: str) -> list[Block]:
    """The fenced code blocks of a page that begin at the margin."""
    found = re.finditer(r"^```(\S*)[^\n]*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return [Block(m[1], m[2], text.count("\n", 0, m.start(2)) + 1) for m in found]


def main(page: Path) -> None:
    namespace = {"__name__": "__main__"}
    for language, code, line in blocks(page.read_text(encoding="utf-8")):
        if language not in RUN:
            continue
        print(f"{page.name}, line {line}", flush=True)
        if language == "sh":
            code = re.sub(r"\bepochs=\d+", "epochs=1", code.replace("\\\n", " "))
            # weights to start from have their own widths
            code = re.sub(r"--preset quick(?!.*--init)", rf"\g<0> --set {SMALL}", code)
            command = ["bash", "-euo", "pipefail", "-c", code]
            status = subprocess.run(command, stderr=subprocess.STDOUT).returncode
            if status:
                sys.exit(f"{page.name}, line {line}: exit status {status}\n{code}")
        else:
            # so that a traceback names the lines of the page
            exec(compile("\n" * (line - 1) + code, str(page), "exec"), namespace)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
