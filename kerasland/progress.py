"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere, on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")
PLAIN_EVERY_S = 5.0


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yields the items, showing how many are done.

    Args:
        items: what is worked through.
        what: a few words that say what happens.
        total: how many there are, where `items` cannot tell.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track as bar

        yield from bar(items, what, total=total, console=Console(stderr=True), transient=True)
        return
    said = time.monotonic()
    for done, item in enumerate(items):
        yield item
        if time.monotonic() - said > PLAIN_EVERY_S:
            said = time.monotonic()
            print(f"{what}: {done + 1} of {total or '?'}", file=sys.stderr, flush=True)
