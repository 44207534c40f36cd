"""`durable demo`: a workflow crashes and resumes, in real processes, and the rows that they left are explained."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from durable.examples.effects import list_effects
from durable.store.reader import Reader
from durable.store.records import RunRecord, StepRecord
from durable.terminal.output.tables import is_zombie, make_console, print_table, reading, steps_table
from durable.terminal.output.usage import spell
from durable.terminal.run.progress import COLOURS

WORKFLOW_ID = "emp_demo"
CRASH_AT = "provision_laptop:executed"
KILLED = (-9, 137)


def play(delay_seconds: float) -> int:
    """Show the demo and return the exit code: 1 if something went wrong."""
    console = make_console()
    with tempfile.TemporaryDirectory(prefix="durable-demo-", ignore_cleanup_errors=True) as folder:
        return _Demo(console, Path(folder), delay_seconds).play()


class _Demo:
    def __init__(self, console: Console, folder: Path, delay_seconds: float) -> None:
        self._console, self._folder = console, folder
        self._input = f'{{"delay_seconds": {delay_seconds:g}}}'

    def play(self) -> int:
        self._title("1. A workflow runs, and its process is killed")
        self._say(
            "Onboarding: a record, then a laptop and the accounts in parallel, then a welcome. The process kills "
            "itself (SIGKILL) when the laptop is ordered, and before that is saved."
        )
        if self._run("--input", self._input, "--crash-at", CRASH_AT) not in KILLED:
            return self._fail("the first process should have been killed, but it was not")
        with reading(str(self._database)) as file:
            zombies = self._look(file)
        if not zombies:
            return self._fail("no step was left running")

        self._title("3. Another process runs the same id")
        self._say("All it is given is the ID. Steps on record are skipped, the rest runs.")
        if self._run() != 0:
            return self._fail("the second process did not complete the workflow")
        with reading(str(self._database)) as file:
            self._look_back(file)
        return 0

    @property
    def _database(self) -> Path:
        return self._folder / "workflow.db"

    # ---- the processes

    def _run(self, *options: str) -> int:
        """Run the workflow in a process of its own, show its lines as they come, and return its exit code."""
        words = ["run", "onboarding", WORKFLOW_ID, *options]
        started_as_script = Path(sys.argv[0]).name == "durable"
        program = [sys.argv[0]] if started_as_script else ["-m", "durable"]
        environment = {name: value for name, value in os.environ.items() if name != "DURABLE_CRASH_AT"}
        with subprocess.Popen(
            [sys.executable, *program, *words],
            cwd=self._folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        ) as child:
            self._console.print(Text(f"$ {spell(*words)}".replace(" --", " \\\n    --"), "bold"), soft_wrap=True)
            for line in child.stdout or ():
                self._console.print(_coloured(line.rstrip()), soft_wrap=True)
        how = "killed by SIGKILL" if child.returncode in KILLED else f"ended with exit code {child.returncode}"
        self._console.print(Text(f"  process {child.pid} {how}", "bold"))
        return child.returncode

    # ---- the rows that they left

    def _look(self, file: Reader) -> list[StepRecord]:
        """Show the table after the crash and explain its running rows. Return these."""
        self._title("2. What the database knows")
        steps = file.steps(WORKFLOW_ID)
        zombies = [step for step in steps if is_zombie(step, None)]
        print_table(self._console, steps_table(steps, None))
        pid = file.runs(WORKFLOW_ID)[-1].pid
        for zombie in zombies:
            self._say(
                f"The row of {zombie.step_key} says running, but process {pid} is dead: a zombie step. The database "
                f"cannot know whether its effect happened. {self._testimony(zombie)}"
            )
        return zombies

    def _testimony(self, zombie: StepRecord) -> str:
        """Say which effects of a step are in the effects log, which stands for the world outside."""
        effects = self._effects(zombie.step_key)
        if not effects:
            return "The world knows: it had not."
        return f"The world knows: its log says {effects[-1]!r}."

    def _effects(self, step_key: str) -> list[str]:
        return list_effects(self._database, WORKFLOW_ID, step_key)

    def _look_back(self, file: Reader) -> None:
        """Show the table at the end, the steps that were skipped, and the effects that happened twice."""
        self._title("4. What the second process did")
        steps, runs = file.steps(WORKFLOW_ID), file.runs(WORKFLOW_ID)
        notes = {step.step_key: _note(step, runs[-1]) for step in steps}
        print_table(self._console, steps_table(steps, None, notes))
        for sentence in self._sum_up(steps, runs):
            self._say(sentence)
        self._console.print(Text("Crash it yourself, step by step, in a notebook:  durable lab", "bold"))

    def _sum_up(self, steps: list[StepRecord], runs: list[RunRecord]) -> Iterator[str]:
        skipped = [step for step in steps if step.epoch < runs[-1].epoch]
        happened_once = all(len(self._effects(step.step_key)) == 1 for step in skipped)
        yield (
            f"{len(skipped)} of {len(steps)} steps were skipped, since their results were on record"
            f"{', and each of their effects is in the log once' if happened_once else ''}."
        )
        for step in steps:
            for what, times in Counter(self._effects(step.step_key)).items():
                if times > 1:
                    yield (
                        f"{times} times in the log: {what}. That is the price of a crash between effect and save. "
                        f"Each attempt carried the idempotency key {WORKFLOW_ID}/{step.step_key}; a shop that looks at "
                        f"it would have delivered once."
                    )

    # ---- words

    def _title(self, text: str) -> None:
        self._console.print()
        self._console.print(Rule(Text(text, "bold"), align="left", characters="-", style="bright_black"))

    def _say(self, text: str) -> None:
        self._console.print(text)
        self._console.print()

    def _fail(self, why: str) -> int:
        self._console.print(Text(f"error: {why}", "red"))
        return 1


def _note(step: StepRecord, last: RunRecord) -> str:
    if step.epoch < last.epoch:
        return "skipped"
    return "ran again" if step.attempt > 1 else "ran"


def _coloured(line: str) -> Text:
    """Return a line of `durable run`, indented, its tag in colour as on a terminal of its own."""
    text = Text(f"  {line}")
    tag, closed, _ = line.removeprefix("[").partition("]")
    if line.startswith("[") and closed and tag in COLOURS:
        text.stylize(f"bold {COLOURS[tag]}", 2, 4 + len(tag))
    return text
