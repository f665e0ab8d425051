"""What every benchmark here shares: pairs in turn, ratios with their spread, and the record.

A ratio is taken within each pair of one run, A B A B, so that what else the machine does meets
both alike. No absolute time is compared between runs or machines.
"""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kerasland import files

RESULTS = Path(__file__).parent / "results" / "latest.json"
PAIRS = 7
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")


@dataclass(frozen=True)
class Ratio:
    """The quotients a / b of all pairs: their median and their spread."""

    quotients: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.quotients)

    @property
    def low(self) -> float:
        return min(self.quotients)

    @property
    def high(self) -> float:
        return max(self.quotients)


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def fastest(work: Callable[[], object], times: int) -> float:
    """Seconds of the fastest of some calls: what else the machine does only ever adds."""
    return min(seconds(work) for _ in range(times))


def compare(a: Callable[[], float], b: Callable[[], float], pairs: int = PAIRS) -> Ratio:
    """Runs A B A B and divides.

    Args:
        a, b: each returns what one run of it cost, in the same unit.
        pairs: at least five; one more, for warming up, is not counted.
    """
    quotients = [a() / b() for _ in range(pairs + 1)][1:]
    return Ratio(tuple(quotients))


def row(
    name: str, ratio: Ratio | None, limit: float, peer: str, command: str, gpu: str = ""
) -> dict:
    """A row of the record; without a ratio where it could not be measured on this machine.

    Args:
        name: what was compared, in words.
        ratio: ours over the peer's, so that less is better.
        limit: the ratio that must not be passed.
        peer: what it was compared with.
        command: what regenerates the row.
        gpu: what did the work, where it was not the processor.
    """
    if ratio is None or not math.isfinite(ratio.high):  # infinite: never got there
        holds = None if ratio is None else False
        measured = {"ratio": None, "low": None, "high": None, "limit": limit, "holds": holds}
    else:
        measured = {
            "ratio": round(ratio.median, 3),
            "low": round(ratio.low, 3),
            "high": round(ratio.high, 3),
            "limit": limit,
            "holds": ratio.median <= limit,
        }
    by = {"machine": machine(), "gpu": gpu} if gpu else {"machine": machine()}
    return {"name": name, **measured, "peer": peer, "command": command, **by}


def machine() -> str:
    """The machine in words, as far as the system says it, and what it multiplies with: of these
    AVX2 alone if the environment holds oneDNN to it."""
    name, found = platform.processor() or platform.machine(), []
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        text = cpuinfo.read_text()
        models = [line for line in text.splitlines() if line.startswith("model name")]
        name = models[0].split(":")[1].strip() if models else name
        found = [instructions for instructions in INSTRUCTIONS if instructions in text.split()]
    if os.environ.get("ONEDNN_MAX_CPU_ISA") == "AVX2":
        found = [instructions for instructions in found if instructions == "avx2"]
    return " ".join([f"{os.cpu_count()} x {name}", *found])


def processor(machine: str) -> str:
    """The last of the extensions that `machine` names."""
    return machine.split()[-1]


def recorded() -> list[dict]:
    """The rows of the record."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else []


def record(rows: Sequence[dict]) -> None:
    """Prints rows as a table and puts them into the record: in place of those of the same name and
    machine, and of empty ones; beside those of the same name; an empty one only where there is none
    of its name."""

    def empty(entry: dict) -> bool:
        return entry["ratio"] is None and entry["holds"] is None

    by_name: dict[str, dict[str, dict]] = {}
    for entry in [*recorded(), *rows]:
        there = by_name.get(entry["name"], {})
        if not there or not empty(entry):
            there = {name: other for name, other in there.items() if not empty(other)}
            by_name[entry["name"]] = {**there, entry["machine"]: entry}
    entries = [entry for there in by_name.values() for entry in there.values()]
    files.write_text(RESULTS, json.dumps(entries, indent=1) + "\n")
    print(table(rows))
    missed = [entry["name"] for entry in rows if entry["holds"] is False]
    if missed:
        print(f"over the limit: {'; '.join(missed)}", file=sys.stderr)


def table(rows: Sequence[dict]) -> str:
    """The rows as Markdown; `python -m benchmarks.measure` prints those of the record."""
    lines = [
        [
            entry["name"],
            "" if entry["ratio"] is None else _written(entry["ratio"]),
            "" if entry["ratio"] is None else _written(entry["low"], entry["high"]),
            f"{entry['limit']:.3g}",
            entry["peer"],
            "" if entry["ratio"] is None else entry.get("gpu", processor(entry["machine"])),
            f"`{entry['command']}`",
        ]
        for entry in rows
    ]
    head = ["work", "ratio", "spread", "limit", "peer", "processor", "command"]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *lines])


def _written(*ratios: float) -> str:
    """With two decimals, or three where two would say little."""
    return " to ".join(f"{ratio:.{2 if ratio >= 0.095 else 3}f}" for ratio in ratios)


if __name__ == "__main__":
    print(table(recorded()))
