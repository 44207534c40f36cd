"""The kill test: worker processes are killed and replaced all the time, and the database is restarted in between.

`python -m tests.fleet` runs the whole and prints its figures. Separate processes stand for machines.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import psycopg

from durable.on_dbos import submit_many
from durable.on_dbos.workers import queue
from tests.fleet.flows import STEPS, onboarding
from tests.support.patience import patient
from tests.support.postgres import Server

GIVE_UP_SECONDS = patient(240)
# The database notes by its own clock when a checkpoint was written; the note and the checkpoint are one transaction.
AUDIT = """
create table acknowledged (workflow_id text, step_key text, at double precision);
create function acknowledge() returns trigger language plpgsql as $$
begin
    insert into public.acknowledged
    values (new.workflow_uuid, new.function_name, extract(epoch from clock_timestamp()));
    return new;
end $$;
create trigger acknowledge after insert on dbos.operation_outputs
for each row execute function acknowledge();
"""


class Effect(NamedTuple):
    """A line of the workers' log: a step has begun to do something."""

    at: float
    pid: int
    what: str
    key: str
    attempt: int

    @property
    def workflow_id(self) -> str:
        """Of the step."""
        return self.key.partition("/")[0]


@dataclass
class Outcome:
    """What the kill test has found."""

    workflows: int
    completed: int
    seconds: float
    kills: dict[int, float]
    restarts: list[float]
    effects: list[Effect]
    acknowledged: list[tuple[str, str, float]]
    taken_over: int
    violations: list[str] = field(default_factory=list)

    @property
    def repeats(self) -> int:
        """How many effects happened again: their worker was killed before the checkpoint."""
        return len(self.effects) - len({(each.workflow_id, each.what) for each in self.effects})

    def gone_on_after(self) -> list[float]:
        """From each kill to the next attempt of a step that it has torn, in seconds, in order."""
        made: dict[tuple[str, str], list[Effect]] = defaultdict(list)
        for effect in sorted(self.effects):
            made[effect.workflow_id, effect.what].append(effect)
        pairs = [pair for effects in made.values() for pair in itertools.pairwise(effects)]
        return sorted(after.at - self.kills[before.pid] for before, after in pairs if before.pid in self.kills)

    def figures(self) -> str:
        """In a line."""
        return (
            f"{self.completed} of {self.workflows} workflows completed in {self.seconds:.0f} s; {len(self.kills)} "
            f"workers killed, {len(self.restarts)} restarts of the database; {self.taken_over} workflows taken over; "
            f"{len(self.acknowledged)} checkpoints; {len(self.effects)} effects, of them {self.repeats} repeated after "
            f"a kill, half of them within {statistics.median(self.gone_on_after() or [0]):.1f} s; "
            f"{len(self.violations)} violations"
        )


def judge(outcome: Outcome) -> list[str]:
    """What must not be: each in a line."""
    found = []
    if outcome.completed != outcome.workflows:
        found.append(f"{outcome.workflows - outcome.completed} workflows have not completed")
    by_step: dict[tuple[str, str], list[float]] = defaultdict(list)
    for workflow_id, step_key, at in outcome.acknowledged:
        by_step[workflow_id, step_key.rpartition("_")[0]].append(at)
    made: dict[tuple[str, str], list[Effect]] = defaultdict(list)
    for effect in sorted(outcome.effects):
        made[effect.workflow_id, effect.what].append(effect)
    for step, instants in by_step.items():
        if len(instants) > 1:
            found.append(f"{step} was acknowledged {len(instants)} times")
        found += [
            f"{step} ran again in {each.pid}, {each.at - min(instants):.3f} s after it was acknowledged"
            for each in made.get(step, [])
            if each.at > min(instants)
        ]
    found += [f"{step} has a checkpoint and no effect" for step in by_step.keys() - made.keys()]
    found += [f"{step} has an effect and no checkpoint" for step in made.keys() - by_step.keys()]
    for step, effects in made.items():
        for before, after in itertools.pairwise(effects):
            if not before.at < outcome.kills.get(before.pid, 0) < after.at:
                found.append(f"{step} was repeated in {after.pid}, and {before.pid} had not been killed")
    return found


class Fleet:
    """Worker processes on one queue. Killed ones are replaced."""

    def __init__(
        self, url: str, folder: Path, concurrency: int = 8, breaks: str | None = None, module: str = "tests.fleet.flows"
    ) -> None:
        self.kills: dict[int, float] = {}
        self._url, self._folder, self._concurrency, self._module = url, folder, concurrency, module
        self._environment = os.environ | {"FLEET_EFFECTS": str(folder / "effects")}
        if breaks:
            self._environment["DURABLE_BREAK"] = breaks
        self._numbers = itertools.count(1)
        self.workers: list[subprocess.Popen[bytes]] = []

    def start_worker(self) -> None:
        """One more."""
        words = ["worker", "--engine", self._url, "--concurrency", str(self._concurrency), self._module]
        words += ["--max-crashes", "1000"]  # here they are not to blame
        with (self._folder / f"worker_{next(self._numbers)}.log").open("wb") as log:
            self.workers.append(
                subprocess.Popen(
                    [sys.executable, "-m", "durable", *words],
                    stdout=log,
                    stderr=log,
                    cwd=Path(__file__).parents[2],
                    env=self._environment,
                )
            )

    def kill(self, chance: random.Random) -> None:
        """SIGKILL one of those that have done something, and start another."""
        at_work = {effect.pid for effect in self.effects()}
        victims = [worker for worker in self.workers if worker.pid in at_work]
        if not victims:  # all of them are only just starting
            return
        victim = chance.choice(victims)
        # noted just before, so that a step of another worker can never have begun earlier than this
        self.kills[victim.pid] = time.time()
        victim.kill()
        self.replace_ended()

    def replace_ended(self) -> None:
        """Start others for those that were killed, and for those that found no database as they started."""
        for worker in list(self.workers):
            if worker.pid in self.kills or worker.poll() is not None:
                worker.wait()
                self.workers.remove(worker)
                self.start_worker()

    def end(self) -> None:
        """All of them."""
        for worker in self.workers:
            worker.kill()
            worker.wait()

    def said(self) -> str:
        """What all workers have printed."""
        return "".join(path.read_text() for path in sorted(self._folder.glob("worker_*.log")))

    def effects(self) -> list[Effect]:
        """What has happened to the world."""
        log = self._folder / "effects"
        lines = log.read_text().splitlines() if log.exists() else []
        parts = [line.split("\t") for line in lines]
        return [Effect(float(at), int(pid), what, key, int(attempt)) for at, pid, what, key, attempt in parts]


@contextmanager
def fleet(
    url: str, workers: int, concurrency: int = 8, breaks: str | None = None, module: str = "tests.fleet.flows"
) -> Iterator[Fleet]:
    """Workers that do not outlive the block."""
    with tempfile.TemporaryDirectory(prefix="durable-fleet-") as folder:
        made = Fleet(url, Path(folder), concurrency, breaks, module)
        try:
            for _ in range(workers):
                made.start_worker()
            yield made
        finally:
            made.end()


def submit_all(url: str, count: int, seconds: float) -> None:
    """Put the workflows into the queue."""
    names = [f"emp_{number}" for number in range(count)]
    told = submit_many(url, onboarding, {name: (name, seconds) for name in names})
    assert set(told.values()) == {"submitted"}


def count_ended(url: str) -> tuple[int, int]:
    """How many workflows have completed, and how many ended otherwise. Zeros while the database does not answer."""
    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            rows = connection.execute("select status, count(*) from dbos.workflow_status group by status").fetchall()
    except psycopg.OperationalError:
        return 0, 0
    by_status = dict(rows)
    completed = by_status.get("SUCCESS", 0)
    return completed, by_status.get("ERROR", 0) + by_status.get("CANCELLED", 0)


def list_acknowledged(url: str) -> list[tuple[str, str, float]]:
    """Workflow, step key and instant of each checkpoint, by the clock of the database."""
    with psycopg.connect(url) as connection:
        return connection.execute("select workflow_id, step_key, at from acknowledged order by at").fetchall()


def kill_test(
    server: Server,
    *,
    workflows: int,
    workers: int = 3,
    step_seconds: float = 1.0,
    kill_seconds: float = 2.0,
    restart_every: int = 5,
    seed: int = 0,
    max_kills: int = 1000,
    breaks: str | None = None,
    until: str | None = None,
    give_up_seconds: float = GIVE_UP_SECONDS,
) -> Outcome:
    """Run it. A worker is killed about every `kill_seconds`, the database after each `restart_every` kills.

    It ends with the last workflow, or with the first violation that has the words of `until` in it.
    """
    url, chance = server.new_database(), random.Random(seed)
    queue.make_tables(url)
    with psycopg.connect(url) as connection:
        connection.execute(AUDIT)
    submit_all(url, workflows, step_seconds)
    restarts: list[float] = []
    begun = time.monotonic()
    with fleet(url, workers, breaks=breaks) as made:

        def look() -> Outcome:
            completed, _ = count_ended(url)
            seconds = time.monotonic() - begun
            steps = [row for row in list_acknowledged(url) if row[1].rpartition("_")[0] in STEPS]
            lines = [line.partition("back in the queue: ")[2] for line in made.said().splitlines()]
            taken_over = sum(len(ids.split(", ")) for ids in lines if ids)
            found = Outcome(workflows, completed, seconds, made.kills, restarts, made.effects(), steps, taken_over)
            found.violations = judge(found)
            return found

        next_kill = begun + kill_seconds
        while sum(count_ended(url)) < workflows and time.monotonic() - begun < give_up_seconds:
            if until and any(until in violation for violation in look().violations):
                break
            time.sleep(max(0.0, min(0.2, next_kill - time.monotonic())))
            if time.monotonic() < next_kill:
                continue
            if len(made.kills) < max_kills:
                made.kill(chance)
            if len(made.kills) // restart_every > len(restarts):
                restarts.append(time.time())
                server.kill()
                server.start()
            made.replace_ended()
            # out of step with a take-over, which takes as long: else the last workflow would be killed again and again
            next_kill = max(next_kill + kill_seconds * chance.uniform(0.5, 1.5), time.monotonic())
        made.end()
        outcome = look()
        if outcome.violations or os.environ.get("SHOW"):
            print(made.said()[-20_000:])
        return outcome


def main() -> None:
    """`python -m tests.fleet`."""
    parser = argparse.ArgumentParser(prog="python -m tests.fleet", description=main.__doc__)
    parser.add_argument("--workflows", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with Server({"max_connections": "300"}) as server:
        outcome = kill_test(server, workflows=given.workflows, seed=given.seed)
    print(outcome.figures())
    print(*outcome.violations, sep="\n")
    sys.exit(bool(outcome.violations))
