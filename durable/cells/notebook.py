"""Notebook: the cells of one notebook in one file. It decides whether a cell runs, and says why it runs again."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from durable import Context, Engine, WorkflowBusyError
from durable.cells import running
from durable.cells.errors import CellError
from durable.cells.inputs import MISSING, Inputs, digest_of, digest_of_file, refuse
from durable.cells.notebook_code import read_code
from durable.cells.run import Cell, CellRun, bring_back, is_restored
from durable.cells.variables.pack import can_pickle
from durable.store.records import WorkflowRecord

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

KERNEL = "kernel of the notebook"  # the id of a workflow that lasts as long as the kernel: its owner is the kernel
MAX_CRASHES = 3
BEFORE = "it has not run, since what it reads has no content to compare"
REMEDY = "make it within the cell{pickle}, or do not compare it with --drop {{names}}"
PICKLE = ", compare it by pickle with --pickle {}"


def durable_cell(ctx: Context, code: str, inputs: dict[str, str]) -> Any:  # noqa: ARG001 - they identify the call
    """Run the cell that its notebook has made ready."""
    if not running():
        raise CellError(
            f"cell {ctx.workflow_id!r}: it can go on in its notebook only; run it there", cell=ctx.workflow_id
        )
    return running()[-1](ctx)


def kernel(ctx: Context) -> None:
    """Last as long as the kernel."""
    ctx.wait_event("end")


class Notebook:
    """The cells of one notebook, as this kernel runs them."""

    def __init__(self, path: Path, shell: InteractiveShell) -> None:
        """Raises CellError while another kernel has the file, StoreError if it is none of ours."""
        self.path, self._shell, self.engine = path, shell, Engine(path, synchronous="normal")
        try:
            self.engine.start(KERNEL, kernel)
        except WorkflowBusyError as error:
            self.engine.close()
            raise CellError(
                f"notebook {str(path)!r} is open in another kernel, process {error.pid}; shut that kernel down, or "
                f"choose another file: %durable file PATH"
            ) from error
        self.cells: dict[str, Cell] = {}  # as they were run last in this kernel
        self._own: dict[str, dict[str, tuple[str, str]]] = {}  # what each made of its inputs: digests before, after
        self._pickled: set[str] = set()  # variables that a cell keeps by pickle

    def close(self) -> None:
        """Let another kernel have the file."""
        self.engine.stop(timeout_seconds=5)

    # ---- running a cell

    def run(
        self, name: str, source: str, raw: str, pickled: frozenset[str], dropped: frozenset[str], *, retry: bool
    ) -> None:
        """Run a cell, or bring back what it has made. Raises what it raises, and CellError."""
        if running():
            raise CellError(f"cell {name!r} was run within cell {running()[-1].cell.name!r}", cell=name)
        self._pickled |= pickled
        try:
            code = read_code(source)
        except ValueError as error:
            if isinstance(error, SyntaxError):
                raise
            raise CellError(f"cell {name!r}: {error}", cell=name) from None
        inputs = self._inputs_of(name, code.reads, dropped)
        if inputs.refused:
            names = sorted({each.name for each in inputs.refused if can_pickle(self._shell.user_ns[each.name])})
            remedy = REMEDY.format(pickle=PICKLE.format(",".join(names)) if names else "")
            raise refuse(name, inputs.refused, BEFORE, remedy)
        cell = Cell(name, code, source, raw, inputs.digests, frozenset(self._pickled), dropped)
        self.cells[name] = cell
        record = self.engine.find_workflow(name)
        changes = [] if record is None else self.find_changes(cell, record)
        if changes:
            print(f"{name} runs again: {_join(changes)} changed")  # noqa: T201 - never in silence
        elif record is not None and record.status != "completed" and not retry:
            self._check_crashes(name)
        self._live(cell, is_changed=bool(changes))

    def _live(self, cell: Cell, *, is_changed: bool) -> None:
        run = CellRun(cell, self._shell, self.engine)
        call = self.engine.restart if is_changed else self.engine.run
        running().append(run)
        try:
            content = call(cell.name, durable_cell, cell.code.text, cell.inputs)
        except BaseException:
            if run.is_executed and any(step.status == "completed" for step in self.engine.steps(cell.name)):
                self._note_own(cell, {})
            raise
        finally:
            running().pop()
        known = run.digests
        if not run.is_executed:
            with self._quiet_errors(cell):
                bring_back(cell, content, self._shell)
            known = {name: digest for name, digest in cell.inputs.items() if not is_restored(name, content, cell)}
        self._note_own(cell, known)

    @contextlib.contextmanager
    def _quiet_errors(self, cell: Cell) -> Iterator[None]:
        try:
            yield
        except (AttributeError, ImportError, LookupError, TypeError) as error:
            raise CellError(
                f"cell {cell.name!r}: what it has made cannot be brought back ({type(error).__name__}: {error}); run "
                f"the cells before it first, or have it run anew: %durable forget {cell.name}",
                cell=cell.name,
            ) from error

    def _inputs_of(self, name: str, reads: frozenset[str], dropped: frozenset[str]) -> Inputs:
        inputs = Inputs(self._shell.user_ns, frozenset(self._pickled), dropped)
        inputs.add(reads)
        own = self._own.get(name, {})
        for each, digest in inputs.digests.items():
            before, after = own.get(each, (digest, digest))
            if digest == after:
                inputs.digests[each] = before
        return inputs

    def _note_own(self, cell: Cell, known: dict[str, str]) -> None:
        """Note what a cell has made of what it reads: that is no change when it is run again."""
        variables = self._shell.user_ns
        own = {}
        for name, before in cell.inputs.items():
            if name not in variables:
                own[name] = before, MISSING
            else:
                own[name] = before, known.get(name) or digest_of(name, variables[name], cell.pickled)[0]
        self._own[cell.name] = own

    # ---- changes

    def find_changes_now(self, record: WorkflowRecord) -> list[str]:
        """Return what has changed of a cell that was run in this kernel."""
        cell = self.cells.get(record.workflow_id)
        if cell is None:
            return []
        inputs = self._inputs_of(cell.name, cell.code.reads, cell.dropped)
        return self.find_changes(cell._replace(inputs=inputs.digests), record)

    def find_changes(self, cell: Cell, record: WorkflowRecord) -> list[str]:
        """Return what a cell reads that is not as it was when it ran, in words."""
        recorded = json.loads(record.arguments)
        was, now = recorded["inputs"], cell.inputs
        changes = sorted(name for name in {*was, *now} if was.get(name) != now.get(name))
        files = self._files_of(record)
        changes += sorted(f"file {path!r}" for path, digest in files.items() if digest_of_file(path) != digest)
        return changes + (["its code"] if recorded["code"] != cell.code.text else [])

    def _files_of(self, record: WorkflowRecord) -> dict[str, str]:
        files: dict[str, str] = {}
        for text in (*(step.output for step in self.engine.steps(record.workflow_id)), record.output):
            if text is not None:
                files |= json.loads(text).get("files", {})
        return files

    def _check_crashes(self, name: str) -> None:
        """Raise CellError if the last runs of a cell crashed without a new checkpoint."""
        runs = self.engine.runs(name)[-MAX_CRASHES:]
        crashed = [run for run in runs if run.ended in (None, "crashed")]
        first = runs[0].epoch if runs else 0
        got_on = any(step.status != "running" and step.epoch > first for step in self.engine.steps(name))
        if len(crashed) == MAX_CRASHES and not got_on:
            raise CellError(
                f"cell {name!r} has ended its kernel {MAX_CRASHES} times without a new checkpoint, so it was not run; "
                f"remove the cause, and write %%durable {name} --retry",
                cell=name,
            )

    # ---- looking, tidying up

    def list_records(self) -> list[WorkflowRecord]:
        """Return the cells on record, oldest first."""
        function = f"{durable_cell.__module__}:{durable_cell.__qualname__}"
        return [each for each in self.engine.workflows() if each.function == function]

    def forget(self, name: str) -> None:
        """Delete what is recorded of a cell. Raises CellError for one that is not on record."""
        names = [each.workflow_id for each in self.list_records()]
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(names) or 'none'}"
            raise CellError(f"no cell {name!r} is on record{hint}", cell=name)
        for each in [name, *(found.workflow_id for found in self.engine.workflows(prefix=f"{name}/"))]:
            self.engine.delete(each)
        self._own.pop(name, None)
        self.cells.pop(name, None)


def find_path(shell: InteractiveShell) -> Path | None:
    """Return the file of the notebook that a kernel runs, if the kernel knows its name."""
    names = (shell.user_ns.get("__vsc_ipynb_file__"), os.environ.get("JPY_SESSION_NAME"))
    for name in names:
        if isinstance(name, str) and name.endswith(".ipynb"):
            return Path(name).with_suffix(".durable.db")
    return None


def _join(names: list[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
