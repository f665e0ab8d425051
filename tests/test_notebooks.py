"""The notebooks: they run on drawn hands, and stand in the repository as they ran."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
SHRUNK = {
    "1_data": {"IMAGES": 5},
    "2_training": {"IMAGES": 8, "EPOCHS": 1},
    "3_tables": {"IMAGES": 10, "EPOCHS": 1},
    "4_export": {"IMAGES": 8, "EPOCHS": 1},
}
PICTURES = {"1_data": 6, "2_training": 4, "3_tables": 4, "4_export": 1}
TABLES = {"1_data": 3, "2_training": 3, "3_tables": 4, "4_export": 3}
LARGEST_KB = 600
# a POSIX path below one of the usual roots, or a Windows drive; not a closing HTML tag
ABSOLUTE = re.compile(
    r"(?<![\w.<])/(?:bin|data|dev|etc|home|lib|media|mnt|opt|private|proc|root|srv|tmp|usr|var"
    r"|work|Users)/|\b[A-Z]:\\\\"
)
NOISE = re.compile(r"Traceback|absl|oneDNN|cuda_|cuDNN|Warning|\b[IWE]\d{4} \d\d:")


def _executor():
    spec = importlib.util.spec_from_file_location("execute", FOLDER / "execute.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _notebook(name):
    return json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))


def _code(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def _source(cell):
    return "".join(cell["source"])


def _outputs(notebook):
    return [output for cell in _code(notebook) for output in cell["outputs"]]


def _of_kind(notebook, kind):
    return [o for o in _outputs(notebook) if kind in o.get("data", {})]


def _shown_text(notebook):
    """Sources and outputs without the pictures."""
    parts = ["".join(cell["source"]) for cell in notebook["cells"]]
    for output in _outputs(notebook):
        parts.append("".join(output.get("text", "")))
        for kind, value in output.get("data", {}).items():
            if not kind.startswith("image/"):
                parts.append("".join(value))
    return "\n".join(parts)


def test_every_notebook_is_tested():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == sorted(SHRUNK)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHRUNK)
def test_runs_on_drawn_hands(name, tmp_path):
    for module in ("nbclient", "ipykernel"):
        pytest.importorskip(module, reason=f"{module} is not installed: pip install -e '.[dev]'")
    executed = _executor().execute(FOLDER / f"{name}.ipynb", tmp_path, **SHRUNK[name])
    assert not [o for o in _outputs(executed) if o["output_type"] == "error"]
    assert len(_of_kind(executed, "image/png")) == PICTURES[name]
    assert [path.name for path in tmp_path.iterdir()] == ["tmp"], "files left where it was started"


@pytest.mark.parametrize("name", SHRUNK)
def test_parameters_come_first_and_need_no_data(name):
    first = _code(_notebook(name))[0]
    assert first["metadata"]["tags"] == ["parameters"]
    values = {}
    exec(_source(first), values)
    assert values["DATA"] is None
    assert set(SHRUNK[name]) <= set(values)


@pytest.mark.parametrize("name", SHRUNK)
def test_stands_as_it_ran(name):
    notebook = _notebook(name)
    counts = [cell["execution_count"] for cell in _code(notebook)]
    assert counts == list(range(1, len(counts) + 1)), "not executed from top to bottom"
    assert len(_of_kind(notebook, "image/png")) == PICTURES[name]
    tables = _of_kind(notebook, "text/html") + _of_kind(notebook, "text/markdown")
    assert len(tables) == TABLES[name]
    assert (FOLDER / f"{name}.ipynb").stat().st_size < LARGEST_KB * 1000


@pytest.mark.parametrize("name", SHRUNK)
def test_shows_no_error_and_no_trace_of_a_machine(name):
    notebook = _notebook(name)
    for output in _outputs(notebook):
        assert output["output_type"] != "error"
        assert output.get("name") != "stderr"
    text = _shown_text(notebook)
    assert not (found := ABSOLUTE.search(text)), text[found.start() - 40 : found.end() + 40]
    shown = "\n".join(
        line for line in text.splitlines() if not line.startswith(("#", 'os.environ["TF_'))
    )
    assert not (found := NOISE.search(shown)), shown[found.start() - 40 : found.end() + 40]
    assert all(set(cell["metadata"]) <= {"tags"} for cell in notebook["cells"])
    assert set(notebook["metadata"]) <= {"kernelspec", "language_info"}


@pytest.mark.parametrize("name", SHRUNK)
def test_defines_no_science(name):
    """A notebook calls the package: no function, no class, no lambda of its own."""
    for cell in _code(_notebook(name)):
        assert not re.search(r"\b(def|class|lambda)\s", _source(cell)), _source(cell)
