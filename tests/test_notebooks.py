"""The notebooks: they run on drawn hands, and stand in the repository as they ran on real ones."""

import base64
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from PIL import Image

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
SHRUNK = {
    "1_data": {"IMAGES": 5},
    "2_training": {"IMAGES": 8, "EPOCHS": 1},
    "3_tables": {"IMAGES": 10, "EPOCHS": 1},
    "4_export": {"IMAGES": 2},
    "5_own_data": {"IMAGES": 10, "EPOCHS": 2},
}
PICTURES = {"1_data": 8, "2_training": 6, "3_tables": 10, "4_export": 1, "5_own_data": 2}
TABLES = {"1_data": 4, "2_training": 3, "3_tables": 6, "4_export": 4, "5_own_data": 5}
PLACES = ("KERASLAND_DATA", "KERASLAND_ABLATION", "KERASLAND_CROSSVALIDATION")
LARGEST_KB, LARGEST_PX = 1500, 1000
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
def test_runs_on_drawn_hands(name, tmp_path, monkeypatch):
    for place in PLACES:
        monkeypatch.delenv(place, raising=False)
    for module in ("nbclient", "ipykernel"):
        pytest.importorskip(module, reason=f"{module} is not installed: pip install -e '.[dev]'")
    executed = _executor().execute(FOLDER / f"{name}.ipynb", tmp_path, **SHRUNK[name])
    assert not [o for o in _outputs(executed) if o["output_type"] == "error"]
    assert len(_of_kind(executed, "image/png")) == PICTURES[name]
    assert [path.name for path in tmp_path.iterdir()] == ["tmp"], "files left where it was started"


@pytest.mark.parametrize("name", SHRUNK)
def test_parameters_need_no_data(name, monkeypatch):
    first = _code(_notebook(name))[1]
    assert first["metadata"]["tags"] == ["parameters"]
    for place in PLACES:
        monkeypatch.delenv(place, raising=False)
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
    assert "hand_atlas" in "".join(str(output) for output in _outputs(notebook))
    assert (FOLDER / f"{name}.ipynb").stat().st_size < LARGEST_KB * 1000
    for output in _of_kind(notebook, "image/png"):
        picture = Image.open(io.BytesIO(base64.b64decode(output["data"]["image/png"])))
        assert max(picture.size) < LARGEST_PX, "radiographs are shown reduced"


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


@pytest.mark.parametrize("name", SHRUNK)
def test_imports_stand_at_the_top(name):
    """In the cells that install, say what to run on, and import; nowhere else."""
    install, *cells = _code(_notebook(name))
    assert install["metadata"]["tags"] == ["install"]
    assert _source(install).startswith(_source(_code(_notebook("1_data"))[0]))
    for cell in cells[2:]:
        own = re.sub(r'""".*?"""', "", _source(cell), flags=re.DOTALL)
        assert not re.search(r"^\s*(import|from)\s", own, flags=re.MULTILINE), own


INSTALLS = """
import sys
import sysconfig
import venv
from IPython.core.interactiveshell import InteractiveShell
InteractiveShell.instance().run_cell(sys.argv[1]).raise_error()
"""


UPLOAD = """
import pathlib
import shutil

def upload():
    (wheel,) = pathlib.Path({made!r}).iterdir()
    shutil.copy(wheel, ".")
    return {{wheel.name: wheel.read_bytes()}}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "source"),
    [("1_data", "checkout"), ("4_export", "checkout"), ("1_data", "wheel"), ("1_data", "colab")],
)
def test_the_first_cell_installs_what_is_missing(name, source, tmp_path):
    """In an environment that lacks the package alone: from a checkout; from a wheel beside the
    notebook; or from one that Colab is given when it asks."""
    pytest.importorskip("ipykernel", reason="not installed: pip install -e '.[dev]'")
    root = FOLDER.parent
    for part in ("setup.py", "requirements.txt", "README.md", "pyproject.toml"):
        shutil.copy(root / part, tmp_path)
    for package in ("kerasland", "data_prep"):
        shutil.copytree(root / package, tmp_path / package)
    started = tmp_path / "notebooks"
    started.mkdir()
    cell = _source(_code(_notebook(name))[0])
    if source != "checkout":
        made = started if source == "wheel" else tmp_path / "made"
        build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", tmp_path, "-w", made]
        subprocess.run(build, check=True)
        (tmp_path / "setup.py").unlink()  # nothing but the wheel to install from
    venv.create(tmp_path / "environment", with_pip=True)
    (there,) = (tmp_path / "environment" / "lib").glob("python*/site-packages")
    # its packages, but not what its own .pth files add, such as an editable install
    (there / "others.pth").write_text(sysconfig.get_path("purelib"))
    if source == "colab":
        (there / "google" / "colab").mkdir(parents=True)
        (there / "google" / "colab" / "files.py").write_text(UPLOAD.format(made=str(made)))
        cell = f"import google.colab\n{cell}"  # as it is in every kernel there
    done = subprocess.run(
        [tmp_path / "environment/bin/python", "-c", INSTALLS, cell],
        cwd=started,
        env={
            **{k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")},
            "PIP_NO_DEPS": "1",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for part in ("kerasland/assets/pretrained", "data_prep/points_csv.py", "data_prep/folds/dev"):
        assert (there / part).exists(), done.stdout + done.stderr


def test_worst_points_are_judged_one_by_one():
    """The table kept by hand names the points that the pictures above it show."""
    notebook = _notebook("3_tables")
    shown = re.compile(r"<th>(\d+)</th>\s*<td>([^<]+)</td>\s*<td>([^<]+)</td>")
    judged = re.compile(r"^\| (\d+) \| (\S+) (\S+) \| (?:annotation|ambiguous|ours) \| .+ \|$")
    (table,) = (
        "".join(output["data"]["text/html"])
        for output in _of_kind(notebook, "text/html")
        if "confidence" in "".join(output["data"]["text/html"])
    )
    last = "".join(notebook["cells"][-1]["source"]).splitlines()
    rows = [match.groups() for line in last if (match := judged.match(line))]
    assert rows == shown.findall(table)
