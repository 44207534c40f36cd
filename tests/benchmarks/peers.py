"""The same work on other engines: `python -m tests.benchmarks.peers NAME FOLDER COUNT`, in a fresh process each.

`NAME` is `<peer>_<work>`, where the work is one of `sequential`, `fan_out` and `first` (one step, timed from outside),
`record` (leave so many saved steps behind, and die) and `replay` (run the same again). Prints steps per second.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORKS = ("sequential", "fan_out", "first", "record", "replay")


@dataclass(frozen=True)
class Peer:
    """Another engine, and what it promises of a step that has returned."""

    name: str
    module: str
    durability: str
    lacks: frozenset[str] = frozenset()  # the works that it has no notion of

    def is_installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None


PEERS = [
    Peer("dbos", "dbos", "rollback journal, FULL"),
    Peer("langgraph", "langgraph", "WAL, FULL; a step's commit is not awaited"),
    Peer("diskcache", "diskcache", "WAL, NORMAL; a cache, no engine", frozenset({"fan_out"})),
]


def rate(count: int, work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)


# ---- DBOS, on the SQLite file that is its default


def dbos(work: str, folder: Path, count: int) -> float:
    import logging

    from dbos import DBOS, SetWorkflowID

    url = f"sqlite:///{folder / 'dbos.sqlite'}"
    DBOS(config={"name": "bench", "system_database_url": url, "log_level": "ERROR", "run_admin_server": False})
    logging.disable()

    @DBOS.step()
    def number(i: int) -> int:
        return i

    @DBOS.step()
    def die(dies: bool) -> None:
        if dies:
            os._exit(0)

    @DBOS.workflow()
    def sequence(count: int, dies: bool) -> int:
        for i in range(count):
            number(i)
        if dies:
            die(not (folder / "again").exists())
        return count

    queue: list[Any] = []

    @DBOS.workflow()
    def one(i: int) -> int:
        return number(i)

    @DBOS.workflow()
    def fan_out(count: int) -> int:
        queue[:] = [DBOS.start_workflow(one, i) for i in range(count)]
        return sum(handle.get_result() for handle in queue)

    if work == "replay":
        (folder / "again").touch()
    DBOS.launch()
    if work == "replay":
        return rate(count, lambda: DBOS.retrieve_workflow("w").get_result())
    with SetWorkflowID("w"):
        return rate(count, lambda: fan_out(count) if work == "fan_out" else sequence(count, work == "record"))


# ---- LangGraph's functional API, on its SQLite saver


def langgraph(work: str, folder: Path, count: int) -> float:
    import sqlite3

    from langgraph.checkpoint.sqlite import SqliteSaver
    from langgraph.func import entrypoint, task

    saver = SqliteSaver(sqlite3.connect(folder / "langgraph.sqlite", check_same_thread=False))

    @task
    def number(i: int) -> int:
        return i

    @task
    def die() -> None:
        if not (folder / "again").exists():
            os._exit(0)

    @entrypoint(checkpointer=saver)
    def sequence(count: int) -> int:
        for i in range(count):
            number(i).result()
        if work in ("record", "replay"):
            time.sleep(1.0 if work == "record" else 0)  # its last commits are made behind our back
            die().result()
        return count

    @entrypoint(checkpointer=saver)
    def fan_out(count: int) -> int:
        return sum(future.result() for future in [number(i) for i in range(count)])

    if work == "replay":
        (folder / "again").touch()
    config: Any = {"configurable": {"thread_id": "w"}, "recursion_limit": 10**9}
    graph, given = fan_out if work == "fan_out" else sequence, None if work == "replay" else count
    return rate(count, lambda: graph.invoke(given, config, durability="sync"))


# ---- diskcache: no workflows, but what people write who only want to skip what is done


def diskcache(work: str, folder: Path, count: int) -> float:
    from diskcache import Cache

    with Cache(str(folder / "diskcache")) as cache:

        @cache.memoize()
        def number(i: int) -> int:
            return i

        return rate(count, lambda: [number(i) for i in range(count)])


if __name__ == "__main__":
    _, name, folder, count = sys.argv
    peer, _, work = name.partition("_")
    print(globals()[peer](work, Path(folder), int(count)))
    sys.stdout.flush()
    os._exit(0)  # their threads in the background are not what is timed
