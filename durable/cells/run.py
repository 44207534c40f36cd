"""Run: one life of a durable cell. The cell is a workflow; what it does up to a checkpoint is one step of it.

At its beginning a run asks for all checkpoints on record. The code is then executed from its top; `each` goes on with
the pass after the last checkpoint of its loop, and restores the variables of that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from durable import Context, Engine
from durable.cells import output
from durable.cells.errors import CellError
from durable.cells.execute import execute, execute_definitions
from durable.cells.inputs import digest_of, digest_of_file, is_of_shell, refuse
from durable.cells.loops import END, Loops, Place, note_breaks
from durable.cells.variables import generators
from durable.cells.variables.graph import is_mutable, places_in, reach
from durable.cells.variables.pack import NO_FORM, PICKLED, Packer, Refusal, can_pickle
from durable.cells.variables.unpack import Unpacker
from durable.errors import SerializationError
from durable.values.codec import codec_of

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from durable.cells.notebook_code import Code

STEP = "pass"
REMEDY = "write {line} at its top: --pickle keeps a variable by pickle, --drop leaves it out"


class Cell(NamedTuple):
    """A cell that is to run."""

    name: str
    code: Code
    source: str  # as IPython executes it
    raw: str  # as it was written
    inputs: dict[str, str]  # their digests
    pickled: frozenset[str]
    dropped: frozenset[str]


class Saved(NamedTuple):
    """A checkpoint on record."""

    step: Any
    at: Place
    outputs: list[output.Event]


class CellRun:
    """One life of a cell. `done` has its result once it has ended."""

    def __init__(self, cell: Cell, shell: InteractiveShell, engine: Engine) -> None:
        self.cell, self.shell, self.engine, self.variables = cell, shell, engine, shell.user_ns
        self.recorder = output.Recorder(shell)
        self.loops = Loops(self)
        self.files: dict[str, str] = {}
        self.home: Any = None  # executes a call in the thread of the workflow, while a coroutine runs elsewhere
        self._before: dict[str, Any] = {}
        self._chance: dict[str, Any] = {}
        self._has_drawn = False
        self.digests: dict[str, str] = {}  # of its inputs, as they were when it was saved last
        self._chain: list[Saved] = []
        self._ctx: Context
        self._step: Any = None
        self.is_executed = False

    def __call__(self, ctx: Context) -> Any:
        """Execute the cell, and return all that it is to keep."""
        self._ctx = ctx
        self._read_chain()
        if self._chain and self._chain[-1].at == [[0, END]]:  # only the workflow's own end was not saved
            outputs = [event for each in self._chain for event in each.outputs]
            return {**self._chain[-1].step.value, "outputs": json.dumps(output.joined(outputs))}
        self._before = self._data()
        self._chance = generators.states()
        self.recorder.is_silent = bool(self._chain)
        self.is_executed = True
        self._step.__enter__()
        try:
            with self.recorder.recording():
                execute(self, note_breaks(self.cell.code.tree))
                output.flush_figures()
        except BaseException as error:
            if self.recorder.is_silent:
                self.recorder.show()
            self._step.__exit__(type(error), error, error.__traceback__)
            raise
        if self.recorder.is_silent:
            self.recorder.show()
        result = self._content([[0, END]])
        self._complete(result)
        return {**result, "outputs": json.dumps(self.recorder.all())}

    # ---- checkpoints

    def _read_chain(self) -> None:
        while (step := self._ctx.open_step(STEP)).is_recorded:
            head = json.loads(step.output or "{}")
            self._chain.append(Saved(step, head["at"], json.loads(head["outputs"])))
        self._step = step

    def restore_latest(self, place: Any) -> int | str | None:
        """Restore the last checkpoint of a loop, and return its pass, `end` or `left N`; None if there is none.

        `place` gives the path of the loop to a pass.
        """
        found: int | str | None = self.at_home(self._restore_latest, place)
        return found

    def _restore_latest(self, place: Any) -> int | str | None:
        for number in reversed(range(len(self._chain))):
            saved = self._chain[number]
            *_, (_, at) = saved.at
            if saved.at == place(at):
                self._restore(number, saved)
                return at
        return None

    def _restore(self, number: int, saved: Saved) -> None:
        content = saved.step.value
        restore(content, self.variables, self.cell)
        self.files |= content["files"]
        self._has_drawn |= bool(content["chance"])
        if self.recorder.is_silent:
            events = [event for each in self._chain[: number + 1] for event in each.outputs]
            is_last = number == len(self._chain) - 1
            self.recorder.go_back_to(events, shows=is_last)

    def save(self, at: Place) -> None:
        """Save a checkpoint, and begin the next step."""
        self.at_home(self._save, at)

    def _save(self, at: Place) -> None:
        if self.recorder.is_silent:  # the code went another way than in the life before
            self.recorder.show()
        output.flush_figures()
        self._complete(self._content(at))
        self._step = self._ctx.open_step(STEP)
        self._step.__enter__()

    def _complete(self, content: dict[str, Any]) -> None:
        try:
            self._step.complete(content)
        except SerializationError as error:
            raise self._refused(list(self._find_refused(content))) from error

    def at_home(self, call: Any, *args: Any) -> Any:
        """Call in the thread of the workflow."""
        return call(*args) if self.home is None else self.home(call, *args)

    # ---- the content of a checkpoint

    def _data(self) -> dict[str, Any]:
        return {name: value for name, value in self.variables.items() if self._is_data(name, value)}

    def _is_data(self, name: str, value: Any) -> bool:
        if is_of_shell(name) or name in self.cell.dropped:
            return False
        return not isinstance(value, type(json) | type | type(is_mutable)) or name in self.cell.code.binds

    def _content(self, at: Place) -> dict[str, Any]:
        variables = self._data()
        changed = self._find_changed(variables)
        kept = {name: variables[name] for name in sorted(changed)}
        others = {name: value for name, value in variables.items() if name not in changed}
        packer = Packer(places_in(others), self.cell.pickled)
        tree = packer.pack(kept)
        if packer.refusals:
            raise self._refused(packer.refusals)
        chance = generators.states()
        self._has_drawn |= generators.differ(self._chance, chance)
        return {
            "at": at,
            "outputs": json.dumps(self.recorder.take()),
            "names": tree,
            "gone": sorted(set(self._before) - set(variables)),
            "chance": Packer().pack(chance) if self._has_drawn else {},
            "files": dict(self.files),
        }

    def _find_changed(self, variables: dict[str, Any]) -> set[str]:
        """Return the variables that the cell has bound or changed in place, and those that share what was changed."""
        cell, before = self.cell, self._before
        bound = {name for name in variables if name in cell.code.binds or variables[name] is not before.get(name)}
        self.digests = {
            name: digest_of(name, variables[name], cell.pickled)[0]
            for name in cell.inputs
            if name in variables and name not in bound
        }
        changed = {name for name, digest in self.digests.items() if digest != cell.inputs[name]}
        parts = {key for name in changed for key in reach(variables[name])}
        if not parts:
            return bound
        sharing = {name for name, value in variables.items() if not parts.isdisjoint(reach(value))}
        return bound | changed | sharing

    def _find_refused(self, content: dict[str, Any]) -> Iterator[Refusal]:
        for name, tree in content["names"].items():
            if name == PICKLED:
                continue
            try:
                codec_of(Any, name).round_trip(tree, name)
            except SerializationError as error:
                value = self.variables[name]
                yield Refusal((name,), type(value).__qualname__, str(error).partition("; ")[0])

    def _refused(self, refusals: list[Refusal]) -> CellError:
        line, names = self.cell.raw.partition("\n")[0].rstrip(), sorted({each.name for each in refusals})
        pickled = [name for name in names if self._may_pickle(name, refusals)]
        for option, chosen in (("--pickle", pickled), ("--drop", sorted(set(names) - set(pickled)))):
            line += f" {option} {','.join(chosen)}" if chosen else ""
        what = "it has run, and what it made cannot be kept"
        return refuse(self.cell.name, refusals, what, REMEDY.format(line=line))

    def _may_pickle(self, name: str, refusals: list[Refusal]) -> bool:
        """Return whether pickle keeps all of a variable. It would make a view of an array one of its own."""
        if any(each.name == name and each.why != NO_FORM for each in refusals):
            return False
        return can_pickle(self.variables[name])

    def add_file(self, path: str) -> None:
        """Note that the cell reads a file."""
        self.files.setdefault(path, digest_of_file(path))


def is_restored(name: str, content: dict[str, Any], cell: Cell) -> bool:
    """Return whether a checkpoint has a variable."""
    names = content["names"]
    return name in names or (PICKLED in names and name in cell.pickled)


def restore(content: dict[str, Any], variables: dict[str, Any], cell: Cell) -> None:
    """Bind the variables of a checkpoint, and put the generators into their states."""
    made = Unpacker(variables, pickled=bool(cell.pickled)).unpack(content["names"])
    for name in content["gone"]:
        variables.pop(name, None)
    variables.update(made)
    if content["chance"]:
        generators.restore(Unpacker({}).unpack(content["chance"]))


def bring_back(cell: Cell, content: dict[str, Any], shell: InteractiveShell) -> None:
    """Bring back what a cell that is done has made, and show its output."""
    late = execute_definitions(cell, shell, cell.code.definitions)
    restore(content, shell.user_ns, cell)
    if missing := execute_definitions(cell, shell, late):
        execute_definitions(cell, shell, missing, is_last=True)
    output.replay(shell, json.loads(content["outputs"]))
