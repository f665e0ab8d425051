"""The README does what it says: each command and snippet is run as it stands there."""

import re
import shlex
import shutil
import subprocess
import sys

import pages
import pandas as pd
import pytest

from kerasland import synthetic

ROOT = pages.ROOT
INSTALL, PREDICT, MAIN_JOB, TESTS, *OTHERS = COMMANDS = pages.commands(pages.README)
SNIPPETS = [block.code for block in pages.blocks(pages.README) if block.language == "python"]
# long trainings are cut short; what stands in the README is otherwise run word for word
SHORT = "epochs=1 image_shape=64x64 validation_images=0 sigma_px=1.5"
SMALL = "width=8 max_width=16 depth=3"


def test_the_test_command_is_the_one_that_ci_runs():
    script = (ROOT / ".ci" / "run").read_text()
    pattern = re.search(r"s/\^\\\((.*)\\\)\$/", script).group(1)
    assert [line for line in COMMANDS if re.fullmatch(pattern, line)] == [TESTS]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder where the README's relative paths lead somewhere; tracked files stay untouched."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("data_prep", "docs"):
        (folder / name).symlink_to(ROOT / name)
    atlas = ROOT.parent / "shared" / "data" / "hand_atlas"
    if atlas.is_dir():  # a third of it: missing images are counted and left out
        (folder / "DHA" / "images").mkdir(parents=True)
        for name in ("all.csv", "folds"):
            (folder / "DHA" / name).symlink_to(atlas / name)
        for path in sorted((atlas / "images").iterdir())[::3]:
            (folder / "DHA" / "images" / path.name).symlink_to(path)
    else:
        synthetic.write(folder / "data" / "hand_atlas", 12, shape=(140, 100))
    hands = synthetic.write(folder / "hands", 6, shape=(140, 100))
    shutil.copy(hands.image_path(hands.ids[0]), folder / "hand.png")
    (folder / "images").symlink_to(hands.folder / "images")
    rows = pd.read_csv(hands.folder / "landmarks.csv", dtype={"image_id": str})
    rows = rows.rename(columns={"image_id": "image"})
    rows.to_csv(folder / "points.csv", index=False)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("command", OTHERS)
def test_a_command(workplace, command):
    """In the order of the README: later commands use what earlier ones wrote."""
    if "DHA" in command and not (workplace / "DHA").exists():
        pytest.skip("no radiographs of the Digital Hand Atlas at ../shared/data/hand_atlas")
    if "pip install" in command:
        pytest.skip("installs into the environment that runs the tests")
    if re.match(r"kerasland (train|reproduce|crossvalidate)", command):
        # weights to start from have their own widths
        command = f"{command} --set {SHORT} {'' if '--init' in command else SMALL}"
    words = shlex.split(command)
    done = subprocess.run(
        words, cwd=workplace, env=pages.ENVIRONMENT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr[-2000:]}"


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_a_python_snippet(workplace, number):
    done = subprocess.run(
        [sys.executable, "-c", SNIPPETS[number]],
        cwd=workplace, env=pages.ENVIRONMENT, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_tables_of_speed_are_those_of_the_record():
    """All rows in the docs; in the README some, word for word."""
    from benchmarks import measure

    whole = measure.table(measure.recorded())
    assert whole in (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    section = pages.README.split("## Speed")[1].split("\n## ")[0]
    shown = [line for line in section.splitlines() if line.startswith("|")]
    assert len(shown) > 6 and set(shown) <= set(whole.splitlines())
