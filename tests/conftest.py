"""Data and helpers that several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SHARED_DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"


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
