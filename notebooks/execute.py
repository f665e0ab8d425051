"""Executes the notebooks and saves them with their outputs, without traces of the machine.

python notebooks/execute.py            # all
python notebooks/execute.py 1_data     # some

Environment variables say what they run on, see `PLACES`; without them they draw hands. As shipped:

export KERASLAND_DATA=data/hand_atlas KERASLAND_ABLATION=runs/ablation
"""

from __future__ import annotations

import base64
import io
import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import numpy as np
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).resolve().parent
CELL_LIMIT_S = 1800
PLACES = ("KERASLAND_DATA", "KERASLAND_ABLATION", "KERASLAND_CROSSVALIDATION")


def execute(path: Path, folder: str | os.PathLike, **parameters) -> nbformat.NotebookNode:
    """Runs a notebook in a folder with the Python that runs this.

    Args:
        path: the notebook, which stays as it is.
        folder: where its kernel starts; temporary files go to `tmp` in it. The folders that
            `PLACES` name in the environment are relative to where this runs.
        parameters: values that replace those of the cell tagged `parameters`.

    Returns:
        The executed notebook.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    if parameters:
        tagged = [
            i for i, c in enumerate(notebook.cells) if "parameters" in c.metadata.get("tags", [])
        ]
        source = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
        notebook.cells.insert(tagged[0] + 1, nbformat.v4.new_code_cell(source))
    temporary = Path(folder) / "tmp"
    temporary.mkdir()
    search = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))
    places = {name: os.path.abspath(os.environ[name]) for name in PLACES if os.environ.get(name)}
    client = NotebookClient(
        notebook,
        kernel_name="python3",  # which is started with the Python that is running
        timeout=CELL_LIMIT_S,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env={**os.environ, **places, "PYTHONPATH": search, "TMPDIR": str(temporary)})
    return notebook


def clean(notebook: nbformat.NotebookNode) -> None:
    """Drops logs, progress, timing and versions, and makes pictures smaller."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
        if cell.cell_type == "code":
            cell.outputs = [
                output
                for output in cell.outputs
                if not (output.output_type == "stream" and output.name == "stderr")
            ]
            for output in cell.outputs:
                if "image/png" in output.get("data", {}):
                    output.data["image/png"] = _smaller(output.data["image/png"])


def _smaller(png: str) -> str:
    """A picture (base64) that is mostly grey, with 256 colours; another one as it is."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    pixels = np.asarray(picture, dtype=np.int16)
    if np.mean(np.ptp(pixels, axis=-1) < 8) < 0.9:
        return png
    buffer = io.BytesIO()
    picture.quantize(256, kmeans=1, dither=Image.Dither.NONE).save(buffer, "png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def main(names: list[str]) -> None:
    paths = [HERE / f"{name}.ipynb" for name in names] or sorted(HERE.glob("*.ipynb"))
    for path in paths:
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(path, folder)
        clean(notebook)
        nbformat.write(notebook, path)
        seconds, size = time.monotonic() - started, path.stat().st_size
        print(f"{path.name}: {seconds:.0f} s, {size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
