"""Work that other threads do ahead of the one that wants it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

WORKERS = min(8, os.cpu_count() or 1)
T, U = TypeVar("T"), TypeVar("U")


def ahead(
    pool: Executor, work: Callable[[T], U], items: Iterable[T], most: int = 2 * WORKERS
) -> Iterator[Future[U]]:
    """What `work` makes of each item, in their order, at most `most` of them under way or waiting.

    Where the caller stops early, what has not begun never does.
    """
    waiting: deque[Future[U]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= most:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        for job in waiting:
            job.cancel()
