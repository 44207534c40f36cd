"""The work that is timed, each piece in a fresh process: `python -m tests.benchmarks.workloads NAME FOLDER COUNT`.

Prints one number: operations per second, or seconds, or megabytes, as the table in `__main__` says. `bare_*` is the
same work on plain `sqlite3`: one inserted row in a committed transaction for each step. What few of them need is
imported only there, since the start and the memory of a process are measured too.
"""

from __future__ import annotations

import functools
import os
import resource
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from durable import Context, Engine
from durable.observer import Moment
from durable.replay.step import Outcome
from durable.store.file import File
from durable.store.log import FileLog

KILOBYTE = "x" * 1000


# ---- workflows


def number(i: int) -> int:
    return i


def text_of(_: int) -> str:
    return KILOBYTE


async def wait(i: int, seconds: float) -> int:
    import asyncio

    await asyncio.sleep(seconds)
    return i


def sequence(ctx: Context, count: int) -> int:
    for i in range(count):
        ctx.step(number, i)
    return count


def texts(ctx: Context, count: int) -> int:
    for i in range(count):
        ctx.step(text_of, i)
    return count


def fan_out(ctx: Context, count: int) -> int:
    return sum(future.result() for future in [ctx.submit(number, i) for i in range(count)])


async def async_fan_out(ctx: Context, count: int, seconds: float) -> int:
    import asyncio

    return sum(await asyncio.gather(*[ctx.submit(wait, i, seconds) for i in range(count)]))


# ---- ours


class Recording:
    """Has a workflow leave its rows behind, all but its result: it is interrupted as it asks for its last step."""

    def __init__(self, folder: Path, workflow: Callable[[Context, int], int], count: int) -> None:
        self.path = folder / "replay.db"
        with Engine(self.path, synchronous="off", observers=[self._stop]) as engine:
            self._last = f"_{count + 1}"
            with suppress(KeyboardInterrupt):
                engine.run("w", one_more(workflow), count)

    def _stop(self, moment: Moment) -> None:
        if moment.name == "step.scheduled" and (moment.step_key or "").endswith(self._last):
            raise KeyboardInterrupt


def one_more(workflow: Callable[[Context, int], int]) -> Callable[[Context, int], int]:
    """The workflow, and one step after it, named after the workflow so that a later process calls it the same."""
    return {sequence: sequence_and_end, texts: texts_and_end}[workflow]


def sequence_and_end(ctx: Context, count: int) -> int:
    sequence(ctx, count)
    return ctx.step(number, count)


def texts_and_end(ctx: Context, count: int) -> int:
    texts(ctx, count)
    return ctx.step(number, count)


def rate(count: int, work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)


def run(folder: Path, workflow: Callable[..., object], *args: float, synchronous: str = "full") -> float:
    with Engine(folder / "ours.db", synchronous=synchronous) as engine:
        return rate(int(args[0]), lambda: engine.run("w", workflow, *args))


def ours_full(folder: Path, count: int) -> float:
    return run(folder, sequence, count)


def ours_listed(folder: Path, count: int) -> float:
    """Steps per second while a dashboard of the same process lists the workflow."""
    return _watched(folder, count, "")


def ours_opened(folder: Path, count: int) -> float:
    """Steps per second while a dashboard of the same process shows the workflow and its steps."""
    return _watched(folder, count, "w")


def _watched(folder: Path, count: int, opened: str) -> float:
    from durable.dashboard.snapshot import Question
    from durable.dashboard.watch import Watch
    from durable.store.reader import Reader

    with Engine(folder / "ours.db") as engine:
        engine.run("w0", sequence, 1)
        with Reader(engine.path) as reader:
            answers: list[object] = []
            watch = Watch(reader, answers.append)
            watch.ask(Question(open=opened))
            while not answers:
                time.sleep(0.001)
            found = rate(count, lambda: engine.run("w", sequence, count))
            watch.close()
    assert len(answers) > 1, "the dashboard saw nothing of the run; take more steps"
    return found


def ours_normal(folder: Path, count: int) -> float:
    return run(folder, sequence, count, synchronous="normal")


def ours_fan_out(folder: Path, count: int) -> float:
    return run(folder, fan_out, count)


def ours_async_fan_out(folder: Path, count: int) -> float:
    """Seconds for so many coroutine steps of 10 ms each."""
    return count / run(folder, async_fan_out, count, 0.01)


def ours_record(folder: Path, count: int) -> float:
    Recording(folder, sequence, count)
    return 0.0


def ours_replay(folder: Path, count: int) -> float:
    with Engine(folder / "replay.db", synchronous="off") as engine:
        return rate(count, lambda: engine.run("w", sequence_and_end, count))


def ours_record_texts(folder: Path, count: int) -> float:
    """Megabytes at the peak of a first run with 1 kB a step."""
    Recording(folder, texts, count)
    return peak_megabytes()


def ours_replay_texts(folder: Path, count: int) -> float:
    """Megabytes at the peak of its replay."""
    with Engine(folder / "replay.db", synchronous="off") as engine:
        engine.run("w", texts_and_end, count)
    return peak_megabytes()


def ours_first_step(folder: Path, count: int) -> float:
    """Megabytes at the peak of a process that saves one step; its start to end is timed from outside."""
    run(folder, sequence, count)
    return peak_megabytes()


def ours_many(folder: Path, count: int) -> float:
    """Steps per second of so many workflows of ten steps each, started together."""
    with Engine(folder / "ours.db") as engine:

        def work() -> None:
            for handle in [engine.start(f"w{i}", sequence, 10) for i in range(count)]:
                handle.result()

        return rate(10 * count, work)


def ours_processes(folder: Path, count: int) -> float:
    return processes("ours_one_of_many", folder, count)


def ours_one_of_many(folder: Path, count: int) -> float:
    with Engine(folder / "ours.db") as engine:
        sys.stdin.read()
        return rate(count, lambda: engine.run(f"w{time.monotonic_ns()}", sequence, count))


def ours_lab_steps(folder: Path, count: int) -> float:
    """Seconds for the table of so many recorded steps as a DataFrame."""
    from durable import lab

    started = time.perf_counter()
    assert len(lab.steps(folder / "replay.db")) >= count
    return time.perf_counter() - started


def ours_first_frame(folder: Path, count: int) -> float:
    """Seconds from a panel's beginning to the first state that it sends to the page."""
    from durable.lab.panel.controller import Controller

    told: list[float] = []
    started = time.perf_counter()
    controller = Controller(
        sequence_and_end, "w", db=folder / "replay.db", kwargs={"count": count},
        on_change=lambda _: told.append(time.perf_counter()),
    )  # fmt: skip
    controller.open()
    while not told:
        time.sleep(0.001)
    controller.close()
    return told[0] - started


def ours_growth(folder: Path, count: int) -> float:
    """Microseconds a step, in turns of as many small workflows as make up for one large one: see `growth`."""
    return per_step(folder, sequence, count)


def ours_growth_fan_out(folder: Path, count: int) -> float:
    return per_step(folder, fan_out, count)


def ours_growth_replay(folder: Path, count: int) -> float:
    return 1e6 / ours_replay(folder, count)


def per_step(folder: Path, workflow: Callable[..., object], count: int) -> float:
    import statistics

    how_often = max(1, 2000 // count)
    with Engine(folder / "ours.db", synchronous="normal") as engine:
        rates = [
            rate(count, functools.partial(engine.run, f"w{number}", workflow, count)) for number in range(how_often)
        ]
    return 1e6 / statistics.median(rates)


# ---- bare


@contextmanager
def bare(folder: Path, synchronous: str = "full") -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(folder / "bare.db", isolation_level=None, check_same_thread=False, timeout=60)
    db.execute("pragma journal_mode = wal")
    db.execute(f"pragma synchronous = {synchronous}")
    db.execute("create table if not exists steps (w text, k text, status text, output text, primary key (w, k))")
    yield db
    db.close()


def insert(db: sqlite3.Connection, i: int, workflow: str = "w") -> None:
    db.execute("begin immediate")
    db.execute("insert into steps values (?, ?, 'completed', ?)", (workflow, f"number_{i}", str(i)))
    db.execute("commit")


def bare_full(folder: Path, count: int) -> float:
    with bare(folder) as db:
        return rate(count, lambda: [insert(db, i) for i in range(count)])


def bare_normal(folder: Path, count: int) -> float:
    with bare(folder, "normal") as db:
        return rate(count, lambda: [insert(db, i) for i in range(count)])


def bare_processes(folder: Path, count: int) -> float:
    return processes("bare_one_of_many", folder, count)


def bare_one_of_many(folder: Path, count: int) -> float:
    with bare(folder) as db:
        sys.stdin.read()
        workflow = str(time.monotonic_ns())
        return rate(count, lambda: [insert(db, i, workflow) for i in range(count)])


# ---- in common


def processes(name: str, folder: Path, count: int, how_many: int = 4) -> float:
    """Operations per second of several processes on one file, together."""
    import subprocess
    from concurrent.futures import ThreadPoolExecutor

    children = [
        subprocess.Popen(command(name, folder, count), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(how_many)
    ]
    with ThreadPoolExecutor(how_many) as pool:  # all are told to begin at once, by the end of their input
        return rate(count * how_many, lambda: list(pool.map(lambda child: child.communicate(), children)))


# ---- large values, in MB a second


def ours_large_saved(folder: Path, megabytes: int) -> float:
    """A value that is hashed, stored in parts, and named by a row that is on the disk."""
    content, log = os.urandom(megabytes << 20), _log_of_a_run(folder)
    started = time.perf_counter()
    sha256 = log.values.put(b"{}", [content])
    log.close("completed", Outcome("completed", "{}", None, _NOW, values=(sha256,)))
    return megabytes / (time.perf_counter() - started)


def ours_large_read(folder: Path, megabytes: int) -> float:
    """The same value read by another engine, and checked against its hash."""
    file = File(folder / "large.db")
    sha256 = file.values_for("w", lambda: _NOW).put(b"{}", [os.urandom(megabytes << 20)])
    file.close()
    values = File(folder / "large.db").values_for("w", lambda: _NOW)
    started = time.perf_counter()
    values.get(sha256)
    return megabytes / (time.perf_counter() - started)


def bare_large_saved(folder: Path, megabytes: int) -> float:
    """The same bytes written to a file, with fsync."""
    content = os.urandom(megabytes << 20)
    started = time.perf_counter()
    with (folder / "file").open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return megabytes / (time.perf_counter() - started)


def bare_large_read(folder: Path, megabytes: int) -> float:
    """The same bytes read from a file."""
    bare_large_saved(folder, megabytes)
    started = time.perf_counter()
    (folder / "file").read_bytes()
    return megabytes / (time.perf_counter() - started)


_NOW = "2026-11-30T12:00:00.000000+00:00"


def _log_of_a_run(folder: Path) -> FileLog:
    file = File(folder / "large.db")
    epoch = file.begin_run("w", "tests:none", "{}", None, os.getpid(), "host", _NOW)
    return file.new_log("w", epoch or 0, "{}", lambda: _NOW)


def command(name: str, folder: Path, count: int, module: str = "workloads") -> list[str]:
    return [sys.executable, "-m", f"tests.benchmarks.{module}", name, str(folder), str(count)]


def peak_megabytes() -> float:
    status = Path("/proc/self/status")
    if status.exists():  # there, getrusage counts the parent too, up to the exec of this process
        return int(status.read_text(encoding="utf-8").partition("VmHWM:")[2].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    _, name, folder, count = sys.argv
    print(globals()[name](Path(folder), int(count)))
