"""Runs what the command line asks for: errors as one clear line, an exit status, and SIGTERM."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from kerasland.errors import KeraslandError


class _Terminated(KeyboardInterrupt):
    """SIGTERM, after which what is half written is removed as after Ctrl-C."""


def run(main_body: Callable[[], None], debug: bool = False) -> int:
    """Run a command's body and turn what went wrong into one line on stderr and an exit status.

    Args:
        main_body: the work; it raises where something is wrong.
        debug: let the exception through, with its traceback.

    Returns:
        0; 1 where the work failed (data, files, disk); 2 for wrong usage; 130 where Ctrl-C ended
        it, 143 where SIGTERM did.
    """
    for name in ("stdin", "stdout", "stderr"):  # closed ones, whose numbers other files would get
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115
    if hasattr(sys.stdout, "reconfigure"):  # a terminal's encoding may lack what a table holds
        sys.stdout.reconfigure(errors="replace")
    # pydicom warns of small flaws in files that it reads all the same, Pillow of large scans
    warnings.filterwarnings("ignore", module="pydicom")
    warnings.filterwarnings("ignore", message="Image size .* exceeds limit")
    try:
        with _told_of_sigterm():
            main_body()
    except (KeraslandError, OSError) as error:
        if debug:
            raise
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        return getattr(error, "exit_status", 1)
    except Exception as error:
        if debug:
            raise
        reason = " ".join(str(error).split())[:500]
        print(f"error: {type(error).__name__}: {reason} (--debug shows where)", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        if debug:
            raise
        terminated = isinstance(error, _Terminated)
        what = "terminated" if terminated else "interrupted"
        print(": ".join([f"error: {what}", *map(str, error.args)]), file=sys.stderr)
        return 128 + (signal.SIGTERM if terminated else signal.SIGINT)
    return 0


def leave(status: int) -> NoReturn:
    """Ends the process at once, with what `run` returns.

    Taking TensorFlow down takes a second and more, when all files are closed and nothing is left
    to do but to remove temporary ones.
    """
    # removes the files of Python functions that TensorFlow rewrote, where Python still has the name
    getattr(atexit, "_run_exitfuncs", bool)()
    try:
        sys.stdout.flush()
    except OSError as error:
        print(f"error: {error.strerror} while writing to stdout", file=sys.stderr)
        status = status or 1
    sys.stderr.flush()
    if os.name == "posix" and status == 128 + signal.SIGINT:
        # a shell ends its loop if Ctrl-C ended what ran in it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(status)


@contextmanager
def _told_of_sigterm() -> Iterator[None]:
    """Raises `_Terminated` at SIGTERM, in the main thread, where nobody else handles it."""
    others = sys.unraisablehook

    def terminate(*_) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one does not wait
        raise _Terminated

    def lost(what) -> None:  # in a destructor, where no exception gets out
        if not isinstance(what.exc_value, _Terminated):
            return others(what)
        signal.signal(signal.SIGTERM, terminate)
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()

    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, terminate)
    sys.unraisablehook = lost
    try:
        yield
    finally:
        sys.unraisablehook = others
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
