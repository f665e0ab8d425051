"""What the command line turns into one clear line: wrong usage (exit 2), wrong data (exit 1)."""

from __future__ import annotations


class KeraslandError(ValueError):
    """Something the user can mend. Its message is one line that names the file, row or value."""

    exit_status = 1


class DataError(KeraslandError):
    """An image, a table, a prepared folder or a run is not what it should be."""


class UsageError(KeraslandError):
    """An option, a key or a preset does not exist or cannot be meant as given."""

    exit_status = 2
