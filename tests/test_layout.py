"""The house: each file imports from lower floors only, and the command line starts fast."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import conftest
import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "kerasland"
TABLE = re.compile(r"^\| `(\w+)\.py` \| (\d+) \| (.+) \|$", re.MULTILINE)
ROWS = TABLE.findall((PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8"))
FLOOR = {name: int(floor) for name, floor, _ in ROWS}
FILES = sorted(path for path in PACKAGE.glob("*.py") if path.stem != "__init__")


def imported(path: Path) -> set[str]:
    """The modules of kerasland that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "kerasland":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kerasland."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names |= {a.name.split(".")[1] for a in node.names if a.name.startswith("kerasland.")}
    return names - {"__version__"}


def at_the_top(path: Path) -> tuple[set[str], set[str]]:
    """What a file imports while it is imported itself, of Keras and of kerasland: as modules, and
    such of which it takes names."""
    modules, named = set(), set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "kerasland":
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            first, *rest = (node.module or "").split(".")
            (named if first == "kerasland" else modules).add(rest[0] if rest else first)
    return modules, named


def test_any_module_can_be_the_first_that_is_imported():
    """Importing it imports Keras, which imports the modules with layers (see `__init__.py`), and
    they must not need a name of the one that is half imported."""
    tops = {path.stem: at_the_top(path) for path in FILES}
    source = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (register,) = (node for node in source.body if getattr(node, "name", "") == "_register")
    names = {node.value for node in ast.walk(register) if isinstance(node, ast.Constant)}

    def closure(grown, grow):
        while more := grow(grown) - grown:
            grown = grown | more
        return grown

    early = closure(
        names & {*tops}, lambda g: {o for n in g for part in tops[n] for o in part if o in tops}
    )
    need_keras = closure(
        {"keras"}, lambda g: {name for name, (m, n) in tops.items() if (m | n) & g}
    )
    assert {"layers", "views", "shape_algebra"} <= early & need_keras
    assert "geometry" not in need_keras
    assert not {(name, other) for name in early for other in tops[name][1] & need_keras}


def test_workers_take_a_file_at_a_time_but_pages_each():
    page = "tests/test_docs.py::test_the_code_of_a_page[data]"
    assert conftest.unit(page) == page
    assert (
        conftest.unit("tests/test_docs.py::test_the_site_needs_no_network") == "tests/test_docs.py"
    )
    assert conftest.unit("tests/test_train.py::test_x[a::b]") == "tests/test_train.py"


def test_editors_and_python_see_the_same_names():
    import kerasland

    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (checked,) = (node for node in tree.body if isinstance(node, ast.If))
    homes = {
        alias.name: node.module.removeprefix("kerasland.")
        for node in checked.body
        for alias in node.names
    }
    assert homes == kerasland._HOMES and {*homes, "__version__"} == set(kerasland.__all__)


def test_modules_are_there_as_the_docs_write_them():
    code = "import kerasland as k; print(k.augmentation.augment.__name__, hasattr(k, 'nothing'))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "augment False\n"


def test_the_table_of_files():
    """A row per file, from the lowest floor up, with the first line of what it says of itself."""
    assert [name for name, *_ in ROWS] == sorted(FLOOR, key=lambda name: (FLOOR[name], name))
    said = {}
    for path in FILES:
        source = ast.parse(path.read_text(encoding="utf-8"))
        said[path.stem] = ast.get_docstring(source).splitlines()[0]
        assert said[path.stem].endswith("."), f"{path.name}: {said[path.stem]}"
    assert {name: line for name, _, line in ROWS} == said


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_imports_lower_floors_only(path):
    for name in imported(path):
        assert FLOOR[name] < FLOOR[path.stem], f"{path.name} imports {name}"


@pytest.mark.parametrize(
    "name",
    sorted(
        {name for name, floor in FLOOR.items() if floor == 0}
        | {"arguments", "experiment", "folds", "image_files", "model_notes", "phantom", "pictures"}
        | {"prepared", "settings", "table_files", "tables"}
    ),
)
def test_the_light_modules_do_not_start_tensorflow(name):
    code = f"import sys, kerasland.{name}; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_source_distribution_installs(tmp_path):
    """`setup.py` reads the README and the requirements: they must come along."""
    pytest.importorskip("setuptools")
    command = [sys.executable, "setup.py", "-q"]
    root = PACKAGE.parent
    made = tmp_path / "dist"
    pack = ["egg_info", "--egg-base", tmp_path, "sdist", "--dist-dir", made]
    subprocess.run([*command, *pack], cwd=root, check=True)
    (archive,) = made.iterdir()
    shutil.unpack_archive(archive, tmp_path, filter="data")
    folder = tmp_path / archive.name.removesuffix(".tar.gz")
    assert subprocess.run([*command, "--version"], cwd=folder).returncode == 0
    weights = "kerasland/assets/pretrained/hand_atlas/model.keras"
    assert (folder / weights).read_bytes() == (root / weights).read_bytes()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_public_functions_and_classes_have_docstrings(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), path.name
    for node in tree.body:
        public = isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_"
        assert not public or ast.get_docstring(node), f"{path.name}: {node.name}"
