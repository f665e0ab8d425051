"""Data and helpers that several test files share."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SHARED_DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--disable-quic",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)

LONGEST = (
    *("test_main_job.py", "test_export.py", "test_docs.py", "test_readme.py", "test_train.py"),
    *("test_cross_validate.py", "test_own_landmarks.py", "test_cli.py", "test_notebooks.py"),
)
TIMED = "test_speed.py"


def unit(nodeid: str) -> str:
    """What a worker takes as one: the tests of a file, which share fixtures; of the pages of the
    documentation, which share none, each."""
    file, test = nodeid.split("::", 1)
    return nodeid if test.startswith("test_the_code_of_a_page[") else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    class ByUnit(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return unit(nodeid)

    return ByUnit(config, log)


def pytest_collection_modifyitems(items):
    """The longest first, so that no worker is left with one at the end; what must be alone last,
    when nobody has to wait for it."""
    order = {name: place for place, name in enumerate((*LONGEST, "", TIMED))}
    items.sort(key=lambda item: order.get(item.path.name, order[""]))


@pytest.fixture(autouse=True)
def alone(tmp_path_factory):
    """For `with alone():`, what measures time: it begins when no other worker runs a test, and none
    begins before its end."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield contextlib.nullcontext
        return
    with (tmp_path_factory.getbasetemp().parent / "turn").open("w") as file:

        @contextlib.contextmanager
        def exclusive():
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
            fcntl.flock(file, fcntl.LOCK_SH)

        fcntl.flock(file, fcntl.LOCK_SH)
        yield exclusive


def _data(name: str, what: str) -> Path:
    folder = SHARED_DATA / name
    if not folder.is_dir():
        pytest.skip(f"no {what} at ../shared/data/{name}")
    return folder


@pytest.fixture(scope="session")
def hand_atlas() -> Path:
    """The radiographs of the Digital Hand Atlas at hand, their table and folds."""
    return _data("hand_atlas", "radiographs of the Digital Hand Atlas")


@pytest.fixture(scope="session")
def chest() -> Path:
    """Chest radiographs with a table that has a header."""
    return _data("chest", "chest radiographs")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Chromium without a window, which reaches this machine alone."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    for name, path in programs.items():
        if path is None:
            pytest.skip(f"no {name}: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = programs["chromium"]
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=programs["chromedriver"])
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()
