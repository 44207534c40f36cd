"""Runs all of it and prints it in two tables: `python -m tests.benchmarks [--rounds 3] [--only PATTERN]`.

Each figure is taken in a fresh process, ours and its bare counterpart in turns, so that a machine that slows down slows
both; the table shows medians, and the spread of the ratio. The second table has the same work on other engines, where
they are installed (`pip install -e ".[bench]"`), with what each promises of a step that has returned.
"""

from __future__ import annotations

import argparse
import compileall
import fnmatch
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.benchmarks.peers import PEERS, Peer
from tests.benchmarks.workloads import command

SOURCES = Path(__file__).parents[2]
# as after an installation, with compiled modules: without them, a third of a short life is spent compiling
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True)
class Figure:
    """One line of the table. `measure` and `beside` take a folder and give a number; a ratio is ours over bare."""

    name: str
    unit: str
    measure: Callable[[Path], float]
    beside: Callable[[Path], float] | None
    goal: float
    higher_is_better: bool = True

    def judged(self, ours: float, bare: float | None) -> float:
        return ours / bare if bare is not None else ours


def output_of(argv: list[str]) -> str:
    """What a process prints. Raises CalledProcessError where it failed."""
    return subprocess.run(argv, check=True, capture_output=True, text=True, env=ENVIRONMENT).stdout


def child(name: str, count: int, *, prepare: str | None = None, module: str = "workloads") -> Callable[[Path], float]:
    """The number that a workload prints."""

    def measure(folder: Path) -> float:
        if prepare:
            output_of(command(prepare, folder, count, module))
        return float(output_of(command(name, folder, count, module)))

    return measure


Measure = Callable[[Path], float]


def seconds(argv: Callable[[Path], list[str]], *, prepare: str | None = None, count: int = 0) -> Measure:
    """A whole process, from its start to its end."""

    def measure(folder: Path) -> float:
        if prepare:
            output_of(command(prepare, folder, count))
        started = time.perf_counter()
        output_of(argv(folder))
        return time.perf_counter() - started

    return measure


def milliseconds(argv: Callable[[Path], list[str]]) -> Callable[[Path], float]:
    whole = seconds(argv)
    return lambda folder: whole(folder) * 1000


def beyond_start(statement: str) -> Callable[[Path], float]:
    """Milliseconds that a statement takes beyond the start of Python itself, each the best of three."""

    def best(code: str, folder: Path) -> float:
        return min(milliseconds(lambda _: [sys.executable, "-c", code])(folder) for _ in range(3))

    return lambda folder: best(statement, folder) - best("pass", folder)


def cells(name: str, count: int, *, prepare: str | None = None) -> Callable[[Path], float]:
    """The seconds that some durable cells take."""
    return child(name, count, prepare=prepare, module="cells")


FIGURES = [
    Figure("sequential steps, FULL", "of bare", child("ours_full", 2000), child("bare_full", 2000), 0.85),
    Figure("sequential steps, NORMAL", "of bare", child("ours_normal", 5000), child("bare_normal", 5000), 0.5),
    Figure("a dashboard that lists", "of unwatched", child("ours_listed", 10_000), child("ours_full", 10_000), 0.98),
    Figure("a dashboard with it open", "of unwatched", child("ours_opened", 10_000), child("ours_full", 10_000), 0.98),
    Figure("fan-out of 100, FULL", "of bare", child("ours_fan_out", 100), child("bare_full", 1000), 3),
    Figure("fan-out of 1000, FULL", "of bare", child("ours_fan_out", 1000), child("bare_full", 1000), 8),
    Figure("1,000 workflows of 10 steps", "of bare", child("ours_many", 1000), child("bare_full", 2000), 1),
    Figure("4 processes on one file", "of bare", child("ours_processes", 500), child("bare_processes", 500), 0.85),
    Figure("a 50 MB value saved, MB", "of a file", child("ours_large_saved", 50), child("bare_large_saved", 50), 0.25),
    Figure("a 50 MB value read, MB", "of a file", child("ours_large_read", 50), child("bare_large_read", 50), 0.5),
    Figure(
        "50 MB in 4 durable cells brought back", "of allowed", cells("cells_restored", 50, prepare="cells_written"),
        cells("allowed", 50, prepare="cells_written"), 1, higher_is_better=False,
    ),
    Figure(
        "and a durable cell that reads them", "of allowed",
        cells("cells_restored_with_a_reader", 50, prepare="cells_written"),
        cells("allowed_with_a_reader", 50, prepare="cells_written"), 1, higher_is_better=False,
    ),
    Figure(
        "a loop over durable.each", "of a plain loop", cells("loop_of_each", 1500), cells("plain_loop", 1500),
        1.05, higher_is_better=False,
    ),
    Figure(
        "replay of 10,000 steps, process start to end", "s",
        seconds(lambda folder: command("ours_replay", folder, 10_000), prepare="ours_record", count=10_000),
        None, 0.12, higher_is_better=False,
    ),
    Figure("replay", "steps/s", child("ours_replay", 10_000, prepare="ours_record"), None, 500_000),
    Figure(
        "10,000 coroutine steps of 10 ms", "s", child("ours_async_fan_out", 10_000), None, 1, higher_is_better=False
    ),
    Figure(
        "fresh process to its first saved step", "ms",
        milliseconds(lambda folder: command("ours_first_step", folder, 1)), None, 60, higher_is_better=False,
    ),
    Figure(
        "import durable, beyond Python's start", "ms",
        beyond_start("import durable"), None, 40, higher_is_better=False,
    ),
    Figure("peak memory, one step", "MB", child("ours_first_step", 1), None, 22, higher_is_better=False),
    Figure(
        "peak memory, 100,000 steps of 1 kB, first run", "MB",
        child("ours_record_texts", 100_000), None, 30, higher_is_better=False,
    ),
    Figure(
        "peak memory, their replay", "MB",
        child("ours_replay_texts", 100_000, prepare="ours_record_texts"), None, 30, higher_is_better=False,
    ),
    Figure(
        "lab.steps on 100,000 rows", "s",
        child("ours_lab_steps", 100_000, prepare="ours_record"), None, 5, higher_is_better=False,
    ),
    Figure(
        "the panel's first frame on 10,000 steps", "s",
        child("ours_first_frame", 10_000, prepare="ours_record"), None, 1, higher_is_better=False,
    ),
]  # fmt: skip


@contextmanager
def fresh_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="durable-bench-", dir=os.environ.get("BENCH_DIR")) as folder:
        yield Path(folder)


def take(figure: Figure) -> tuple[float, float | None]:
    """One round: ours, then bare, each in a fresh folder."""
    with fresh_folder() as folder:
        ours = figure.measure(folder)
    if figure.beside is None:
        return ours, None
    with fresh_folder() as folder:
        return ours, figure.beside(folder)


def row(figure: Figure, rounds: list[tuple[float, float | None]]) -> tuple[str, ...]:
    judged = [figure.judged(*pair) for pair in rounds]
    median = statistics.median(judged)
    reached = median >= figure.goal if figure.higher_is_better else median <= figure.goal
    bare = [pair[1] for pair in rounds if pair[1] is not None]
    ours = [pair[0] for pair in rounds]
    return (
        figure.name, _rate(ours if bare else []), _rate(bare),
        f"{median:,.3g} {figure.unit}", f"{min(judged):,.3g} .. {max(judged):,.3g}",
        f"{figure.goal:,g}", "yes" if reached else "no",
    )  # fmt: skip


def _rate(taken: list[float]) -> str:
    return f"{statistics.median(taken):,.0f}/s" if taken else ""


# ---- beside others


def steps_per_second(peer: Peer | None, work: str, count: int) -> str:
    """Of durable itself, where no peer is given."""
    if peer is not None and work in peer.lacks:
        return ""
    ours = {"sequential": "ours_full", "fan_out": "ours_fan_out"}
    with fresh_folder() as folder:
        name, module = (ours[work], "workloads") if peer is None else (f"{peer.name}_{work}", "peers")
        return f"{float(output_of(command(name, folder, count, module)).split()[-1]):,.0f}/s"


def whole_process(peer: Peer | None, work: str, count: int) -> str:
    """Seconds from the start of a process to its end: of one step, or of the replay of so many."""
    ours = {"first": "ours_first_step", "replay": "ours_replay", "record": "ours_record"}
    with fresh_folder() as folder:

        def run(which: str) -> float:
            name, module = (ours[which], "workloads") if peer is None else (f"{peer.name}_{which}", "peers")
            started = time.perf_counter()
            output_of(command(name, folder, count, module))
            return time.perf_counter() - started

        if work == "replay":
            run("record")
        return f"{run(work):.2f} s"


def table_of_peers() -> Table:
    """One round each: the differences are larger than the noise."""
    table = Table("engine", "durability of a step", "in turn", "100 at once", "process to first step", "replay 1,000")
    peers: list[Peer | None] = [None, *[peer for peer in PEERS if peer.is_installed()]]
    for peer in track(peers, transient=True, console=Console(stderr=True), description="beside others"):
        table.add_row(
            "durable" if peer is None else f"{peer.name} {version(peer.module)}",
            "WAL, FULL" if peer is None else peer.durability,
            steps_per_second(peer, "sequential", 300),
            steps_per_second(peer, "fan_out", 100),
            whole_process(peer, "first", 1),
            whole_process(peer, "replay", 1000),
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each figure is taken (default 3)")
    parser.add_argument(
        "--only", default="*", metavar="PATTERN", help="only figures whose name matches, e.g. 'replay*'"
    )
    options = parser.parse_args()
    compileall.compile_dir(SOURCES / "durable", quiet=2)
    compileall.compile_dir(SOURCES / "tests/benchmarks", quiet=2)
    figures = [figure for figure in FIGURES if fnmatch.fnmatch(figure.name, options.only)]
    taken: dict[str, list[tuple[float, float | None]]] = {figure.name: [] for figure in figures}
    for _ in range(options.rounds):
        for figure in track(figures, transient=True, console=Console(stderr=True), description="measuring"):
            taken[figure.name].append(take(figure))
    table = Table("work", "ours", "bare", "median", "spread", "goal", "reached")
    for figure in figures:
        table.add_row(*row(figure, taken[figure.name]))
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    if options.only == "*":
        console.print(table_of_peers())
    console.print(
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores, "
        f"{platform.system()}; medians of {options.rounds} rounds, each in a fresh process."
    )


if __name__ == "__main__":
    main()
